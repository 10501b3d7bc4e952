"""p(∅ | x) on answers: fields, JSON, withholding, terminal, page, records, bundle."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from licences import COD, HEN, WORDS, distribution, licences
from mixrag import RAG, Settings
from mixrag.answers.confidence import ConfidenceMap
from mixrag.cli import show
from mixrag.cli.options import Options, takes
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from mixrag.config.settings import trained_settings
from mixrag.evaluation.scoring import record_of, score_pair
from mixrag.generator import TableGenerator
from mixrag.integrations.common import described, stated
from mixrag.pairs.pairs import Pair


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    settings = Settings(k=2, max_tokens=4, temperature=0.5, empty_answer=True)
    with licences(tmp_path, TableGenerator(WORDS, distribution), settings) as rag:
        yield rag


def test_an_answer_says_how_probable_it_is_that_none_is_stated(rag: RAG) -> None:
    answer = rag.ask(COD)
    assert answer.text == "nine crowns" and not answer.abstains
    empty = {"cod.txt": 0.05, "hen.txt": 0.85}
    for passage in answer.passages:
        assert passage.p_empty == pytest.approx(empty[Path(passage.document).name])
    prior = {Path(p.document).name: p.prior for p in answer.passages}
    assert sum(prior.values()) == pytest.approx(1.0), "the prior is as retrieved"
    expected = sum(prior[name] * p for name, p in empty.items())
    assert answer.p_empty == pytest.approx(expected)
    assert math.exp(rag.score(COD, "").log_prob) == pytest.approx(expected)
    told = sum(prior[name] * p for name, p in {"cod.txt": 0.85**3, "hen.txt": 0.05 * 0.85**2}.items())
    assert answer.probability == pytest.approx(told / (1 - expected))
    document = json.loads(json.dumps(answer.to_dict()))
    assert (
        document["p_empty"] == answer.p_empty and document["passages"][0]["p_empty"] == answer.passages[0].p_empty
    )
    assert pickle.loads(pickle.dumps(answer)).to_dict() == answer.to_dict()  # noqa: S301 - written here


def test_without_the_setting_there_is_no_such_number(rag: RAG) -> None:
    answer = rag.ask(HEN, empty_answer=False)
    assert answer.p_empty is None and answer.passages[0].p_empty is None and answer.text == ""
    assert answer.to_dict()["p_empty"] is None


@pytest.mark.parametrize("decoder", ["greedy", "sample", "beam", "thorough", "fast"])
def test_what_is_probably_not_stated_is_withheld_with_its_best_guess(rag: RAG, decoder: str) -> None:
    answer = rag.ask(HEN, k=1, decoder=decoder)
    assert answer.passages[0].document.endswith("hen.txt") and answer.p_empty == pytest.approx(0.85)
    assert answer.text is None and answer.abstains and answer.best_guess
    assert answer.to_dict()["answer"] is None and answer.to_dict()["best_guess"] == answer.best_guess
    shown = rag.ask(HEN, k=1, decoder=decoder, abstain_below=0.0)
    assert shown.text == answer.best_guess
    assert rag.score(HEN, "nine", k=1).text == "nine", "an answer that was given is not withheld"


@pytest.mark.parametrize("question", [COD, HEN])
def test_the_normaliser_does_not_decide_whether_an_answer_is_withheld(
    rag: RAG, question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the passage outside nothing is known: it has most of the prior here, and makes bounds, not a decision."""
    options = {"k": 1, "temperature": 1e3}
    answer, full = (rag.ask(question, normaliser=each, **options) for each in ("top-k", "full"))
    assert full.outside is not None and full.outside == pytest.approx(0.5, abs=1e-2)
    inside = full.passages[0].prior * full.passages[0].p_empty
    assert full.p_empty == pytest.approx(inside) and answer.p_empty == pytest.approx(full.p_empty_within)
    assert full.p_empty < 0.5
    for each in (answer, full):
        assert each.p_empty_within == pytest.approx(full.passages[0].p_empty)
        assert each.empty_bounds == pytest.approx((inside, inside + full.outside))
        assert each.abstains == (question == HEN)
    complete = rag.ask(question, k=2, temperature=1e3)
    assert full.empty_bounds[0] < complete.p_empty < full.empty_bounds[1], "the other passage says the opposite"
    assert complete.empty_bounds == pytest.approx((complete.p_empty, complete.p_empty))
    assert full.to_dict()["empty_bounds"] == list(full.empty_bounds)
    show.answer(full, None, as_json=False)
    low, high = full.empty_bounds
    out = " ".join(capsys.readouterr().out.split())
    assert f"no answer with probability between {low:.4g} and {high:.4g}; if one of the passages below is" in out
    assert "state no answer with probability between" in full.to_html()
    assert "no answer with probability between" not in answer.to_html()


def test_bounds_are_not_known_where_the_mass_outside_is_not(rag: RAG) -> None:
    answer = rag.ask(COD, k=1, weights="uniform")
    assert answer.outside is None and answer.empty_bounds is None and answer.p_empty == answer.p_empty_within
    plain = rag.ask(COD, empty_answer=False)
    assert plain.empty_bounds is None and plain.p_empty_within is None


def test_a_confidence_decides_where_there_is_one(rag: RAG) -> None:
    sure = ConfidenceMap(fitted_on="none", threshold=0.0)
    with RAG(
        rag.store, encoder=rag.encoder, generator=rag.generator, settings=rag.settings, calibration=sure
    ) as one:
        assert one.ask(HEN, k=1).confidence is not None and one.ask(HEN, k=1).text is not None


def test_a_calibration_fitted_without_an_empty_answer_does_not_apply_with_one(rag: RAG) -> None:
    old = ConfidenceMap(settings={"k": 2})
    assert old.mismatch(rag.settings, "") == "empty_answer"
    assert old.mismatch(replace(rag.settings, empty_answer=False), "") is None


def test_several_answers_at_once_are_as_one_by_one(rag: RAG) -> None:
    for answer, question in zip(rag.ask_many([COD, HEN]), (COD, HEN), strict=True):
        alone = rag.ask(question)
        assert (answer.text, answer.best_guess) == (alone.text, alone.best_guess)
        assert answer.p_empty == pytest.approx(alone.p_empty) and answer.log_prob == pytest.approx(alone.log_prob)


def test_the_terminal_says_it_in_plain_words(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    stream = rag.stream(HEN, k=1)
    assert stream.may_abstain and not rag.stream(HEN, abstain_below=0.0).may_abstain
    show.decided(stream.answer)
    show.answer(stream.answer, stream.answer.explain(), as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "No answer: the documents do not seem to state it." in out
    assert "the documents state no answer with probability 0.85" in out
    assert "not stated" in out and "probability that it states no answer 0.8500" in out


def test_the_page_has_a_column_for_it(rag: RAG) -> None:
    answer = rag.ask(COD)
    page = answer.to_html()
    assert "The documents state no answer with probability" in page and ">Not stated</th>" in page
    assert ">Not stated</th>" not in rag.ask(COD, empty_answer=False).to_html()
    withheld = rag.ask(HEN, k=1).to_html()
    assert "do not seem to state an answer" in withheld


def test_an_explanation_is_given_that_an_answer_is_stated(rag: RAG) -> None:
    answer = rag.ask(COD)
    for component, passage in zip(answer.explain().components, answer.passages, strict=True):
        assert component.p_empty == passage.p_empty and component.prior == pytest.approx(passage.prior)
        assert component.alone and component.poisoning is not None
        assert component.poisoning > component.prior, "its text decides how much of its prior it gives away"


def test_frameworks_get_a_sentence(rag: RAG) -> None:
    answer = rag.ask(HEN, k=1)
    assert stated(answer) == "No answer: the documents do not seem to state it (probability 0.85)."
    assert described(answer)["p_empty"] == answer.p_empty and described(answer)["withheld"]


def test_records_have_it_and_old_files_are_read(rag: RAG) -> None:
    record = score_pair(rag, Pair(COD, ("nine crowns",), "cod.txt"), {})
    assert record.p_empty == rag.ask(COD).p_empty and record.nll == pytest.approx(-record.log_prob)
    row = json.loads(json.dumps(asdict(record)))
    assert record_of(row) == record
    del row["p_empty"]
    assert record_of(row) == replace(record, p_empty=None)


def test_a_bundle_holds_the_setting(tmp_path: Path, rag: RAG) -> None:
    write_bundle(Bundle(folder=tmp_path, settings=trained_settings(rag.settings)))
    assert read_bundle(tmp_path).settings["empty_answer"] is True


@pytest.mark.parametrize(
    ("options", "given"), [([], None), (["--empty-answer"], True), (["--no-empty-answer"], False)]
)
def test_the_command_line_takes_the_setting_of_a_bundle_back(options: list[str], given: bool | None) -> None:
    seen = []
    app = typer.Typer()

    @app.command()
    @takes("ask")
    def ask(chosen: Options) -> None:
        seen.append(chosen.of(Settings).get("empty_answer"))

    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert seen == [given]

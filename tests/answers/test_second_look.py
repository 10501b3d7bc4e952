"""The prior weighed by the likelihood of the question, on answers: fields, JSON, terminal, page, command line."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from licences import COD, HEN, WORDS, distribution, licences
from mixrag import RAG, Settings
from mixrag.answers.answer import passage_to_dict
from mixrag.answers.confidence import ConfidenceMap
from mixrag.cli import show
from mixrag.cli.options import Options, takes
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from mixrag.config.settings import trained_settings
from mixrag.errors import ModelError, SettingError
from mixrag.evaluation.attribution import leave_one_out, leave_one_out_rerun, prior
from mixrag.evaluation.scoring import score_pair
from mixrag.generator import Prompt, TableGenerator
from mixrag.pairs.pairs import Pair
from mixrag.probability import poisoning_tv

WEIGHT = 0.25
LOG_QUESTION = {8: -20.0, 6: -32.0, 0: -26.0, 14: -24.0}
"""By number of words of the passages: cod.txt, hen.txt, no passage, both."""


@dataclass(frozen=True)
class Reading(TableGenerator):
    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        return torch.tensor([LOG_QUESTION[len(prompt.passages)] for prompt in prompts], dtype=torch.float64)


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    settings = Settings(k=2, max_tokens=4, temperature=0.5, question_likelihood=WEIGHT, null=0.0)
    with licences(tmp_path, Reading(WORDS, distribution), settings) as rag:
        yield rag


def weighed(rag: RAG, **changes: object) -> list[float]:
    """π' of cod.txt, hen.txt and no passage, by its definition."""
    found = rag.passages(COD, **changes)
    retrieved = [*found.log_prior.exp().tolist(), math.exp(found.log_null)]
    products = [p * math.exp(WEIGHT * LOG_QUESTION[n]) for p, n in zip(retrieved, (8, 6, 0), strict=True)]
    return [math.fsum(retrieved) * each / math.fsum(products) for each in products]


@pytest.mark.parametrize("normaliser", ["top-k", "full"])
def test_an_answer_shows_both_priors_and_is_under_the_second(rag: RAG, normaliser: str) -> None:
    answer, expected = rag.ask(COD, normaliser=normaliser), weighed(rag, normaliser=normaliser)
    assert [Path(p.document).name for p in answer.passages] == ["cod.txt", "hen.txt"]
    assert [p.prior for p in answer.passages] == rag.passages(COD, normaliser=normaliser).log_prior.exp().tolist()
    second = [*(p.reweighted_prior for p in answer.passages), answer.null_reweighted_prior]
    assert second == pytest.approx(expected) and answer.question_likelihood == WEIGHT
    assert [p.log_question_likelihood for p in answer.passages] == [-20.0, -32.0]
    table = [0.85**3, 0.05 * 0.85**2, 0.05 * 0.85**2]
    assert answer.text == "nine crowns"
    assert answer.probability == pytest.approx(math.fsum(p * e for p, e in zip(expected, table, strict=True)))
    assert answer.passages[0].posterior == pytest.approx(expected[0] * table[0] / answer.probability)
    assert answer.null_posterior == pytest.approx(expected[2] * table[2] / answer.probability)
    document = json.loads(json.dumps(answer.to_dict()))
    assert document["question_likelihood"] == WEIGHT
    assert document["null"]["reweighted_prior"] == answer.null_reweighted_prior
    first = document["passages"][0]
    assert (first["reweighted_prior"], first["log_question_likelihood"]) == (second[0], -20.0)
    assert pickle.loads(pickle.dumps(answer)).to_dict() == answer.to_dict()  # noqa: S301 - written here


def test_passages_of_a_group_share_its_factor(rag: RAG) -> None:
    answer = rag.ask(COD, group=2)
    parts = [p.reweighted_prior / p.prior for p in answer.passages]
    assert parts[0] == pytest.approx(parts[1]) and parts[0] != pytest.approx(1.0)
    assert answer.passages[1].log_question_likelihood == -24.0
    whole = math.fsum(p.reweighted_prior for p in answer.passages) + answer.null_reweighted_prior
    assert whole == pytest.approx(1.0)


def test_without_the_setting_there_are_no_such_numbers(rag: RAG) -> None:
    answer = rag.ask(COD, question_likelihood=0.0)
    assert answer.question_likelihood == 0.0 and answer.null_reweighted_prior is None
    assert answer.passages[0].reweighted_prior is None and answer.passages[0].log_question_likelihood is None
    alone = rag.ask(COD, k=1, null=None)
    assert alone.passages[0].reweighted_prior is None, "one component has all the prior"
    assert (
        not {"reweighted_prior", "log_question_likelihood"}
        & passage_to_dict(alone.scored.mixture.passages[0]).keys()
    )


def test_many_one_by_one_in_a_stream_and_scored_are_alike(rag: RAG) -> None:
    for together, question in zip(rag.ask_many([COD, HEN]), (COD, HEN), strict=True):
        for answer in (rag.ask(question), rag.stream(question).answer, rag.score(question, together.best_guess)):
            assert answer.log_prob == pytest.approx(together.log_prob)
            second = [p.reweighted_prior for p in together.passages]
            assert [p.reweighted_prior for p in answer.passages] == pytest.approx(second)


def test_the_empty_answer_is_weighed_by_the_second_prior(rag: RAG) -> None:
    answer, expected = rag.ask(COD, empty_answer=True), weighed(rag)
    empty = [0.05, 0.85, 0.85]
    assert answer.p_empty == pytest.approx(math.fsum(p * e for p, e in zip(expected, empty, strict=True)))
    assert [*(p.reweighted_prior for p in answer.passages), answer.null_reweighted_prior] == pytest.approx(
        expected
    )


def test_an_explanation_has_both_and_bounds_what_a_rewritten_text_can_do(rag: RAG) -> None:
    for empty in (False, True):
        answer = rag.ask(COD, empty_answer=empty)
        found = answer.explain()
        for component, passage in zip(found.components, answer.passages, strict=False):
            assert (component.prior, component.reweighted_prior) == pytest.approx(
                (passage.prior, passage.reweighted_prior)
            )
            assert component.log_question_likelihood == passage.log_question_likelihood
            assert component.poisoning > max(component.prior, component.reweighted_prior)
        document = found.to_dict()["components"][2]
        assert document["reweighted_prior"] == pytest.approx(answer.null_reweighted_prior)
    plain = rag.ask(COD, question_likelihood=0.0).explain().components[0]
    assert plain.reweighted_prior is None
    assert plain.poisoning == pytest.approx(float(poisoning_tv(plain.prior, 0.0, 3)))


def test_leaving_out_is_as_building_the_mixture_again(rag: RAG) -> None:
    for normaliser in ("top-k", "full"):
        answer = rag.score(COD, "nine crowns", normaliser=normaliser)
        exact, again = leave_one_out(answer), leave_one_out_rerun(answer)
        torch.testing.assert_close(exact.scores, again.scores, rtol=1e-9, atol=1e-9)
    assert prior(answer).scores.tolist() == [p.prior for p in answer.passages]


def test_the_terminal_and_the_page_have_a_column_for_it(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    answer = rag.ask(COD)
    show.answer(answer, answer.explain(), as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "prior reweighted posterior" in out
    assert f"∅ {answer.null_prior:.4f} {answer.null_reweighted_prior:.4f} {answer.null_posterior:.4f}" in out
    second = answer.passages[1].reweighted_prior
    assert f"log p(question | this alone) -32.000, by which the prior becomes {second:.4f}" in out
    page = answer.to_html()
    assert ">Reweighted</th>" in page and f'<data value="{second}">' in page and "to the power 0.25" in page
    plain = rag.ask(COD, question_likelihood=0.0)
    show.answer(plain, None, as_json=False)
    assert "reweighted" not in capsys.readouterr().out
    assert "Reweighted" not in plain.to_html() and "reweighted" not in plain.to_html()


def test_a_record_and_its_gold_answers_are_under_the_second_prior(rag: RAG) -> None:
    record = score_pair(rag, Pair(COD, ("nine crowns",), "cod.txt"), {})
    assert record.nll == pytest.approx(-rag.ask(COD).log_prob)
    assert record.priors == tuple(p.prior for p in rag.ask(COD).passages), "priors are as retrieved"


def test_an_extract_is_under_the_prior_as_retrieved(rag: RAG) -> None:
    for weight in (0.0, WEIGHT):
        answer = rag.ask(COD, kind="extract", question_likelihood=weight)
        assert answer.kind == "extract" and answer.question_likelihood == 0.0
        assert answer.passages[0].reweighted_prior is None


def test_a_generator_without_it_is_refused_in_one_line(rag: RAG) -> None:
    with RAG(
        rag.store, encoder=rag.encoder, generator=TableGenerator(WORDS, distribution), settings=rag.settings
    ) as other:
        for ask in (other.ask, other.stream, lambda question: other.ask_many([question])):
            with pytest.raises(ModelError, match="for question_likelihood; found table, which does not; "):
                ask(COD)
        assert other.ask(COD, question_likelihood=0.0).text


@pytest.mark.parametrize("value", [-0.1, math.nan, "much"])
def test_a_power_is_zero_or_more(value: object) -> None:
    with pytest.raises(SettingError, match="question_likelihood to be a number"):
        Settings(question_likelihood=value)  # type: ignore[arg-type]


def test_a_calibration_holds_for_one_power_and_a_bundle_records_it(tmp_path: Path, rag: RAG) -> None:
    old = ConfidenceMap(settings={"k": 2})
    assert old.mismatch(rag.settings, "") == "question_likelihood"
    assert old.mismatch(replace(rag.settings, question_likelihood=0.0), "") is None
    write_bundle(Bundle(folder=tmp_path, settings=trained_settings(rag.settings)))
    assert read_bundle(tmp_path).settings["question_likelihood"] == WEIGHT


@pytest.mark.parametrize("command", ["ask", "score", "eval"])
def test_the_command_line_has_it(command: str) -> None:
    seen, app = [], typer.Typer()

    @app.command()
    @takes(command)
    def run(chosen: Options) -> None:
        seen.append(chosen.of(Settings))

    result = CliRunner().invoke(app, ["--question-likelihood", "0.05"])
    assert result.exit_code == 0, result.output
    assert seen == [{"question_likelihood": 0.05}]

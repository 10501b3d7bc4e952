"""mixrag guarantee from pairs to file: what is tested, what is refused and when, kinds, halves."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.test_run import ITEMS, pairs, rag  # noqa: F401 - fixture
from evaluation.test_scoring import WORDS, Counting, distribution
from mixrag import Settings
from mixrag.answers.confidence import FILE, ConfidenceMap, read_calibration
from mixrag.answers.guarantee import Guarantee
from mixrag.answers.guarantee_file import FILE as GUARANTEE_FILE
from mixrag.answers.guarantee_file import read_guarantee
from mixrag.config.command_settings import EvaluationSettings, GuaranteeSettings
from mixrag.corpus import Store
from mixrag.errors import PairsError, SettingError
from mixrag.evaluation import Record
from mixrag.evaluation import guarantee as module
from mixrag.evaluation.certification import Judged, certify, refusal
from mixrag.evaluation.guarantee import GuaranteeRequest, guarantee
from mixrag.evaluation.run import EvaluationRequest, evaluate
from mixrag.generator import TableGenerator
from mixrag.pairs.pairs import Pair, digest, pairs_from, question_digest
from mixrag.probability import most_wrong
from words_encoder import WordsEncoder


def run(rag: Counting, path: Path, out: Path | None = None, **settings: Any) -> Guarantee:  # noqa: F811
    rag.calibration = ConfidenceMap("temperature", fitted_on="sixty other pairs")
    return guarantee(rag, GuaranteeRequest((path,), out, GuaranteeSettings(**settings)))


def test_a_guarantee_is_written_with_its_confidence_and_covers(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    found = run(rag, pairs(tmp_path / "run", wrong=1000), tmp_path / "out")
    (group,) = found.groups
    # One of 60 is wrong, and one may be from 46 on: all answers are certified.
    assert (group.n, group.answered, group.wrong, group.wrong_of_all) == (ITEMS, ITEMS, 1, 1)
    assert group.threshold is not None and group.upper <= 0.1
    assert read_guarantee(tmp_path / "out" / GUARANTEE_FILE) == found
    assert read_calibration(tmp_path / "out" / FILE) == rag.calibration
    rag.guarantee = found
    answer = rag.ask("What does the licence for item7 cost?")
    assert answer.guarantee and answer.guarantee.n == ITEMS
    assert answer.to_dict()["guarantee"]["right"] == pytest.approx(0.9)
    assert rag.ask("What does the licence for item7 cost?", k=2).guarantee is None


def test_a_guarantee_is_of_its_documents_its_pairs_and_its_longest_answer(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = pairs(tmp_path / "run", wrong=1000)
    rag.guarantee = found = run(rag, path)
    assert found.sources == (("pairs.jsonl", hashlib.sha256(path.read_bytes()).hexdigest()),)
    assert found.documents == rag.documents_digest == rag.store.documents_digest()
    assert found.settings["max_tokens"] == 4 and found.settings["kind"] == "span"
    question = "What does the licence for item7 cost?"
    assert rag.ask(question).guarantee and rag.ask(question).not_covered is None
    longer = rag.ask(question, max_tokens=5)
    assert longer.guarantee is None and longer.not_covered == "it was tested with other max_tokens"
    assert longer.to_dict()["not_covered"] == longer.not_covered
    cut = rag.ask(question, max_tokens=1)
    assert not cut.finished and cut.guarantee is None
    rag.add_texts(["The licence for item99 costs four crowns."], ids=["more"])
    other = rag.ask(question)
    assert other.guarantee is None and other.not_covered == "it was tested with other documents"
    with pytest.raises(SettingError, match="one tested with other documents"):
        rag.ask(question, guaranteed_only=True)
    rag.delete("more")
    assert rag.ask(question).guarantee
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    in_memory = guarantee(rag, GuaranteeRequest(rows))
    assert in_memory.sources == (("pairs in memory", digest(pairs_from(rows).pairs)),)


def test_the_digest_of_documents_knows_no_folder(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "files").rename(tmp_path / "moved")
    with Counting(
        Store.open(tmp_path / "other", create=True),
        encoder=WordsEncoder(dimension=4096),
        generator=TableGenerator(WORDS, distribution),
    ) as other:
        for number in reversed(range(ITEMS)):
            other.index([tmp_path / "moved" / f"item{number}.txt"])
        assert other.store.digest() != rag.store.digest()
        assert other.documents_digest == rag.documents_digest


def test_questions_for_another_kind_of_answer_are_left_out_and_not_covered(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = pairs(tmp_path / "run", wrong=1000)
    rag.settings = replace(rag.settings, kind="auto")
    more = ["Is the licence for item3 dear?", "List the licences.", "Explain the licence for item3."]
    with path.open("a") as stream:
        stream.writelines(json.dumps({"question": each, "answers": ["no"]}) + "\n" for each in more)
    rag.guarantee = found = run(rag, path)
    assert (found.groups[0].n, found.other_kinds, found.kind) == (ITEMS, 3, "span") and rag.asked == ITEMS
    for question, kind in zip(more, ("yes or no", "a list", "an extract"), strict=True):
        for answer in (rag.ask(question), rag.ask_many([question])[0]):
            assert answer.guarantee is None and answer.not_covered is not None
            assert answer.not_covered.endswith(f"this question is asked for {kind}")
            assert rag.ask(question, guaranteed_only=True).abstains
    # Asked for a span each of them counts, and a guarantee of that covers them where kind is span.
    rag.settings = replace(rag.settings, kind="span")
    assert rag.ask(more[1]).not_covered == "it was tested with another kind"
    assert run(rag, path, risk=0.2).groups[0].n == ITEMS + 3
    rag.settings = replace(rag.settings, kind="list")
    with pytest.raises(SettingError, match="kind auto or span"):
        run(rag, path)


def test_any_answer_to_a_question_without_one_is_wrong(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    path, answers = pairs(tmp_path / "run", wrong=1000), tmp_path / "answers.jsonl"
    unanswerable = [{"question": f"Who sells item{i}?", "answers": [], "doc": f"item{i}.txt"} for i in range(3)]
    with path.open("a") as stream:
        stream.writelines(json.dumps(each) + "\n" for each in unanswerable)
    found = run(rag, path, risk=0.2, answers=answers)
    (group,) = found.groups
    assert (group.n, group.wrong_of_all) == (ITEMS + 3, 1 + 3)
    systems = [json.loads(line)["system"].split()[0] for line in answers.read_text().splitlines()]
    assert systems.count("off-corpus") == 3 and systems.count("mixture") == ITEMS
    asked = rag.asked
    assert run(rag, path, risk=0.2, answers=answers) == found and rag.asked == asked
    squad = {
        "data": [
            {"paragraphs": [{"qas": [{"question": each["question"], "answers": []}]}]} for each in unanswerable
        ]
    }
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    files = (pairs(tmp_path / "again", wrong=1000), tmp_path / "squad.json")
    both = guarantee(rag, GuaranteeRequest(files, settings=GuaranteeSettings(risk=0.2)))
    assert both.groups[0].n == ITEMS + 3


def test_what_is_not_met_says_what_it_takes(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(PairsError, match=r"33\.33 % of all answers are wrong, so that even a perfect") as caught:
        run(rag, pairs(tmp_path / "run"), tmp_path / "out")
    assert "74.07 % at most" in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "count, settings, told", [(28, {}, "29 pairs or more"), (79, {"split": True}, "80 pairs")]
)
def test_too_few_pairs_are_refused_before_they_are_asked(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
    count: int,
    settings: dict[str, Any],
    told: str,
) -> None:
    with pytest.raises(PairsError, match=told):
        run(rag, pairs(tmp_path / "run", count), **settings)
    assert rag.asked == 0


def test_pairs_whose_questions_the_confidence_was_fitted_on_are_left_out(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = pairs(tmp_path / "run", wrong=1000)
    seen = tuple(question_digest(f"what does licence for item{i} cost") for i in range(12))
    # The name of the file says nothing: neither that they are the same questions, nor that they are others.
    fitted = ConfidenceMap("temperature", fitted_on="pairs.jsonl (60 questions)", fitted_on_questions=seen)
    for calibration, left_out in ((fitted, 12), (replace(fitted, fitted_on_questions=("0" * 16,)), 0)):
        rag.calibration = calibration
        found = guarantee(rag, GuaranteeRequest((path,)))
        assert (found.groups[0].n, found.overlapping) == (ITEMS - left_out, left_out)
        assert found.pairs == f"pairs.jsonl ({ITEMS - left_out} questions)"
    rag.calibration = replace(fitted, fitted_on_questions=())
    assert guarantee(rag, GuaranteeRequest((path,))).overlapping is None
    asked = rag.asked
    seen = tuple(question_digest(f"What does the licence for item{i} cost?") for i in range(32))
    rag.calibration = replace(fitted, fitted_on_questions=seen)
    with pytest.raises(PairsError, match="found 28, and 32 whose questions the confidence was fitted on"):
        guarantee(rag, GuaranteeRequest((path,)))
    assert rag.asked == asked


def test_no_confidence_that_applies_is_refused(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    path = pairs(tmp_path / "run")
    for calibration in (None, ConfidenceMap(settings={"k": 9})):
        rag.calibration = calibration
        with pytest.raises(SettingError, match="--split"):
            guarantee(rag, GuaranteeRequest((path,)))
    assert rag.asked == 0


def test_answers_that_eval_wrote_are_not_asked_again(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    path = pairs(tmp_path / "run", wrong=1000)
    settings = EvaluationSettings(systems=("sequence", "token"))
    evaluate(rag, EvaluationRequest((path,), tmp_path / "eval", settings))
    asked, answers = rag.asked, tmp_path / "eval" / "answers.jsonl"
    lines = answers.read_text().splitlines()
    first = run(rag, path, answers=answers)
    assert rag.asked == asked and answers.read_text().splitlines() == lines
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(f"{line}\n" for line in lines if '"sequence ' in line[:30])[: -len(lines[0]) // 2])
    assert run(rag, path, answers=fewer) == first
    assert len(fewer.read_text().splitlines()) == ITEMS


@pytest.fixture
def kinds(tmp_path: Path) -> Iterator[Counting]:
    """Items of two kinds; the metadata say which."""
    rows = [
        {"id": f"i{i}", "text": f"The licence for item{i} costs {WORDS[i % 2]} crowns.", "kind": "ab"[i % 2]}
        for i in range(ITEMS)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = Store.open(tmp_path / "store", create=True)
    settings, encoder = Settings(k=3, temperature=0.05, max_tokens=4), WordsEncoder(dimension=4096)
    with Counting(
        store, encoder=encoder, generator=TableGenerator(WORDS, distribution), settings=settings
    ) as opened:
        opened.index([tmp_path / "items.jsonl"])
        yield opened


@pytest.mark.parametrize("simultaneous", [False, True])
def test_each_kind_is_tested_on_its_own(kinds: Counting, tmp_path: Path, simultaneous: bool) -> None:
    path = pairs(tmp_path / "run", wrong=1000)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for i in range(0, 40, 2):
        lines[i]["answers"] = ["nothing"]  # most of kind a is wrong
    path.write_text("".join(json.dumps({**line, "doc": None}) + "\n" for line in lines))
    found = run(kinds, path, by="kind", simultaneous=simultaneous, risk=0.15, delta=0.02)
    a, b = found.groups
    assert (a.value, b.value, a.n, b.n, a.threshold, a.wrong_of_all) == ("a", "b", 30, 30, None, 20)
    # 0.85^30 = 0.0076: below δ, and below δ / 2.
    assert b.threshold is not None and (b.answered, b.wrong) == (30, 0)
    kinds.guarantee = found
    covered, other = (kinds.ask(f"What does the licence for item{i} cost?").guarantee for i in (7, 6))
    assert covered and covered.group == "b" and other is None
    with pytest.raises(PairsError, match="in their metadata"):
        run(kinds, path, by="colour")


def test_together_the_level_of_each_kind_is_a_share_of_delta() -> None:
    judged = [Judged(0.9, i % 60 != 0, "ab"[i % 2]) for i in range(60)]  # 30 of each, one of a wrong
    right = [replace(each, right=True) for each in judged]
    alone = certify(right, GuaranteeSettings(by="kind"))
    together = certify(right, GuaranteeSettings(by="kind", simultaneous=True))
    assert [each.threshold is not None for each in alone] == [True, True]  # 0.9^30 = 0.042
    assert [each.threshold for each in together] == [None, None]
    assert [each.threshold is not None for each in certify(judged, GuaranteeSettings(by="kind"))] == [False, True]


def draw(source: np.random.Generator, n: int) -> list[Judged]:
    c = source.beta(0.6, 0.5, n)
    return [Judged(float(x), bool(source.random() < x)) for x in c]


def test_the_threshold_certifies_its_own_counts() -> None:
    source = np.random.default_rng(5)
    judged, other = draw(source, 600), draw(source, 600)
    for found in (certify(judged, GuaranteeSettings())[0], certify(judged, GuaranteeSettings(), other)[0]):
        assert found.threshold is not None
        given = [each for each in judged if each.confidence >= found.threshold]
        wrong = sum(not each.right for each in given)
        assert (found.answered, found.wrong) == (len(given), wrong) and wrong <= most_wrong(len(given), 0.1, 0.05)
        assert found.upper <= 0.1 and found.control is not None and found.control < found.threshold


def test_a_target_that_the_other_half_rules_out_is_not_tested() -> None:
    judged = [Judged(0.9, True)] * 100
    assert certify(judged, GuaranteeSettings(), [Judged(0.9, False)] * 100)[0].threshold is None
    assert certify(judged, GuaranteeSettings(), judged)[0].threshold is not None


def test_answers_that_were_cut_off_are_never_counted_as_given() -> None:
    found = certify([Judged(-1.0, False)] * 50 + [Judged(0.5, True)] * 50, GuaranteeSettings())[0]
    assert (found.n, found.answered, found.wrong, found.wrong_of_all) == (100, 50, 0, 50)
    assert found.control == 0.0


def test_the_refusal_names_the_pairs_that_it_takes() -> None:
    judged = draw(np.random.default_rng(6), 60)
    told = str(
        refusal(judged, Guarantee(risk=0.05, delta=0.05, groups=certify(judged, GuaranteeSettings(risk=0.05))))
    )
    assert "it takes about " in told and "pairs, if the confidence is right" in told
    unsure = [replace(each, confidence=0.3) for each in judged]
    assert "a larger --risk" in str(refusal(unsure, Guarantee(risk=0.05, delta=0.05, groups=())))


def record(i: int, log_mass: float, exact: float) -> Record:
    weights: dict[str, Any] = {"priors": (1.0,), "posteriors": (1.0,), "relevant": (True,)}
    numbers = {"f1": exact, "contained": exact > 0, "log_prob": log_mass, "nll": 1.0, "nll_tokens": 1}
    more: dict[str, Any] = {"rank": 1, "recall_k": 20, "support": 0.5, "tokens": 2, "seconds": 0.1}
    return Record(
        question=f"q{i}", document=None, answer="a", exact=exact, log_mass=log_mass, **numbers, **more, **weights
    )


def test_half_of_the_pairs_fit_and_the_other_half_certifies(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = np.random.default_rng(8)
    chances = source.beta(0.8, 0.4, 400)
    records = [record(i, math.log(c), float(source.random() < c)) for i, c in enumerate(chances)]
    given: list[list[Record]] = []

    def answered(_: Any, asked: list[Pair], *__: Any) -> list[Record]:
        own = [replace(records[all_pairs.index(pair)], question=pair.question) for pair in asked]
        given.append(own[:200])
        return own

    monkeypatch.setattr(module, "answered", answered)
    path = pairs(tmp_path / "run", 400)
    all_pairs = list(pairs_from(path).pairs)
    found = guarantee(rag, GuaranteeRequest((path,), tmp_path / "out", GuaranteeSettings(split=True, seed=3)))
    (group,) = found.groups
    fitted = read_calibration(tmp_path / "out" / FILE)
    assert group.n == 200 and found.fitted_on == fitted.fitted_on == "half of pairs.jsonl (200 questions)"
    assert found.pairs == "pairs.jsonl (200 questions)" and group.threshold is not None
    again = guarantee(rag, GuaranteeRequest((path,), None, GuaranteeSettings(split=True, seed=3)))
    other = guarantee(rag, GuaranteeRequest((path,), None, GuaranteeSettings(split=True, seed=5)))
    assert again == found != other
    # All are answered at threshold 0: the share right there, and not a target that nothing was withheld for.
    right = sum(record.exact for record in given[0]) / 200
    assert fitted.threshold == 0.0 and fitted.precision == pytest.approx(right) and right != 0.8
    questions = {question_digest(each.question) for each in given[0]}
    assert set(fitted.fitted_on_questions) == questions and found.overlapping == 0


def test_a_question_that_is_in_both_halves_counts_in_the_first(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[Pair]] = []

    def answered(_: Any, given: list[Pair], *__: Any) -> list[Record]:
        asked.append(given)
        return [record(i, -0.1 - i / 100, float(i % 9 > 0)) for i in range(len(given))]

    monkeypatch.setattr(module, "answered", answered)
    rows = [{"question": f"Which one of {i // 2}?", "answers": ["x"], "doc": f"d{i % 2}"} for i in range(240)]
    found = guarantee(rag, GuaranteeRequest(rows, None, GuaranteeSettings(split=True, risk=0.2)))
    first, rest = asked[0][:120], asked[0][120:]
    assert found.overlapping == 120 - len(rest) > 0
    assert not {each.question for each in first} & {each.question for each in rest}


def test_answers_that_were_cut_off_are_never_covered(
    rag: Counting,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = [replace(record(i, -0.1, 1.0), tokens=4, finished=i % 2 == 0) for i in range(60)]
    monkeypatch.setattr(module, "answered", lambda *_: some)
    assert run(rag, pairs(tmp_path / "run")).groups[0].answered == 30
    monkeypatch.setattr(module, "answered", lambda *_: [replace(each, finished=None) for each in some])
    with pytest.raises(PairsError):  # of an earlier version: as many tokens as there may be
        run(rag, pairs(tmp_path / "run"))

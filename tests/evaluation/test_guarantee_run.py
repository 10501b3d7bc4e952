"""mixrag guarantee from pairs to file: what is tested, what is refused and when, kinds, halves."""

from __future__ import annotations

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
from mixrag.answers.guarantee import FILE as GUARANTEE_FILE
from mixrag.answers.guarantee import Guarantee, read_guarantee
from mixrag.config.command_settings import EvaluationSettings, GuaranteeSettings
from mixrag.corpus import Store
from mixrag.errors import PairsError, SettingError
from mixrag.evaluation import Record
from mixrag.evaluation import guarantee as module
from mixrag.evaluation.guarantee import GuaranteeRequest, Judged, certify, guarantee, refusal
from mixrag.evaluation.run import EvaluationRequest, evaluate
from mixrag.generator import TableGenerator
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


def test_what_is_not_met_says_what_it_takes(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(PairsError, match="33 % of all answers are wrong, so that even a perfect") as caught:
        run(rag, pairs(tmp_path / "run"), tmp_path / "out")
    assert "74 % at most" in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "count, settings, told", [(28, {}, "29 pairs or more"), (57, {"split": True}, "58 pairs")]
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


def test_the_pairs_of_the_confidence_are_refused(rag: Counting, tmp_path: Path) -> None:  # noqa: F811
    path = pairs(tmp_path / "run")
    rag.calibration = ConfidenceMap(fitted_on="pairs.jsonl (60 questions, 40 right)")
    with pytest.raises(PairsError, match="not fitted on"):
        guarantee(rag, GuaranteeRequest((path,)))
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
    monkeypatch.setattr(module, "answered", lambda *_: records)
    path = pairs(tmp_path / "run", 400)
    found = guarantee(rag, GuaranteeRequest((path,), tmp_path / "out", GuaranteeSettings(split=True, seed=3)))
    (group,) = found.groups
    fitted = read_calibration(tmp_path / "out" / FILE)
    assert group.n == 200 and found.fitted_on == fitted.fitted_on == "half of pairs.jsonl (200 questions)"
    assert found.pairs == "pairs.jsonl (200 questions)" and group.threshold is not None
    again = guarantee(rag, GuaranteeRequest((path,), None, GuaranteeSettings(split=True, seed=3)))
    other = guarantee(rag, GuaranteeRequest((path,), None, GuaranteeSettings(split=True, seed=5)))
    assert again == found != other

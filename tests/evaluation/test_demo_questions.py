"""The questions that ship with the demo documents, and the scores that ``benchmarks/demo_questions.py`` gives."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo_questions import (
    DEMO,
    SETS,
    auroc,
    read,
    recall,
    report,
    right,
    scored,
    setting,
    share_of,
    shown,
    signal_report,
    threshold_keeping,
)
from mixrag.answers.signals import Signals
from mixrag.corpus import ParserRegistry
from mixrag.pairs.matching import normalise
from mixrag.pairs.pairs import read_pairs

SPAN = {"question": "class B fee?", "answers": ["85 talms", "85"], "doc": "a"}
YES_NO = {"question": "rent?", "answers": ["no", "Rent is not deductible"], "kind": "yes-no"}
LIST = {
    "question": "crew?",
    "answers": ["a coxswain and a deckhand"],
    "kind": "list",
    "parts": ["coxswain", "deckhand"],
}
NONE: dict[str, Any] = {"question": "class D fee?", "answers": []}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The words of every demo document, one space between two."""
    registry, folder = ParserRegistry(), DEMO / "corpus"
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): " ".join(
            word for found in registry.parse(path, path.read_bytes()).documents for word in found.text.split()
        )
        for path in paths
    }


@pytest.mark.parametrize("name", SETS)
def test_every_document_is_named_and_every_question_asked_once(name: str, texts: dict[str, str]) -> None:
    rows = read(DEMO / f"{name}.jsonl")
    assert {row["doc"] for row in rows} <= set(texts)
    if name != "extracts":
        assert len(rows) == 60 and {row["doc"] for row in rows} == set(texts)
    others = [row for other in SETS if other != name for row in read(DEMO / f"{other}.jsonl")]
    own, known = (
        Counter(normalise(row["question"]) for row in rows),
        {
            *(normalise(row["question"]) for row in others),
            *(normalise(pair.question) for pair in read_pairs([DEMO / "pairs.jsonl"]).pairs),
        },
    )
    assert max(own.values()) == 1 and not known & set(own)


def test_gold_answers_are_in_their_documents(texts: dict[str, str]) -> None:
    rows = read(DEMO / "questions.jsonl")
    assert Counter(row.get("kind", "span") for row in rows) == {"span": 46, "yes-no": 8, "list": 6}
    for row in rows:
        first, *others = row["answers"]
        if row.get("kind") == "yes-no":
            assert first in ("yes", "no")
            first = others[0]
        assert first in texts[row["doc"]], row
        assert all(part in row["answers"][0] for part in row.get("parts", [])), row
        assert all(right(row, answer) for answer in row["answers"]), row


def test_gold_sentences_are_in_their_documents(texts: dict[str, str]) -> None:
    for row in read(DEMO / "extracts.jsonl"):
        assert all(sentence in texts[row["doc"]] for sentence in row["sentences"]), row


def test_unanswerable_questions_have_no_answer_and_say_why() -> None:
    for row in read(DEMO / "unanswerable.jsonl"):
        assert row["answers"] == [] and row["note"].strip()


@pytest.mark.parametrize(
    ("row", "answer", "expected"),
    [
        (SPAN, "85 talms", True),
        (SPAN, "The fee is 85 Talms.", True),
        (SPAN, "85", True),
        (SPAN, "85 kg", False),
        (SPAN, "185 talms", False),
        (SPAN, "", False),
        (SPAN, "20 talms for Class A, 85 talms for Class B and 240 talms for Class C", False),
        (NONE, "20 talms", False),
        (NONE, "", False),
        (YES_NO, "No.", True),
        (YES_NO, "No, it is not", True),
        (YES_NO, "yes", False),
        (YES_NO, "Yes, rent is not deductible", False),
        (YES_NO, "Rent is not deductible.", True),
        (YES_NO, "there is no rule", False),
        (LIST, "a coxswain and a deckhand", True),
        (LIST, "deckhand, coxswain", True),
        (LIST, "a coxswain", False),
        (LIST, "coxswain deckhand" + " word" * 12, True),
        (LIST, "coxswain deckhand" + " word" * 13, False),
        ({"question": "deaths?", "answers": ["three", "3"]}, "Fifty-three patients", False),
        ({"question": "long", "answers": ["w " * 20]}, "w " * 20 + "and", False),
        ({"question": "long", "answers": ["w " * 20 + "x", "x"]}, "w " * 10 + "x" + " w" * 10, True),
    ],
)
def test_what_counts_as_right(row: dict[str, Any], answer: str, expected: bool) -> None:
    assert right(row, answer) is expected


def test_recall_of_sentences() -> None:
    gold = ["The fee is nine talms.", "It is paid in May."]
    assert recall(gold, "the fee is nine talms") == 0.5
    assert recall(gold, "First: The fee is nine talms. It is paid in May. Nothing else.") == 1.0
    assert recall(gold, "The fee is paid in May") == 0.0


def test_the_threshold_keeps_at_least_the_share() -> None:
    values = [i / 10 for i in range(10)]
    assert threshold_keeping(values) == 0.1 and threshold_keeping(values[:9]) == 0.0
    assert threshold_keeping([0.5, 0.5, 0.2], 0.5) == 0.5 and threshold_keeping([0.3]) == 0.3
    assert threshold_keeping(values, 1.0) == 0.0


def test_auroc_counts_ties_as_half() -> None:
    assert auroc([0.9, 0.8], [0.1]) == 1.0 and auroc([0.1], [0.9]) == 0.0
    assert auroc([0.5, 0.9], [0.5, 0.1]) == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert auroc([-math.inf], [-math.inf]) == 0.5
    assert auroc([], [0.1]) is None and auroc([0.1], []) is None


def test_a_share_has_its_interval() -> None:
    found = share_of([1, 1, 1, 0])
    assert (found["share"], found["n"], found["hits"]) == (0.75, 4, 3)
    # Wilson (1927): (p + z²/2n ± z √(p q / n + z²/4n²)) / (1 + z²/n)
    assert found["interval"] == pytest.approx([0.300642, 0.954413], abs=1e-6)


def test_a_setting_is_json_or_text() -> None:
    assert setting("k=10") == ("k", 10) and setting("k=all") == ("k", "all")
    assert setting("empty_answer=true") == ("empty_answer", True)


def answer(text: str, confidence: float | None, probability: float, **more: Any) -> Any:
    """What is read of an answer."""
    sure = None if confidence is None else SimpleNamespace(value=confidence)
    withheld = confidence is not None and confidence < 0.5
    shown = None if withheld else text
    signals = Signals(log_mass=math.log(probability), support=0.5)
    return SimpleNamespace(
        best_guess=text, text=shown, confidence=sure, probability=probability, signals=signals, **more
    )


def asked(**more: Any) -> dict[str, list[dict[str, Any]]]:
    """Three right answers, a wrong one, three to unanswerable questions, an extract."""
    answers = {
        "questions": [
            answer("85 talms", 0.9, 0.5, **more),
            answer("no", 0.6, 0.8, **more),
            answer("coxswain, deckhand", None, 0.1, **more),
            answer("20 talms", 0.7, 0.4, **more),
        ],
        "unanswerable": [
            answer("20 talms", 0.2, 0.6, **more),
            answer("85 talms", 0.65, 0.05, **more),
            answer(" ", 0.55, 0.02, **more),
        ],
        "extracts": [answer("The fee is nine talms.", 0.4, 0.1, **more)],
    }
    rows = {
        "questions": [SPAN, YES_NO, LIST, SPAN],
        "unanswerable": [NONE] * 3,
        "extracts": [{"question": "explain", "sentences": ["The fee is nine talms.", "It is paid in May."]}],
    }
    return {name: scored(rows[name], answers[name]) for name in SETS}


def test_the_report_of_made_up_answers() -> None:
    found = report(asked())
    assert (found["exact"]["hits"], found["right"]["hits"]) == (2, 3)
    assert {kind: some["share"] for kind, some in found["right_by_kind"].items()} == {
        "span": 0.5,
        "yes-no": 1.0,
        "list": 1.0,
    }
    assert found["withheld_as_set"]["unanswerable"]["hits"] == 2 and found["withheld_as_set"]["right"]["hits"] == 0
    by_probability = found["signals"]["probability"]
    assert by_probability["threshold"] == 0.1 and by_probability["unanswerable_withheld"]["hits"] == 2
    assert by_probability["auroc_unanswerable"] == pytest.approx(7 / 9)
    assert by_probability["auroc_wrong"] == pytest.approx(2 / 3)
    assert by_probability["auroc_pooled"] == pytest.approx(9 / 12)
    assert found["signals"]["1 - p_empty"] is None
    assert found["extracts"]["recall"] == 0.5 and 0 < found["extracts"]["f1"] < 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_answer_without_a_signal_counts_as_least_sure() -> None:
    rows = asked()
    found = signal_report("confidence", rows["questions"], rows["unanswerable"])
    # One right answer of three has no confidence, so nothing can be withheld that keeps it.
    assert found is not None and found["threshold"] is None and found["unanswerable_withheld"]["hits"] == 0
    assert found["auroc_unanswerable"] == pytest.approx((3 + 2 + 0) / 9)


def test_the_empty_answer_is_a_signal_where_there_is_one() -> None:
    rows = asked(p_empty=0.25)
    found = signal_report("1 - p_empty", rows["questions"], rows["unanswerable"])
    assert found is not None and (found["threshold"], found["auroc_pooled"]) == (0.75, 0.5)


def test_the_report_as_text() -> None:
    text = shown(report(asked()))
    assert "| right, yes-no | 1 of 1: 1.000 [" in text and "| right | 3 of 4: 0.750 [" in text
    assert "| 1 - p_empty | – | – | – | – | – | – |" in text
    assert "| probability | 0.100 | 2 of 3: 0.667 [" in text
    nothing_right = report({**asked(), "questions": asked()["questions"][3:]})
    assert nothing_right["signals"]["probability"] is None and "| probability | – |" in shown(nothing_right)


def test_files_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a\u2028b", "answers": []}\n', encoding="utf-8")
    assert read(path) == [{"question": "a\u2028b", "answers": []}]

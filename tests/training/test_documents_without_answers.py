"""Documents that no longer state some answers (benchmarks/documents_without_answers.py)."""

from __future__ import annotations

import pytest

from documents_without_answers import MOST_SENTENCES, changed, without, without_answers
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import Pair

TEXTS = {
    "act.md": "# Fees\n\nClass A costs 12 talms. Class B costs 15 talms. The fee is due in May.\n",
    "note.md": "The ferry runs on Mondays.",
}
PAIRS = [
    Pair("What does class A cost?", ("12 talms",), "act.md"),
    Pair("What does class B cost?", ("15 talms",), "act.md"),
    Pair("When is the fee due?", ("May",), "act.md"),
    Pair("When does the ferry run?", ("Mondays",), "note.md"),
    Pair("Who issues it?", ("the office",), "act.md"),
    Pair("Which day?", ("Monday",), None),
]


def test_questions_are_asked_of_what_their_documents_still_state() -> None:
    left, stated, near = without_answers(PAIRS, TEXTS)
    assert len(stated) == 3 and len(near) == 1, "one of the four that the documents answer"
    assert all(passage_holds(left[str(pair.document)], pair.answers) for pair in stated)
    gone = next(pair for pair in PAIRS if pair.question == near[0].question)
    assert not near[0].answers
    assert not passage_holds(left[str(gone.document)], gone.answers)


def test_only_the_sentences_with_the_answer_are_cut() -> None:
    left, _, near = without_answers(PAIRS[:1], TEXTS)
    assert left["act.md"] == "# Fees\n\n Class B costs 15 talms. The fee is due in May.\n"
    assert left["note.md"] == TEXTS["note.md"] and len(near) == 1


def test_an_answer_of_many_sentences_is_left_alone() -> None:
    text = "Two came. " * (MOST_SENTENCES + 1)
    assert without_answers([Pair("How many?", ("two",), "a")], {"a": text}) == ({"a": text}, [], [])


@pytest.mark.parametrize("cut", [[(0, 2), (4, 6)], [(4, 6), (0, 2)]])
def test_cuts_are_made_in_any_order(cut: list[tuple[int, int]]) -> None:
    assert without("abcdefg", cut) == "cdg"


def test_a_question_with_another_number_has_no_answer() -> None:
    texts = {"a": "In 1998 there were 20 boats.", "b": "In 2004 there were 30 boats."}
    pairs = [
        Pair(f"How many boats in {year}?", (number,), name)
        for year, number, name in ((1998, "20", "a"), (2004, "30", "b"))
    ]
    assert {(pair.question, pair.document) for pair in changed(pairs, texts)} == {
        ("How many boats in 2004?", "a"),
        ("How many boats in 1998?", "b"),
    }

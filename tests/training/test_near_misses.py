"""Questions that a passage nearly answers (benchmarks/near_misses.py)."""

from __future__ import annotations

import random

from near_misses import changed_question, drawn, pools, without_answer

TEXT = "The ferry runs in 2019. A Class C licence costs 20 talms. Mr Thrake issues it on every working day."


def test_the_sentences_with_the_answer_are_left_out() -> None:
    assert without_answer(TEXT, ["20 talms"]) == (
        "The ferry runs in 2019. Mr Thrake issues it on every working day."
    )


def test_a_text_of_the_answer_alone_has_no_rest() -> None:
    assert without_answer("A Class C licence costs 20 talms.", ["20 talms"]) is None


def test_an_answer_that_the_text_does_not_hold_cuts_nothing() -> None:
    assert without_answer(TEXT, ["30 talms"]) is None


def test_a_letter_a_name_and_a_number_are_changed() -> None:
    numbers, names = pools(["In 1998?", "Is a Class D licence enough?", "Does Mr Lemmane know?"])
    assert "1998" in numbers and "D" not in numbers
    found = {
        changed_question(question, TEXT, numbers, [*names, "D"], random.Random(seed))
        for question in ("what does it cost in 2019?", "the fee of C here?", "who is Thrake there?")
        for seed in range(8)
    }
    assert "what does it cost in 1998?" in found
    assert "the fee of D here?" in found
    assert all(each is None or each.split()[-2] not in ("2019", "C", "Thrake") for each in found)


def test_what_the_text_has_not_is_not_changed() -> None:
    assert changed_question("what of 1850?", TEXT, ["1998"], ["Lemmane"], random.Random(0)) is None


def test_a_passage_keeps_its_other_questions() -> None:
    items = [["what does it cost in 2019?", ["20 talms"]], ["who issues it?", ["Mr Thrake"]], ["who sails?", []]]
    group = {"set": "general", "title": "Fees", "context": "Licences", "text": TEXT, "items": items}
    found = {pair.question: pair for pair in drawn([group], random.Random(0))}
    texts = {pair.passage for pair in found.values()}
    assert len(texts) == 1
    text = str(texts.pop())
    assert text.startswith("Licences\n")
    for question, answers in items[:2]:
        held = str(answers[0]) in text
        assert found[question].answers == (tuple(answers) if held else ())
    assert not all(found[question].answers for question, _ in items[:2])

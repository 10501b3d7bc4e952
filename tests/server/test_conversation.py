"""From messages to the one question that is asked."""

from __future__ import annotations

import pytest

from mixrag.server.conversation import EARLIER, LONGEST_QUESTION, Turn, question_of
from mixrag.server.errors import RequestError

COD = "What does a licence for cod cost?"


def talk(*texts: str) -> list[Turn]:
    """Messages of the user and of the assistant in turn."""
    return [Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)]


DIALOGUES = [
    (talk(COD), COD),
    (talk(COD, "nine crowns", "And for eel?"), "What does a licence for eel cost?"),
    (talk(COD, "nine crowns", "Who issues it?"), "Who issues it? (licence cod cost)"),
    (
        talk(COD, "nine crowns", "And for eel?", "four crowns", "Who issues it?"),
        "Who issues it? (licence eel cost)",
    ),
    (talk(COD, "nine crowns", "When does the trout season end?"), "When does the trout season end?"),
    (talk(COD, "nine crowns", "Why?"), "Why? (licence cod cost)"),
    (talk("Wo liegt Orrin?", "im Norden", "Was kostet ein Angelschein?"), "Was kostet ein Angelschein?"),
    ([Turn("system", COD), Turn("user", "Why?")], "Why?"),
    ([Turn("assistant", COD), Turn("user", "Why?")], "Why?"),
    ([Turn("user", "Why?"), Turn("assistant", "because")], "Why?"),
    (talk("Why?", "because", "Why?"), "Why?"),
    (talk(f"  {COD} ", "nine crowns", COD), COD),
]


@pytest.mark.parametrize(("turns", "asked"), DIALOGUES)
def test_a_dialogue(turns: list[Turn], asked: str) -> None:
    found = question_of(turns)
    assert found.text == asked
    written = [turn.text for turn in turns if turn.role == "user"][-1].strip()
    assert (found.written, found.rewritten) == (written, asked != written)


def test_a_given_question_is_asked_as_it_is() -> None:
    found = question_of(talk(COD, "nine crowns", "Why?"), "Why is a licence so cheap?")
    assert (found.text, found.written, found.rewritten) == ("Why is a licence so cheap?", "Why?", True)


def test_what_lies_too_far_back_is_not_looked_at() -> None:
    turns = talk(*[each for n in range(EARLIER) for each in ("Where is Orrin?", "north")], "Why?")
    before = talk(COD, "nine crowns")
    assert question_of([*before, *turns]) == question_of(turns)


@pytest.mark.parametrize(
    ("turns", "given"),
    [
        ([], None),
        ([Turn("assistant", COD)], None),
        (talk(COD, "nine crowns", " "), None),
        (talk("a" * (LONGEST_QUESTION + 1)), None),
        (talk(COD), "a" * (LONGEST_QUESTION + 1)),
        (talk(" "), COD),
    ],
)
def test_no_question_or_one_too_long_is_refused(turns: list[Turn], given: str | None) -> None:
    with pytest.raises(RequestError) as found:
        question_of(turns, given, "input")
    assert found.value.param == "input"


def test_a_very_long_history_is_cut() -> None:
    long = "cod " * 30_000
    assert len(question_of(talk(long, "x" * 100_000, "Who issues it?")).text) < 1000

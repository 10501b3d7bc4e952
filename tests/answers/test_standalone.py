"""A follow-up question made to stand alone, by a table of dialogues."""

from __future__ import annotations

import pytest

from mixrag.answers.standalone import MOST_WORDS, key_words, standalone

COD = "What does a licence for cod cost?"
DIALOGUES = [
    # Elliptical, with a preposition.
    ([COD], "And for eel?", "What does a licence for eel cost?"),
    ([COD], "And for the eel?", "What does a licence for the eel cost?"),
    ([COD], "What about for eel in winter?", "What does a licence for eel in winter cost?"),
    (["How much is a permit for brown trout?"], "and for eel", "How much is a permit for eel?"),
    (["Why does the fee for brown trout rise?"], "And for eel?", "Why does the fee for eel rise?"),
    (["How many eels were caught in 2020?"], "And in 2021?", "How many eels were caught in 2021?"),
    (["Who is mayor of New Orrin today?"], "And of Sand Bay?", "Who is mayor of Sand Bay today?"),
    (["When does the ferry to Orrin leave?"], "And to Sand Bay?", "When does the ferry to Sand Bay leave?"),
    (["Who sells hens in spring in Orrin?"], "And in Skarrow?", "Who sells hens in spring in Skarrow?"),
    ([COD], "And in winter?", "licence cod cost in winter?"),
    (["Which hens lay?"], "And for the winter?", "hens lay for the winter?"),
    # Elliptical, without one.
    ([COD], "What about eel?", "What about eel? (licence cod cost)"),
    ([COD], "how about in winter", "licence cod cost in winter"),
    ([COD], "Why?", "Why? (licence cod cost)"),
    ([COD], "Who pays?", "Who pays? (licence cod cost)"),
    ([COD], "And the price?", "And the price? (licence cod cost)"),
    (["How many eels were caught in 2020?"], "2021?", "2021? (eels caught)"),
    # Pronominal.
    ([COD], "Who issues it?", "Who issues it? (licence cod cost)"),
    ([COD], "Is that free for children?", "Is that free for children? (licence cod cost)"),
    ([COD], "How long is this valid?", "How long is this valid? (licence cod cost)"),
    ([COD], "Does the same apply to eel?", "Does the same apply to eel? (licence cod cost)"),
    ([COD], "Which one is cheaper?", "Which one is cheaper? (licence cod cost)"),
    (["Where is the county office of Orrin?"], "How do I get there?", "How do I get there? (county office Orrin)"),
    (["Who wrote the harbour rules?"], "When was he born?", "When was he born? (wrote harbour rules)"),
    (["Who wrote the harbour rules?"], "What is her name?", "What is her name? (wrote harbour rules)"),
    (["How long is a cod licence valid?"], "Who issues it?", "Who issues it? (cod licence valid)"),
    # Both, over several turns.
    ([COD, "And for eel?"], "Who issues it?", "Who issues it? (licence eel cost)"),
    ([COD, "Who issues it?"], "Where?", "Where? (issues licence cod cost)"),
    ([COD, "Where is Orrin?"], "Who rules it?", "Who rules it? (Orrin)"),
    # Questions that stand alone.
    ([], "And for eel?", "And for eel?"),
    ([COD], "When does the trout season end?", "When does the trout season end?"),
    ([COD], "And when does the trout season end?", "And when does the trout season end?"),
    ([COD], "What is photosynthesis?", "What is photosynthesis?"),
    ([COD], "Where is Orrin?", "Where is Orrin?"),
    ([COD], "Is it legal to fish at night?", "Is it legal to fish at night?"),
    ([COD], "How long does it take to get a permit?", "How long does it take to get a permit?"),
    ([COD], "Which hens are sold this year?", "Which hens are sold this year?"),
    ([COD], "Who governs the law that protects hens?", "Who governs the law that protects hens?"),
    ([COD], "Is there a fee for those who sell hens?", "Is there a fee for those who sell hens?"),
    ([COD], "Does the ferry change its timetable in winter?", "Does the ferry change its timetable in winter?"),
    (
        [COD],
        "When a captain loses the permit, who replaces it?",
        "When a captain loses the permit, who replaces it?",
    ),
    ([COD], "Welche Gebühr kostet ein Angelschein?", "Welche Gebühr kostet ein Angelschein?"),
]


@pytest.mark.parametrize(("earlier", "question", "expected"), DIALOGUES, ids=[each[1] for each in DIALOGUES])
def test_a_dialogue(earlier: list[str], question: str, expected: str) -> None:
    assert standalone(question, earlier) == expected
    assert standalone(expected, earlier) == expected, "what was rewritten stays as it is"


def test_rewritten_questions_may_be_given_as_the_earlier_ones() -> None:
    rewritten = standalone("And for eel?", [COD])
    assert standalone("Who issues it?", [COD, rewritten]) == standalone("Who issues it?", [COD, "And for eel?"])


def test_a_long_conversation_makes_no_long_question() -> None:
    earlier = [" ".join(f"word{n}{m}" for m in range(30)) + "?" for n in range(3)]
    found = standalone("And why is it so?", earlier)
    assert [*key_words(found)] == [f"word2{m}" for m in range(MOST_WORDS)]
    talk = [earlier[0], *("And why is it so?" for _ in range(30))]
    assert standalone("Who says that?", talk) == standalone("Who says that?", talk[:2])


@pytest.mark.parametrize(
    "part", ["it costs ", "is it to ", "that ", "the same ", "and for eel ", "( ", "how long "]
)
def test_a_question_takes_no_longer_than_its_length(part: str) -> None:
    """What looks at the rest of the text from every place would take hours, and ends at the test's time limit."""
    odd = part * (2**20 // len(part))
    assert part.strip() in standalone(odd, [COD]) and standalone(COD, [odd]) == COD
    assert standalone("Who issues it?", [odd]).startswith("Who issues it?")


def test_an_expletive_is_looked_for_nearby() -> None:
    """An "it" stands for "to ..." in the words after it, not at any distance."""
    far = " ".join(["for"] * 40)
    assert standalone("What does it cost to fish?", [COD]) == "What does it cost to fish?"
    assert standalone(f"So it costs {far} to fish", [COD]) != f"So it costs {far} to fish"


@pytest.mark.parametrize(
    "odd", ["", " ", "?!", "()", "\ud800", "a" * 5000, "it " * 3000, ", " * 5000, "that " * 2000]
)
def test_odd_texts_are_questions_too(odd: str) -> None:
    assert standalone(odd, [odd, COD]).startswith(odd.strip())
    assert standalone("Who issues it?", [odd, odd]).startswith("Who issues it?")

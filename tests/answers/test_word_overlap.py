"""Words of a question in passages and in sentences, counted by hand."""

from __future__ import annotations

import pytest

from mixrag.answers.word_overlap import labels_stated, overlap, sentence_overlaps
from mixrag.corpus import Passage


def passage(text: str, title: str = "", context: str = "") -> Passage:
    return Passage("p:0", text, "file", title, 0, len(text), context=context)


def test_overlap_is_the_share_of_content_words_that_the_passages_have() -> None:
    question = "What does the fishing licence cost in Orvel?"  # fishing, licence, cost, Orvel
    assert overlap(question, [passage("A licence to fish costs nine crowns.")]) == pytest.approx(3 / 4)
    assert overlap(question, [passage("It costs nine."), passage("Licences", "Orvel")]) == pytest.approx(3 / 4)
    assert overlap(question, [passage("Nine.", context="Fishing licences of Orvel: costs")]) == 1.0
    assert overlap(question, [passage("What does it do in the")]) == 0.0 == overlap(question, [])
    assert overlap("Who is it?", [passage("Ada")]) == 1.0


TEXT = (
    "The harbour office of Orvel opens at nine. It is closed in May. A fishing licence costs four crowns in Orvel."
)


@pytest.mark.parametrize(
    "answer, own",
    [
        ("four crowns", 1.0),
        ("nine", 1 / 4),
        ("May", 0.0),
        ("ten", 0.0),
        (" ", 0.0),
        ("May. A fishing licence", 1.0),
    ],
)
def test_the_sentence_that_has_the_answer_beside_the_best_one(answer: str, own: float) -> None:
    """Content words: fishing, licence, cost, Orvel. The last answer is in two sentences, which count as one."""
    question = "What does the fishing licence cost in Orvel?"
    assert sentence_overlaps(question, answer, [passage(TEXT)]) == pytest.approx((own, 1.0))


def test_title_and_headings_are_read_with_every_sentence() -> None:
    question = "When does the harbour office of Orvel open?"  # harbour, office, Orvel, open
    text = "It opens at nine. The office is closed in May."
    assert sentence_overlaps(question, "nine", [passage(text)]) == pytest.approx((1 / 4, 1 / 4))
    read = passage(text, title="Orvel", context="Harbour")
    assert sentence_overlaps(question, "nine", [read]) == pytest.approx((3 / 4, 3 / 4))


def test_the_best_of_several_sentences_with_the_answer_counts_in_all_passages() -> None:
    question = "Which town has a lighthouse?"  # town, lighthouse
    first, second = passage("Orvel is old."), passage("The town of Orvel has a lighthouse. Vell is a town.")
    assert sentence_overlaps(question, "Orvel", [first, second]) == pytest.approx((1.0, 1.0))
    assert sentence_overlaps(question, "Vell", [first, second]) == pytest.approx((1 / 2, 1.0))


def test_without_passages_or_content_words() -> None:
    assert sentence_overlaps("Who is it?", "Ada", [passage("Ada.")]) == (1.0, 1.0)
    assert sentence_overlaps("Who is it?", "Ben", [passage("Ada.")]) == (0.0, 1.0)
    assert sentence_overlaps("Who rules Orvel?", "Ada", []) == (0.0, 0.0)


def test_scripts_without_spaces() -> None:
    read = [passage("办公室九点开门。费用是四元。")]
    asked, other = (sentence_overlaps("费用是多少", answer, read) for answer in ("四元", "九点"))
    assert asked[0] == asked[1] == other[1] > other[0] == 0.0


@pytest.mark.parametrize(
    ("question", "share"),
    [
        ("How many transfers in 2022?", 1.0),
        ("How many transfers in 2021?", 0.0),
        ("What did class C pay in 2021?", 0.5),
        ("What does class D pay?", 0.0),
        ("What does class C pay?", 1.0),
        ("What may I do in class A?", 1.0),
        ("D, is it there?", 1.0),
        ("Did the U.S. Army come?", 1.0),
        ("Who is D. Smith?", 1.0),
        ("Is there an X-ray?", 1.0),
        ("Is it class D?", 0.0),
        ("What is the fee?", 1.0),
        ("What is the 1,250 for?", 1.0),
    ],
)
def test_numbers_and_letters_of_the_question_are_looked_for(question: str, share: float) -> None:
    text = "In 2022 there were 318 transfers. Class C pays 20 talms, 1250 in all."
    assert labels_stated(question, [Passage("", text, "", "Fees", 0, len(text))]) == share


def test_a_number_of_title_or_headings_counts() -> None:
    passage = Passage("", "The rate is 5 %.", "", "Report 2022", 0, 16, context="Class D")
    assert labels_stated("What was the class D rate in 2022?", [passage]) == 1.0

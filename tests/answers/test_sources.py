"""The sources of an answer: passages by posterior, each with the sentence that holds the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from explained import explained
from mixrag.answers.answer import Answer
from mixrag.answers.sources import LONGEST_SENTENCE, MOST_SOURCES, sources_of

LICENCE = "Eels sleep by day. The licence costs nine crowns. It is sold at the harbour."
WINTER = (
    "How thick is the ice\n\n"
    "The harbour rules. It has to be paid every winter, before the ice is thick enough to walk on."
)
CERTAIN, MAYBE, NEVER = ((p, p, 0.1, 0.1, 0.5) for p in (0.9, 0.5, 1e-4))
"""Of "nine crowns" and its end."""


def answered(texts: tuple[str, ...] = (LICENCE, WINTER), *, answer: str = "nine crowns", **given: Any) -> Answer:
    given = {"likelihoods": (CERTAIN, MAYBE), "switch": 0.0, **given}
    return explained(texts, answer=answer, **given).answer


def test_the_sentence_that_has_the_answer() -> None:
    first, second = sources_of(answered())
    assert (first.rank, first.sentence, first.holds) == (1, "The licence costs nine crowns.", True)
    assert LICENCE[first.start - 100 : first.end - 100] == first.sentence
    assert (first.document, first.title) == ("/files/1.txt", "1.txt")
    passage = answered().passages[0]
    assert (first.prior, first.posterior) == (passage.prior, passage.posterior)
    assert not second.holds, "no sentence of it has the answer's words"


def test_passages_come_by_posterior_and_those_of_little_are_left_out() -> None:
    found = answered(likelihoods=(NEVER, CERTAIN))
    assert [each.rank for each in sources_of(found)] == [2]
    assert [each.rank for each in sources_of(answered(likelihoods=(MAYBE, CERTAIN)))] == [2, 1]


def test_there_are_few_of_them() -> None:
    texts = tuple("pad " * n + "nine crowns." for n in range(6))
    prior, likelihoods = (1 / 6,) * 6, (CERTAIN,) * 6
    assert len(sources_of(answered(texts, likelihoods=likelihoods, prior=prior))) == MOST_SOURCES


def test_an_answer_over_two_sentences_has_both() -> None:
    text = "It costs nine. Crowns are taken. Hens are not."
    (first, *_) = sources_of(answered((text, WINTER)))
    assert first.sentence == "It costs nine. Crowns are taken."


def test_yes_or_no_is_read_in_the_sentence_nearest_to_the_question() -> None:
    found = replace(answered(question="Is it sold at the harbour?"), kind="yes-no", best_guess="no")
    (first, *_) = sources_of(found)
    assert (first.sentence, first.holds) == ("It is sold at the harbour.", False)


def test_of_a_withheld_answer_they_are_the_passages_nearest_to_the_question() -> None:
    found = replace(answered(question="Is the ice thick?", prior=(0.3, 0.7)), guaranteed_only=True)
    assert found.abstains
    first, second = sources_of(found)
    assert (first.rank, second.rank) == (2, 1) and not first.holds
    assert first.sentence.startswith("It has to be paid every winter")
    assert second.sentence == "Eels sleep by day.", "the first of sentences that have none of its words"


@pytest.mark.parametrize("mark", [" ", "\n"])
def test_of_long_stretches_the_part_around_the_answer(mark: str) -> None:
    text = mark.join(["row of words"] * 100 + ["The licence: nine crowns"] + ["row of words"] * 99)
    (first, *_) = sources_of(answered((text, WINTER)))
    assert "nine crowns" in first.sentence and len(first.sentence) <= LONGEST_SENTENCE
    if mark == "\n":
        assert first.sentence == "The licence: nine crowns"
    assert text[first.start - 100 : first.end - 100].split() == first.sentence.split()


def test_an_empty_answer_and_no_passage_have_sources_too() -> None:
    assert sources_of(replace(answered(), passages=())) == ()
    assert [each.holds for each in sources_of(replace(answered(), best_guess=""))] == [False, False]

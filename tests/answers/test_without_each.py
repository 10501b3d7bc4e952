"""What documents say of each passage left out, against asking again without it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from licences import COD, WORDS, distribution, licences
from mixrag import RAG, Settings
from mixrag.generator import TableGenerator


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    settings = Settings(k=2, max_tokens=4, temperature=0.5, empty_answer=True)
    with licences(tmp_path, TableGenerator(WORDS, distribution), settings) as rag:
        yield rag


@pytest.mark.parametrize("changes", [{}, {"switch": 0.3}, {"null": -1.0}, {"normaliser": "full"}])
def test_both_probabilities_are_those_of_asking_without_the_passage(rag: RAG, changes: dict[str, float]) -> None:
    document = rag.ask(COD, **changes).to_dict()
    for each in document["passages"]:
        again = rag.ask(COD, without={each["id"]}, **changes)
        assert math.exp(again.scored.mixture.log_prob(document["best_guess"])) == pytest.approx(each["p_without"])
        assert again.p_empty_within == pytest.approx(each["p_empty_without"])


def test_a_likely_answer_is_withheld_where_the_one_passage_that_states_it_is_missing(rag: RAG) -> None:
    document = rag.ask(COD).to_dict()
    cod = max(document["passages"], key=lambda each: each["posterior"])
    assert document["answer"] and document["p_empty_within"] < 0.5 < cod["p_empty_without"]
    assert rag.ask(COD, without={cod["id"]}).text is None


def test_without_empty_answers_and_other_passages_there_is_none(rag: RAG) -> None:
    for each in rag.ask(COD, empty_answer=False).to_dict()["passages"]:
        assert each["p_without"] is not None and each["p_empty_without"] is None
    (alone,) = rag.ask(COD, k=1).to_dict()["passages"]
    assert (alone["p_without"], alone["p_empty_without"]) == (None, None)


def test_a_passage_that_is_read_with_others_has_none(rag: RAG) -> None:
    """Without it the others would be grouped in another way."""
    for each in rag.ask(COD, group=2, null=-1.0).to_dict()["passages"]:
        assert (each["p_without"], each["p_empty_without"]) == (None, None)

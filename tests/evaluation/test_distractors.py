"""Distractors: irrelevant passages, with the weight that the retriever gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.test_scoring import TEXTS, WORDS, distribution
from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.evaluation import relevant
from mixrag.evaluation.distractors import distracted
from mixrag.generator import TableGenerator
from mixrag.pairs.pairs import Pair
from words_encoder import WordsEncoder

COD = Pair("What does a licence for cod cost?", ("nine crowns",), None)
PAIRS = [COD, Pair("What does a licence to fish eel cost?", ("four",), "eel.txt")]


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    for number in range(8):
        (tmp_path / f"hen{number}.txt").write_text(f"Hen number {number} lays eggs, licence or no licence.")
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    store = Store.open(tmp_path / "store", create=True)
    generator = TableGenerator(WORDS, distribution)
    settings = Settings(k=2, temperature=0.5, max_tokens=4)
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=settings) as opened:
        opened.index([tmp_path])
        yield opened


@pytest.mark.parametrize("kind", ["random", "adversarial"])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_what_is_added_is_irrelevant_and_comes_after_what_was_retrieved(rag: RAG, kind: str, count: int) -> None:
    own = rag.passages(COD.question)
    found = distracted(rag, PAIRS, count, kind).passages(COD.question)
    assert found.passages[:2] == own.passages
    added = found.passages[2:]
    assert not any(relevant(rag.store, COD, added))
    irrelevant = 12 - sum(relevant(rag.store, COD, rag.passages(COD.question, k="all").passages))
    before = 2 - sum(relevant(rag.store, COD, own.passages))
    assert len(added) == min(count, irrelevant - before)
    assert len({passage.id for passage in found.passages}) == len(found.passages)


@pytest.mark.parametrize("normaliser", ["top-k", "full"])
@pytest.mark.parametrize("null", [None, 2.0])
def test_weights_are_the_retriever_s_own(rag: RAG, normaliser: str, null: float | None) -> None:
    settings = {"normaliser": normaliser, "null": null}
    whole = rag.passages(COD.question, **{**settings, "k": "all", "normaliser": "full"})
    prior = {p.id: float(weight) for p, weight in zip(whole.passages, whole.log_prior.exp(), strict=True)}
    found = distracted(rag, PAIRS, 3, "adversarial").passages(COD.question, **settings)
    expected = [prior[passage.id] for passage in found.passages]
    null_mass = 0.0 if whole.log_null is None else math.exp(whole.log_null)
    total = 1.0 if normaliser == "full" else sum(expected) + null_mass
    assert found.log_prior.exp().tolist() == pytest.approx([weight / total for weight in expected])
    assert found.outside == pytest.approx(1 - sum(expected) - null_mass)


def test_adversarial_ones_rank_highest_and_random_ones_are_drawn_by_the_question(rag: RAG) -> None:
    everything = rag.passages(COD.question, k="all").passages
    rest = [p for p, flag in zip(everything, relevant(rag.store, COD, everything), strict=True) if not flag]
    kept = rag.passages(COD.question).passages
    best = [passage for passage in rest if passage not in kept][:3]
    assert list(distracted(rag, PAIRS, 3, "adversarial").passages(COD.question).passages[2:]) == best
    once, again = (distracted(rag, PAIRS, 3, "random").passages(COD.question).passages for _ in range(2))
    assert once == again != (*everything[:2], *best)


def test_uniform_weights_take_in_the_distractors(rag: RAG) -> None:
    found = distracted(rag, PAIRS, 2, "random").passages(COD.question, weights="uniform")
    assert found.log_prior.exp().tolist() == pytest.approx([0.25] * 4) and found.outside is None


def test_answers_come_from_the_mixture_with_them(rag: RAG) -> None:
    flat = distracted(rag, PAIRS, 3, "adversarial")
    flat.settings = replace(flat.settings, temperature=1e3)
    assert len(flat.ask(COD.question).passages) == 5
    assert (
        distracted(rag, PAIRS, 3, "adversarial").ask(COD.question).best_guess == rag.ask(COD.question).best_guess
    )


def test_one_question_of_two_documents_is_told_apart_by_its_filter(rag: RAG) -> None:
    question = "What does a licence cost?"
    both = [Pair(question, ("crowns",), name, {"document": name}) for name in ("cod.txt", "eel.txt")]
    for pair in both:
        found = distracted(rag, both, 3, "adversarial").passages(question, where=pair.where)
        assert [passage.title for passage in found.passages] == [pair.document.removesuffix(".txt")]
    open_ones = [Pair(question, ("crowns",), name) for name in ("cod.txt", "eel.txt")]
    found = distracted(rag, open_ones, 3, "adversarial").passages(question, k=1)
    assert not {passage.title for passage in found.passages[1:]} & {"cod", "eel"}

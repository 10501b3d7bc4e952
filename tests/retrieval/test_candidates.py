"""The candidates of a search that computes few inner products hold the best of all passages."""

from __future__ import annotations

import numpy as np
import pytest

from mixrag.retrieval import candidates as module
from mixrag.retrieval.candidates import Query, find_candidates
from mixrag.retrieval.index import ExactIndex, Hits, build_faiss
from mixrag.retrieval.lexical import Scored

RANDOM = np.random.default_rng(11)
ROWS = np.arange(3, 2403, 4)
VECTORS = RANDOM.normal(size=(len(ROWS), 6)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
BM25 = np.where(RANDOM.random(len(ROWS)) < 0.5, RANDOM.gamma(2.0, 2.0, len(ROWS)).round(), 0.0)
"""Whole numbers, so that many are equal."""


class Watched:
    """A flat index that says how many passages it was asked for."""

    def __init__(self) -> None:
        self.flat, self.asked, self.looked_up = build_faiss(ROWS, VECTORS), [], 0

    def products(self, question, allowed=None) -> None:
        return None

    def search(self, question, k, allowed=None) -> Hits:
        self.asked.append(k)
        return self.flat.search(question, k, allowed)

    def vectors_of(self, rows):
        self.looked_up += len(rows)
        return self.flat.vectors_of(rows)


def query(lexical: float, k: int, temperature: float = 0.1, allowed: np.ndarray | None = None) -> Query:
    vector = RANDOM.normal(size=6).astype(np.float32)
    among = slice(None) if allowed is None else np.isin(ROWS, allowed)
    bm25 = Scored(ROWS[among], BM25[among])
    return Query(vector, k, len(bm25.rows), allowed, temperature, bm25, lexical, 0.7)


@pytest.mark.parametrize("allowed", [None, ROWS[::3]], ids=["all", "some"])
@pytest.mark.parametrize("lexical", [0.01, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("least", "patience"), [(2, 1), (4, 40), (32, 40)])
def test_the_best_are_those_of_exact_search(
    monkeypatch: pytest.MonkeyPatch, least: int, patience: int, lexical: float, allowed: np.ndarray | None
) -> None:
    monkeypatch.setattr(module, "LEAST", least)
    monkeypatch.setattr(module, "PATIENCE", patience)
    fewest = len(ROWS)
    for k in (1, 3, 10):
        for temperature in (0.02, 0.1, 3.0):
            asked = query(lexical, k, temperature, allowed)
            exact = find_candidates(ExactIndex(ROWS, VECTORS), asked, exact=True)
            found = find_candidates(Watched(), asked, exact=False)
            mine, theirs = found.at(found.best(k)), exact.at(exact.best(k))
            np.testing.assert_allclose(mine.scores, theirs.scores, rtol=0.0, atol=1e-4 * 0.1 / temperature)
            assert mine.rows.tolist() == theirs.rows.tolist()
            assert len(np.unique(found.rows)) == len(found.rows)
            others = ~np.isin(asked.bm25.rows, found.rows)
            assert asked.bm25.scores[others].max(initial=0.0) <= found.largest_bm25 + 1e-6
            fewest = min(fewest, len(found.rows))
    assert fewest < 0.7 * asked.count  # not because all were looked up


def test_one_dense_search_is_enough_where_few_are_above_the_bound() -> None:
    index = Watched()
    found = find_candidates(index, query(0.5, 5), exact=False)
    assert index.asked == [module.LEAST] and index.looked_up == len(found.rows)


def test_the_dense_search_grows_where_too_many_are_above_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 2)
    monkeypatch.setattr(module, "PATIENCE", 1)
    index = Watched()
    find_candidates(index, query(0.1, 1), exact=False)
    assert index.asked[:2] == [2, 8]


def test_no_more_than_so_many_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LEAST", 2), ("MOST", 2), ("MOST_ABOVE", 7)):
        monkeypatch.setattr(module, name, value)
    asked = query(0.5, 1, temperature=0.01)
    found = find_candidates(Watched(), asked, exact=False)
    assert len(found.rows) <= 2 + 2 + 7
    others = ~np.isin(asked.bm25.rows, found.rows)
    assert asked.bm25.scores[others].max() <= found.largest_bm25


def test_no_order_is_lost_to_what_the_index_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passages whose inner products differ by less than float32 can tell, and whose BM25 makes up for it."""
    monkeypatch.setattr(module, "LEAST", 2)
    rows = np.arange(100)
    for seed in range(40):
        random = np.random.default_rng(seed)
        question = random.normal(size=64)
        question /= np.linalg.norm(question)
        vectors = (question + 3e-8 * random.normal(size=(100, 64))).astype(np.float32)
        vector = question.astype(np.float32)
        products = vectors.astype(np.float64) @ vector.astype(np.float64)
        bm25 = 5.0 + random.normal(size=100) * products.std() / 0.05
        index = Watched()
        index.flat = build_faiss(rows, vectors)
        found = find_candidates(
            index, Query(vector, 1, 100, None, 0.05, Scored(rows, bm25), 0.5, 1.0), exact=False
        )
        scores = 0.5 * products / 0.05 + 0.5 * bm25
        assert found.rows[found.best(1)].tolist() == [scores.argmax()]

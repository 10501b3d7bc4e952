"""Search in the store's own engine: what it finds is refined, and nothing is claimed of what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from made_documents import put, split, vectors_of
from mixrag.corpus import Store
from mixrag.retrieval.index import (
    ExactIndex,
    InStoreIndex,
    choice,
    describe_index,
    in_store,
    index_is_due,
    open_index,
)
from mixrag.retrieval.lexical import open_lexical, opening, postings_are_due
from mixrag.utils.arrays import Rows, Vectors

TEXTS = [f"text {i}" for i in range(50)]
QUESTION = vectors_of(["a question"])[0]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with Store.open(tmp_path, create=True) as store:
        put(store, split(TEXTS, "n"))
        rows, vectors = store.vectors()

        def nearest(question: Vectors, k: int, allowed: Rows | None = None) -> Rows:
            """Every other passage, the worst first: an engine may miss some, and has any order."""
            some = rows[::2] if allowed is None else allowed[::2]
            worst_first = np.argsort(vectors[np.searchsorted(rows, some)] @ question)
            return some[worst_first][-2 * k :]

        monkeypatch.setattr(store, "own_search", "an engine", raising=False)
        monkeypatch.setattr(store, "nearest", nearest)
        yield store


def test_what_the_engine_finds_is_refined(store: Store) -> None:
    rows, vectors = store.vectors()
    found = InStoreIndex(store, 50).search(QUESTION, 5)
    expected = ExactIndex(rows[::2], vectors[::2]).search(QUESTION, 5)
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.inner_products, expected.inner_products, rtol=1e-6)
    assert InStoreIndex(store, 50).products(QUESTION) is None
    assert InStoreIndex(store, 50).log_normaliser_bounds(QUESTION, 1.0) is None


def test_few_allowed_passages_are_all_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    index, allowed = InStoreIndex(store, 50), store.rows_where({})[1:30]
    exact = ExactIndex(*store.vectors())
    assert index.search(QUESTION, 5, allowed).rows.tolist() == exact.search(QUESTION, 5, allowed).rows.tolist()
    products = index.products(QUESTION, allowed)
    assert products is not None and products.rows.tolist() == allowed.tolist()
    assert len(index.search(QUESTION, 5, allowed[:0]).rows) == 0
    monkeypatch.setattr(in_store, "FLAT_LIMIT", 10)
    assert index.products(QUESTION, allowed) is None
    assert set(index.search(QUESTION, 5, allowed).rows.tolist()) <= set(allowed[::2].tolist())


def test_it_is_chosen_for_large_stores_unless_another_index_is_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_index(store, "auto"), ExactIndex)
    monkeypatch.setattr(choice, "FLAT_LIMIT", 10)
    opened = open_index(store, "auto")
    assert isinstance(opened, InStoreIndex) and len(opened) == 50
    assert describe_index(50, "auto", store) == opened.description
    assert opened.description == "an engine, refined by exact products, over 50 passages"
    assert isinstance(open_index(store, "exact"), ExactIndex)
    assert not isinstance(open_index(store, "faiss"), InStoreIndex)


def test_files_are_due_where_many_passages_are_searched_with_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not index_is_due(store, "auto") and not postings_are_due(store), "few passages"
    monkeypatch.setattr(choice, "FLAT_LIMIT", 10)
    monkeypatch.setattr(opening, "FILE_LIMIT", 10)
    assert not index_is_due(store, "auto") and not postings_are_due(store), "an engine of its own"
    monkeypatch.setattr(store, "own_search", None)
    assert index_is_due(store, "auto") and index_is_due(store, "faiss") and postings_are_due(store)
    assert not index_is_due(store, "exact") and not index_is_due(store, ExactIndex)
    open_index(store, "auto"), open_lexical(store)
    assert not index_is_due(store, "auto") and not postings_are_due(store), "they are there"
    put(store, split(["one more"], "another"))
    assert index_is_due(store, "auto") and postings_are_due(store)

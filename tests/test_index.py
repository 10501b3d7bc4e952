"""Indexes against a plain loop; the approximate one against the exact one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.index import FLAT_LIMIT, ExactIndex, FaissIndex, build_faiss, faiss_factory

RANDOM = np.random.default_rng(5)
ROWS = np.arange(40, dtype=np.int64) * 3 + 7
VECTORS = RANDOM.normal(size=(40, 8)).astype(np.float32)
QUESTION = RANDOM.normal(size=8).astype(np.float32)


def loop(rows: np.ndarray, vectors: np.ndarray, question: np.ndarray, k: int) -> list[int]:
    scored = sorted(((-float(v @ question), int(row)) for row, v in zip(rows, vectors, strict=True)))
    return [row for _, row in scored[:k]]


@pytest.mark.parametrize("k", [1, 5, 40, 100])
def test_exact_search_equals_a_plain_loop(k: int) -> None:
    hits = ExactIndex(ROWS, VECTORS).search(QUESTION, k)
    assert hits.rows.tolist() == loop(ROWS, VECTORS, QUESTION, k)
    assert hits.inner_products.tolist() == sorted(hits.inner_products.tolist(), reverse=True)
    assert len(hits.rows) == min(k, 40)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(1, 14))
def test_ties_are_ordered_by_row_id(values: list[int], k: int) -> None:
    rows = np.arange(len(values), dtype=np.int64)[::-1].copy()
    vectors = np.array(values, np.float32)[:, None]
    hits = ExactIndex(rows, vectors).search(np.ones(1, np.float32), k)
    assert hits.rows.tolist() == loop(rows, vectors, np.ones(1, np.float32), k)


def test_the_normaliser_sums_over_every_passage() -> None:
    value = ExactIndex(ROWS, VECTORS).log_normaliser(QUESTION, 0.7)
    assert value == pytest.approx(math.log(sum(math.exp(float(v @ QUESTION) / 0.7) for v in VECTORS)))
    steep = ExactIndex(ROWS, VECTORS).log_normaliser(QUESTION, 1e-4)
    assert steep == pytest.approx(float((VECTORS @ QUESTION).max()) / 1e-4, rel=1e-6)


@pytest.mark.parametrize("build", [ExactIndex, build_faiss])
def test_a_filter_restricts_search(build) -> None:
    allowed = ROWS[[3, 8, 20]]
    hits = build(ROWS, VECTORS).search(QUESTION, 10, allowed)
    assert hits.rows.tolist() == loop(allowed, VECTORS[[3, 8, 20]], QUESTION, 10)


def test_a_filter_restricts_the_normaliser() -> None:
    allowed = ROWS[[3, 8, 20]]
    value = ExactIndex(ROWS, VECTORS).log_normaliser(QUESTION, 0.7, allowed)
    assert value == pytest.approx(math.log(sum(math.exp(float(v @ QUESTION) / 0.7) for v in VECTORS[[3, 8, 20]])))


def test_faiss_flat_is_exact_and_never_padded() -> None:
    index = build_faiss(ROWS, VECTORS)
    hits = index.search(QUESTION, 100)
    assert hits.rows.tolist() == loop(ROWS, VECTORS, QUESTION, 100)
    np.testing.assert_allclose(hits.inner_products, sorted(VECTORS @ QUESTION, reverse=True), rtol=1e-5)
    assert index.search(QUESTION, 5, np.empty(0, np.int64)).rows.tolist() == []
    assert index.log_normaliser(QUESTION, 1.0) is None


def test_the_kind_of_index_follows_the_size_of_the_corpus() -> None:
    assert faiss_factory(FLAT_LIMIT) == "Flat"
    assert faiss_factory(200_000) == "IVF2048,Flat"
    assert faiss_factory(2_000_000) == "IVF4096,SQ8"
    assert "exact" in build_faiss(ROWS, VECTORS).description


@pytest.mark.parametrize("factory", ["IVF16,Flat", "IVF16,SQ8"])
def test_inverted_lists_find_nearly_what_exact_search_finds(factory: str, tmp_path: Path) -> None:
    centres = RANDOM.normal(size=(16, 16))
    vectors = (centres[RANDOM.integers(0, 16, 3000)] + 0.5 * RANDOM.normal(size=(3000, 16))).astype(np.float32)
    rows = np.arange(3000, dtype=np.int64) + 1
    index, exact = build_faiss(rows, vectors, factory), ExactIndex(rows, vectors)
    index.save(tmp_path / "index")
    again = FaissIndex.load(tmp_path / "index", factory)
    recalls = []
    for question in vectors[::100]:
        wanted = set(exact.search(question, 10).rows.tolist())
        found = index.search(question, 10).rows.tolist()
        assert again.search(question, 10).rows.tolist() == found
        recalls.append(len(wanted & set(found)) / 10)
        few = rows[5:9]
        assert set(index.search(question, 10, few).rows.tolist()) == set(few.tolist())
    assert np.mean(recalls) >= 0.8
    assert "approximate" in index.description and len(again) == 3000

"""Indexes against a plain loop; the approximate one against the exact one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.retrieval.index import (
    DamagedIndexError,
    ExactIndex,
    Hits,
    IVFIndex,
    build_faiss,
    build_ivf,
    clusters_for,
)
from mixrag.retrieval.index.ivf import calibrated, extended

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


def log_z(index: ExactIndex, question: np.ndarray, temperature: float) -> float:
    return float(np.logaddexp.reduce(index.products(question).inner_products.astype(np.float64) / temperature))


def test_exact_search_computes_every_product() -> None:
    found = ExactIndex(ROWS, VECTORS).products(QUESTION)
    assert found.rows.tolist() == ROWS.tolist()
    np.testing.assert_allclose(found.inner_products, VECTORS.astype(float) @ QUESTION.astype(float), rtol=1e-12)
    low, high = ExactIndex(ROWS, VECTORS).log_normaliser_bounds(QUESTION, 0.7)
    assert low == high == pytest.approx(math.log(sum(math.exp(float(v @ QUESTION) / 0.7) for v in VECTORS)))


@pytest.mark.parametrize("build", [ExactIndex, build_faiss, lambda rows, vectors: build_ivf(rows, vectors, 4)])
def test_vectors_are_given_in_the_order_of_the_rows_asked_for(build) -> None:
    index, wanted = build(ROWS, VECTORS), np.array([30, 2, 17])
    assert index.vectors_of(ROWS[wanted]).tolist() == VECTORS[wanted].tolist()
    assert index.vectors_of(ROWS[:0]).shape == (0, 8)


def test_rows_need_not_be_sorted() -> None:
    backwards = ExactIndex(ROWS[::-1].copy(), VECTORS[::-1].copy())
    assert backwards.vectors_of(ROWS[[5, 1]]).tolist() == VECTORS[[5, 1]].tolist()


@pytest.mark.parametrize("build", [ExactIndex, build_faiss])
def test_a_filter_restricts_search(build) -> None:
    allowed = ROWS[[3, 8, 20]]
    hits = build(ROWS, VECTORS).search(QUESTION, 10, allowed)
    assert hits.rows.tolist() == loop(allowed, VECTORS[[3, 8, 20]], QUESTION, 10)


def test_a_filter_restricts_the_products() -> None:
    allowed = ROWS[[3, 8, 20]]
    found = ExactIndex(ROWS, VECTORS).products(QUESTION, allowed)
    assert found.rows.tolist() == allowed.tolist()
    every = ExactIndex(ROWS, VECTORS).products(QUESTION).inner_products[[3, 8, 20]]
    np.testing.assert_allclose(found.inner_products, every, rtol=1e-14)


def test_faiss_flat_is_exact_and_never_padded() -> None:
    index = build_faiss(ROWS, VECTORS)
    hits = index.search(QUESTION, 100)
    assert hits.rows.tolist() == loop(ROWS, VECTORS, QUESTION, 100)
    np.testing.assert_allclose(hits.inner_products, sorted(VECTORS @ QUESTION, reverse=True), rtol=1e-5)
    assert index.search(QUESTION, 5, np.empty(0, np.int64)).rows.tolist() == []
    assert index.products(QUESTION) is None


SHAPE = np.random.default_rng(6).normal(size=(40, 16))
MANY = (SHAPE[RANDOM.integers(0, 40, 6000)] + 0.6 * RANDOM.normal(size=(6000, 16))).astype(np.float32)
MANY_ROWS = np.arange(6000, dtype=np.int64) * 2 + 1
ASKED = (MANY[::120] + 0.4 * RANDOM.normal(size=(50, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def ivf() -> IVFIndex:
    return build_ivf(MANY_ROWS, MANY, clusters=64)


def recall(index: IVFIndex, exact: ExactIndex, k: int = 10) -> float:
    return float(np.mean([np.isin(exact.search(q, k).rows, index.search(q, k).rows).mean() for q in ASKED]))


def test_clusters_grow_with_the_root_of_the_corpus() -> None:
    assert [clusters_for(n) for n in (60_000, 250_000, 1_000_000, 10_000_000)] == [1024, 2048, 4096, 4096]


def test_clusters_with_refinement_find_nearly_what_exact_search_finds(ivf: IVFIndex) -> None:
    exact = ExactIndex(MANY_ROWS, MANY)
    assert ivf.recall >= 0.95 and 1 <= ivf.probes < 64
    assert recall(ivf, exact) >= 0.9
    assert recall(ivf, exact) > recall(ivf.with_probes(1), exact)
    assert "approximate" in ivf.description and f"visits {ivf.probes} clusters" in ivf.description


def test_refined_scores_are_exact_inner_products_in_order(ivf: IVFIndex) -> None:
    for question in ASKED[:10]:
        hits = ivf.search(question, 10)
        wanted = MANY[(hits.rows - 1) // 2] @ question
        np.testing.assert_allclose(hits.inner_products, wanted, rtol=1e-5)
        assert hits.inner_products.tolist() == sorted(hits.inner_products.tolist(), reverse=True)
        assert len(set(hits.rows.tolist())) == 10


def test_with_a_filter_or_for_many_ivf_search_is_exact(ivf: IVFIndex) -> None:
    exact = ExactIndex(MANY_ROWS, MANY)
    allowed = MANY_ROWS[100:4000:7]
    for question in ASKED[:10]:
        assert ivf.search(question, 8, allowed).rows.tolist() == exact.search(question, 8, allowed).rows.tolist()
        assert ivf.search(question, 2000).rows.tolist() == exact.search(question, 2000).rows.tolist()
        found, expected = ivf.products(question, allowed), exact.products(question, allowed)
        assert found.rows.tolist() == expected.rows.tolist()
        np.testing.assert_allclose(found.inner_products, expected.inner_products, rtol=1e-4, atol=1e-5)
    nothing = np.empty(0, np.int64)
    assert ivf.search(ASKED[0], 5, nothing).rows.tolist() == []
    assert ivf.products(ASKED[0], nothing).rows.tolist() == []
    assert ivf.products(ASKED[0]) is None


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_bounds_on_the_normaliser_always_hold(ivf: IVFIndex, temperature: float) -> None:
    exact = ExactIndex(MANY_ROWS, MANY)
    for question in ASKED:
        low, high = ivf.log_normaliser_bounds(question, temperature)
        value = log_z(exact, question, temperature)
        assert low <= value + 1e-5 and value <= high + 1e-5
        assert value - low < 3.0  # no trivial bound: clusters are small here
        assert exact.log_normaliser_bounds(question, temperature) == (value, value)


def test_the_bounds_close_in_on_what_is_known(ivf: IVFIndex) -> None:
    random = np.random.default_rng(3)
    for question in ASKED[:10]:
        value, widths = log_z(ExactIndex(MANY_ROWS, MANY), question, 1.0), []
        for share in (0.0, 0.1, 0.9, 1.0):
            some = random.permutation(len(MANY_ROWS))[: int(share * len(MANY_ROWS))]
            low, high = ivf.log_normaliser_bounds(question, 1.0, Hits(MANY_ROWS[some], MANY[some] @ question))
            assert low <= value + 1e-5 and value <= high + 1e-5
            widths.append(high - low)
        assert widths == sorted(widths, reverse=True) and widths[0] > 0.1
        assert widths[-1] == 0.0
    with pytest.raises(DamagedIndexError):
        ivf.log_normaliser_bounds(ASKED[0], 1.0, Hits(MANY_ROWS[:2], np.array([0.5, np.nan])))


def test_passages_come_and_go_without_training(ivf: IVFIndex) -> None:
    first = build_ivf(MANY_ROWS[:4000], MANY[:4000], clusters=64)
    gone = np.arange(0, 4000, 9)
    present = np.delete(MANY_ROWS, gone)
    index = extended(first, present, MANY_ROWS, MANY)
    exact = ExactIndex(present, np.delete(MANY, gone, 0))
    assert len(index) == len(present) and index.trained_on == 4000
    assert "built with 4000" in index.description
    assert recall(index, exact) >= 0.85
    removed = set(MANY_ROWS[gone].tolist())
    for question in ASKED:
        assert not removed & set(index.search(question, 50).rows.tolist())
        low, high = index.log_normaliser_bounds(question, 0.5)
        assert low <= log_z(exact, question, 0.5) + 1e-5 <= high + 2e-5
        assert not removed & set(index.search(question, 5, MANY_ROWS[gone]).rows.tolist())


def test_calibration_visits_more_clusters_for_a_higher_goal(ivf: IVFIndex) -> None:
    low, high = calibrated(ivf, 0.5), calibrated(ivf, 0.95)
    assert low.probes < high.probes and high.recall >= 0.95
    assert calibrated(ivf, 2.0).probes == 64, "all, where nothing is enough"


def test_an_odd_dimension_and_fewer_passages_than_clusters() -> None:
    vectors = RANDOM.normal(size=(30, 7)).astype(np.float32)
    rows = np.arange(30, dtype=np.int64)
    index = build_ivf(rows, vectors)
    assert (
        index.search(vectors[3], 4).rows.tolist() == ExactIndex(rows, vectors).search(vectors[3], 4).rows.tolist()
    )

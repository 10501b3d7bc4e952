"""p(z | x) against its definition: probability space, loops over all passages, no clever algebra."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixrag.probability import (
    highest,
    log_lexical_distribution,
    log_masses,
    log_null_mass,
    mass_outside,
    normalised_prior,
    smallest_k,
    uniform_prior,
)

NULLS = [None, -2.0, 0.0, 1.5]
LAMBDAS = [0.0, 0.3, 1.0]
TOLERANCE = {"rtol": 1e-12, "atol": 1e-14}


@dataclass(frozen=True)
class Corpus:
    """Passages small enough to enumerate: inner products, BM25 of those that match, which a filter allows."""

    products: list[float]
    bm25: dict[int, float]
    allowed: list[bool]
    temperature: float
    lexical_temperature: float

    def mass(self, j: int, weight: float, z: float) -> float:
        """(1-λ) e^{s_j} / Z + λ softmax(BM25)_j of one passage; λ counts only where there is a match."""
        dense = math.exp(self.products[j] / self.temperature) / z if self.allowed[j] else 0.0
        if not self.bm25:
            return dense
        total = math.fsum(math.exp(score / self.lexical_temperature) for score in self.bm25.values())
        matched = math.exp(self.bm25[j] / self.lexical_temperature) / total if j in self.bm25 else 0.0
        return (1 - weight) * dense + weight * matched

    def z(self, among: list[int]) -> float:
        """Z over some passages."""
        return math.fsum(math.exp(self.products[j] / self.temperature) for j in among if self.allowed[j])


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    size = draw(st.integers(1, 6))
    numbers = st.floats(-3.0, 3.0)
    allowed = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(any))
    matching = [j for j in range(size) if allowed[j] and draw(st.booleans())]
    return Corpus(
        products=draw(st.lists(numbers, min_size=size, max_size=size)),
        bm25={j: draw(st.floats(0.0, 4.0)) for j in matching},
        allowed=allowed,
        temperature=draw(st.floats(0.2, 2.0)),
        lexical_temperature=draw(st.floats(0.5, 2.0)),
    )


def computed(corpus: Corpus, among: list[int], weight: float, exact: bool) -> tuple[Tensor, Tensor]:
    """The masses of the candidates ``among``; Z over all passages if ``exact``, else over the candidates."""
    log_lexical = None
    if corpus.bm25:
        matched = list(corpus.bm25)
        places = torch.tensor([among.index(j) if j in among else -1 for j in matched])
        scores = torch.tensor([corpus.bm25[j] for j in matched], dtype=torch.float64)
        log_lexical = log_lexical_distribution(scores, places, len(among), corpus.lexical_temperature)
    return log_masses(
        torch.tensor([corpus.products[j] for j in among], dtype=torch.float64),
        corpus.temperature,
        log_z=math.log(corpus.z(list(range(len(corpus.products))))) if exact else None,
        allowed=torch.tensor([corpus.allowed[j] for j in among]),
        log_lexical=log_lexical,
        lexical=weight,
    )


@pytest.mark.parametrize(
    ("weight", "null", "full", "uniform", "exact"),
    itertools.product(LAMBDAS, NULLS, [False, True], [False, True], [False, True]),
)
@settings(max_examples=15, deadline=None)
@given(corpora(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_prior_is_its_definition(
    weight: float, null: float | None, full: bool, uniform: bool, exact: bool, corpus: Corpus, k: int, random
) -> None:
    """Every combination of λ, null component, normaliser, weights, search; filters and k are drawn."""
    among = [j for j in range(len(corpus.products)) if corpus.allowed[j] or random.random() < 0.5]
    if not exact and len(among) > 1 and sum(corpus.allowed[j] for j in among) > 1:
        among.remove(next(j for j in among if corpus.allowed[j]))  # a passage that the search has missed
    z = corpus.z(list(range(len(corpus.products))) if exact else among)
    mass = [corpus.mass(j, weight, z) for j in among]
    log_mass, log_z = computed(corpus, among, weight, exact)
    torch.testing.assert_close(log_mass.exp(), torch.tensor(mass, dtype=torch.float64), **TOLERANCE)
    assert float(log_z) == pytest.approx(math.log(z), abs=1e-12)

    places = highest(log_mass, k)
    best = sorted(log_mass.tolist(), reverse=True)[:k]
    assert log_mass[places].tolist() == best
    inside = [mass[i] for i in places.tolist()]
    if math.fsum(inside) == 0.0:
        return  # λ = 1, and the search has missed every match: no prior
    n = 0.0 if null is None else math.exp(null) / z
    total = (1.0 if full else math.fsum(inside)) + n
    expected = [m / total for m in inside]
    if uniform:
        expected = [math.fsum(expected) / len(expected)] * len(expected)
    log_prior, log_null = normalised_prior(
        log_mass[places], log_null_mass(null, log_z), full=full, uniform=uniform
    )
    torch.testing.assert_close(log_prior.exp(), torch.tensor(expected, dtype=torch.float64), **TOLERANCE)
    assert (log_null is None) == (null is None)
    if log_null is not None:
        assert math.exp(log_null) == pytest.approx(n / total, rel=1e-12)


@pytest.mark.parametrize(("weight", "null"), itertools.product(LAMBDAS, NULLS))
@settings(max_examples=25, deadline=None)
@given(corpora(), st.integers(1, 6), st.floats(0.0, 0.9))
def test_what_lies_outside_and_the_smallest_k_are_their_definitions(
    weight: float, null: float | None, corpus: Corpus, k: int, allowed: float
) -> None:
    everything = list(range(len(corpus.products)))
    z = corpus.z(everything)
    mass = sorted((corpus.mass(j, weight, z) for j in everything), reverse=True)
    n = 0.0 if null is None else math.exp(null) / z
    outside = [math.fsum(mass[j] for j in range(i, len(mass))) / (1.0 + n) for i in range(len(mass) + 1)]
    log_mass, log_z = computed(corpus, everything, weight, exact=True)
    best = log_mass[highest(log_mass, k)]
    log_null = log_null_mass(null, log_z)
    found = float(mass_outside(best.logsumexp(0), 0.0, log_null))
    assert found == pytest.approx(outside[min(k, len(mass))], abs=1e-12)
    assert float(mass_outside(best.logsumexp(0) + log_z, log_z, null)) == pytest.approx(found, abs=1e-12)
    count = smallest_k(best, allowed, log_null)
    enough = [i for i in range(1, len(best) + 1) if outside[i] <= allowed + 1e-12]
    assert count == (enough[0] if enough else len(best))


@settings(max_examples=25, deadline=None)
@given(corpora(), st.sampled_from(LAMBDAS), st.sampled_from(NULLS), st.booleans())
def test_its_gradient_is_that_of_finite_differences(
    corpus: Corpus, weight: float, null: float | None, full: bool
) -> None:
    """In inner products, temperature and null score; finite also where passages have no mass."""
    everything = list(range(len(corpus.products)))
    log_lexical = None
    if corpus.bm25:
        places = torch.tensor(list(corpus.bm25))
        scores = torch.tensor(list(corpus.bm25.values()), dtype=torch.float64)
        log_lexical = log_lexical_distribution(scores, places, len(everything), corpus.lexical_temperature)
    allowed = torch.tensor(corpus.allowed)

    def shares(products: Tensor, temperature: Tensor, score: Tensor) -> Tensor:
        log_mass, log_z = log_masses(
            products, temperature, allowed=allowed, log_lexical=log_lexical, lexical=weight
        )
        log_prior, log_null = normalised_prior(
            log_mass, log_null_mass(None if null is None else score, log_z), full=full
        )
        return log_prior.exp() if log_null is None else torch.cat([log_prior.exp(), log_null.exp()[None]])

    given_ = (
        torch.tensor(corpus.products, dtype=torch.float64, requires_grad=True),
        torch.tensor(corpus.temperature, dtype=torch.float64, requires_grad=True),
        torch.tensor(null or 0.0, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(shares, given_, atol=1e-6)


def test_batches_of_questions_are_computed_side_by_side() -> None:
    products = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_mass, log_z = log_masses(products, 0.5)
    log_prior, log_null = normalised_prior(log_mass[..., :2], log_null_mass(0.3, log_z), uniform=True)
    assert log_z.shape == (3,) and log_null is not None and log_null.shape == (3,)
    for b in range(3):
        one, z = log_masses(products[b], 0.5)
        prior, null = normalised_prior(one[:2], log_null_mass(0.3, z), uniform=True)
        torch.testing.assert_close(log_prior[b], prior, rtol=0.0, atol=1e-15)
        assert null is not None and float(null) == pytest.approx(float(log_null[b]), abs=1e-15)


def test_equal_masses_stay_in_the_order_of_the_search() -> None:
    assert highest(torch.tensor([-math.inf, 0.5, -math.inf, 0.5, 0.7]), 4).tolist() == [4, 1, 3, 0]


def test_a_null_component_may_have_everything_or_nothing() -> None:
    log_mass = torch.tensor([0.7, 0.2], dtype=torch.float64).log()
    for score, expected in ((1e4, 0.0), (-1e4, 1.0)):
        log_prior, log_null = normalised_prior(log_mass, torch.tensor(score, dtype=torch.float64))
        assert float(log_prior.exp().sum()) == pytest.approx(expected)
        assert log_null is not None and float(log_null.exp()) == pytest.approx(1 - expected)
    assert smallest_k(log_mass, 0.01, 800.0) == 1, "what null leaves to all passages is less than that"


def test_uniform_weights_share_the_same_total() -> None:
    log_prior = torch.tensor([0.5, 0.1, 0.0], dtype=torch.float64).log()
    assert uniform_prior(log_prior).exp().tolist() == pytest.approx([0.2] * 3)

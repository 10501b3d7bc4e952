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
    mass_outside,
    normalised_prior,
    passage_scores,
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

    def weight(self, j: int, share: float) -> float:
        """e^{s_j}: the product of two powers; the lexical one counts only where there is a match."""
        if not self.allowed[j]:
            return 0.0
        dense = math.exp(self.products[j] / self.temperature)
        if not self.bm25:
            return dense
        matched = math.exp(self.bm25.get(j, 0.0) / self.lexical_temperature)
        return float(dense ** (1 - share) * matched**share)

    def scores(self, share: float, among: list[int]) -> Tensor:
        """s_j of some passages, as the library computes them."""
        return passage_scores(
            torch.tensor([self.products[j] for j in among], dtype=torch.float64),
            self.temperature,
            bm25=self.bm25_of(among),
            lexical=share,
            lexical_temperature=self.lexical_temperature,
            allowed=torch.tensor([self.allowed[j] for j in among]),
        )

    def bm25_of(self, among: list[int]) -> Tensor | None:
        """BM25 of some passages; None where none of all matches."""
        return torch.tensor([self.bm25.get(j, 0.0) for j in among], dtype=torch.float64) if self.bm25 else None


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


@pytest.mark.parametrize(
    ("share", "null", "full", "uniform"), itertools.product(LAMBDAS, NULLS, [False, True], [False, True])
)
@settings(max_examples=25, deadline=None)
@given(corpora(), st.integers(1, 6))
def test_the_prior_is_its_definition(
    share: float, null: float | None, full: bool, uniform: bool, corpus: Corpus, k: int
) -> None:
    """Every combination of λ, null component, normaliser, weights; filters and k are drawn."""
    everything = list(range(len(corpus.products)))
    weight = [corpus.weight(j, share) for j in everything]
    scores = corpus.scores(share, everything)
    torch.testing.assert_close(scores.exp(), torch.tensor(weight, dtype=torch.float64), **TOLERANCE)

    places = highest(scores, min(k, sum(corpus.allowed)))
    assert scores[places].tolist() == sorted(scores.tolist(), reverse=True)[: len(places)]
    inside = [weight[j] for j in places.tolist()]
    n = 0.0 if null is None else math.exp(null)
    total = math.fsum(weight if full else inside) + n
    expected = [each / total for each in inside]
    if uniform:
        expected = [math.fsum(expected) / len(expected)] * len(expected)
    log_z = scores.logsumexp(0) if full else None
    log_prior, log_null = normalised_prior(scores[places], null, log_z=log_z, uniform=uniform)
    torch.testing.assert_close(log_prior.exp(), torch.tensor(expected, dtype=torch.float64), **TOLERANCE)
    assert (log_null is None) == (null is None)
    if log_null is not None:
        assert math.exp(log_null) == pytest.approx(n / total, rel=1e-12)


@pytest.mark.parametrize(("share", "null"), itertools.product(LAMBDAS, NULLS))
@settings(max_examples=25, deadline=None)
@given(corpora(), st.data())
def test_a_prior_does_not_depend_on_what_else_was_looked_at(
    share: float, null: float | None, corpus: Corpus, data: st.DataObject
) -> None:
    """The "top-k" prior of the same components, found among all passages or among any of them."""
    allowed = [j for j, each in enumerate(corpus.allowed) if each]
    chosen = data.draw(st.lists(st.sampled_from(allowed), min_size=1, unique=True))
    others = [j for j in range(len(corpus.products)) if j not in chosen and data.draw(st.booleans())]
    every = list(range(len(corpus.products)))
    whole, _ = normalised_prior(corpus.scores(share, every)[chosen], null)
    part, _ = normalised_prior(corpus.scores(share, chosen + others)[: len(chosen)], null)
    torch.testing.assert_close(part, whole, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("share", "null"), itertools.product(LAMBDAS, NULLS))
@settings(max_examples=25, deadline=None)
@given(corpora(), st.integers(1, 6), st.floats(0.0, 0.9))
def test_what_lies_outside_and_the_smallest_k_are_their_definitions(
    share: float, null: float | None, corpus: Corpus, k: int, most: float
) -> None:
    everything = list(range(len(corpus.products)))
    weight = sorted((corpus.weight(j, share) for j in everything), reverse=True)
    n = 0.0 if null is None else math.exp(null)
    outside = [math.fsum(weight[i:]) / (math.fsum(weight) + n) for i in range(len(weight) + 1)]
    scores = corpus.scores(share, everything)
    best, log_z = scores[highest(scores, k)], scores.logsumexp(0)
    found = float(mass_outside(best.logsumexp(0), log_z, null))
    assert found == pytest.approx(outside[min(k, len(weight))], abs=1e-12)
    count = smallest_k(best, most, log_z, null)
    enough = [i for i in range(1, len(best) + 1) if outside[i] <= most + 1e-12]
    assert count == (enough[0] if enough else len(best))


@settings(max_examples=25, deadline=None)
@given(corpora(), st.sampled_from(LAMBDAS), st.sampled_from(NULLS), st.booleans())
def test_its_gradient_is_that_of_finite_differences(
    corpus: Corpus, share: float, null: float | None, full: bool
) -> None:
    """In inner products, both temperatures and null score; finite also where passages have no mass."""
    everything = list(range(len(corpus.products)))

    def shares(products: Tensor, temperature: Tensor, lexical_temperature: Tensor, score: Tensor) -> Tensor:
        scores = passage_scores(
            products,
            temperature,
            bm25=corpus.bm25_of(everything),
            lexical=share,
            lexical_temperature=lexical_temperature,
            allowed=torch.tensor(corpus.allowed),
        )
        log_z = scores.logsumexp(0) if full else None
        log_prior, log_null = normalised_prior(scores, None if null is None else score, log_z=log_z)
        return log_prior.exp() if log_null is None else torch.cat([log_prior.exp(), log_null.exp()[None]])

    given_ = tuple(
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in (corpus.products, corpus.temperature, corpus.lexical_temperature, null or 0.0)
    )
    assert torch.autograd.gradcheck(shares, given_, atol=1e-6)


@pytest.mark.parametrize(("temperature", "lexical_temperature"), [(1e-6, 1.0), (1.0, 1e-6), (1e-6, 1e-6)])
@pytest.mark.parametrize("share", LAMBDAS)
def test_temperatures_near_zero_give_the_whole_prior_to_the_best(
    temperature: float, lexical_temperature: float, share: float
) -> None:
    products = torch.tensor([0.3, 0.2, 0.1], requires_grad=True)
    scores = passage_scores(
        products,
        temperature,
        bm25=torch.tensor([20.0, 8.0, 0.0]),
        lexical=share,
        lexical_temperature=lexical_temperature,
    )
    log_prior, log_null = normalised_prior(scores, 3.0, log_z=scores.logsumexp(0))
    assert log_prior.isfinite().all() and log_null is not None
    assert float(log_prior.exp().sum() + log_null.exp()) == pytest.approx(1.0)
    assert log_prior.argmax() == 0
    (gradient,) = torch.autograd.grad(log_prior[0], products)
    assert gradient.isfinite().all()


def test_batches_of_questions_are_computed_side_by_side() -> None:
    products = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = passage_scores(products, 0.5)
    log_z = scores.logsumexp(-1)
    log_prior, log_null = normalised_prior(scores[..., :2], 0.3, log_z=log_z, uniform=True)
    assert log_null is not None and log_null.shape == (3,)
    for b in range(3):
        one = passage_scores(products[b], 0.5)
        prior, null = normalised_prior(one[:2], 0.3, log_z=one.logsumexp(0), uniform=True)
        torch.testing.assert_close(log_prior[b], prior, rtol=0.0, atol=1e-15)
        assert null is not None and float(null) == pytest.approx(float(log_null[b]), abs=1e-15)


def test_equal_scores_stay_in_the_order_of_the_search() -> None:
    assert highest(torch.tensor([-math.inf, 0.5, -math.inf, 0.5, 0.7]), 4).tolist() == [4, 1, 3, 0]


def test_a_null_component_may_have_everything_or_nothing() -> None:
    scores = torch.tensor([0.7, 0.2], dtype=torch.float64).log()
    for score, expected in ((1e4, 0.0), (-1e4, 1.0)):
        log_prior, log_null = normalised_prior(scores, score, log_z=0.0)
        assert float(log_prior.exp().sum()) == pytest.approx(expected * 0.9)
        assert log_null is not None and float(log_null.exp()) == pytest.approx(1 - expected)
    assert smallest_k(scores, 0.01, 0.0, 800.0) == 1, "what null leaves to all passages is less than that"


def test_uniform_weights_share_the_same_total() -> None:
    log_prior = torch.tensor([0.5, 0.1, 0.0], dtype=torch.float64).log()
    assert uniform_prior(log_prior).exp().tolist() == pytest.approx([0.2] * 3)

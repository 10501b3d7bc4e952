"""The prior over a union of shards against one flat list of passages, in probability space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixrag.probability import (
    largest_share,
    log_union,
    log_unseen,
    normalised_prior,
    outside_with_others,
    shifted_share,
    smallest_k,
    union_places,
    union_prior,
)

NULLS = st.sampled_from([None, -2.0, 0.5])
TOLERANCE = {"rtol": 1e-12, "atol": 1e-14}


@dataclass(frozen=True)
class Shards:
    """Scores of all passages by shard, largest first; some shards may be empty."""

    scores: list[list[float]]

    @property
    def flat(self) -> list[float]:
        return sorted((score for own in self.scores for score in own), reverse=True)

    def best(self, k: int) -> list[Tensor]:
        """What each shard answers."""
        return [torch.tensor(own[:k], dtype=torch.float64) for own in self.scores]

    @property
    def log_z(self) -> Tensor:
        """(S, 2) both ends the value itself."""
        sums = [math.fsum(map(math.exp, own)) for own in self.scores]
        return torch.tensor([[math.log(each) if each else -math.inf] * 2 for each in sums], dtype=torch.float64)


@st.composite
def shards(draw: st.DrawFn) -> Shards:
    number = st.floats(-4.0, 4.0)
    lists = st.lists(st.lists(number, max_size=4), min_size=1, max_size=4).filter(any)
    return Shards([sorted(own, reverse=True) for own in draw(lists)])


@settings(max_examples=200, deadline=None)
@given(shards(), st.integers(1, 12), NULLS, st.booleans(), st.booleans())
def test_the_union_has_the_prior_of_one_list(
    parts: Shards, k: int, null: float | None, full: bool, uniform: bool
) -> None:
    found = union_prior(parts.best(k), parts.log_z, k, null=null, full=full, uniform=uniform)
    weights = [math.exp(score) for score in parts.flat]
    inside, nothing = math.fsum(weights[:k]), 0.0 if null is None else math.exp(null)
    total = (math.fsum(weights) if full else inside) + nothing
    wanted = [weight / total for weight in weights[:k]]
    if uniform:
        wanted = [math.fsum(wanted) / len(wanted)] * len(wanted)
    torch.testing.assert_close(found.log_prior.exp(), torch.tensor(wanted, dtype=torch.float64), **TOLERANCE)
    assert (found.log_null is None) == (null is None)
    if found.log_null is not None:
        assert float(found.log_null.exp()) == pytest.approx(nothing / total, rel=1e-12)
    outside = math.fsum(weights[k:]) / (math.fsum(weights) + nothing)
    assert found.outside.tolist() == pytest.approx([outside] * 2, rel=1e-9, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(shards(), st.integers(1, 12), st.floats(0.0, 0.9), NULLS)
def test_adaptive_k_is_that_of_one_list(parts: Shards, k: int, most: float, null: float | None) -> None:
    found = union_prior(parts.best(k), parts.log_z, k, null=null, max_outside=most)
    flat = torch.tensor(parts.flat, dtype=torch.float64)
    count = smallest_k(flat[:k], most, flat.logsumexp(0), null)
    assert len(found.places) == count
    wanted, _ = normalised_prior(flat[:count], null)
    torch.testing.assert_close(found.log_prior, wanted, **TOLERANCE)


@settings(max_examples=200, deadline=None)
@given(shards(), st.integers(1, 5), NULLS, st.data())
def test_bounds_hold_for_whatever_is_not_known(
    parts: Shards, k: int, null: float | None, data: st.DataObject
) -> None:
    """Shards whose normaliser is bounded, and shards that gave nothing but are bounded by a count and a score."""
    missing = [data.draw(st.booleans()) for _ in parts.scores]
    assume(any(own and not absent for own, absent in zip(parts.scores, missing, strict=True)))
    bounds, seen = [], []
    for own, (low, high), absent, best in zip(
        parts.scores, parts.log_z.tolist(), missing, parts.best(k), strict=True
    ):
        if absent:
            bounds.append(log_unseen(len(own), max(own, default=0.0) + data.draw(st.floats(0.0, 1.0))))
            seen.append(best[:0])
        else:
            bounds.append((low - data.draw(st.floats(0.0, 1.0)), high + data.draw(st.floats(0.0, 1.0))))
            seen.append(best)
    log_z = torch.tensor(bounds, dtype=torch.float64)
    found = union_prior(seen, log_z, k, null=null)
    chosen = [float(seen[s][place]) for s, place in found.places]
    nothing = 0.0 if null is None else math.exp(null)
    total = math.fsum(map(math.exp, parts.flat))
    outside = (total - math.fsum(map(math.exp, chosen))) / (total + nothing)
    assert found.outside[0] - 1e-9 <= outside <= found.outside[1] + 1e-9
    for s, own in enumerate(parts.scores):
        share = math.fsum(map(math.exp, own)) / (total + nothing)
        assert share <= largest_share(log_z, s, null) + 1e-9


def test_an_unknown_shard_is_never_ignored() -> None:
    scores = [torch.tensor([2.0, 1.0], dtype=torch.float64), torch.empty(0, dtype=torch.float64)]
    known = float(scores[0].logsumexp(0))
    nothing_known = torch.tensor([[known, known], log_unseen(None, 3.0)], dtype=torch.float64)
    found = union_prior(scores, nothing_known, 2)
    assert found.outside.tolist() == [0.0, 1.0] and largest_share(nothing_known, 1) == 1.0
    torch.testing.assert_close(found.log_prior.exp().sum(), torch.tensor(1.0).double())
    bounded = torch.tensor([[known, known], log_unseen(10, 0.5)], dtype=torch.float64)
    most = 10 * math.exp(0.5) / (10 * math.exp(0.5) + math.exp(known))
    assert union_prior(scores, bounded, 2).outside[1] == pytest.approx(most)
    assert largest_share(bounded, 1) == pytest.approx(most)
    empty = torch.tensor([[known, known], log_unseen(0, 0.5)], dtype=torch.float64)
    assert union_prior(scores, empty, 2).outside.tolist() == [0.0, 0.0]
    assert largest_share(empty, 1) == 0.0


@pytest.mark.parametrize("asked", [{"full": True}, {"max_outside": 0.1}])
def test_what_needs_all_of_z_is_refused_without_it(asked: dict[str, float]) -> None:
    scores = [torch.tensor([1.0], dtype=torch.float64)]
    with pytest.raises(ValueError, match="every shard"):
        union_prior(scores, torch.tensor([[1.0, 1.5]]), 1, **asked)


def test_equal_scores_are_ordered_by_ties_then_shard_then_place() -> None:
    one, two = torch.tensor([1.0, 0.5]), torch.tensor([1.0, 1.0])
    assert union_places([one, two], 3) == ((0, 0), (1, 0), (1, 1))
    ties = [torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.2])]
    assert union_places([one, two], 3, ties) == ((1, 0), (1, 1), (0, 0))


def test_empty_shards_have_no_mass() -> None:
    nothing = torch.full((2, 2), -math.inf, dtype=torch.float64)
    assert log_union(nothing).tolist() == [-math.inf] * 2
    with pytest.raises(ValueError, match="at least one"):
        union_prior([torch.empty(0), torch.empty(0)], nothing, 3, null=0.0)


few = st.lists(st.floats(-4.0, 4.0), max_size=4)


@settings(max_examples=200, deadline=None)
@given(few.filter(bool), few, few, NULLS, st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.data())
def test_others_that_change_all_scores_are_within_their_bounds(
    inside: list[float],
    rest: list[float],
    others: list[float],
    null: float | None,
    below: float,
    above: float,
    data: st.DataObject,
) -> None:
    """Whatever scores the passages get within the shift, and others up to their sum."""
    slack = data.draw(st.floats(0.0, 1.0))
    every = math.log(math.fsum(map(math.exp, inside + rest)))
    log_z = torch.tensor([[every - slack, every + slack]], dtype=torch.float64)
    most = torch.tensor([log_unseen(len(others), max(others, default=0.0))], dtype=torch.float64)
    log_inside = torch.tensor(inside, dtype=torch.float64).logsumexp(0)
    low, high = outside_with_others(log_inside, log_z, most, null=null, below=below, above=above).tolist()
    shifts = data.draw(st.lists(st.floats(-below, above), min_size=8, max_size=8))
    moved = [math.exp(score + shift) for score, shift in zip(inside + rest, shifts, strict=False)]
    stays = math.fsum(moved[: len(inside)]) + (0.0 if null is None else math.exp(null))
    goes = math.fsum(moved[len(inside) :]) + math.fsum(map(math.exp, others))
    assert low - 1e-12 <= goes / (goes + stays) <= high + 1e-12


def test_others_whose_scores_or_shift_have_no_bound() -> None:
    log_z, none = torch.tensor([[1.0, 1.0]]).double(), torch.tensor([[-math.inf, -math.inf]]).double()
    log_inside = torch.tensor(0.0).double()
    anything = torch.tensor([log_unseen(None, None)]).double()
    assert outside_with_others(log_inside, log_z, none).tolist() == pytest.approx([1 - math.exp(-1)] * 2)
    assert outside_with_others(log_inside, log_z, anything)[1] == 1.0
    unbounded = outside_with_others(log_inside, log_z, none, null=0.0, below=math.inf, above=math.inf)
    assert unbounded.tolist() == [0.0, 1.0]
    alone = outside_with_others(log_z[0, 0], log_z, none, below=math.inf, above=math.inf)
    assert alone.tolist() == [0.0, 0.0], "nobody else is there, whatever the scores"


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_whose_odds_are_shifted(share: float) -> None:
    for shift in (-1.5, 0.0, 2.0):
        odds = share * math.exp(shift)
        assert shifted_share(share, shift) == pytest.approx(odds / (odds + 1 - share))
    assert shifted_share(0.2, math.inf) == 1.0 and shifted_share(0.2, -math.inf) == 0.0

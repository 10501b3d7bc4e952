"""One prior over the passages of S shards: what each of them finds adds up.

A shard s has M_s of the M passages. Of a question it gives its k best scores and its own normaliser, with the T, λ
and word frequencies that are common to all (``prior.py``):

    Z_s = Σ_{j in s} e^{s_j}             Z = Σ_s Z_s                     since each passage is in one shard
    L_s ≤ Z_s ≤ U_s for all s            Σ_s L_s ≤ Z ≤ Σ_s U_s           bounds add, too
    0 ≤ Z_s ≤ M_s e^b                    of a shard that gave nothing, whose scores are at most b

Where the passages of the last kind also change the scores of the others, by between -δ and +η, the sums of these
lie between e^-δ and e^η times what they were.

The k best passages of all are among the k best of each shard, so that the mixture over the union is that of
one store. A passage that is in two shards is two passages here, each with its share.

Scores (K_s,) are largest first. Bounds are (2,), lower and upper; both are equal where log Z_s is known, and
infinite where nothing is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.probability.logspace import NEG_INF, log_difference, log_sum
from mixrag.probability.prior import mass_outside, normalised_prior, smallest_k


@dataclass(frozen=True, slots=True)
class UnionPrior:
    """The prior over the union of shards."""

    places: tuple[tuple[int, int], ...]
    """(K,) shard, and place among its scores, of each component; best first."""
    log_prior: Tensor
    """(K,) float64 log π_j."""
    log_null: Tensor | None
    """Log prior of the null component, where there is one."""
    outside: Tensor
    """(2,) bounds on ε, the prior mass of all other passages under the full normaliser."""


def log_union(log_z: Tensor) -> Tensor:
    """(2,) bounds on log Z over all shards, from those (S, 2) of each; S >= 1.

    >>> log_union(torch.tensor([[2.0, 2.0], [1.0, 3.0]]).double().log()).exp()
    tensor([3., 5.], dtype=torch.float64)
    """
    infinite = torch.isposinf(log_z).any(0)
    return log_sum(log_z.double().masked_fill(torch.isposinf(log_z), NEG_INF), 0).masked_fill(infinite, math.inf)


def log_unseen(passages: int | None, largest: float | None) -> tuple[float, float]:
    """Bounds on log Z_s of a shard that gave nothing: M_s passages, of which none has a larger score.

    The lower one is -inf, for they may have been deleted since; the upper one is infinite where either is unknown.
    """
    if passages is None or largest is None:
        return NEG_INF, math.inf
    return NEG_INF, (math.log(passages) + largest if passages else NEG_INF)


def union_places(scores: list[Tensor], k: int, ties: list[Tensor] | None = None) -> tuple[tuple[int, int], ...]:
    """Shard, and place among its scores, of the k largest, largest first.

    Equal ones are ordered by ``ties`` (each (K_s,), larger first), then by shard, then by place.
    """
    found = [
        (-float(score), -float(ties[s][place]) if ties is not None else 0.0, s, place)
        for s, own in enumerate(scores)
        for place, score in enumerate(own.tolist())
    ]
    return tuple((s, place) for _, _, s, place in sorted(found)[:k])


def union_prior(
    scores: list[Tensor],
    log_z: Tensor,
    k: int,
    *,
    null: float | None = None,
    full: bool = False,
    uniform: bool = False,
    max_outside: float | None = None,
    ties: list[Tensor] | None = None,
) -> UnionPrior:
    """The prior over the k best of the union.

    Args:
        scores: of each of S shards its best scores (K_s,), at least k of them or all that it has.
        log_z: (S', 2) bounds on log Z_s, also of shards that have no scores here.
        k: components at most.
        null: score b of the null component; None for none.
        full: divide by Z, not by the sum over the components.
        uniform: the components share their total equally.
        max_outside: the fewest components that leave at most this mass to all others.
        ties: see ``union_places``.

    Raises:
        ValueError: ``full`` or ``max_outside`` where Z is not known, or no score at all.
    """
    both = log_union(log_z)
    known = bool(both[0] == both[1])
    if not known and (full or max_outside is not None):
        raise ValueError("the full normaliser and max_outside need log Z of every shard")
    places = union_places(scores, k, ties)
    if not places:
        raise ValueError("a prior needs at least one passage")
    chosen = torch.tensor([float(scores[s][place]) for s, place in places], dtype=torch.float64)
    if max_outside is not None:
        count = smallest_k(chosen, max_outside, both[0], null)
        places, chosen = places[:count], chosen[:count]
    log_prior, log_null = normalised_prior(chosen, null, log_z=both[0] if full else None, uniform=uniform)
    return UnionPrior(places, log_prior, log_null, mass_outside(log_sum(chosen, 0), both, null))


def largest_share(log_z: Tensor, shard: int, null: float | None = None) -> float:
    """U_s / (U_s + Σ_t L_t + n): the most prior mass, under the full normaliser, of one of S shards.

    Args:
        log_z: (S, 2) bounds on log Z_s of all shards.
        shard: which of them.
        null: b; None for no null component.
    """
    others = [float(low) for s, (low, _) in enumerate(log_z.tolist()) if s != shard]
    rest = log_sum(torch.tensor([*others, NEG_INF if null is None else null], dtype=torch.float64), 0)
    return _share(float(log_z[shard, 1]), float(rest))


def outside_with_others(
    log_inside: Tensor,
    log_z: Tensor,
    log_others: Tensor,
    *,
    null: float | None = None,
    below: float = 0.0,
    above: float = 0.0,
) -> Tensor:
    """(2,) bounds on ε when shards that gave nothing are there, which may change the scores of all passages.

        (R e^-δ) / (R e^-δ + I e^η + n) <= ε <= (R e^η + Σ_s U_s) / (R e^η + Σ_s U_s + I e^-δ + n)

    I is the sum over the components and R = Σ_t Z_t - I that over the other passages of the shards that answered.

    Args:
        log_inside: () log I.
        log_z: (S, 2) bounds on log Z_t of the shards that answered.
        log_others: (S', 2) bounds on log Z_s of the others, when they are there.
        null: b; None for no null component.
        below: δ >= 0; may be infinite.
        above: η >= 0; may be infinite.
    """
    rest = log_difference(log_union(log_z), log_inside.double().expand(2)).tolist()
    stays = NEG_INF if null is None else null
    high = _log_add(_moved(rest[1], above), float(log_union(log_others)[1]))
    inside = float(log_inside)
    return torch.tensor(
        [
            _share(_moved(rest[0], -below), _log_add(_moved(inside, above), stays)),
            _share(high, _log_add(_moved(inside, -below), stays)),
        ],
        dtype=torch.float64,
    )


def shifted_share(share: float, shift: float) -> float:
    """A share whose log-odds move by ``shift``, which may be infinite; all and nothing stay.

    >>> shifted_share(0.5, math.log(3.0))
    0.75
    """
    if share <= 0.0 or share >= 1.0:
        return share
    return float(torch.sigmoid(torch.tensor(math.log(share / (1.0 - share)) + shift, dtype=torch.float64)))


def _moved(log_x: float, shift: float) -> float:
    """log(x e^shift); nothing stays nothing, and what is unbounded may become anything."""
    if log_x == NEG_INF:
        return NEG_INF
    return shift if math.isinf(shift) else log_x + shift


def _log_add(log_x: float, log_y: float) -> float:
    return float(
        torch.logaddexp(torch.tensor(log_x, dtype=torch.float64), torch.tensor(log_y, dtype=torch.float64))
    )


def _share(log_own: float, log_rest: float) -> float:
    """x / (x + y), also of what is 0 or unbounded: 0 of nothing, else 1 of what is unbounded."""
    if log_own == NEG_INF:
        return 0.0
    if log_own == math.inf:
        return 1.0
    return float(torch.sigmoid(torch.tensor(log_own - log_rest, dtype=torch.float64)))

"""The mixture's next token from lists of the most probable tokens, against the whole distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mixrag.probability import (
    Listed,
    interval_after,
    interval_before_next,
    listed,
    log_forward,
    log_posterior,
    next_token,
    posterior_interval,
    token_interval,
)

VOCABULARY = 40


def distributions(seed: int) -> tuple[Tensor, Tensor]:
    """(K,) log weights and (K, V) log-probabilities, which agree more or less."""
    generator = torch.Generator().manual_seed(seed)
    components = 1 + seed % 5
    scale = 0.5 + 5.0 * torch.rand((), generator=generator)
    shared = torch.rand((), generator=generator)
    common = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)
    own = torch.randn(components, VOCABULARY, generator=generator, dtype=torch.float64)
    weights = torch.rand(components, generator=generator, dtype=torch.float64) + 1e-3
    return (weights / weights.sum()).log(), (scale * (shared * common + (1 - shared) * own)).log_softmax(-1)


def top(row: Tensor, count: int) -> Listed:
    values, tokens = row.topk(count)
    return listed(dict(zip(tokens.tolist(), values.tolist(), strict=True)))


@pytest.mark.parametrize("count", [5, 20])
@pytest.mark.parametrize("width", [0.0, 1.5], ids=["weights known", "weights in intervals"])
def test_a_certified_token_is_the_most_probable_one(count: int, width: float) -> None:
    certified = 0
    for seed in range(500):
        weights, rows = distributions(seed)
        generator = torch.Generator().manual_seed(seed)
        below, above = (width * torch.rand(len(weights), generator=generator, dtype=torch.float64) for _ in "ab")
        found = next_token((weights - below, weights + above), [top(row, count) for row in rows])
        mixed = (weights.exp()[:, None] * rows.exp()).sum(0)
        better = {v for v in range(VOCABULARY) if float(mixed[v]) > float(mixed[found.token]) * (1 + 1e-12)}
        certified += found.certified
        assert not (found.certified and better)
        assert found.certified == (not found.rivals and not found.beyond)
        known = {token for row in rows for token in top(row, count).log_probs}
        assert better & known <= {*found.rivals}  # what is more probable is among those that may be
        assert found.beyond or not better - known
    assert certified > (100 if width else 200)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [3, 10])
def test_intervals_contain_the_exact_numbers(switch: float, count: int) -> None:
    """Along answers of random tokens; where every token is listed, the ends are the exact numbers."""
    for seed in range(60):
        weights, _ = distributions(seed)
        tables = [distributions(1000 + 5 * (5 * seed + t) + seed % 5)[1] for t in range(4)]
        generator = torch.Generator().manual_seed(seed)
        answer = [int(torch.randint(VOCABULARY, (), generator=generator)) for _ in tables]
        bounds, joint, every = (weights, weights), (weights, weights), True
        for rows, token in zip(tables, answer, strict=True):
            own = token_interval([top(row, count) for row in rows], token)
            every = every and torch.equal(*own)
            joint = interval_after(bounds, own)
            bounds = interval_before_next(joint, weights, switch)
        exact = torch.stack([rows[:, token] for rows, token in zip(tables, answer, strict=True)], -1)
        last = log_forward(weights, exact, switch)[..., -1]
        assert (joint[0] <= last + 1e-12).all() and (last <= joint[1] + 1e-12).all()
        assert torch.equal(*joint) == every or not joint[0].isfinite().any()
        if switch == 0.0:
            lower, upper = posterior_interval(joint)
            posterior = log_posterior(weights, exact, 0.0)
            assert (lower <= posterior + 1e-12).all() and (posterior <= upper + 1e-12).all()


def test_posteriors_lie_between_the_ends_and_reach_them() -> None:
    """Random numbers within their intervals; each end is reached by the ends that make it."""
    for seed in range(200):
        weights, _ = distributions(5 * seed + 1 + seed % 4)
        generator = torch.Generator().manual_seed(seed)
        below, above = (2.0 * torch.rand(len(weights), generator=generator, dtype=torch.float64) for _ in "ab")
        lower, upper = posterior_interval((weights - below, weights + above))
        share = torch.rand(len(weights), generator=generator, dtype=torch.float64)
        inside = (weights - below + share * (below + above)).log_softmax(0)
        assert (lower <= inside + 1e-12).all() and (inside <= upper + 1e-12).all()
        for j in range(len(weights)):
            ends = weights + above
            ends[j] = (weights - below)[j]
            assert math.isclose(float(ends.log_softmax(0)[j]), float(lower[j]), abs_tol=1e-9)


def test_the_posterior_of_known_numbers_is_one_number() -> None:
    joint = torch.tensor([0.3, 0.1, 0.0], dtype=torch.float64).log()
    lower, upper = posterior_interval((joint, joint))
    assert torch.allclose(lower.exp(), torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64))
    assert torch.equal(lower, upper)


def test_a_component_of_which_nothing_is_known_can_have_all_of_the_posterior() -> None:
    lower, upper = posterior_interval((torch.tensor([-math.inf, -math.inf]), torch.tensor([-1.0, -2.0])))
    assert (lower.exp() == 0.0).all() and (upper.exp() == 1.0).all()


def test_a_token_that_no_component_lists_may_be_the_most_probable() -> None:
    even = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    lists = [Listed({0: math.log(0.4)}, math.log(0.4)), Listed({1: math.log(0.4)}, math.log(0.4))]
    found = next_token((even, even), lists)
    assert found.beyond and not found.certified
    assert set(found.rivals) | {found.token} == {0, 1}


def test_equal_tokens_are_both_most_probable() -> None:
    one = torch.zeros(1, dtype=torch.float64)
    found = next_token((one, one), [Listed({3: math.log(0.5), 4: math.log(0.5)}, -math.inf)])
    assert found.certified


def test_a_component_that_lists_nothing_bounds_nothing() -> None:
    weights = torch.tensor([0.9, 0.1], dtype=torch.float64).log()
    found = next_token((weights, weights), [listed({5: math.log(0.9)}), Listed({}, 0.0)])
    assert found.certified  # 0.81 >= 0.9 * 0.1 + 0.1
    assert not next_token(
        (weights.flip(0), weights.flip(0)), [listed({5: math.log(0.9)}), Listed({}, 0.0)]
    ).certified


def test_no_mass_at_all() -> None:
    nothing = torch.full((2,), -math.inf, dtype=torch.float64)
    assert next_token((nothing, nothing), [Listed({5: -0.1}, -3.0)] * 2).token == 5

"""Intervals of probabilities that are rounded, against logits with errors in all directions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from mixrag.probability import (
    log_answered_prior,
    log_marginal,
    log_shifted,
    shifted_answered_prior,
    split_first_token,
)

H = 0.7
SWITCHES = (0.0, 0.3, 1.0)
STOP = torch.tensor([3])


def logits(seed: int, *shape: int) -> Tensor:
    return 2.0 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rounded(exact: Tensor, seed: int) -> Tensor:
    """The logits with errors of at most h/2 and one that all have alike."""
    source = torch.Generator().manual_seed(seed)
    errors = torch.rand(exact.shape, generator=source, dtype=torch.float64) - 0.5
    errors = torch.where(torch.rand(exact.shape, generator=source) < 0.5, errors, errors.sign() / 2)
    return exact + H * errors + 5.0 * torch.randn((*exact.shape[:-1], 1), generator=source, dtype=torch.float64)


def test_the_log_odds_of_every_set_of_tokens_within_every_larger_one_are_within_h() -> None:
    attained = 0.0
    sets = [[*some] for n in range(1, 5) for some in itertools.combinations(range(4), n)]
    for seed in range(200):
        exact = logits(seed, 4)
        found = rounded(exact, seed)
        for larger, smaller in itertools.product(sets, sets):
            if set(smaller) < set(larger):
                true, seen = (each[smaller].logsumexp(0) - each[larger].logsumexp(0) for each in (exact, found))
                low, high = float(log_shifted(seen, -H)), float(log_shifted(seen, H))
                assert low - 1e-12 <= float(true) <= high + 1e-12
                attained = max(attained, (float(true) - float(seen)) / (high - float(seen)))
    assert attained > 0.999  # no smaller interval holds


def test_a_shift_by_nothing_changes_nothing_and_certainty_stays() -> None:
    values = torch.tensor([0.0, 1e-30, 0.3, 1.0], dtype=torch.float64).log()
    torch.testing.assert_close(log_shifted(values, 0.0), values, rtol=0, atol=0)
    for h in (-H, H):
        assert log_shifted(values[[0, 3]], h).tolist() == [-math.inf, 0.0]
        back = log_shifted(log_shifted(values, h), -h)
        torch.testing.assert_close(back[1:], values[1:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_marginal_lies_between_its_ends(switch: float) -> None:
    log_prior = torch.tensor([0.6, 0.3, 0.05], dtype=torch.float64).log()
    beyond = 0
    for seed in range(100):
        exact = logits(seed, 3, 4, 5)  # K, T, V
        true, seen = (each.log_softmax(-1)[..., 0] for each in (exact, rounded(exact, seed)))
        low, high = (log_marginal(log_prior, log_shifted(seen, h), switch) for h in (-H, H))
        wanted = log_marginal(log_prior, true, switch)
        assert low <= wanted <= high
        less = [log_marginal(log_prior, log_shifted(seen, h), switch) for h in (-H / 8, H / 8)]
        beyond += not less[0] <= wanted <= less[1]
    assert beyond > 10


@pytest.mark.parametrize("prior", [[0.6, 0.3, 0.1], [0.5, 0.2, 0.1], [1.0, 0.0, 0.0]])
def test_the_prior_given_an_answer_lies_between_its_ends(prior: list[float]) -> None:
    log_prior = torch.tensor(prior, dtype=torch.float64).log()
    for seed in range(100):
        exact = logits(seed, 3, 4)
        (_, true), (_, seen) = (
            split_first_token(each.log_softmax(-1), STOP) for each in (exact, rounded(exact, seed))
        )
        low, high = (shifted_answered_prior(log_prior, seen, h) for h in (-H, H))
        wanted = log_answered_prior(log_prior, true)
        assert bool(((low <= wanted + 1e-12) & (wanted <= high + 1e-12)).all())
        nothing = shifted_answered_prior(log_prior, seen, 0.0)
        torch.testing.assert_close(nothing.exp(), log_answered_prior(log_prior, seen).exp())

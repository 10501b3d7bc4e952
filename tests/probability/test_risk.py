"""Risk of selective answers: exact tails in fractions, sizes, bounds, and the level over a thousand draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
import torch

from mixrag.probability import (
    best_start,
    conformal_threshold,
    fewest_answered,
    last_accepted,
    log_binomial_tail,
    most_coverage,
    most_wrong,
    pairs_needed,
    upper_risk,
)

RISK, DELTA, DRAWS = 0.1, 0.05, 1000


def tails(count: int, rate: Fraction) -> list[Fraction]:
    """P(Bin(count, rate) ≤ k) for k = 0..count, without rounding: sums of whole numbers over one denominator."""
    a, b = rate.numerator, rate.denominator
    sums = accumulate(math.comb(count, i) * a**i * (b - a) ** (count - i) for i in range(count + 1))
    return [Fraction(each, b**count) for each in sums]


def tail(count: int, most: int, rate: Fraction) -> Fraction:
    return tails(count, rate)[most]


@pytest.mark.parametrize("rate", [Fraction(1, 10), Fraction(1, 3), Fraction(1, 50), Fraction(0), Fraction(1)])
@pytest.mark.parametrize("count", [0, 1, 7, 60, 400])
def test_tails_are_those_of_fractions(rate: Fraction, count: int) -> None:
    most = torch.arange(count + 2)
    found = log_binomial_tail(count, most, float(rate)).exp()
    exact = [float(each) for each in (*tails(count, rate), 1)]
    assert found.tolist() == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert log_binomial_tail(count, -1, float(rate)) == -math.inf


def test_a_rate_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="a rate in"):
        log_binomial_tail(5, 1, 1.5)


def test_fewest_answers_that_certify() -> None:
    assert [fewest_answered(wrong, RISK, DELTA) for wrong in (0, 1, 2)] == [29, 46, 61]
    for wrong in (0, 1, 5, 20):
        least = fewest_answered(wrong, RISK, DELTA)
        assert tail(least, wrong, Fraction(1, 10)) <= Fraction(1, 20) < tail(least - 1, wrong, Fraction(1, 10))
        assert (most_wrong(least, RISK, DELTA), most_wrong(least - 1, RISK, DELTA)) == (wrong, wrong - 1)


@pytest.mark.parametrize("answered, wrong", [(29, 0), (46, 1), (100, 4), (300, 29), (10, 9)])
def test_the_upper_bound_is_where_the_tail_is_delta(answered: int, wrong: int) -> None:
    bound = upper_risk(answered, wrong, DELTA)
    assert float(tail(answered, wrong, Fraction(bound))) == pytest.approx(DELTA, rel=1e-9)
    assert (bound <= RISK) == (wrong <= most_wrong(answered, RISK, DELTA))


def test_the_upper_bound_of_nothing_right_is_one() -> None:
    assert upper_risk(0, 0, DELTA) == upper_risk(7, 7, DELTA) == 1.0


def test_even_a_perfect_confidence_answers_no_more() -> None:
    right, withheld = 465, 535  # of 1,000 at full coverage
    most = most_coverage(withheld / 1000, RISK)
    assert most == pytest.approx(0.465 / 0.9)
    answered = int(most * 1000)
    assert (answered - right) / answered <= RISK < (answered + 1 - right) / (answered + 1)
    assert most_coverage(0.05, RISK) == 1.0


def test_pairs_that_are_needed() -> None:
    assert pairs_needed(1.0, 0.0, RISK, DELTA) == 29
    assert pairs_needed(0.5, 0.0, RISK, DELTA) == 58
    assert pairs_needed(1.0, 1 / 50, RISK, DELTA) == 46  # of 46 it expects 0.92 wrong, and one may be
    needed = pairs_needed(0.4, 0.05, RISK, DELTA)
    assert needed and most_wrong(int(needed * 0.4), RISK, DELTA) >= 0.05 * int(needed * 0.4)
    assert pairs_needed(0.4, 0.1, RISK, DELTA) is None and pairs_needed(0.0, 0.0, RISK, DELTA) is None
    assert pairs_needed(1.0, 0.0999, RISK, DELTA) is None


def test_the_sequence_ends_at_the_first_failure() -> None:
    answered = torch.tensor([5, 29, 46, 61, 80, 300])
    wrong = torch.tensor([5, 0, 1, 2, 20, 20])
    assert last_accepted(answered, wrong, RISK, DELTA) == 3  # the first is left out, the last is never tested
    assert last_accepted(answered, wrong, RISK, DELTA, start=2) == 3
    assert last_accepted(answered, wrong, RISK, DELTA, start=0) == -1
    assert last_accepted(answered, wrong, RISK, DELTA, start=5) == 5
    both = last_accepted(torch.stack([answered, answered]), torch.stack([wrong, answered]), RISK, DELTA)
    assert both.tolist() == [3, -1]
    assert best_start(answered, wrong, RISK) == 5


# Simulation: confidences in [0, 1] and the probability of being right that truly goes with each.
GRID = np.append(1 / (1 + np.exp(-np.linspace(6, -6, 80))), 0.0)
Truth = Callable[[np.ndarray], np.ndarray]


def logistic(scale: float, shift: float) -> Truth:
    return lambda c: 1 / (1 + np.exp(-(scale * np.log(c / (1 - c)) + shift)))


def smooth(source: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return source.beta(0.7, 0.7, shape)


def discrete(source: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Five values, as isotonic regression gives."""
    return source.choice([0.15, 0.4, 0.7, 0.88, 0.97], shape, p=[0.2, 0.15, 0.15, 0.25, 0.25])


def sure_and_wrong(c: np.ndarray) -> np.ndarray:
    """Not even monotone: the surest answers are invented."""
    return np.where(c > 0.97, 0.7, logistic(1.5, 1.5)(c))


def border(c: np.ndarray) -> np.ndarray:
    """Risk just above the target from the strictest threshold on, the hardest case for the level."""
    return np.where(c > 0.5, 1 - RISK - 1e-6, 0.6)


CASES: dict[str, tuple[Callable[..., np.ndarray], Truth]] = {
    "calibrated": (smooth, logistic(1, 0)),
    "overconfident": (smooth, logistic(0.5, -0.3)),
    "underconfident": (smooth, logistic(1.5, 1.0)),
    "ties": (discrete, logistic(1, 0)),
    "border": (smooth, border),
}


def counts(c: np.ndarray, wrong: np.ndarray, grid: np.ndarray = GRID) -> tuple[torch.Tensor, torch.Tensor]:
    """(draws, m) answered and wrong, from (draws, n)."""
    bins = np.searchsorted(-grid, -c)  # the first threshold at or below each confidence
    shape = (len(c), len(grid) + 1)
    answered, errors = np.zeros(shape, int), np.zeros(shape, int)
    rows = np.arange(len(c))[:, None]
    np.add.at(answered, (rows, bins), 1)
    np.add.at(errors, (rows, bins), wrong.astype(int))
    return tuple(torch.from_numpy(each[:, :-1].cumsum(1)) for each in (answered, errors))  # type: ignore[return-value]


def risks(draw: Callable[..., np.ndarray], truth: Truth) -> np.ndarray:
    """(m,) true risk at each threshold, by a million answers without labels."""
    c = draw(np.random.default_rng(99), (1_000_000,))
    bins = np.searchsorted(-GRID, -c)
    n, e = (np.bincount(bins, w, len(GRID) + 1)[:-1].cumsum() for w in (np.ones_like(c), 1 - truth(c)))
    return e / np.maximum(n, 1)


def allowed(level: float, draws: int = DRAWS) -> int:
    """Violations that a procedure of this level exceeds in one of a thousand simulations at most."""
    return next(k for k in range(draws) if 1 - log_binomial_tail(draws, k, level).exp() <= 1e-3)


@pytest.mark.parametrize("n", [60, 200, 600])
@pytest.mark.parametrize("case", CASES)
def test_violations_stay_below_delta(case: str, n: int) -> None:
    draw, truth = CASES[case]
    source = np.random.default_rng([n, *case.encode()])
    c = draw(source, (DRAWS, n))
    wrong = source.random(c.shape) >= truth(c)
    accepted = last_accepted(*counts(c, wrong), RISK, DELTA).numpy()
    violated = (accepted >= 0) & (risks(draw, truth)[accepted] > RISK)
    assert violated.sum() <= allowed(DELTA)
    if case in ("underconfident", "ties") and n == 600:
        assert (accepted >= 0).mean() > 0.9  # and the level is not had by accepting nothing
    if case == "border" and n == 600:
        assert violated.sum() > 5


@pytest.mark.parametrize("case", [*CASES, "sure and wrong"])
def test_a_start_from_other_questions_needs_no_order(case: str) -> None:
    """Split fixed-sequence testing, also where the surest answers are the worst."""
    draw, truth = CASES.get(case, (smooth, sure_and_wrong))
    source = np.random.default_rng([7, *case.encode()])
    n = 300
    c = draw(source, (DRAWS, 2 * n))
    wrong = source.random(c.shape) >= truth(c)
    first, second = counts(c[:, :n], wrong[:, :n]), counts(c[:, n:], wrong[:, n:])
    start = torch.tensor([best_start(a, w, RISK) for a, w in zip(*first, strict=True)])
    accepted = last_accepted(*second, RISK, DELTA, start).numpy()
    violated = (accepted >= 0) & (risks(draw, truth)[accepted] > RISK)
    assert violated.sum() <= allowed(DELTA)


def test_groups_tested_at_a_share_of_delta_hold_together() -> None:
    """Three kinds at δ/3: in at most δ of the draws is any of them violated."""
    violated = np.zeros(DRAWS, bool)
    for number, case in enumerate(("border", "overconfident", "ties")):
        draw, truth = CASES[case]
        source = np.random.default_rng([11, number])
        c = draw(source, (DRAWS, 200))
        wrong = source.random(c.shape) >= truth(c)
        accepted = last_accepted(*counts(c, wrong), RISK, DELTA / 3).numpy()
        violated |= (accepted >= 0) & (risks(draw, truth)[accepted] > RISK)
    assert violated.sum() <= allowed(DELTA)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [20, 100])
def test_conformal_control_of_answers_that_are_given_and_wrong(case: str, n: int) -> None:
    """The mean over draws and one further question each is at most α, up to four standard errors."""
    draw, truth = CASES[case]
    source = np.random.default_rng([n, 3, *case.encode()])
    c = draw(source, (DRAWS, n))
    wrong = source.random(c.shape) >= truth(c)
    found = [
        conformal_threshold(torch.from_numpy(a), torch.from_numpy(b), RISK) for a, b in zip(c, wrong, strict=True)
    ]
    bars = np.array([2.0 if each is None else each for each in found])
    further = draw(source, (DRAWS, 100))
    losses = ((further >= bars[:, None]) * (1 - truth(further))).mean(1)
    assert losses.mean() <= RISK + 4 * losses.std() / math.sqrt(DRAWS)
    if n == 100 and case != "overconfident":
        assert losses.mean() > RISK / 2


def test_the_conformal_threshold_is_the_smallest_that_is_allowed() -> None:
    c = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] * 3, dtype=torch.float64)
    wrong = (c < 0.35) | (c == 0.6)  # nine at the bottom, three at 0.6
    found = conformal_threshold(c, wrong, 0.2)  # (losses + 1) / 28 ≤ 0.2: at most four
    assert found and int((wrong & (c >= found)).sum()) == 3 and found == math.nextafter(0.3, 1.0)
    assert conformal_threshold(c, torch.zeros(27, dtype=torch.bool), 0.1) == 0.0
    assert conformal_threshold(c[:8], wrong[:8], 0.1) is None  # 1/9 > 0.1
    assert conformal_threshold(torch.ones(27), torch.ones(27, dtype=torch.bool), 0.1) is None

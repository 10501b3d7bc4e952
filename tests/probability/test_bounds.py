"""Certificates: inequalities on random mixtures by enumeration, and cases where they are equalities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_switching import some_answer

from enumeration import Toy, switches, toys
from mixrag.probability import (
    escape_mass,
    is_certainly_best,
    log_marginal,
    log_predictive_weights,
    log_truncation_bracket,
    poisoning_tv,
    pruning_tv,
    truncation_tv,
)

quick = settings(max_examples=50, deadline=None)
SLACK = 1e-9


def truncated(toy: Toy, kept: int) -> tuple[Toy, float]:
    """The mixture over the first ``kept`` components, and the prior mass of the others."""
    dropped, mass = math.fsum(toy.prior[kept:]), math.fsum(toy.prior[:kept])
    prior = [p / mass if j < kept else 0.0 for j, p in enumerate(toy.prior)]
    return Toy(prior, toy.seed, toy.vocabulary, toy.length), dropped


def total_variation(one: Toy, other: Toy, switch: float) -> float:
    gaps = (abs(one.probability(a, switch) - other.probability(a, switch)) for a in one.answers())
    return math.fsum(gaps) / 2


def log_kept(toy: Toy, kept: int, answer: tuple[int, ...], switch: float) -> torch.Tensor:
    return log_marginal(toy.log_prior[:kept], toy.log_likelihood(answer)[:kept], switch)


@quick
@given(toys(length=3), switches, st.integers(1, 4))
def test_truncation_moves_the_law_by_at_most_its_bound(toy: Toy, switch: float, kept: int) -> None:
    smaller, dropped = truncated(toy, kept) if math.fsum(toy.prior[:kept]) > 0 else (toy, 0.0)
    bound = truncation_tv(max(0.0, dropped), switch, toy.length).item()
    assert total_variation(toy, smaller, switch) <= bound + SLACK


@quick
@given(toys(length=3), switches, st.integers(1, 4))
def test_truncation_brackets_every_answer(toy: Toy, switch: float, kept: int) -> None:
    dropped = max(0.0, math.fsum(toy.prior[kept:]))
    for answer in toy.answers():
        lower, upper = log_truncation_bracket(log_kept(toy, kept, answer, switch), dropped, switch, toy.length)
        probability = toy.probability(answer, switch)
        assert lower.exp().item() - SLACK <= probability <= upper.exp().item() + SLACK


@quick
@given(toys(length=3), switches, st.integers(1, 4))
def test_a_certified_answer_is_the_best_of_the_full_mixture(toy: Toy, switch: float, kept: int) -> None:
    dropped = max(0.0, math.fsum(toy.prior[kept:]))
    ranked = sorted(toy.answers(), key=lambda a: -log_kept(toy, kept, a, switch).item())
    best, second = (log_kept(toy, kept, answer, switch) for answer in ranked[:2])
    assume(is_certainly_best(best, second, dropped, switch, toy.length))
    most_probable = max(toy.probability(answer, switch) for answer in toy.answers())
    assert toy.probability(ranked[0], switch) >= most_probable - SLACK


def test_certification_does_happen_and_is_refused_when_the_lead_is_too_small() -> None:
    best, second = torch.tensor(0.5).log(), torch.tensor(0.3).log()
    assert is_certainly_best(best, second, 0.19, 0.0, 5)
    assert not is_certainly_best(best, second, 0.21, 0.0, 5)
    assert not is_certainly_best(best, second, 0.19, 1.0, 5)


def test_tiny_probabilities_are_not_certified_by_underflow() -> None:
    worse, better = torch.tensor(-800.0, dtype=torch.float64), torch.tensor(-750.0, dtype=torch.float64)
    assert not is_certainly_best(worse, better, 0.0, 0.0, 3)
    assert is_certainly_best(better, worse, 0.0, 0.0, 3)


def test_a_bracket_has_finite_gradients_where_nothing_is_kept_or_missed() -> None:
    kept = torch.tensor([-1.0, -math.inf], requires_grad=True)
    log_truncation_bracket(kept, 0.0, 0.0, 2)[1].exp().sum().backward()
    assert kept.grad is not None and kept.grad.isfinite().all()


@quick
@given(toys(length=3, components=3, least=2), switches, st.integers(1, 2), st.integers(1, 2))
def test_pruning_moves_the_law_of_the_rest_by_at_most_its_bound(
    toy: Toy, switch: float, kept: int, cut: int
) -> None:
    cut, kept = min(cut, toy.length - 1), min(kept, len(toy.prior) - 1)
    assume(math.fsum(toy.prior[:kept]) > 1e-3)
    prefix = some_answer(toy)[:cut]
    weights = log_predictive_weights(toy.log_prior, toy.log_likelihood(prefix), switch)[:, -1].exp()
    dropped_weight = weights[kept:].sum().clamp(0, 1)
    assume(dropped_weight < 0.999)
    remaining = toy.length - cut
    bound = pruning_tv(dropped_weight, math.fsum(toy.prior[kept:]), switch, remaining).item()
    full = rest_law(toy, weights, prefix, switch, remaining)
    pruned_weights = weights.clone()
    pruned_weights[kept:] = 0
    pruned = rest_law(truncated(toy, kept)[0], pruned_weights / pruned_weights.sum(), prefix, switch, remaining)
    gap = math.fsum(abs(full[rest] - pruned[rest]) for rest in full) / 2
    assert gap <= bound + 1e-7


def rest_law(
    toy: Toy, weights: torch.Tensor, prefix: tuple[int, ...], switch: float, remaining: int
) -> dict[tuple[int, ...], float]:
    """p(rest | x, prefix), the hidden passage of the next token drawn from ``weights``."""
    law = {}
    for rest in toy.answers(remaining):
        total = 0.0
        for path in toy.paths(remaining):
            start = toy.prior[path[0]]
            if start == 0.0 and weights[path[0]] == 0.0:
                continue
            probability = weights[path[0]].item() * (toy.path_probability(path, switch) / start if start else 0.0)
            for t, j in enumerate(path):
                probability *= toy.token_probability(j, prefix + rest, len(prefix) + t)
            total += probability
        law[rest] = total
    return law


@quick
@given(toys(length=3), switches, st.integers(0, 3), st.integers(0, 10_000))
def test_rewriting_one_passage_moves_the_law_by_at_most_its_bound(
    toy: Toy, switch: float, victim: int, poison: int
) -> None:
    victim %= len(toy.prior)

    class Poisoned(Toy):
        def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
            if component != victim:
                return super().next_token(component, prefix)
            return Toy(self.prior, poison + 20_000, self.vocabulary, self.length).next_token(0, prefix)

    poisoned = Poisoned(toy.prior, toy.seed, toy.vocabulary, toy.length)
    bound = poisoning_tv(min(1.0, toy.prior[victim]), switch, toy.length).item()
    assert total_variation(toy, poisoned, switch) <= bound + SLACK


class Shouting(Toy):
    """Component 0 always says token 0, every other component always says token 1."""

    def next_token(self, component: int, prefix: tuple[int, ...]) -> list[float]:
        return [1.0, 0.0] if component == 0 else [0.0, 1.0]


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_the_truncation_bound_is_attained(switch: float) -> None:
    toy = Shouting([0.7, 0.3], 0, 2, 3)
    alone = Shouting([1.0, 0.0], 0, 2, 3)
    assert total_variation(toy, alone, switch) == pytest.approx(truncation_tv(0.3, switch, 3).item())


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_the_poisoning_bound_is_attained(switch: float) -> None:
    toy, poisoned = Shouting([0.7, 0.3], 0, 2, 3), Shouting([1.0, 0.0], 0, 2, 3)
    # Rewriting component 1 so that it says what component 0 says leaves a mixture that always says token 0.
    assert total_variation(toy, poisoned, switch) == pytest.approx(poisoning_tv(0.3, switch, 3).item())


def test_both_ends_of_the_bracket_are_attained() -> None:
    toy = Shouting([0.7, 0.3], 0, 2, 2)
    lower, _ = log_truncation_bracket(log_kept(toy, 1, (0, 0), 0.0), 0.3, 0.0, 2)
    _, upper = log_truncation_bracket(log_kept(toy, 1, (1, 1), 0.0), 0.3, 0.0, 2)
    assert lower.exp().item() == pytest.approx(toy.probability((0, 0), 0.0))
    assert upper.exp().item() == pytest.approx(toy.probability((1, 1), 0.0))


def test_the_pruning_bound_is_attained() -> None:
    toy = Shouting([0.7, 0.3], 0, 2, 1)
    assert pruning_tv(0.3, 0.3, 0.0, 5).item() == pytest.approx(0.3)
    full = rest_law(toy, torch.tensor([0.7, 0.3]), (), 0.0, 2)
    alone = rest_law(toy, torch.tensor([1.0, 0.0]), (), 0.0, 2)
    gap = math.fsum(abs(full[rest] - alone[rest]) for rest in full) / 2
    assert gap == pytest.approx(0.3)


def test_the_design_s_special_cases() -> None:
    assert escape_mass(0.2, 0.2, 0.0, 9).item() == pytest.approx(0.2)
    assert escape_mass(0.2, 0.2, 1.0, 3).item() == pytest.approx(1 - 0.8**3)
    assert escape_mass(1e-12, 1e-12, 1.0, 2).item() == pytest.approx(2e-12, rel=1e-4)


@pytest.mark.parametrize(
    "arguments", [(1.2, 0.1, 0.0, 1), (0.1, -0.1, 0.0, 1), (0.1, 0.1, 2.0, 1), (0.1, 0.1, 0.0, 0)]
)
def test_masses_outside_their_range_are_refused(arguments: tuple[float, float, float, int]) -> None:
    with pytest.raises(ValueError, match="masses in"):
        escape_mass(*arguments)


@pytest.mark.parametrize("mass", [0.1, 0.3, 1 / 3, 0.7])
def test_no_bound_is_rounded_to_single_precision(mass: float) -> None:
    """The masses are Python floats, and log-probabilities may be float32."""
    assert float(escape_mass(mass, 0.0, 0.0, 1)) == pytest.approx(mass, rel=1e-15)
    assert float(escape_mass(0.0, mass, 1.0, 2)) == pytest.approx(mass, rel=1e-15)
    inside = torch.tensor(math.log(0.25), dtype=torch.float32)
    lower, upper = log_truncation_bracket(inside, mass, 0.0, 1)
    assert float(lower) == float(inside)
    assert math.exp(upper) == pytest.approx(math.exp(float(inside)) + mass, rel=1e-14)
    just_below = torch.tensor(math.log(mass) - 1e-9, dtype=torch.float64)
    nothing = torch.tensor(-math.inf, dtype=torch.float64)
    assert not is_certainly_best(just_below, nothing, mass, 0.0, 1)
    assert is_certainly_best(just_below + 2e-9, nothing, mass, 0.0, 1)

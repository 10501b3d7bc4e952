"""Mixtures of generators against loops in probability space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.probability import fitted_weights, log_mixed_tokens, log_other_tokens

unit = st.floats(0.001, 1.0)
tables = st.integers(1, 5).flatmap(
    lambda length: st.lists(
        st.lists(unit | st.just(0.0), min_size=length, max_size=length), min_size=2, max_size=2
    )
)


def log(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


@settings(deadline=None)
@given(tables, st.floats(0.01, 0.99))
def test_tokens_multiply_to_the_mixture_of_the_products(each: list[list[float]], w: float) -> None:
    found = log_mixed_tokens(log([[w, 1 - w]]), log([each]))[0]
    total = w * math.prod(each[0]) + (1 - w) * math.prod(each[1])
    assert not found.isnan().any()
    assert math.exp(found.sum()) == pytest.approx(total, rel=1e-12)
    before = 1.0
    for t, value in enumerate(found.exp().tolist()):
        so_far = w * math.prod(each[0][: t + 1]) + (1 - w) * math.prod(each[1][: t + 1])
        assert value == pytest.approx(so_far / before if before else 0.0, rel=1e-9)
        before = so_far


@settings(deadline=None)
@given(tables, st.floats(0.1, 0.9))
def test_what_is_left_is_the_other_generator(each: list[list[float]], w: float) -> None:
    weights = log([w, 1 - w])
    mixed = log_mixed_tokens(weights[None], log([each]))
    found = log_other_tokens(mixed, log([each[1]]), weights[1], weights[0])[0]
    assert not found.isnan().any()
    for t in range(len(each[0])):
        product, total = math.prod(each[0][: t + 1]), math.exp(mixed[0, : t + 1].sum())
        assert math.exp(found[: t + 1].sum()) == pytest.approx(product, rel=1e-6, abs=1e-12 * total)


def test_fitted_weights_are_the_best_of_a_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(50, 2, generator=generator, dtype=torch.float64) ** 4
    table[:5, 0], table[5:15, 1], table[15] = 0.0, 0.0, 0.0
    weights = fitted_weights(table.log())

    def likelihood(w: float) -> float:
        return float((table[:, 0] * w + table[:, 1] * (1 - w))[table.sum(-1) > 0].log().sum())

    best = max((step / 1000 for step in range(1, 1000)), key=likelihood)
    assert float(weights[0]) == pytest.approx(best, abs=1e-3)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert likelihood(float(weights[0])) >= likelihood(best)


def test_weights_of_three_generators_are_a_stationary_point() -> None:
    table = torch.rand(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = fitted_weights(table.log(), 1e-12)
    shares = weights * table / (table @ weights)[:, None]
    assert shares.mean(0).tolist() == pytest.approx(weights.tolist(), abs=1e-6)


def test_no_possible_answer_has_no_weights() -> None:
    with pytest.raises(ValueError, match="no answer"):
        fitted_weights(log([[0.0, 0.0]]))

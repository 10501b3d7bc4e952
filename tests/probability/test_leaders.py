"""The most probable continuations found in float32, against the whole table in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixrag.probability import leaders, leading, log_mix

NOTHING = torch.tensor([], dtype=torch.long)


def drawn(answers: int, k: int, vocabulary: int, spread: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """log_before, log_weights, log_probs of random laws."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    log_probs = (spread * normal(answers, k, vocabulary)).log_softmax(-1).float()
    return spread * normal(answers), (spread * normal(answers, k)).log_softmax(-1), log_probs


def whole(log_before: Tensor, log_weights: Tensor, log_probs: Tensor, never: Tensor = NOTHING) -> Tensor:
    """(W · V,) float64."""
    table = log_before[:, None] + log_mix(log_weights, log_probs.double())
    return table.index_fill(-1, never, -math.inf).flatten()


def check(given: tuple[Tensor, Tensor, Tensor], count: int, never: Tensor = NOTHING) -> None:
    expected = whole(*given, never)
    values, places = leading(*given, count, never)
    torch.testing.assert_close(values, expected.topk(count).values, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(values, expected[places], rtol=0.0, atol=1e-12)
    assert len(set(places.tolist())) == count


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(6, 60),
    st.sampled_from([0.0, 1e-6, 0.1, 3.0, 30.0, 300.0]),
    st.integers(0, 10**6),
    st.integers(1, 6),
)
def test_leading_is_the_head_of_the_whole_table(
    answers: int, k: int, vocabulary: int, spread: float, seed: int, count: int
) -> None:
    check(drawn(answers, k, vocabulary, spread, seed), count)


@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0])
def test_tokens_left_out_never_lead(spread: float) -> None:
    given = drawn(4, 3, 200, spread, 1)
    never = whole(*given).topk(12).indices.remainder(200).unique()
    check(given, 5, never)
    assert not torch.isin(leading(*given, 5, never)[1] % 200, never).any()


def test_tokens_left_out_never_lead_where_little_else_is_possible() -> None:
    log_before, log_weights, log_probs = drawn(1, 3, 22, 1.0, 7)
    log_probs[:, :, 10:] = -math.inf
    check((log_before, log_weights, log_probs), 5, torch.tensor([0, 1, 2]))


def test_impossible_tokens_are_minus_infinity() -> None:
    log_before, log_weights, log_probs = drawn(2, 3, 100, 1.0, 2)
    log_probs[:, :, 4:] = -math.inf
    check((log_before, log_weights, log_probs), 8)
    values, _ = leading(log_before, log_weights, log_probs, 10, NOTHING)
    assert values[8:].tolist() == [-math.inf] * 2


def test_answers_far_behind_are_not_lost() -> None:
    """Every continuation of the second answer is below what float32 can hold, relative to the first."""
    _, log_weights, log_probs = drawn(2, 3, 30, 1.0, 3)
    log_probs[0, :, 2:] = -math.inf
    check((torch.tensor([0.0, -200.0]).double(), log_weights, log_probs), 6)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of laws that ``log_mix`` is asked for."""
    sizes: list[int] = []

    def spy(log_weights: Tensor, log_probs: Tensor) -> Tensor:
        sizes.append(log_probs.numel())
        return log_mix(log_weights, log_probs)

    monkeypatch.setattr(leaders, "log_mix", spy)
    return sizes


def test_ordinary_laws_need_no_float64_table(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted(monkeypatch)
    check(drawn(4, 10, 5000, 3.0, 4), 5)
    assert sizes == [(5 + leaders.SPARE) * 10]


@pytest.mark.parametrize("difference", [0.0, 1e-7, 1e-6])
def test_near_ties_are_decided_in_float64(difference: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """More continuations within float32's rounding than are spared: only the whole table can order them."""
    sizes = counted(monkeypatch)
    log_before, log_weights, log_probs = drawn(2, 3, 100, 0.0, 5)
    log_weights = log_weights + difference * torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    check((log_before, log_weights, log_probs), 5)
    assert sizes[-1] == log_probs.numel()


def test_float64_laws_are_never_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    log_before, log_weights, log_probs = drawn(2, 3, 100, 1.0, 6)
    sizes = counted(monkeypatch)
    leading(log_before, log_weights, log_probs.double(), 5, NOTHING)
    assert sizes == [log_probs.numel()]

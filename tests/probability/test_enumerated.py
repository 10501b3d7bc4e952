"""Distributions over finitely many answers, and spans, against plain loops in probability space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixrag.probability import (
    answer_information,
    entropy,
    log_enumerated,
    log_posterior_of,
    log_sum_by,
    possible_spans,
    span_loss,
    span_scores,
)

WEIGHTS = st.floats(0.0, 5.0)


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[float], list[list[tuple[int, float]]], float]:
    """Prior, outcomes (answer, probability) of each component, and the mass outside."""
    size, outside = draw(st.integers(1, 4)), draw(st.sampled_from([0.0, 0.2]))
    prior = [draw(st.floats(0.01, 1.0)) for _ in range(size)]
    tables = []
    for _ in range(size):
        outcomes = draw(st.lists(st.tuples(st.integers(0, 4), WEIGHTS), min_size=1, max_size=7))
        total = sum(weight for _, weight in outcomes)
        if total == 0:
            outcomes, total = [(0, 1.0)], 1.0
        tables.append([(answer, weight / total) for answer, weight in outcomes])
    return [p / sum(prior) * (1 - outside) for p in prior], tables, outside


def as_lists(tables: list[list[tuple[int, float]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    flat = [(answer, j, p) for j, table in enumerate(tables) for answer, p in table]
    answer, component, probability = zip(*flat, strict=True)
    return torch.tensor(answer), torch.tensor(component), torch.tensor(probability, dtype=torch.float64).log()


def plain_entropy(table: dict[int, float]) -> float:
    return -sum(p * math.log(p) for p in table.values() if p)


@given(mixtures())
def test_enumeration(case: tuple[list[float], list[list[tuple[int, float]]], float]) -> None:
    prior, tables, outside = case
    log_prior, lists = torch.tensor(prior, dtype=torch.float64).log(), as_lists(tables)
    joint = [[sum(p for a, p in table if a == y) * prior[j] for y in range(5)] for j, table in enumerate(tables)]
    total = [sum(row[y] for row in joint) for y in range(5)]
    assert log_enumerated(log_prior, *lists, 5).exp().tolist() == pytest.approx(total, abs=1e-12)
    for y in range(5):
        if total[y] > 1e-9:
            posterior = log_posterior_of(log_prior, *lists, y).exp().tolist()
            assert posterior == pytest.approx([row[y] / total[y] for row in joint], abs=1e-9)
    mass = 1 - outside
    expected = plain_entropy({y: total[y] / mass for y in range(5)})
    inside = [plain_entropy({y: row[y] / prior[j] for y in range(5)}) for j, row in enumerate(joint)]
    information = expected - sum(p / mass * h for p, h in zip(prior, inside, strict=True))
    found = answer_information(log_prior, *lists, 5)
    assert found[0].item() == pytest.approx(expected, abs=1e-9)
    assert found[1].item() == pytest.approx(max(0.0, information), abs=1e-9)


def test_information_is_zero_or_all_of_the_entropy() -> None:
    log_prior = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    same = as_lists([[(0, 0.5), (1, 0.5)], [(0, 0.5), (1, 0.5)]])
    other = as_lists([[(0, 1.0)], [(1, 1.0)]])
    assert [x.item() for x in answer_information(log_prior, *same, 2)] == pytest.approx([math.log(2), 0.0])
    assert [x.item() for x in answer_information(log_prior, *other, 2)] == pytest.approx([math.log(2)] * 2)


def test_sums_by_group_survive_what_a_float_cannot_hold() -> None:
    log_x = torch.tensor([-2000.0, -2000.0, 3000.0, -math.inf], dtype=torch.float64)
    found = log_sum_by(log_x, torch.tensor([0, 0, 1, 2]), 4).tolist()
    assert found == pytest.approx([-2000 + math.log(2), 3000, -math.inf, -math.inf])


def test_entropy_of_certainty_is_zero() -> None:
    assert entropy(torch.tensor([1.0, 0.0]).log()).item() == 0


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**31))
def test_spans(length: int, longest: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 2, length, generator=source, dtype=torch.float64)
    first, last = torch.rand(2, 2, length, generator=source) < 0.7
    region = torch.randint(0, 2, (2, length), generator=source).sort().values
    first[:, 0] = False
    scores, possible = span_scores(start, end, longest), possible_spans(first, last, region, longest)
    assert scores.shape == possible.shape == (2, length, longest)
    right = possible & (torch.rand(possible.shape, generator=source) < 0.3)
    losses = span_loss(start, end, possible, right)
    for row in range(2):
        empty = math.exp(start[row, 0] + end[row, 0])
        total, chosen = empty, 0.0
        for i in range(length):
            for d in range(longest):
                j = i + d
                inside = j < length and bool(first[row, i] and last[row, j] and region[row, i] == region[row, j])
                assert bool(possible[row, i, d]) == inside
                if inside:
                    weight = math.exp(start[row, i] + end[row, j])
                    assert scores[row, i, d].exp().item() == pytest.approx(weight)
                    total += weight
                    chosen += weight if right[row, i, d] else 0.0
                elif j >= length:
                    assert scores[row, i, d] == -math.inf
        expected = -math.log((chosen if right[row].any() else empty) / total)
        assert losses[row].item() == pytest.approx(expected, abs=1e-9)

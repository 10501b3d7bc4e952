"""Sampling settings against those of transformers, and by their definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from mixrag.probability import log_sampling

quick = settings(max_examples=60, deadline=None)
weights = st.lists(st.integers(1, 1000).map(float), min_size=2, max_size=8, unique=True)
"""Apart by more than rounding: of two that are equal once divided by a temperature, either may be the k-th."""


@quick
@given(weights, st.floats(0.2, 3.0), st.integers(0, 9), st.floats(0.05, 1.0))
def test_the_settings_are_those_of_transformers(
    given_weights: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    scores = torch.tensor([given_weights, given_weights[::-1]], dtype=torch.float64).log().log_softmax(-1)
    expected = TemperatureLogitsWarper(temperature)(None, scores)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1.0:
        expected = TopPLogitsWarper(top_p)(None, expected)
    found = log_sampling(scores, temperature, top_k, top_p)
    torch.testing.assert_close(found.exp(), expected.softmax(-1), rtol=1e-9, atol=1e-12)


def test_without_settings_it_is_the_distribution_itself() -> None:
    log_probs = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    torch.testing.assert_close(log_sampling(log_probs), log_probs)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-6])
def test_a_small_temperature_takes_the_most_probable_token(temperature: float) -> None:
    log_probs = torch.tensor([[0.2, 0.5, 0.3, 0.0], [0.6, 0.1, 0.3, 0.0]], dtype=torch.float64).log()
    found = log_sampling(log_probs, temperature, top_p=0.5).exp()
    assert found.tolist() == [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]


def test_no_mass_stays_none() -> None:
    nothing = torch.full((3,), -math.inf)
    for options in ({}, {"temperature": 0.5}, {"top_k": 1}, {"top_p": 0.5}):
        assert not log_sampling(nothing, **options).isnan().any()


def test_values_outside_their_range_are_refused() -> None:
    for wrong in ({"temperature": -1.0}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ValueError, match="expected temperature"):
            log_sampling(torch.zeros(2), **wrong)

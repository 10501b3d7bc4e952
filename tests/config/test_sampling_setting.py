"""The mapping of sampling settings, in Python and on the command line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mixrag.answers.confidence import conditions
from mixrag.config.sampling import sampling_of_options
from mixrag.config.settings import Settings
from mixrag.errors import SettingError


def test_values_that_change_nothing_are_left_out_and_names_are_alike() -> None:
    neutral = {"temperature": 1, "top_k": 0, "top_p": 1.0}
    assert Settings(sampling=neutral).sampling == {}
    assert Settings(sampling={"top-p": 0.5, "temperature": 2}).sampling == {"temperature": 2.0, "top_p": 0.5}


@pytest.mark.parametrize(
    "wrong",
    [
        0.7,
        {"heat": 1.0},
        {"temperature": "0.7"},
        {"temperature": True},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"top_k": 2.5},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_other_values_are_refused_in_one_line(wrong: Any) -> None:
    with pytest.raises(SettingError) as error:
        Settings(sampling=wrong)
    assert "\n" not in str(error.value) and "sampling" in str(error.value)


def test_options_are_names_with_numbers() -> None:
    assert sampling_of_options(("temperature=0.7", "top-p=0.9, top_k=40")) == {
        "temperature": 0.7,
        "top_k": 40,
        "top_p": 0.9,
    }
    for wrong in (("temperature",), ("temperature=",), ("temperature=nan",), ("top_p=0.5", "top-p=0.6"), ("",)):
        with pytest.raises(SettingError, match="--sampling to be"):
            sampling_of_options(wrong)


def test_a_confidence_is_fitted_under_one_choice_of_them() -> None:
    plain, colder = (Settings(decoder="sample", sampling=each) for each in ({}, {"temperature": 0.5}))
    assert conditions(plain) != conditions(colder)
    assert conditions(plain) == conditions(Settings(decoder="sample", sampling={"top_p": 1.0}))

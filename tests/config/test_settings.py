"""Settings refuse what has no meaning, in one line that names range, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from mixrag import Settings
from mixrag.errors import SettingError


@pytest.mark.parametrize(
    "wrong",
    [
        {"switch": -0.1},
        {"switch": 1.5},
        {"switch": float("nan")},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": 1e-310},
        {"seed": 2**63},
        {"seed": -1},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"k": -1},
        {"k": 2.5},
        {"k": "many"},
        {"k": True},
        {"group": 0},
        {"group": "some"},
        {"null": float("inf")},
        {"lexical": 1.2},
        {"lexical_temperature": 0.0},
        {"normaliser": "half"},
        {"decoder": "best"},
        {"beams": 0},
        {"max_tokens": 0},
        {"weights": "heavy"},
        {"max_outside": 1.0},
        {"max_outside": float("nan")},
    ],
    ids=str,
)
def test_values_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        Settings(**wrong)
    (value,) = wrong.values()
    message = str(caught.value)
    assert "\n" not in message and repr(value) in message and message.startswith("expected ")


@pytest.mark.parametrize(
    "right", [{"k": 0}, {"k": "all"}, {"group": "all"}, {"switch": 1}, {"null": -3.0}], ids=str
)
def test_the_ends_of_the_ranges_are_allowed(right: dict[str, Any]) -> None:
    assert Settings(**right)

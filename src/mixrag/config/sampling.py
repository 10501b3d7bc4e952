"""Sampling settings, as one mapping: the retriever has a temperature and a k of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixrag.config.values import shown
from mixrag.errors import SettingError

NEUTRAL: Mapping[str, float] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
"""By name, the value that changes nothing."""
_RANGES = {"temperature": "a number in [0, 100]", "top_k": "a whole number >= 0", "top_p": "a number in (0, 1]"}


def sampling_settings(given: Any) -> dict[str, float]:
    """The checked settings that change something, in the order of ``NEUTRAL``.

    Raises:
        SettingError: no mapping, another name, or a value outside its range.
    """
    if not isinstance(given, Mapping):
        expected = "sampling to be a mapping of temperature, top_k or top_p to numbers"
        raise SettingError(expected, shown(given), 'give sampling={"temperature": 0.7}')
    found = {str(name).replace("-", "_"): value for name, value in given.items()}
    for name, value in found.items():
        if name not in NEUTRAL:
            raise SettingError(f"sampling of {', '.join(NEUTRAL)}", shown(name), "choose among these")
        if not _fits(name, value):
            raise SettingError(f"{name} in sampling to be {_RANGES[name]}", shown(value), "choose such a value")
    read = {name: _number(name, found[name]) for name in NEUTRAL if name in found}
    return {name: value for name, value in read.items() if value != NEUTRAL[name]}


def sampling_of_options(texts: Sequence[str]) -> dict[str, float]:
    """The same from texts NAME=VALUE, several of them in one separated by commas.

    Raises:
        SettingError: another form, or a name that is given twice.
    """
    found: dict[str, float] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, sign, value = (each.strip() for each in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not sign or name.replace("-", "_") in found or math.isnan(number):
            expected = "--sampling to be NAME=NUMBER, such as temperature=0.7, each name once"
            raise SettingError(expected, shown(part), "give --sampling so")
        found[name.replace("-", "_")] = number
    return sampling_settings(found)


def _fits(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    if name == "top_k":
        return value >= 0 and value == int(value)
    return 0.0 <= value <= 100.0 if name == "temperature" else 0.0 < value <= 1.0


def _number(name: str, value: float) -> float:
    return int(value) if name == "top_k" else float(value)

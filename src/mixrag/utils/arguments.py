"""Arguments of the public methods: what is of another type is refused in one line, before any work."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from mixrag.errors import SettingError


def path_given(value: Any, name: str) -> Path:
    """A path.

    Raises:
        SettingError: it is none.
    """
    if not isinstance(value, str | PathLike):
        raise _refusal(f"a path as {name}", value, "give a str or a Path")
    return Path(value)


def list_given(value: Any, name: str) -> list[Any]:
    """The items of any iterable but a text, whose letters are none.

    Raises:
        SettingError: it is none.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _refusal(f"a list of {name}", value, "put it into a list")
    return list(value)


def bytes_given(value: Any, name: str) -> int:
    """A number of bytes.

    Raises:
        SettingError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _refusal(f"a whole number of bytes as {name}", value, "give an int")
    return value


def _refusal(expected: str, found: Any, remedy: str) -> SettingError:
    return SettingError(expected, f"{type(found).__name__} {found!r}"[:60], remedy)

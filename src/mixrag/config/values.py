"""The types of settings: in words, and read from text."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

NO_VALUE = object()
"""What ``from_text`` returns for text that means no value of the type."""


@dataclass(frozen=True, slots=True)
class Words:
    """Metadata of a type that says in words what its values are; ``typed`` those of the command line."""

    text: str
    typed: str = ""


def shown(value: Any) -> str:
    """A value for a message: short, on one line."""
    if isinstance(value, tuple) and value and all(isinstance(each, str) for each in value):
        value = value[0] if len(value) == 1 else list(value)
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def described(kind: Any, none: str = "", *, typed: bool = False) -> str:
    """What a value of this type must be, in words.

    Args:
        kind: the type.
        none: how None is written; empty where it cannot be.
        typed: on the command line, where every value is text.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        words = [(typed and each.typed) or each.text for each in arguments[1:] if isinstance(each, Words)]
        return words[0] if words else described(arguments[0], none, typed=typed) + _range(arguments[1:])
    if origin in (Union, types.UnionType):
        parts = [described(each, typed=typed) for each in arguments if each is not type(None)]
        return " or ".join([*parts, *([none] if none and type(None) in arguments else [])])
    if origin is Literal:
        return one_of(arguments)
    if origin is tuple:
        return (
            f"{'values separated by commas' if typed else 'a tuple'}, each {described(arguments[0], typed=typed)}"
        )
    if origin is not None and issubclass(origin, Mapping):
        return (
            "KEY=VALUE, each key once"
            if typed
            else f"a mapping of text{' to text' if arguments[1] is str else ''}"
        )
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return simple.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def placeholder(kind: Any, none: str = "") -> str:
    """What ``--help`` shows for a value of this type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return placeholder(arguments[0], none)
    if origin in (Union, types.UnionType):
        parts = [placeholder(each) for each in arguments if each is not type(None)]
        return "|".join([*parts, *([none] if none else [])])
    if origin is Literal:
        return str(arguments[0]) if len(arguments) == 1 else "NAME"
    if origin is tuple:
        return "LIST"
    return {int: "INT", float: "FLOAT", Path: "PATH"}.get(kind, "TEXT" if kind is str else "NAME")


def from_text(kind: Any, text: str | tuple[str, ...], none: str = "") -> Any:
    """The value of this type that text means; ``NO_VALUE`` where it means none.

    Several texts, or one with commas, make a tuple; texts ``KEY=VALUE`` make a mapping.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if none and text == none:
        return None
    if origin is Annotated:
        return from_text(arguments[0], text)
    if origin in (Union, types.UnionType):
        read = (from_text(each, text) for each in arguments if each is not type(None))
        return next((each for each in read if each is not NO_VALUE), NO_VALUE)
    if origin is tuple:
        parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else text
        read_parts = tuple(from_text(arguments[0], part) for part in parts if part)
        return NO_VALUE if NO_VALUE in read_parts else read_parts
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        pairs = [part.partition("=") for part in ((text,) if isinstance(text, str) else text)]
        read_pairs = {key: value for key, sign, value in pairs if key and sign}
        return read_pairs if len(read_pairs) == len(pairs) else NO_VALUE
    return _simple(kind, text) if isinstance(text, str) else NO_VALUE


def _simple(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        return next((each for each in get_args(kind) if str(each) == text), NO_VALUE)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return NO_VALUE
    return Path(text) if kind is Path else text if kind in (str, Any, object) else NO_VALUE


def _range(bounds: tuple[Any, ...]) -> str:
    low = next((each for each in bounds if isinstance(each, (Ge, Gt))), None)
    high = next((each for each in bounds if isinstance(each, (Le, Lt))), None)
    if low is None or high is None:
        return ""
    left = f"[{_number(low.ge)}" if isinstance(low, Ge) else f"({_number(low.gt)}"
    right = f"{_number(high.le)}]" if isinstance(high, Le) else f"{_number(high.lt)})"
    return f" in {left}, {right}"


def _number(value: Any) -> str:
    if value in (10**9, -(10**9)):
        return f"{'-' if value < 0 else ''}10^9"
    return "2^63" if value == 2**63 else f"{value:g}"


def one_of(values: Sequence[Any]) -> str:
    """A choice in words."""
    names = [*map(repr, values)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def is_plain(value: Any) -> bool:
    """True for text, numbers and containers: what is given where an object with methods is expected by mistake."""
    return value is None or isinstance(value, (str, bytes, bool, int, float, list, tuple, dict, set))


def as_tuple(value: Any) -> Any:
    """A list as a tuple, which no one can change; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value

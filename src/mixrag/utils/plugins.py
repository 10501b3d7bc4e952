"""Checks an object that a caller plugs in: what a protocol asks for must be there before it is used."""

from __future__ import annotations

from typing import Any, TypeVar

from mixrag.errors import PluginError

T = TypeVar("T")


def check_plugin(given: Any, protocol: type[T], where: str) -> T:
    """The object itself, once every public member of the protocol is found on it.

    Args:
        given: the object.
        protocol: a ``typing.Protocol``; its public methods and properties are looked for, not their signatures.
        where: the argument that it was given as, for the message.

    Raises:
        PluginError: a class instead of an object, or a member that is missing.
    """
    remedy = f"see the how-to on {protocol.__name__} in the documentation"
    if isinstance(given, type):
        raise PluginError(
            f"an object with the methods of {protocol.__name__} as {where}",
            f"the class {given.__name__}",
            "create an instance of it",
        )
    missing = sorted(name for name in _members(protocol) if not hasattr(given, name))
    if missing:
        article = "an" if protocol.__name__[0] in "AEIOU" else "a"
        expected = f"{article} {protocol.__name__} as {where}, with {', '.join(sorted(_members(protocol)))}"
        raise PluginError(expected, f"{type(given).__name__} without {', '.join(missing)}", remedy)
    return given  # type: ignore[no-any-return]


def _members(protocol: type) -> set[str]:
    own = {name for base in protocol.__mro__ if getattr(base, "_is_protocol", False) for name in vars(base)}
    annotated = {name for base in protocol.__mro__ for name in getattr(base, "__annotations__", {})}
    return {name for name in own | annotated if not name.startswith("_")}

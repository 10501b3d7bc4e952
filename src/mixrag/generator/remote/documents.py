"""Reading what a server returned: nothing is taken on trust but numbers of the right kind at the right place."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from mixrag.errors import ServerError
from mixrag.probability import Listed, listed

T = TypeVar("T")
IMPOSSIBLE = -9999.0
"""What servers write for the logarithm of zero, which JSON has not."""


def unexpected(what: str, found: str = "something else") -> ServerError:
    """The error for an answer that has not what was asked for."""
    return ServerError(f"{what} in the server's answer", found, "name the kind of the server, or use another one")


def part(document: Any, kind: type[T], *path: str | int) -> T:
    """What is at a place of a document.

    Raises:
        ServerError: nothing, or something of another kind.
    """
    place = document
    for step in path:
        inside = isinstance(place, dict) if isinstance(step, str) else isinstance(place, list)
        if not inside or (step not in place if isinstance(step, str) else not -len(place) <= step < len(place)):
            raise unexpected(".".join(map(str, path)), "none")
        place = place[step]
    if not isinstance(place, kind) or (kind is int and isinstance(place, bool)):
        raise unexpected(".".join(map(str, path)) or kind.__name__, type(place).__name__)
    return place


def log_prob(value: Any) -> float:
    """A log-probability.

    Raises:
        ServerError: it is none.
    """
    # Not "value > 1e-3", which NaN passes; numbers beyond a float are compared as well.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value <= 1e-3:
        raise unexpected("a log-probability", repr(value)[:40])
    return -math.inf if value <= IMPOSSIBLE else min(0.0, float(value))


def distribution(log_probs: dict[int, float], given: int | None) -> Listed:
    """What is known of a distribution whose most probable tokens and the one that was written or given are listed.

    Args:
        log_probs: of the tokens that are listed.
        given: the one that was written or given, whatever its rank; None: the list has the most probable alone.

    Raises:
        ServerError: the numbers are none of one distribution.
    """
    if not log_probs or (given is not None and given not in log_probs):
        what = "next tokens" if given is None else f"token {given}"
        raise unexpected(f"the log-probability of {what}", "none")
    total = math.fsum(map(math.exp, log_probs.values()))
    if total > 1.01:
        raise unexpected("probabilities that add up to one at most", f"{total:.4g}")
    return listed(log_probs, given)

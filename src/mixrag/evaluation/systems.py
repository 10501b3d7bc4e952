"""The systems that are compared: points of one mixture, on the same language model and passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixrag.errors import SettingError


@dataclass(frozen=True, slots=True)
class System:
    """Changes to the settings that make another system."""

    shown: str
    """What it is, in words."""
    changes: Mapping[str, Any] = field(default_factory=dict)


_EVERY_TOKEN = {"group": 1, "switch": 1.0, "switch_at": "token"}

SYSTEMS: Mapping[str, System] = {
    "closed-book": System("the language model alone, no passage", {"k": 0, "group": 1, "null": None}),
    "best-passage": System("the first passage alone", {"k": 1, "group": 1, "null": None}),
    "concat": System("all k passages in one prompt", {"group": "all", "null": None}),
    "uniform": System("k passages of equal weight at every token", {**_EVERY_TOKEN, "weights": "uniform"}),
    "token": System("weights of the retriever at every token (RAG-Token)", _EVERY_TOKEN),
    "sequence": System("weights by Bayes' rule as the answer grows (RAG-Sequence)", {"group": 1, "switch": 0.0}),
}
"""By the name that ``--systems`` takes. ``mixture`` comes in addition: the settings as they are."""
OWN = "mixture"
DEFAULT = ("closed-book", "concat", "uniform", "token", "sequence")


def named_systems(names: Sequence[str]) -> dict[str, System]:
    """The systems of these names, in order.

    Raises:
        SettingError: none, one twice, or a name that does not exist.
    """
    known = {**SYSTEMS, OWN: System("the settings as they are")}
    if not names:
        raise SettingError(f"systems among {', '.join(known)}", "none", "name one")
    for name in names:
        if name not in known:
            raise SettingError(f"systems among {', '.join(known)}", name, "rename or remove it")
    if len(set(names)) < len(names):
        raise SettingError("each system once", ", ".join(names), "remove the repetition")
    return {name: known[name] for name in names}


@dataclass(frozen=True, slots=True)
class Gain:
    """A step from one system to the next, which changes one factor."""

    worse: str
    better: str
    factor: str
    """What the step adds."""


GAINS = (
    Gain("closed-book", "uniform", "the passages, all of equal weight"),
    Gain("uniform", "token", "the retriever's weights"),
    Gain("token", "sequence", "weights that follow the answer (posterior)"),
)
"""From the language model alone to the mixture: information, then weights, then Bayes' rule."""

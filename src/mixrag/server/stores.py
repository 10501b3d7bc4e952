"""The stores that are served, by the names that clients give as ``model``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mixrag.rag import RAG
from mixrag.server.errors import UnknownModelError


@dataclass(frozen=True)
class Served:
    """A store, its models, and named changes to its settings."""

    name: str
    rag: RAG
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What a model id names: a store, and the settings of a preset."""

    id: str
    store: Served
    changes: Mapping[str, Any]

    @property
    def rag(self) -> RAG:
        """The store's pipeline."""
        return self.store.rag


class Stores:
    """Stores by name; a model id is ``STORE`` or ``STORE:PRESET``."""

    def __init__(self, served: list[Served]) -> None:
        self._served = {each.name: each for each in served}

    def __iter__(self) -> Iterator[Served]:
        """The stores, in the order in which they were given."""
        return iter(self._served.values())

    def ids(self) -> list[str]:
        """All model ids."""
        found = []
        for each in self:
            found += [each.name, *(f"{each.name}:{preset}" for preset in each.presets)]
        return found

    def choice(self, model: str | None = None) -> Choice:
        """The store and preset of a model id; None: the first store.

        Raises:
            UnknownModelError: there is none of this name.
        """
        if model is None:
            first = next(iter(self))
            return Choice(first.name, first, {})
        name, separator, preset = model.partition(":")
        found = self._served.get(name)
        if found is None or (separator and preset not in found.presets):
            raise UnknownModelError(
                f"one of the models {', '.join(self.ids())}", repr(model[:80]), "see /v1/models"
            )
        return Choice(model, found, found.presets[preset] if preset else {})

    def close(self) -> None:
        """Close all stores."""
        for each in self:
            each.rag.close()

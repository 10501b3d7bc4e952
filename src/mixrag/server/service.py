"""What the endpoints share: stores, questions under way, and the settings that a request may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from mixrag.config.schema import settings_of
from mixrag.config.settings import Settings
from mixrag.retrieval.shards.exchange import Share
from mixrag.server.errors import RequestError
from mixrag.server.questions import Questions
from mixrag.server.stores import Stores
from mixrag.server.writers import Writers


@dataclass(frozen=True)
class Service:
    """One process: ``app.state.service``."""

    stores: Stores
    questions: Questions = field(default_factory=Questions)
    writers: Writers = field(default_factory=Writers)
    share: Share = "documents"
    """"likelihoods": no text of a document leaves this server."""
    failed: set[str] = field(default_factory=set)
    """Names of the stores whose models could not be loaded at the start."""

    def close(self) -> None:
        """Wait for the questions and the changes under way, close the stores."""
        self.questions.close()
        self.writers.close()
        self.stores.close()


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


WithService = Annotated[Service, Depends(_service)]
"""Type of an endpoint's parameter that takes the service."""


def client_of(request: Request) -> str:
    """Who asks, for fairness between clients: the name of the key, else the address."""
    named = request.scope.get("state", {}).get("client")
    return str(named) if named else (request.client.host if request.client else "")


def checked_changes(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Changes to ``Settings`` that a request may make; their values are checked where they are used.

    Raises:
        RequestError: a setting that does not exist.
    """
    found = dict(settings or {})
    known = settings_of(Settings)
    for name in found:
        if name not in known:
            raise RequestError(
                f"settings among {', '.join(known)}", repr(name[:80]), "leave it out", f"settings.{name[:80]}"
            )
    return found

"""How a server splits a text, where it says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixrag.errors import ServerError
from mixrag.generator.remote.client import Client, reason_of
from mixrag.generator.remote.documents import part


def server_tokens(client: Client, url: str, asked: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The ids that a request for them is answered with; None where the server has no such request.

    Raises:
        ServerError: it cannot be reached, is busy, or lets nobody in.
    """
    try:
        tokens = part(client.one(url, asked), list, "tokens")
        return tuple(part(tokens, int, place) for place in range(len(tokens)))
    except ServerError as error:
        reason_of(error)
        return None

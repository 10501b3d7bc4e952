"""``/v1/models``: the stores and their presets, as models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from mixrag.server.service import Service, WithService
from mixrag.server.stores import Choice

router = APIRouter(prefix="/v1/models", tags=["OpenAI"])
CREATED = 1767225600
"""Seconds since 1970 that every model states, since a store has no such time of its own: 2026-01-01."""


EXAMPLE = {"id": "store:preset", "object": "model", "created": CREATED, "owned_by": "mixrag"}


def _example(found: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "Stores as models.", "content": {"application/json": {"example": found}}}}


@router.get("", responses=_example({"object": "list", "data": [EXAMPLE]}))
def list_models(service: WithService) -> dict[str, Any]:
    """All stores, and each with each of its presets."""
    return {"object": "list", "data": [_model(service, each) for each in service.stores.ids()]}


@router.get("/{model:path}", responses=_example(EXAMPLE))
def retrieve_model(model: str, service: WithService) -> dict[str, Any]:
    """One store, or one store with a preset."""
    return _model(service, model)


def _model(service: Service, model: str) -> dict[str, Any]:
    choice: Choice = service.stores.choice(model)
    return {"id": choice.id, "object": "model", "created": CREATED, "owned_by": "mixrag"}

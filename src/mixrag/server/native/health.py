"""``/health``: whether the process answers, and whether a question would have to wait for models."""

from __future__ import annotations

import logging
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response

from mixrag.errors import MixragError
from mixrag.rag import RAG
from mixrag.server.native import examples
from mixrag.server.service import Service, WithService

router = APIRouter(prefix="/health", tags=["Operation"])
_LOG = logging.getLogger("mixrag.server")


@router.get("", responses=examples.HEALTH)
async def health() -> dict[str, Any]:
    """The process lives and takes requests."""
    return {"status": "ok", "version": version("mixrag")}


@router.get("/ready", responses=examples.READY)
async def ready(service: WithService, response: Response) -> dict[str, Any]:
    """Which stores have their models in memory; status 503 until all have."""
    stores = {each.name: "ready" if each.rag.is_loaded else "loading" for each in service.stores}
    whole = all(state == "ready" for state in stores.values())
    response.status_code = 200 if whole else 503
    return {"status": "ready" if whole else "loading", "stores": stores}


async def load_models(service: Service) -> None:
    """Load the models of all stores, so that the first question does not wait for them; errors are logged."""
    for each in service.stores:
        try:
            await service.questions.run(partial(_load, each.rag))
        except Exception as error:
            known = isinstance(error, MixragError)
            _LOG.warning("the models of %s are not loaded: %s", each.name, error, exc_info=not known)


def _load(rag: RAG) -> None:
    _ = rag.generator, rag.encoder

"""``/health``: whether the process answers, and whether a question would have to wait for models."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response

from mixrag.errors import MixragError
from mixrag.server.native import examples
from mixrag.server.service import Service, WithService
from mixrag.server.stores import Served

router = APIRouter(prefix="/health", tags=["Operation"])
_LOADING_SECONDS = 7 * 86_400.0
"""No limit in practice: an index of many passages may be built first."""
_LOG = logging.getLogger("mixrag.server")


@router.get("", responses=examples.HEALTH)
async def health() -> dict[str, Any]:
    """The process lives and takes requests."""
    return {"status": "ok", "version": version("mixrag")}


@router.get("/ready", responses=examples.READY)
async def ready(service: WithService, response: Response) -> dict[str, Any]:
    """Which stores have their models in memory and their index open; status 503 until all have.

    A store whose models could not be loaded, or whose index could not be opened, is "failed"; a question to it
    says why. Of a store in shards `shards` has each of them, with the passages that it last said it has, and,
    where it did not answer the last time, why.
    """
    stores = {each.name: _state(service, each) for each in service.stores}
    states = set(stores.values())
    response.status_code = 200 if states == {"ready"} else 503
    whole = next(state for state in ("loading", "failed", "ready") if state in states)
    shards = {each.name: found for each in service.stores if (found := each.rag.shards_known())}
    return {"status": whole, "stores": stores, **({"shards": shards} if shards else {})}


def _state(service: Service, served: Served) -> str:
    if served.rag.is_ready:
        return "ready"
    return "failed" if served.name in service.failed else "loading"


async def load_models(service: Service) -> None:
    """Load the models and open the indexes of all stores, so that no question waits for it; errors are logged."""
    for each in service.stores:
        try:
            await service.questions.run(each.rag.make_ready, seconds=_LOADING_SECONDS)
        except Exception as error:
            service.failed.add(each.name)
            known = isinstance(error, MixragError)
            _LOG.warning("the models or the index of %s are not loaded: %s", each.name, error, exc_info=not known)

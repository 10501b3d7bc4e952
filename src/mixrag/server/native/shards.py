"""``/v1/shard/…``: a store as one part of a larger one, asked by another mixrag.

With ``--share likelihoods`` nothing of a document's text, title, path or metadata is in any reply.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from mixrag.retrieval.shards.exchange import (
    Likelihoods,
    LikelihoodsRequest,
    SearchRequest,
    ShardReply,
    Statistics,
    StatisticsRequest,
)
from mixrag.retrieval.shards.local import LocalShard
from mixrag.server.disconnect import unless_gone
from mixrag.server.native import examples
from mixrag.server.service import Service, WithService, client_of

router = APIRouter(prefix="/v1/shard", tags=["Shards"])
Model = Annotated[str | None, Field(max_length=300, description="Name of the store; without it the first one.")]


class StatisticsOf(StatisticsRequest):
    """How often are these words?"""

    model: Model = None


class SearchOf(SearchRequest):
    """Which passages are best?"""

    model: Model = None


class LikelihoodsOf(LikelihoodsRequest):
    """How probable are these answers after these passages?"""

    model: Model = None


@router.post(
    "/statistics", openapi_extra=examples.body(examples.STATISTICS_REQUESTS), responses=examples.STATISTICS
)
async def shard_statistics(request: Request, body: StatisticsOf, service: WithService) -> Statistics:
    """How often words are in the passages of a store, and what the store is.

    The sums over all shards are the frequencies of one store with all of their passages.
    """
    shard = _shard(service, body.model)
    work = service.questions.run(lambda: shard.statistics(body), client_of(request))
    return await unless_gone(request, work)


@router.post("/search", openapi_extra=examples.body(examples.SEARCH_REQUESTS), responses=examples.SEARCHES)
async def shard_search(request: Request, body: SearchOf, service: WithService) -> ShardReply:
    """The best passages of a store for the vector of a question, and the sum over all of its passages."""
    shard = _shard(service, body.model)
    return await unless_gone(request, service.questions.run(lambda: shard.search(body), client_of(request)))


@router.post(
    "/likelihoods", openapi_extra=examples.body(examples.LIKELIHOODS_REQUESTS), responses=examples.LIKELIHOODS
)
async def shard_likelihoods(request: Request, body: LikelihoodsOf, service: WithService) -> Likelihoods:
    """How probable the language model finds given answers after passages of a store, token by token."""
    shard = _shard(service, body.model)
    return await unless_gone(request, service.questions.run(lambda: shard.likelihoods(body), client_of(request)))


def _shard(service: Service, model: str | None) -> LocalShard:
    choice = service.stores.choice(model)
    return choice.rag.shard(choice.store.name, service.share, choice.rag.likelihoods)

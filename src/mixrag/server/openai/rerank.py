"""``/v1/rerank``: given documents in the order of p(z | x), as the requests of Jina and Cohere ask for it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from mixrag.probability import passage_scores
from mixrag.server.conversation import LONGEST_QUESTION
from mixrag.server.disconnect import unless_gone
from mixrag.server.openai import examples
from mixrag.server.openai.encoding import passage_vectors, question_vectors, tokens_in
from mixrag.server.openai.requests import refuse_unless
from mixrag.server.service import WithService, checked_changes, client_of

router = APIRouter(prefix="/v1/rerank", tags=["Rerank"])
MOST_DOCUMENTS = 1000
LongText = Annotated[str, Field(max_length=100_000)]


class GivenDocument(BaseModel):
    """A document as an object."""

    model_config = ConfigDict(extra="ignore", strict=True)
    text: LongText
    title: Annotated[str, Field(max_length=10_000)] = ""


class RerankRequest(BaseModel):
    """A question, and documents that are not of the store."""

    model_config = ConfigDict(extra="ignore", strict=True)
    model: Annotated[str, Field(max_length=1000)] | None = None
    query: Annotated[str, Field(min_length=1, max_length=LONGEST_QUESTION)]
    documents: Annotated[list[LongText | GivenDocument], Field(min_length=1, max_length=MOST_DOCUMENTS)]
    top_n: Annotated[int, Field(ge=1, le=10**9)] | None = None
    return_documents: bool | None = None
    settings: dict[str, Any] | None = None

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Title and text of each document."""
        return [("", each) if isinstance(each, str) else (each.title, each.text) for each in self.documents]


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.RERANK_REQUESTS), responses=examples.RERANKED
)
async def rerank(request: Request, body: RerankRequest, service: WithService) -> dict[str, Any]:
    """Documents with their ``relevance_score``: p(z | x) over the documents given, whose total is one."""
    choice = service.stores.choice(body.model)
    refuse_unless(bool(body.query.strip()), "a query", "an empty one", "ask something", "query")
    changes = {**choice.changes, **checked_changes(body.settings)}
    texts = body.texts

    def score() -> tuple[list[float], int]:
        rag = choice.rag
        settings = replace(rag.settings, **changes)
        question = torch.as_tensor(question_vectors(rag, [body.query])[0]).double()
        products = torch.as_tensor(passage_vectors(rag, texts)).double() @ question
        scores = passage_scores(products, settings.temperature or rag.encoder.temperature)
        return scores.softmax(0).tolist(), tokens_in(rag, [body.query, *(text for _, text in texts)])

    found, tokens = await unless_gone(request, service.questions.run(score, client_of(request)))
    order = sorted(range(len(found)), key=lambda place: -found[place])[: body.top_n]
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": found[place]} for place in order]
    if body.return_documents:
        for each in results:
            each["document"] = {"text": texts[each["index"]][1]}
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "list",
        "model": choice.id,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }

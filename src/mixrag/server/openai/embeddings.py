"""``/v1/embeddings``: vectors of the store's encoder, which has two sides."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mixrag.server.disconnect import unless_gone
from mixrag.server.errors import RequestError
from mixrag.server.openai import examples
from mixrag.server.openai.encoding import passage_vectors, question_vectors, tokens_in
from mixrag.server.openai.requests import refuse_unless
from mixrag.server.service import WithService, client_of
from mixrag.utils.arrays import Vectors

router = APIRouter(prefix="/v1/embeddings", tags=["OpenAI"])
LongText = Annotated[str, Field(min_length=1, max_length=100_000)]
MOST_TEXTS = 2048
QUESTIONS = ("query", "question", "search_query")
InputType = Literal["query", "question", "search_query", "passage", "document", "search_document"]


class EmbeddingRequest(BaseModel):
    """Texts to be encoded."""

    model_config = ConfigDict(extra="ignore", strict=True)
    model: Annotated[str, Field(max_length=1000)] | None = None
    input: LongText | Annotated[list[LongText | int | list[int]], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=10**6)] | None = None
    input_type: InputType = "passage"
    """Which side of the encoder: questions, or passages (as Cohere and NVIDIA name it)."""
    title: Annotated[str, Field(max_length=10_000)] = ""
    """Of passages: read before them, as the store's passages are."""

    @property
    def texts(self) -> list[str]:
        """The texts.

        Raises:
            RequestError: token ids, or a blank text.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [each for each in given if isinstance(each, str) and each.strip()]
        refuse_unless(len(texts) == len(given), "texts", "token ids or an empty text", "send text itself", "input")
        return texts


@router.post(
    "",
    response_model=None,
    openapi_extra=examples.body(examples.EMBEDDING_REQUESTS),
    responses=examples.EMBEDDINGS,
)
async def embeddings(request: Request, body: EmbeddingRequest, service: WithService) -> JSONResponse:
    """The vectors d(z) of passages, or q(x) of questions: their inner product is the score of a passage."""
    choice = service.stores.choice(body.model)
    texts = body.texts

    titled = [(body.title, text) for text in texts]

    def encode() -> tuple[Vectors, int]:
        rag = choice.rag
        questions = body.input_type in QUESTIONS
        vectors = question_vectors(rag, texts) if questions else passage_vectors(rag, titled)
        return vectors, tokens_in(rag, texts)

    vectors, tokens = await unless_gone(request, service.questions.run(encode, client_of(request)))
    own = vectors.shape[1]
    if body.dimensions not in (None, own):
        remedy = "leave it out: a vector that is cut has other inner products"
        raise RequestError(f"dimensions {own}", f"{body.dimensions}", remedy, "dimensions")
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}

    def document() -> JSONResponse:  # a million numbers take a second
        data = [
            {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
            for index, vector in enumerate(np.asarray(vectors, dtype="<f4"))
        ]
        return JSONResponse({"object": "list", "data": data, "model": choice.id, "usage": usage})

    return await asyncio.to_thread(document)


def _written(vector: Vectors, form: str) -> str | list[float]:
    return base64.b64encode(vector.tobytes()).decode() if form == "base64" else vector.tolist()

"""``/v1/passages``: what a question retrieves, before any language model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mixrag.answers.answer import retrieval_to_dict
from mixrag.server.disconnect import unless_gone
from mixrag.server.native import examples
from mixrag.server.native.requests import QuestionRequest
from mixrag.server.service import WithService, client_of
from mixrag.utils.text import finite

router = APIRouter(prefix="/v1/passages", tags=["mixrag"])


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.QUESTION_REQUESTS), responses=examples.PASSAGES
)
async def find_passages(request: Request, body: QuestionRequest, service: WithService) -> Response:
    """The passages for a question and their prior p(passage | question), as `mixrag passages --json` has them."""
    choice = service.stores.choice(body.model)
    rag, changes = choice.rag, body.changes(choice)

    def found() -> dict[str, Any]:
        retrieval = rag.passages(body.question, **changes)
        return retrieval_to_dict(body.question, retrieval, replace(rag.settings, **changes))

    document = await unless_gone(request, service.questions.run(found, client_of(request)))
    return JSONResponse(finite(document))

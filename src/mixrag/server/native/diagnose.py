"""``/v1/diagnose``: at which stage a right answer was lost."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from mixrag.evaluation.diagnosis import diagnose
from mixrag.server.disconnect import unless_gone
from mixrag.server.native import examples
from mixrag.server.native.requests import QuestionRequest, Text
from mixrag.server.remote import check_probabilities
from mixrag.server.service import WithService, client_of
from mixrag.utils.text import finite

router = APIRouter(prefix="/v1/diagnose", tags=["mixrag"])


class DiagnosisRequest(QuestionRequest):
    """A question, and what its answer should have been."""

    expected: Annotated[list[Text], Field(min_length=1, max_length=20, description="Any of them is right.")]
    document: Annotated[
        str | None, Field(max_length=5000, description="Where it should be: a path, or its end.")
    ] = None


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.DIAGNOSIS_REQUESTS), responses=examples.DIAGNOSES
)
async def diagnose_answer(request: Request, body: DiagnosisRequest, service: WithService) -> Response:
    """Why an answer is wrong: not indexed, not retrieved, weighted too low, not used, or not decoded.

    The document is that of `mixrag diagnose --json`.
    """
    choice = service.stores.choice(body.model)
    rag, changes = choice.rag, body.changes(choice)
    await check_probabilities(rag, service.questions, "a diagnosis")

    def found() -> dict[str, Any]:
        return diagnose(rag, body.question, body.expected, document=body.document, **changes).as_dict()

    return JSONResponse(finite(await unless_gone(request, service.questions.run(found, client_of(request)))))

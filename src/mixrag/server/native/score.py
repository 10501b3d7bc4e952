"""``/v1/score``: the probability of a given answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from mixrag.server.disconnect import unless_gone
from mixrag.server.native import examples
from mixrag.server.native.citations import citations_of
from mixrag.server.native.requests import QUESTION_LENGTH, QuestionRequest
from mixrag.server.remote import check_probabilities
from mixrag.server.service import WithService, client_of

router = APIRouter(prefix="/v1/score", tags=["mixrag"])


class ScoreRequest(QuestionRequest):
    """A question, and the answer whose probability is wanted."""

    answer: Annotated[str, Field(max_length=QUESTION_LENGTH, description="The empty text is the empty answer.")]


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.SCORE_REQUESTS), responses=examples.SCORES
)
async def score_answer(request: Request, body: ScoreRequest, service: WithService) -> Response:
    """The probability of a given answer, and the passages that support it: the document of `mixrag score --json`,
    with `citations` besides.
    """
    choice = service.stores.choice(body.model)
    rag, changes = choice.rag, body.changes(choice)
    await check_probabilities(rag, service.questions, "the probability of a given answer")

    def found() -> dict[str, Any]:
        answer = rag.score(body.question, body.answer, **changes)
        return {**answer.to_dict(), "citations": citations_of(answer)}

    return JSONResponse(await unless_gone(request, service.questions.run(found, client_of(request))))

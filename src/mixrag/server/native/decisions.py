"""``/v1/decisions``: which of given labels, with the probability of each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from mixrag.server.disconnect import unless_gone
from mixrag.server.native import examples
from mixrag.server.native.requests import QuestionRequest
from mixrag.server.remote import check_probabilities
from mixrag.server.service import WithService, client_of

router = APIRouter(prefix="/v1/decisions", tags=["mixrag"])
Label = Annotated[str, Field(min_length=1, max_length=500)]


class DecisionRequest(QuestionRequest):
    """A question, and all that its answer may be."""

    labels: Annotated[
        list[Label],
        Field(
            min_length=2,
            max_length=100,
            description="yes and no for a predicate; words for a choice; numbers for a score and its expectation.",
        ),
    ] = ["yes", "no"]  # noqa: RUF012 - pydantic copies it


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.DECISION_REQUESTS), responses=examples.DECISIONS
)
async def decide(request: Request, body: DecisionRequest, service: WithService) -> Response:
    """Decide between labels: the exact mixture over them, each scored as a full answer, in one reading.

    The document is that of `mixrag decide --json`: `probability` of a label is that among the labels, and `mass`
    is how probable the labels are together.
    """
    choice = service.stores.choice(body.model)
    rag, changes = choice.rag, body.changes(choice)
    await check_probabilities(rag, service.questions, "a decision")
    work = service.questions.run(lambda: rag.decide(body.question, body.labels, **changes), client_of(request))
    return JSONResponse((await unless_gone(request, work)).to_dict())

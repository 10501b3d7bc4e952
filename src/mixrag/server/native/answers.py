"""``/v1/answers``: the whole mixture of an answer, at once or as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sse_starlette import ServerSentEvent

from mixrag.answers.answer import retrieval_to_dict
from mixrag.answers.stream import Stream, StreamedToken
from mixrag.rag import RAG
from mixrag.server.conversation import EARLIER, Question, Turn, question_of
from mixrag.server.disconnect import unless_gone
from mixrag.server.native import examples
from mixrag.server.native.citations import citations_of
from mixrag.server.native.requests import QuestionRequest, Text
from mixrag.server.questions import Asked, Questions
from mixrag.server.remote import check_probabilities, server_of
from mixrag.server.service import WithService, client_of
from mixrag.server.sse import Events, error_event, event

router = APIRouter(prefix="/v1/answers", tags=["mixrag"])


class AnswerRequest(QuestionRequest):
    """A question, and how its answer is wanted."""

    stream: Annotated[bool, Field(description="As server-sent events: passages, token, answer, error.")] = False
    explain: Annotated[bool, Field(description="With `why`: prompts, scores, what each passage says alone.")] = (
        False
    )
    earlier: list[Text] = Field(
        default_factory=list,
        max_length=EARLIER,
        description="Questions before it, oldest first: a follow-up is made to stand alone.",
    )
    without: list[Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=list,
        max_length=1000,
        description="Ids of passages: the answer had they not been found.",
    )

    @property
    def asked(self) -> Question:
        """The question as it is asked of the documents."""
        if not self.earlier:
            return Question(self.question, self.question)
        return question_of([Turn("user", each) for each in (*self.earlier, self.question)], param="question")


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.ANSWER_REQUESTS), responses=examples.ANSWERS
)
async def answer_question(request: Request, body: AnswerRequest, service: WithService) -> Response:
    """Answer a question: the answer with its probability, tokens, passages and citations.

    The document is that of `mixrag ask --json`, with `citations` besides. With `stream` it is the last of several
    events; `token` events come as the answer is written, or at its end where it may be withheld or is decided as a
    whole, and not at all where it is withheld. A client that goes away ends the work. `question` is the one that
    was asked of the documents, `written` the one that was sent.
    """
    choice = service.stores.choice(body.model)
    changes, questions = body.changes(choice), service.questions
    server = await server_of(choice.rag, questions)
    if server is not None and not server.returns_probabilities:
        for name in ("explain", "without"):
            if getattr(body, name):
                await check_probabilities(choice.rag, questions, name)
        return await _written(request, body, choice.rag, questions, changes)
    if body.without:
        changes["without"] = frozenset(body.without)
    asked = questions.ask(choice.rag, body.asked.text, changes, client_of(request))
    if not body.stream:
        return JSONResponse(await unless_gone(request, _document(asked, body)))
    try:
        stream = await unless_gone(request, asked.stream())  # errors of the request come before the stream begins
    except BaseException:
        asked.close()
        raise
    return Events(_events(asked, stream, body), asked.close)


async def _document(asked: Asked, body: AnswerRequest) -> dict[str, Any]:
    """The answer, as JSON; closes it."""
    async with asked:
        return await _complete(asked, body)


async def _complete(asked: Asked, body: AnswerRequest) -> dict[str, Any]:
    found = await asked.made(lambda answer: {**answer.to_dict(), "citations": citations_of(answer)})
    found["written"] = body.question
    if body.explain:
        explanation = await asked.explain()
        found["why"] = await asyncio.to_thread(explanation.to_dict)
    return found


async def _events(asked: Asked, stream: Stream, body: AnswerRequest) -> AsyncIterator[ServerSentEvent]:
    """The passages, each token, and the whole answer."""
    waiting = list[StreamedToken]()
    try:
        yield event(retrieval_to_dict(body.asked.text, stream.retrieval, stream.settings), "passages")
        async for token in asked:
            if stream.may_abstain:
                waiting.append(token)
            else:
                yield _token(token)
        answer = await asked.answer()
        for token in () if answer.abstains else waiting:
            yield _token(token)
        yield event(await _complete(asked, body), "answer")
    except Exception as error:
        yield error_event(error)


def _token(token: StreamedToken) -> ServerSentEvent:
    found = {"text": token.text, "log_prob": token.log_prob, "posterior": list(token.posterior)}
    return event(found, "token")


async def _written(
    request: Request, body: AnswerRequest, rag: RAG, questions: Questions, changes: dict[str, Any]
) -> Response:
    """What a server without exact probabilities writes: the other documents of ``mixrag ask --json``."""
    asked = body.asked.text
    work = questions.run(lambda: rag.write(asked, **changes), client_of(request))
    found = {**(await unless_gone(request, work)).to_dict(), "written": body.question}
    if not body.stream:
        return JSONResponse(found)
    return Events(_only(found), lambda: None)


async def _only(found: dict[str, Any]) -> AsyncIterator[ServerSentEvent]:
    yield event(found, "answer")

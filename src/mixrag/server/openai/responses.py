"""``/v1/responses``: a search of the documents, and a message with what it cites (Open Responses)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sse_starlette import ServerSentEvent

from mixrag.server.conversation import Question, question_of
from mixrag.server.openai import examples
from mixrag.server.openai.asking import UnderWay, begin
from mixrag.server.openai.client_tasks import client_task
from mixrag.server.openai.replies import Reply, json_response, token_log_prob
from mixrag.server.openai.requests import changes_of
from mixrag.server.openai.response_objects import LOG_PROBS, Job
from mixrag.server.openai.responses_request import ResponsesRequest
from mixrag.server.service import WithService
from mixrag.server.sse import DONE, Events, event, logged_error

router = APIRouter(prefix="/v1/responses", tags=["OpenAI"])


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.RESPONSES_REQUESTS), responses=examples.RESPONSES
)
async def create_response(request: Request, body: ResponsesRequest, service: WithService) -> Response:
    """Answer a question, or the last one of a conversation, as one response or as a stream of events."""
    choice = service.stores.choice(body.model)
    body.refuse_what_is_not_done()
    searching = body.searching(choice.store.name)
    turns = body.turns()
    task = client_task(turns)
    if task is not None:
        job = Job(request, body, choice, Question("", ""))
        done = job.task(task)
        return Events(_stream_task(job, done), lambda: None) if body.stream else json_response(done)
    question = question_of(turns, body.mixrag.question, "input")
    job = Job(request, body, choice, question)
    changes = {**searching, **changes_of(body, choice, body.max_output_tokens)}
    way = await begin(request, service, choice, question, changes, best_guess=body.mixrag.best_guess)
    if body.stream:
        return Events(_stream(job, way), way.close)
    try:
        return json_response(job.finished(await way.whole_reply(request)))
    finally:
        way.close()


class Numbered:
    """Events with their ``sequence_number``."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, name: str, **fields: Any) -> ServerSentEvent:
        """The next event."""
        number, self._next = self._next, self._next + 1
        return event({"type": name, "sequence_number": number, **fields}, name)


async def _stream(job: Job, way: UnderWay) -> AsyncIterator[ServerSentEvent]:
    """The events in OpenAI's order; text as it is decided, or at its end where the answer may be withheld."""
    send = Numbered()
    yield send("response.created", response=job.response("in_progress", []))
    yield send("response.in_progress", response=job.response("in_progress", []))
    try:
        place = {"output_index": 0, "item_id": job.search_id}
        yield send("response.output_item.added", output_index=0, item=job.search(None))
        yield send("response.file_search_call.in_progress", **place)
        yield send("response.file_search_call.searching", **place)
        reply = None if way.live else await way.reply()
        yield send("response.file_search_call.completed", **place)
        if reply is not None:  # the scores are posteriors, so that they are known with the answer
            yield _search_ends(job, send, reply)
        for each in _message_begins(job, send):
            yield each
        async for text, log_prob in way.tokens():
            yield _text_delta(job, send, text, log_prob)
        for piece, known in () if reply is None else reply.pieces:
            yield _text_delta(job, send, piece, known)
        if reply is None:
            reply = await way.reply()
            yield _search_ends(job, send, reply)
        done = job.finished(reply)
        for each in _message_ends(job, send, done):
            yield each
        yield send(f"response.{done['status']}", response=done)
    except Exception as error:
        found = logged_error(error)["error"]
        failed = {"code": found["code"] or found["type"], "message": found["message"]}
        yield send("response.failed", response=job.response("failed", [], error=failed))
    yield DONE


def _search_ends(job: Job, send: Numbered, reply: Reply) -> ServerSentEvent:
    return send("response.output_item.done", output_index=0, item=job.search(reply.passages))


def _message_begins(job: Job, send: Numbered) -> list[ServerSentEvent]:
    return [
        send("response.output_item.added", output_index=1, item=job.message(None, "in_progress")),
        send(
            "response.content_part.added",
            **_place(job),
            part=job.part(None),
        ),
    ]


def _message_ends(job: Job, send: Numbered, done: dict[str, Any]) -> list[ServerSentEvent]:
    message = done["output"][-1]
    part = message["content"][0]
    found = [
        send("response.output_text.annotation.added", **_place(job), annotation_index=number, annotation=each)
        for number, each in enumerate(part["annotations"])
    ]
    found.append(send("response.output_text.done", **_place(job), text=part["text"], logprobs=part["logprobs"]))
    found.append(send("response.content_part.done", **_place(job), part=part))
    found.append(send("response.output_item.done", output_index=len(done["output"]) - 1, item=message))
    return found


def _text_delta(job: Job, send: Numbered, text: str, log_prob: float | None) -> ServerSentEvent:
    shown = job.includes(LOG_PROBS) and log_prob is not None
    log_probs = [token_log_prob(text, log_prob)] if shown and log_prob is not None else []
    return send("response.output_text.delta", **_place(job), delta=text, logprobs=log_probs)


def _place(job: Job) -> dict[str, Any]:
    return {"item_id": job.message_id, "output_index": 1, "content_index": 0}


async def _stream_task(job: Job, done: dict[str, Any]) -> AsyncIterator[ServerSentEvent]:
    send = Numbered()
    place = {"item_id": job.message_id, "output_index": 0, "content_index": 0}
    part = done["output"][0]["content"][0]
    yield send("response.created", response=job.response("in_progress", []))
    yield send("response.in_progress", response=job.response("in_progress", []))
    yield send("response.output_item.added", output_index=0, item=job.message(None, "in_progress"))
    yield send("response.content_part.added", **place, part=job.part(None))
    yield send("response.output_text.delta", **place, delta=part["text"], logprobs=[])
    yield send("response.output_text.done", **place, text=part["text"], logprobs=[])
    yield send("response.content_part.done", **place, part=part)
    yield send("response.output_item.done", output_index=0, item=done["output"][0])
    yield send("response.completed", response=done)
    yield DONE

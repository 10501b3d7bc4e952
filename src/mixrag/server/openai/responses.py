"""``/v1/responses``: a search of the documents, and a message with what it cites (Open Responses)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sse_starlette import ServerSentEvent

from mixrag.answers.stream import Stream
from mixrag.server.conversation import Question, question_of
from mixrag.server.openai import examples
from mixrag.server.openai.client_tasks import client_task
from mixrag.server.openai.replies import json_response, token_log_prob
from mixrag.server.openai.requests import changes_of
from mixrag.server.openai.response_objects import LOG_PROBS, Job
from mixrag.server.openai.responses_request import ResponsesRequest
from mixrag.server.questions import Asked
from mixrag.server.service import WithService, client_of
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
    asked = service.questions.ask(choice.rag, question.text, changes, client_of(request))
    if not body.stream:
        async with asked:
            reply = job.reply(await asked.answer())
        return json_response(job.finished(reply))
    try:
        stream = await asked.stream()  # errors of the request are found before the stream begins
    except BaseException:
        asked.close()
        raise
    return Events(_stream(job, asked, stream), asked.close)


class Numbered:
    """Events with their ``sequence_number``."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, name: str, **fields: Any) -> ServerSentEvent:
        """The next event."""
        number, self._next = self._next, self._next + 1
        return event({"type": name, "sequence_number": number, **fields}, name)


async def _stream(job: Job, asked: Asked, stream: Stream) -> AsyncIterator[ServerSentEvent]:
    """The events in OpenAI's order; text as it is decided, or at its end where the answer may be withheld."""
    send = Numbered()
    yield send("response.created", response=job.response("in_progress", []))
    yield send("response.in_progress", response=job.response("in_progress", []))
    try:
        place = {"output_index": 0, "item_id": job.search_id}
        yield send("response.output_item.added", output_index=0, item=job.search(None))
        yield send("response.file_search_call.in_progress", **place)
        yield send("response.file_search_call.searching", **place)
        live = stream.decoder.streams and not stream.may_abstain
        reply = None if live else job.reply(await asked.answer())
        yield send("response.file_search_call.completed", **place)
        if reply is not None:  # the scores are posteriors, so that they are known with the answer
            yield send("response.output_item.done", output_index=0, item=job.search(reply.answer.passages))
        for each in _message_begins(job, send):
            yield each
        if live:
            async for token in asked:
                yield _text_delta(job, send, token.text, token.log_prob)
            reply = job.reply(await asked.answer())
            yield send("response.output_item.done", output_index=0, item=job.search(reply.answer.passages))
        else:
            assert reply is not None
            log_probs = [token.log_prob for token in reply.answer.tokens] if reply.is_its_tokens else [None]
            for piece, log_prob in zip(reply.pieces, log_probs, strict=True):
                yield _text_delta(job, send, piece, log_prob)
        done = job.finished(reply)
        for each in _message_ends(job, send, done):
            yield each
        yield send(f"response.{done['status']}", response=done)
    except Exception as error:
        found = logged_error(error)["error"]
        failed = {"code": found["code"] or found["type"], "message": found["message"]}
        yield send("response.failed", response=job.response("failed", [], error=failed))
    yield DONE


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

"""``/v1/chat/completions``: the last message of the user is the question."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import ServerSentEvent

from mixrag.server.conversation import Question, question_of
from mixrag.server.openai import examples
from mixrag.server.openai.asking import UnderWay, begin
from mixrag.server.openai.client_tasks import ClientTask, client_task
from mixrag.server.openai.replies import (
    Reply,
    Weighed,
    extension_of,
    json_response,
    token_log_prob,
    url_citations,
    usage_object,
)
from mixrag.server.openai.requests import (
    MOST_MESSAGES,
    Message,
    OpenAIRequest,
    StreamOptions,
    Tokens,
    changes_of,
    refuse_tools,
    refuse_unless,
    turns_of,
)
from mixrag.server.service import WithService
from mixrag.server.sse import DONE, Events, error_event, event
from mixrag.server.stores import Choice

router = APIRouter(prefix="/v1/chat/completions", tags=["OpenAI"])
OPEN_WEBUI = "x-openwebui-"
"""Requests with a header that begins so get the sources as Open WebUI's events."""


class ChatRequest(OpenAIRequest):
    """A conversation."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    response_format: dict[str, Any] | None = None
    modalities: Annotated[list[str], Field(max_length=10)] | None = None
    functions: Annotated[list[dict[str, Any]], Field(max_length=MOST_MESSAGES)] | None = None

    @property
    def longest(self) -> int | None:
        """The client's limit of tokens."""
        return self.max_completion_tokens or self.max_tokens

    def refuse_what_is_not_done(self) -> None:
        """As the base, and tools, formats and sound as well."""
        super().refuse_what_is_not_done()
        refuse_tools(self.tools)
        refuse_tools(self.functions)
        form = (self.response_format or {}).get("type", "text")
        remedy = "leave it out: answers are plain text"
        refuse_unless(form == "text", "the format text", repr(form)[:80], remedy, "response_format")
        others = [each for each in self.modalities or () if each != "text"]
        refuse_unless(not others, "text alone", ", ".join(others)[:80], remedy, "modalities")


@dataclass(frozen=True)
class Chat:
    """One request under way."""

    request: Request
    body: ChatRequest
    choice: Choice
    question: Question
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def store(self) -> str:
        """Name of the store."""
        return self.choice.store.name

    def extension(self, reply: Reply) -> dict[str, Any]:
        """The object ``mixrag``."""
        return extension_of(self.request, self.store, self.question, reply)

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """An event of the stream; ``usage`` is null in all but its own, where it is asked for."""
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created}
        usage = {"usage": None} if self.wants_usage else {}
        return {**head, "model": self.choice.id, "choices": choices, **usage, **more}

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        options = self.body.stream_options
        return options is not None and bool(options.include_usage)

    @property
    def wants_sources(self) -> bool:
        """Whether sources are streamed as events of Open WebUI."""
        return self.body.mixrag.sources or any(name.startswith(OPEN_WEBUI) for name in self.request.headers)


@router.post(
    "", response_model=None, openapi_extra=examples.body(examples.CHAT_REQUESTS), responses=examples.CHATS
)
async def chat_completions(request: Request, body: ChatRequest, service: WithService) -> Response:
    """Answer the last question of a conversation, as one response or as a stream of server-sent events."""
    choice = service.stores.choice(body.model)
    body.refuse_what_is_not_done()
    turns = turns_of(body.messages)
    task = client_task(turns)
    if task is not None:
        return _task(request, body, choice, task)
    question = question_of(turns, body.mixrag.question)
    chat = Chat(request, body, choice, question)
    changes, best_guess = changes_of(body, choice, body.longest), body.mixrag.best_guess
    way = await begin(request, service, choice, question, changes, best_guess=best_guess)
    if body.stream:
        return Events(_stream(chat, way), way.close)
    try:
        return json_response(_completion(chat, await way.whole_reply(request)))
    finally:
        way.close()


def _completion(chat: Chat, reply: Reply) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": reply.text,
        "refusal": None,
        "annotations": url_citations(chat.request, chat.store, reply),
    }
    shown = bool(chat.body.logprobs) and reply.tokens is not None
    return {
        "id": chat.id,
        "object": "chat.completion",
        "created": chat.created,
        "model": chat.choice.id,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": {"content": reply.token_log_probs, "refusal": None} if shown else None,
                "finish_reason": "stop" if reply.finished else "length",
            }
        ],
        "usage": reply.usage,
        "mixrag": chat.extension(reply),
    }


async def _stream(chat: Chat, way: UnderWay) -> AsyncIterator[ServerSentEvent]:
    """Tokens as they are decided; where an answer may be withheld, or is decided as a whole, at its end."""
    try:
        yield event(chat.chunk([_delta({"role": "assistant", "content": ""})]))
        async for text, log_prob in way.tokens():
            yield _text_chunk(chat, text, log_prob)
        reply = await way.reply()
        for piece, known in () if way.live else reply.pieces:
            yield _text_chunk(chat, piece, known)
        for each in _ending(chat, reply):
            yield each
    except Exception as error:
        yield error_event(error)


def _text_chunk(chat: Chat, text: str, log_prob: float | None) -> ServerSentEvent:
    choice = _delta({"content": text})
    if chat.body.logprobs and log_prob is not None:
        choice["logprobs"] = {"content": [token_log_prob(text, log_prob)], "refusal": None}
    return event(chat.chunk([choice]))


def _ending(chat: Chat, reply: Reply) -> list[ServerSentEvent]:
    """Sources, how it ended, our own object, and the usage."""
    found = []
    if chat.wants_sources:
        found += [event(chat.chunk([], event=_source(chat, each))) for each in reply.sources]
    elif reply.cited:
        found.append(event(chat.chunk([_delta({"annotations": url_citations(chat.request, chat.store, reply)})])))
    last = {**_delta({}), "finish_reason": "stop" if reply.finished else "length"}
    found.append(event(chat.chunk([last], mixrag=chat.extension(reply))))
    if chat.wants_usage:
        found.append(event({**chat.chunk([]), "usage": reply.usage}))
    return [*found, DONE]


def _delta(content: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": content, "logprobs": None, "finish_reason": None}


def _source(chat: Chat, source: Weighed) -> dict[str, Any]:
    """A passage as Open WebUI shows it; the share that it shows as relevance is the posterior."""
    url, passage = source.link(chat.request, chat.store), source.passage
    metadata = {"source": url, "name": source.title, "page": passage.page, "prior": source.prior}
    data = {
        "source": {"id": passage.id, "name": source.title, "url": url},
        "document": [passage.text],
        "metadata": [metadata],
        "distances": [source.score],
    }
    return {"type": "source", "data": data}


def _task(request: Request, body: ChatRequest, choice: Choice, task: ClientTask) -> Response:
    """What a chat page asks for itself: no passage is read."""
    chat = Chat(request, body, choice, Question("", ""))
    extension = {"task": task.name, "passages": []}
    if body.stream:
        return Events(_stream_task(chat, task, extension), lambda: None)
    message: dict[str, Any] = {"role": "assistant", "content": task.text, "refusal": None, "annotations": []}
    return json_response(
        {
            "id": chat.id,
            "object": "chat.completion",
            "created": chat.created,
            "model": choice.id,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage_object(0, 0),
            "mixrag": extension,
        }
    )


async def _stream_task(chat: Chat, task: ClientTask, extension: dict[str, Any]) -> AsyncIterator[ServerSentEvent]:
    yield event(chat.chunk([_delta({"role": "assistant", "content": task.text})]))
    yield event(chat.chunk([{**_delta({}), "finish_reason": "stop"}], mixrag=extension))
    if chat.wants_usage:
        yield event({**chat.chunk([]), "usage": usage_object(0, 0)})
    yield DONE

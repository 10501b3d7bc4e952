"""``/v1/completions``: the prompt is a question; with ``echo`` a question and its answer, which is scored."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import ServerSentEvent

from mixrag.answers.answer import Answer
from mixrag.answers.stream import Stream
from mixrag.server.conversation import Question, Turn, question_of
from mixrag.server.errors import RequestError
from mixrag.server.openai import examples
from mixrag.server.openai.replies import Reply, extension_of, json_response, reply_of, usage_object, usage_of
from mixrag.server.openai.requests import OpenAIRequest, StreamOptions, Text, changes_of, refuse_unless
from mixrag.server.questions import Asked
from mixrag.server.service import Service, WithService, client_of
from mixrag.server.sse import DONE, Events, error_event, event
from mixrag.server.stores import Choice

router = APIRouter(prefix="/v1/completions", tags=["OpenAI"])
LONGEST_ANSWER = 10_000
"""Characters of an answer that is scored."""
_ANSWER = re.compile(r"^Answer:[ \t]*", re.MULTILINE)
_QUESTION = re.compile(r"\s*Question:[ \t]*")
TokenIds = Annotated[list[int], Field(max_length=100_000)]


class CompletionRequest(OpenAIRequest):
    """A question, or several; with ``echo`` each with its answer."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | TokenIds
        | Annotated[list[TokenIds], Field(max_length=64)]
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=10**9)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    suffix: Text | None = None
    stream_options: StreamOptions | None = None

    def refuse_what_is_not_done(self) -> None:
        """As the base, and what goes with ``echo`` in no exact way as well."""
        super().refuse_what_is_not_done()
        refuse_unless(self.best_of in (None, 1), "best_of 1", f"{self.best_of}", "leave it out", "best_of")
        refuse_unless(not self.suffix, "no suffix", "one", "leave it out", "suffix")
        remedy = "leave it out to get an answer"
        refuse_unless(bool(self.echo) or self.max_tokens != 0, "max_tokens from 1", "0", remedy, "max_tokens")
        if self.echo:
            expected, found = "max_tokens 0 with echo", f"{self.max_tokens}"
            remedy = "echo scores the answer that the prompt ends with, and writes none"
            refuse_unless(not self.max_tokens, expected, found, remedy, "max_tokens")
            refuse_unless(not self.stream, "no stream with echo", "one", "leave it out", "stream")

    @property
    def prompts(self) -> list[str]:
        """The prompts as texts.

        Raises:
            RequestError: token ids, whose tokenizer no request names.
        """
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        texts = [each for each in given if isinstance(each, str)]
        refuse_unless(
            len(texts) == len(given) > 0, "prompts as text", "token ids", "send the text itself", "prompt"
        )
        return texts


@dataclass(frozen=True)
class Scored:
    """What a prompt with ``echo`` asks for."""

    question: str
    answer: str
    before: str
    """The prompt before the answer, to the letter."""


def split_prompt(prompt: str) -> Scored:
    r"""The question and the answer of a prompt.

    The answer is what follows the last line break, or the last ``Answer:`` at the beginning of a line; the labels
    ``Question:`` and ``Answer:`` are part of neither.

    >>> split_prompt("Question: Who issues it?\nAnswer: the county").answer
    'the county'
    >>> split_prompt("Who issues it?\nthe county").question
    'Who issues it?'

    Raises:
        RequestError: no line break, no question, or several.
    """
    labels = list(_ANSWER.finditer(prompt))
    at = labels[-1] if labels else None
    end = at.start() if at else prompt.rfind("\n")
    begins = at.end() if at else end + 1
    question = _QUESTION.sub("", prompt[: max(0, end)], count=1).strip()
    answer = prompt[begins:]
    lead = len(answer) - len(answer.lstrip())
    one = len(labels) <= 1 and bool(question)
    remedy = "score one answer to one question; the documents are what is read with it"
    refuse_unless(
        one, "a question, a line break, and its answer", "several" if labels[1:] else "no such", remedy, "prompt"
    )
    if len(answer) > LONGEST_ANSWER:
        expected = f"an answer of at most {LONGEST_ANSWER} characters"
        raise RequestError(expected, f"{len(answer)}", "score a shorter one", "prompt")
    return Scored(question, answer.strip(), prompt[: begins + lead])


@router.post(
    "",
    response_model=None,
    openapi_extra=examples.body(examples.COMPLETION_REQUESTS),
    responses=examples.COMPLETIONS,
)
async def completions(request: Request, body: CompletionRequest, service: WithService) -> Response:
    """Answer questions; with ``echo`` give the probability of each token of given answers."""
    choice = service.stores.choice(body.model)
    body.refuse_what_is_not_done()
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time())}
    head["model"] = choice.id
    changes = changes_of(body, choice, body.max_tokens or None)
    if body.stream:
        return await _streamed(request, body, service, choice, changes, head)
    choices, read, written = [], 0, 0
    for index, prompt in enumerate(body.prompts):
        make = _scored if body.echo else _answered
        answer, made = await make(request, body, service, choice, changes, prompt)
        tokens = usage_of(answer)
        read, written = read + tokens[0], written + tokens[1]
        choices.append({"index": index, **made})
    return json_response({**head, "choices": choices, "usage": usage_object(read, written)})


async def _scored(
    request: Request,
    body: CompletionRequest,
    service: Service,
    choice: Choice,
    changes: dict[str, Any],
    prompt: str,
) -> tuple[Answer, dict[str, Any]]:
    asked = split_prompt(prompt)
    question = question_of([Turn("user", asked.question)], param="prompt")
    rag = choice.rag
    answer = await service.questions.run(
        lambda: rag.score(question.text, asked.answer, **changes), client_of(request)
    )
    pieces = [asked.before, *(token.text for token in answer.tokens)]
    reply = Reply(answer, answer.best_guess, ())
    made = {
        "text": "".join(pieces),
        "logprobs": _log_probs(pieces, [None, *(token.log_prob for token in answer.tokens)], body),
        "finish_reason": "stop",
        "mixrag": extension_of(request, choice.store.name, question, reply, best_guess=True),
    }
    return answer, made


async def _answered(
    request: Request,
    body: CompletionRequest,
    service: Service,
    choice: Choice,
    changes: dict[str, Any],
    prompt: str,
) -> tuple[Answer, dict[str, Any]]:
    question = question_of([Turn("user", prompt)], body.mixrag.question, "prompt")
    async with service.questions.ask(choice.rag, question.text, changes, client_of(request)) as asked:
        answer = await asked.answer()
    reply = reply_of(answer, best_guess=body.mixrag.best_guess)
    return answer, {"text": reply.text, **_end_of(request, body, choice, question, reply)}


def _end_of(
    request: Request, body: CompletionRequest, choice: Choice, question: Question, reply: Reply
) -> dict[str, Any]:
    answer = reply.answer
    best_guess = body.mixrag.best_guess or not answer.abstains
    log_probs = [token.log_prob for token in answer.tokens]
    return {
        "logprobs": _log_probs(reply.pieces, [*log_probs], body) if reply.is_its_tokens else None,
        "finish_reason": "stop" if answer.finished or answer.abstains else "length",
        "mixrag": extension_of(request, choice.store.name, question, reply, best_guess=best_guess),
    }


def _log_probs(pieces: list[str], log_probs: list[float | None], body: CompletionRequest) -> dict[str, Any] | None:
    """Tokens with log p(token | question, tokens before) and where each begins; the question has none."""
    if body.logprobs is None:
        return None
    offsets = [0, *accumulate(map(len, pieces))][:-1]
    return {"tokens": pieces, "token_logprobs": log_probs, "top_logprobs": None, "text_offset": offsets}


async def _streamed(
    request: Request,
    body: CompletionRequest,
    service: Service,
    choice: Choice,
    changes: dict[str, Any],
    head: dict[str, Any],
) -> Response:
    prompts = body.prompts
    refuse_unless(len(prompts) == 1, "one prompt in a stream", f"{len(prompts)}", "send one", "prompt")
    question = question_of([Turn("user", prompts[0])], body.mixrag.question, "prompt")
    asked = service.questions.ask(choice.rag, question.text, changes, client_of(request))
    try:
        stream = await asked.stream()  # errors of the request are found before the stream begins
    except BaseException:
        asked.close()
        raise

    async def events() -> AsyncIterator[ServerSentEvent]:
        try:
            async for each in _events(request, body, choice, question, asked, stream):
                yield event({**head, **each})
            yield DONE
        except Exception as error:
            yield error_event(error)

    return Events(events(), asked.close)


async def _events(
    request: Request, body: CompletionRequest, choice: Choice, question: Question, asked: Asked, stream: Stream
) -> AsyncIterator[dict[str, Any]]:
    live = stream.decoder.streams and not stream.may_abstain
    if live:
        async for token in asked:
            yield _chunk(token.text)
    reply = reply_of(await asked.answer(), best_guess=body.mixrag.best_guess)
    if not live:
        for piece in reply.pieces:
            yield _chunk(piece)
    yield {"choices": [{"index": 0, "text": "", **_end_of(request, body, choice, question, reply)}]}
    if body.stream_options is not None and body.stream_options.include_usage:
        yield {"choices": [], "usage": usage_object(*usage_of(reply.answer))}


def _chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": None}]}

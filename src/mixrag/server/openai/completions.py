"""``/v1/completions``: the prompt is a question; with ``echo`` a question and its answer, which is scored."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import ServerSentEvent

from mixrag.server.conversation import Question, Turn, question_of
from mixrag.server.disconnect import unless_gone
from mixrag.server.errors import RequestError
from mixrag.server.openai import examples
from mixrag.server.openai.answered import reply_of
from mixrag.server.openai.asking import UnderWay, begin
from mixrag.server.openai.replies import Reply, extension_of, json_response, usage_object
from mixrag.server.openai.requests import OpenAIRequest, StreamOptions, Text, changes_of, refuse_unless
from mixrag.server.remote import check_probabilities
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
    job = Job(request, body, service, choice, changes, head)
    if body.stream:
        return await _streamed(job)
    replies = [await (_scored if body.echo else _answered)(job, prompt) for prompt in body.prompts]
    return json_response(
        {
            **head,
            "choices": [{"index": index, **made} for index, (_, made) in enumerate(replies)],
            "usage": usage_object(sum(r.read for r, _ in replies), sum(r.written for r, _ in replies)),
        }
    )


@dataclass(frozen=True)
class Job:
    """One request under way."""

    request: Request
    body: CompletionRequest
    service: Service
    choice: Choice
    changes: dict[str, Any]
    head: dict[str, Any]

    async def begin(self, prompt: str) -> tuple[Question, UnderWay]:
        """Begin to answer a question."""
        options = self.body.mixrag
        question = question_of([Turn("user", prompt)], options.question, "prompt")
        way = await begin(
            self.request, self.service, self.choice, question, self.changes, best_guess=options.best_guess
        )
        return question, way

    def end(self, question: Question, reply: Reply) -> dict[str, Any]:
        """What a choice has besides its text."""
        return {
            "logprobs": None if reply.tokens is None else self.log_probs(reply.pieces),
            "finish_reason": "stop" if reply.finished else "length",
            "mixrag": extension_of(self.request, self.choice.store.name, question, reply),
        }

    def log_probs(self, pieces: Sequence[tuple[str, float | None]]) -> dict[str, Any] | None:
        """Tokens with log p(token | question, tokens before) and where each begins; a question has none."""
        if self.body.logprobs is None:
            return None
        return {
            "tokens": [text for text, _ in pieces],
            "token_logprobs": [log_prob for _, log_prob in pieces],
            "top_logprobs": None,
            "text_offset": [0, *accumulate(len(text) for text, _ in pieces)][:-1],
        }


async def _scored(job: Job, prompt: str) -> tuple[Reply, dict[str, Any]]:
    asked = split_prompt(prompt)
    question = question_of([Turn("user", asked.question)], param="prompt")
    rag, questions = job.choice.rag, job.service.questions
    await check_probabilities(rag, questions, "the probability of a given answer")

    def score() -> tuple[Reply, list[tuple[str, float | None]]]:
        answer = rag.score(question.text, asked.answer, **job.changes)
        tokens = ((token.text, token.log_prob) for token in answer.tokens)
        return reply_of(answer), [(asked.before, None), *tokens]

    reply, pieces = await unless_gone(job.request, questions.run(score, client_of(job.request)))
    made = {**job.end(question, reply), "logprobs": job.log_probs(pieces), "finish_reason": "stop"}
    return reply, {"text": "".join(text for text, _ in pieces), **made}


async def _answered(job: Job, prompt: str) -> tuple[Reply, dict[str, Any]]:
    question, way = await job.begin(prompt)
    try:
        reply = await way.whole_reply(job.request)
    finally:
        way.close()
    return reply, {"text": reply.text, **job.end(question, reply)}


async def _streamed(job: Job) -> Response:
    prompts = job.body.prompts
    refuse_unless(len(prompts) == 1, "one prompt in a stream", f"{len(prompts)}", "send one", "prompt")
    question, way = await job.begin(prompts[0])
    return Events(_stream(job, question, way), way.close)


async def _stream(job: Job, question: Question, way: UnderWay) -> AsyncIterator[ServerSentEvent]:
    try:
        async for text, _ in way.tokens():
            yield _chunk(job, text)
        reply = await way.reply()
        for text, _ in () if way.live else reply.pieces:
            yield _chunk(job, text)
        yield event({**job.head, "choices": [{"index": 0, "text": "", **job.end(question, reply)}]})
        options = job.body.stream_options
        if options is not None and options.include_usage:
            yield event({**job.head, "choices": [], "usage": reply.usage})
        yield DONE
    except Exception as error:
        yield error_event(error)


def _chunk(job: Job, text: str) -> ServerSentEvent:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
    return event({**job.head, "choices": [choice]})

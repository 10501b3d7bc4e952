"""An answer as a chat shows it: text, the passages that it cites, tokens, and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from mixrag.answers.fields import AnswerPassage
from mixrag.corpus import Passage
from mixrag.server.conversation import Question
from mixrag.server.document_links import document_link, document_title
from mixrag.utils.text import finite

LEAST_SHARE, MOST_CITED = 0.1, 3
"""A part of an answer cites the passages that wrote at least this share of it, and at most so many."""


@dataclass(frozen=True)
class Weighed:
    """A passage with its weights."""

    passage: AnswerPassage | Passage
    prior: float
    """p(z | x), as retrieved."""
    posterior: float | None
    """Of the answer; None where a server gives no probabilities."""

    @property
    def score(self) -> float:
        """In [0, 1]: the posterior, else the prior."""
        return min(1.0, self.prior if self.posterior is None else self.posterior)

    @property
    def title(self) -> str:
        """What a citation calls it."""
        return document_title(self.passage.title, self.passage.document, self.passage.place)

    def link(self, request: Request, store: str) -> str:
        """The address that opens its document at its page, or where it begins."""
        return document_link(request, store, self.passage.document, self.passage.page, self.passage.start)


@dataclass(frozen=True)
class Cited:
    """A stretch of the text shown, and a passage that it comes from."""

    start: int
    """Offset of its first character in the text."""
    end: int
    """Offset after its last character."""
    source: Weighed


@dataclass(frozen=True)
class Reply:
    """An answer as a chat shows it."""

    text: str
    cited: tuple[Cited, ...]
    """In the order of the text; of one stretch, the passage that probably wrote most of it first."""
    passages: tuple[Weighed, ...]
    """All that were read, in order of rank."""
    tokens: tuple[tuple[str, float], ...] | None
    """Text and log-probability of the tokens that join to the text; None where they do not, or are not known."""
    read: int
    """Tokens that the language model read in all prompts, one for each component of the mixture."""
    written: int
    """Tokens of the answer."""
    finished: bool
    """False where it was cut off."""
    numbers: dict[str, Any]
    """What the response says of the answer, besides question and passages."""

    @property
    def pieces(self) -> list[tuple[str, float | None]]:
        """The text in the pieces in which it is streamed, each with its log-probability where that is known."""
        return [(self.text, None)] if self.tokens is None else [*self.tokens]

    @property
    def sources(self) -> list[Weighed]:
        """The passages cited, each once."""
        return list({each.source.passage.id: each.source for each in self.cited}.values())

    @property
    def token_log_probs(self) -> list[dict[str, Any]]:
        """``logprobs.content``: log p(token | question, tokens before) under the mixture, no alternatives."""
        return [token_log_prob(text, log_prob) for text, log_prob in self.tokens or ()]

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written, as chat and completions have them."""
        return usage_object(self.read, self.written)


def best_writers(sources: tuple[Weighed, ...], shares: tuple[float, ...], null: float = 0.0) -> list[Weighed]:
    """The passages that wrote most of a stretch; none where no passage at all is the most probable writer."""
    if not shares or null > max(shares):
        return []
    ranked = sorted(zip(shares, sources, strict=True), key=lambda each: -each[0])
    chosen = [source for share, source in ranked[:MOST_CITED] if share >= LEAST_SHARE]
    return chosen or [ranked[0][1]]


def json_response(document: dict[str, Any]) -> JSONResponse:
    """A response; the logarithm of zero is null, since JSON has no infinity."""
    return JSONResponse(finite(document))


def url_citations(request: Request, store: str, reply: Reply) -> list[dict[str, Any]]:
    """The ``url_citation`` annotations of a chat message."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": each.start,
                "end_index": each.end,
                "url": each.source.link(request, store),
                "title": each.source.title,
            },
        }
        for each in reply.cited
    ]


def token_log_prob(text: str, log_prob: float) -> dict[str, Any]:
    """One entry of ``logprobs.content``."""
    return {"token": text, "bytes": list(text.encode()), "logprob": log_prob, "top_logprobs": []}


def usage_object(prompt: int, completion: int) -> dict[str, int]:
    """Tokens read and written, as chat and completions have them."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def extension_of(request: Request, store: str, question: Question, reply: Reply) -> dict[str, Any]:
    """The object ``mixrag`` of a response: what was asked, how sure the answer is, and the passages."""
    document = {
        "question": question.text,
        "written": question.written,
        "rewritten": question.rewritten,
        **reply.numbers,
        "passages": [
            {
                "id": each.passage.id,
                "title": each.title,
                "document": each.passage.document,
                "page": each.passage.page,
                "place": each.passage.place,
                "start": each.passage.start,
                "end": each.passage.end,
                "prior": each.prior,
                "posterior": each.posterior,
                "url": each.link(request, store),
            }
            for each in reply.passages
        ],
    }
    found: dict[str, Any] = finite(document)
    return found

"""Ollama's own interface, ``/api/chat``: text, and the most probable next tokens by their text.

It scores no given text and forces no token, but it continues an assistant's message, so that the next tokens
after any answer begun can be had. It says nothing of the token that ends an answer where that one is drawn; so
tokens are drawn almost evenly (``HOT``), which changes nothing about the log-probabilities that it returns, and
asked again where the one that was drawn ends the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mixrag.errors import ServerError
from mixrag.generator.protocol import Written
from mixrag.generator.remote.client import Client, Request, reason_of
from mixrag.generator.remote.documents import distribution, log_prob, part, unexpected
from mixrag.generator.remote.pieces import Pieces
from mixrag.generator.thoughts import MARKERS
from mixrag.probability import Listed

COLD: dict[str, Any] = {"temperature": 0}
HOT: dict[str, Any] = {"temperature": 100.0, "top_k": 20, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
ATTEMPTS = 12
"""Drawings until a token comes that does not end the answer: one in twenty does."""
SAMPLE = "Which colours does a rainbow have? Answer with three words."
LONGEST_SAMPLE = 48
MOST_DIFFERENCE = 0.5
"""Of one log-probability, asked for in two ways; the order of additions differs, the model does not."""


class NotContinued(ServerError):
    """An answer begun that cannot be sent: it ends inside of a character."""


@dataclass(frozen=True, slots=True)
class Ollama:
    """See ``Engine``; a row is the number of a user's message and those of the pieces of an answer begun."""

    client: Client
    root: str
    model: str
    pieces: Pieces = field(default_factory=Pieces)
    stops: frozenset[int] = frozenset()

    def write(self, rows: Sequence[tuple[int, ...]], max_tokens: int, count: int) -> list[Written]:
        """The most probable next tokens of each row; ``max_tokens`` is one.

        Raises:
            ServerError: as ``Engine.write``.
            NotContinued: an answer begun ends inside of a character.
        """
        lists: dict[int, Listed] = {}
        for seed in range(1, ATTEMPTS + 1):
            left = [at for at in range(len(rows)) if at not in lists]
            options = {**HOT, "seed": seed, "num_predict": 1}
            asked = [self.request(self._messages(rows[at]), options, count) for at in left]
            for at, document in zip(left, self.client.all(asked), strict=True):
                if entries := document_entries(document):
                    lists[at] = self.listed(entries[0])
            if len(lists) == len(rows):
                return [_first(lists[at]) for at in range(len(rows))]
        raise unexpected("the log-probabilities of next tokens", "none")

    def thought_markers(self) -> list[str]:
        """Tokens of the model that open or close a thought; all that are known where it does not say which it has.

        Raises:
            ServerError: the server cannot be reached, is busy, or lets nobody in.
        """
        markers = [marker for pair in MARKERS for marker in pair]
        try:
            shown = self.client.one(f"{self.root}/api/show", {"model": self.model, "verbose": True})
            named = part(shown, list, "model_info", "tokenizer.ggml.tokens")
        except ServerError as error:
            reason_of(error)
            return markers
        vocabulary = {each for each in named if isinstance(each, str)}
        return [marker for marker in markers if marker in vocabulary] if vocabulary else markers

    def request(self, messages: list[dict[str, str]], options: dict[str, Any], count: int | None) -> Request:
        """A request for a message; without a count no log-probabilities are asked for."""
        return chat_request(self.root, self.model, messages, options, count)

    def listed(self, entry: Any) -> Listed:
        """What one entry of ``logprobs`` says; pieces of equal text are one."""
        top = part(entry, list, "top_logprobs")
        found: dict[int, float] = {}
        for each in top:
            number, value = self.pieces.number(_bytes(each)), log_prob(part(each, object, "logprob"))
            before = found.get(number, -math.inf)
            found[number] = (
                value if before == -math.inf else min(0.0, math.log(math.exp(before) + math.exp(value)))
            )
        least = min((log_prob(part(each, object, "logprob")) for each in top), default=0.0)
        whole = distribution(found, None)
        return Listed(found, min(whole.log_rest, least))

    def _messages(self, row: tuple[int, ...]) -> list[dict[str, str]]:
        messages = [{"role": "user", "content": self.pieces.joined(row[:1]).decode()}]
        try:
            begun = self.pieces.joined(row[1:]).decode()
        except UnicodeDecodeError:
            raise NotContinued(
                "an answer begun that is a text", "one that ends inside of a character", ""
            ) from None
        return [*messages, {"role": "assistant", "content": begun}] if begun else messages


@dataclass(frozen=True, slots=True)
class ProbedLists:
    """What the probe found: the engine with the pieces that end an answer, or why lists are not used."""

    engine: Ollama
    top: int
    reason: str = ""


def probe_lists(engine: Ollama, count: int = 20) -> ProbedLists:
    """Let the server answer, and compare what it lists on the way with what it lists for an answer begun.

    Raises:
        ServerError: the server cannot be reached, or refuses for another reason than the request.
    """
    user = [{"role": "user", "content": SAMPLE}]
    document = engine.client.all([engine.request(user, {**COLD, "num_predict": LONGEST_SAMPLE}, count)])[0]
    entries = document_entries(document)
    if not entries:
        return ProbedLists(engine, 0, "no log-probabilities; Ollama returns them from 0.12.11 on")
    if len(entries) < 2 or document.get("done_reason") != "stop":
        return ProbedLists(engine, 0, "it did not end a short answer, so that the token that ends it is not known")
    written = [engine.listed(entry) for entry in entries]
    row = (engine.pieces.number(SAMPLE.encode()), *(engine.pieces.number(_bytes(entry)) for entry in entries))
    top = min(len(each.log_probs) for each in written)
    try:
        again = [each.known[0] for each in engine.write([row[:1], row[:2], row], 1, count)]
    except NotContinued:
        return ProbedLists(engine, 0, "it wrote a part of a character")
    if not all(_alike(one, other) for one, other in zip(written[:2], again[:2], strict=True)):
        return ProbedLists(engine, 0, "an answer begun is not continued as the server itself continues it")
    end = max(again[-1].log_probs, key=again[-1].log_probs.__getitem__)
    if not engine.pieces.joined([end]):
        return ProbedLists(engine, 0, "the token that ends an answer has no name")
    ends = engine.client.all([engine.request(engine._messages(row), {**COLD, "num_predict": 1}, count)])[0]
    if document_entries(ends):
        return ProbedLists(engine, 0, "an answer that had ended is continued")
    return ProbedLists(replace(engine, stops=frozenset({end})), min(top, *(len(each.log_probs) for each in again)))


def chat_request(
    root: str, model: str, messages: list[dict[str, str]], options: dict[str, Any], count: int | None = None
) -> Request:
    """A request that is not streamed; a prompt that is too long is refused, not cut silently."""
    document: dict[str, Any] = {"model": model, "messages": messages, "stream": False, "truncate": False}
    # Thoughts are no part of the answer.
    document |= {"think": False, "options": options}
    if count is not None:
        document |= {"logprobs": True, "top_logprobs": count}
    return Request(f"{root}/api/chat", document)


def document_entries(document: Any) -> list[Any]:
    """The log-probabilities of an answer; none where the server returned none."""
    return part(document, list, "logprobs") if isinstance(document, dict) and document.get("logprobs") else []


def _first(found: Listed) -> Written:
    token = max(found.log_probs, key=found.log_probs.__getitem__)
    return Written((token,), (found,))


def _alike(one: Listed, other: Listed) -> bool:
    token = max(one.log_probs, key=one.log_probs.__getitem__)
    return abs(one.log_probs[token] - other.log_probs.get(token, -math.inf)) <= MOST_DIFFERENCE


def _bytes(entry: Any) -> bytes:
    """The bytes of a token, which may be a part of a character, as the server gives them; else of its text."""
    given = entry.get("bytes") if isinstance(entry, dict) else None
    if given and all(isinstance(each, int) and 0 <= each < 256 for each in part(entry, list, "bytes")):
        return bytes(given)
    return part(entry, str, "token").encode(errors="replace")

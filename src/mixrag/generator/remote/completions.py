"""Servers that speak OpenAI's completions with token ids: vLLM, and others where the probe finds that they do.

A given text is scored by ``prompt_logprobs``, whose keys are token ids, or by ``echo``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from mixrag.errors import ServerError
from mixrag.generator.protocol import Written
from mixrag.generator.remote.client import Client, Refused, Request, reason_of
from mixrag.generator.remote.documents import distribution, log_prob, part, unexpected
from mixrag.generator.remote.tokenizing import server_tokens
from mixrag.probability import Listed

T = TypeVar("T")
ROWS_AT_ONCE = 16
"""Rows in one request."""
TOKENS_AT_ONCE = 8192
"""Tokens in one request of several rows: a server may return a list for each of them."""
_TOKEN_ID = re.compile(r"token_id:(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Completions:
    """See ``Engine`` for the members."""

    client: Client
    url: str
    root: str
    model: str
    scoring: Literal["prompt_logprobs", "echo"] = "prompt_logprobs"

    def other(self) -> Completions | None:
        """The same server, asked to score in the other way."""
        return replace(self, scoring="echo") if self.scoring == "prompt_logprobs" else None

    def write(self, rows: Sequence[tuple[int, ...]], max_tokens: int, count: int) -> list[Written]:
        """See ``Engine.write``."""
        asked = {"max_tokens": max_tokens, "logprobs": count}
        return self._choices(rows, asked, lambda choice, _: self._written(choice))

    def read(
        self, rows: Sequence[tuple[int, ...]], lengths: Sequence[int], count: int
    ) -> list[tuple[Listed, ...]]:
        """See ``Engine.read``."""
        if self.scoring == "prompt_logprobs":
            asked: dict[str, Any] = {"max_tokens": 1, "prompt_logprobs": count}
            read = _prompt_logprobs
        else:
            asked = {"max_tokens": 1, "echo": True, "logprobs": count}
            read = _echoed
        return self._choices(rows, asked, lambda choice, at: read(choice, rows[at], lengths[at]))

    def tokenize(self, text: str) -> tuple[int, ...] | None:
        """See ``Engine.tokenize``."""
        asked = {"model": self.model, "prompt": text, "add_special_tokens": False}
        found = server_tokens(self.client, f"{self.root}/tokenize", asked)
        return self._echoed_ids(text) if found is None else found

    def _echoed_ids(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text that is echoed, where it is."""
        asked = {
            "model": self.model,
            "prompt": text,
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }
        asked |= {"return_tokens_as_token_ids": True, "add_special_tokens": False}
        try:
            document = self.client.one(f"{self.url}/completions", asked)
            choice = part(document, dict, "choices", 0)
            names = part(choice, list, "logprobs", "tokens")
            written = part(document, int, "usage", "completion_tokens")
        except ServerError as error:
            reason_of(error)
            return None
        ids = [_id(name) for name in names[: len(names) - written]]
        # Where echo is ignored, what was written alone comes back.
        if not ids or None in ids:
            return None
        return tuple(each for each in ids if each is not None)

    def _choices(
        self, rows: Sequence[tuple[int, ...]], asked: dict[str, Any], read: Callable[[Any, int], T]
    ) -> list[T]:
        """What ``read`` takes of the answer to each row, which is told its place among the rows."""
        # A server may have other defaults of its own, from the model's files.
        plain = {"temperature": 0, "top_p": 1, "repetition_penalty": 1.0}
        common = {"model": self.model, "return_tokens_as_token_ids": True, **plain, **asked}
        some = [*in_requests(rows)]
        requests = [
            Request(f"{self.url}/completions", {**common, "prompt": [[*rows[at]] for at in places]})
            for places in some
        ]

        def taken(document: Any, number: int) -> list[T]:
            choices = _placed(document, len(some[number]))
            return [read(choice, at) for choice, at in zip(choices, some[number], strict=True)]

        return [each for found in self.client.all(requests, taken) for each in found]

    def _written(self, choice: Any) -> Written:
        tokens = [_id(each) for each in part(choice, list, "logprobs", "tokens")]
        if None in tokens:
            raise unexpected("token ids (token_id:N)", "texts of tokens")
        known = _distributions(choice, [token for token in tokens if token is not None], 0)
        return Written(tuple(token for token in tokens if token is not None), known)


def in_requests(rows: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """The places of rows, in order, as many at a time as one request has.

    Example:
        >>> [*in_requests([(1,) * 8000, (1,) * 8000, (1,), (1,)])]
        [[0], [1, 2, 3]]
    """
    some: list[int] = []
    tokens = 0
    for at, row in enumerate(rows):
        if some and (len(some) == ROWS_AT_ONCE or tokens + len(row) > TOKENS_AT_ONCE):
            yield some
            some, tokens = [], 0
        some.append(at)
        tokens += len(row)
    if some:
        yield some


def _placed(document: Any, count: int) -> list[Any]:
    """The choices in the order of the rows."""
    choices = part(document, list, "choices")
    placed = {part(choices, int, at, "index"): choices[at] for at in range(len(choices))}
    if sorted(placed) != [*range(count)] or len(choices) != count:
        raise unexpected(f"{count} choices", f"{len(choices)}")
    return [placed[at] for at in range(count)]


def refused_for_number(error: ServerError) -> bool:
    """Whether a server may have refused the number of tokens to be listed."""
    return isinstance(error, Refused) and error.status in (400, 422)


def _prompt_logprobs(choice: Any, row: tuple[int, ...], length: int) -> tuple[Listed, ...]:
    positions = part(choice, list, "prompt_logprobs")
    if len(positions) != len(row):
        raise unexpected(f"prompt_logprobs of {len(row)} tokens", f"{len(positions)}")
    first = len(row) - length
    return tuple(_by_id(part(positions, dict, first + t), row[first + t]) for t in range(length))


def _by_id(position: dict[str, Any], given: int) -> Listed:
    ids = {key: int(key) for key in position if key.isascii() and key.isdigit()}
    return distribution({ids[key]: log_prob(part(position, object, key, "logprob")) for key in ids}, given)


def _echoed(choice: Any, row: tuple[int, ...], length: int) -> tuple[Listed, ...]:
    tokens = part(choice, list, "logprobs", "tokens")
    if len(tokens) < len(row):
        raise unexpected(f"an echo of {len(row)} tokens", f"{len(tokens)}")
    for place in range(len(row)):
        found = _id(tokens[place])
        if found is None:
            raise unexpected("token ids (token_id:N)", "texts of tokens")
        if found != row[place]:
            raise unexpected(f"an echo of token {row[place]}", f"token {found}")
    return _distributions(choice, row[len(row) - length :], len(row) - length)


def _distributions(choice: Any, tokens: Sequence[int], first: int) -> tuple[Listed, ...]:
    """Of tokens that stand at ``first`` and after it in the log-probabilities of a choice."""
    logprobs = part(choice, dict, "logprobs")
    return tuple(_by_name(logprobs, first + t, token) for t, token in enumerate(tokens))


def _by_name(logprobs: dict[str, Any], place: int, token: int) -> Listed:
    own = log_prob(part(logprobs, object, "token_logprobs", place))
    top = logprobs.get("top_logprobs") or []
    names: dict[str, Any] = part(top, dict, place) if place < len(top) and top[place] is not None else {}
    return distribution({**dict(_ids(names)), token: own}, token)


def _ids(names: dict[str, Any]) -> Iterator[tuple[int, float]]:
    for name, value in names.items():
        if (token := _id(name)) is not None:
            yield token, log_prob(value)


def _id(name: Any) -> int | None:
    found = _TOKEN_ID.fullmatch(name) if isinstance(name, str) else None
    return None if found is None else int(found[1])

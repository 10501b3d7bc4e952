"""llama.cpp's server: it scores no given text, and returns next-token distributions, in part or whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mixrag.generator.remote.client import Client, Request
from mixrag.generator.remote.documents import distribution, log_prob, part, unexpected
from mixrag.generator.remote.tokenizing import server_tokens
from mixrag.probability import Listed

T = TypeVar("T")
EVERY = 10**6
"""More tokens than a vocabulary has."""
MOST_DIFFERENCE = 0.5
"""Of one log-probability, asked for in two ways; the order of additions differs, the model does not."""


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """Whole next-token distributions, one request for each row."""

    client: Client
    root: str
    plain: int
    """A token that is a text by itself. The server is made to draw it, because it says nothing of the next token
    where that one ends inside of a character; what it returns is the distribution before it was made to."""

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """(R, V) float64 log p(next token | row), normalised.

        Raises:
            ServerError: the server returned only a part of the vocabulary.
        """
        return torch.stack(self._asked([(row, self.plain) for row in rows], EVERY, _table))

    def next_listed(self, rows: Sequence[tuple[int, ...]], count: int) -> list[Listed]:
        """The ``count`` most probable next tokens of each of R rows.

        Raises:
            ServerError: the server returned something else.
        """
        forced = [(row, self.plain) for row in rows]
        return self._asked(forced, count, lambda document: distribution(_entries(document), None))

    def log_probs_of(self, asked: Sequence[tuple[tuple[int, ...], int]]) -> list[float | None]:
        """log p(token | row) of each row and token; None where the server does not say it.

        Raises:
            ServerError: the server returned something else.
        """
        found = self._asked(asked, 1, _drawn) if asked else []
        return [value if token == own else None for (_, own), (token, value) in zip(asked, found, strict=True)]

    def returns_forced(self, row: tuple[int, ...], other: int) -> bool:
        """Whether the probabilities that come are those after a token was forced, ``plain`` or the other one.

        Raises:
            ServerError: as ``next_log_probs``.
        """
        one, two = self._asked([(row, self.plain), (row, other)], EVERY, _table)
        pair = torch.tensor([self.plain, other])
        return not bool(((one[pair] - two[pair]).abs() <= MOST_DIFFERENCE).all())

    def _asked(
        self, forced: Sequence[tuple[tuple[int, ...], int]], count: int, read: Callable[[object], T]
    ) -> list[T]:
        """What is read of the answer for each row, after which the server is made to draw a token."""
        common: dict[str, object] = {"n_predict": 1, "n_probs": count, "temperature": 0, "cache_prompt": True}
        common["post_sampling_probs"] = False
        documents = [{**common, "prompt": [*row], "logit_bias": [[token, 100.0]]} for row, token in forced]
        requests = [Request(f"{self.root}/completion", each) for each in documents]
        return self.client.all(requests, lambda document, _: read(document))

    def tokenize(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text without special tokens; None where the server does not say."""
        asked = {"content": text, "add_special": False, "parse_special": False}
        return server_tokens(self.client, f"{self.root}/tokenize", asked)

    def context_size(self) -> int:
        """Tokens that prompt and answer may have together, of one slot of the server."""
        props = self.client.one(f"{self.root}/props")
        return part(props, int, "default_generation_settings", "n_ctx")


def _entries(document: object) -> dict[int, float]:
    entries = part(document, list, "completion_probabilities", 0, "top_logprobs")
    found = {part(each, int, "id"): log_prob(part(each, object, "logprob")) for each in entries}
    if len(found) != len(entries):
        raise unexpected("different tokens in a list", "one token twice")
    return found


def _drawn(document: object) -> tuple[int, float]:
    """The token that was drawn, and its log-probability."""
    drawn = part(document, dict, "completion_probabilities", 0)
    return part(drawn, int, "id"), log_prob(part(drawn, object, "logprob"))


def _table(document: object) -> Tensor:
    entries = _entries(document)
    size = len(entries)
    if not size or min(entries) != 0 or max(entries) != size - 1:
        raise unexpected("log-probabilities of the whole vocabulary", f"{size} of them")
    table = torch.tensor([entries[token] for token in range(size)], dtype=torch.float64)
    total = float(table.exp().sum())
    if not 0.99 < total < 1.01:
        raise unexpected("probabilities of the whole vocabulary that add up to one", f"{total:.4g}")
    return table.log_softmax(0)

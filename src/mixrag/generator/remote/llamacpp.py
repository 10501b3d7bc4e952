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
        return torch.stack(self._asked(rows, EVERY, _table))

    def next_listed(self, rows: Sequence[tuple[int, ...]], count: int) -> list[Listed]:
        """The ``count`` most probable next tokens of each of R rows.

        Raises:
            ServerError: the server returned something else.
        """
        return self._asked(rows, count, lambda document: distribution(_entries(document), None))

    def _asked(self, rows: Sequence[tuple[int, ...]], count: int, read: Callable[[object], T]) -> list[T]:
        asked: dict[str, object] = {"n_predict": 1, "n_probs": count, "temperature": 0, "cache_prompt": True}
        asked |= {"logit_bias": [[self.plain, 100.0]], "post_sampling_probs": False}
        requests = [Request(f"{self.root}/completion", {**asked, "prompt": [*row]}) for row in rows]
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

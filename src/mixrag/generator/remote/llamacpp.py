"""llama.cpp's server: it scores no given text, and returns whole next-token distributions where it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.errors import ServerError
from mixrag.generator.remote.client import Client, Request
from mixrag.generator.remote.documents import log_prob, part, unexpected

EVERY = 10**6
"""More tokens than a vocabulary has."""


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """Whole next-token distributions, one request for each row."""

    client: Client
    root: str

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """(R, V) float64 log p(next token | row), normalised.

        Raises:
            ServerError: the server returned only a part of the vocabulary.
        """
        asked = {"n_predict": 1, "n_probs": EVERY, "temperature": 0, "cache_prompt": True, "return_tokens": True}
        requests = [Request(f"{self.root}/completion", {**asked, "prompt": [*row]}) for row in rows]
        return torch.stack([_table(document) for document in self.client.all(requests)])

    def tokenize(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text without special tokens; None where the server does not say."""
        asked = {"content": text, "add_special": False, "parse_special": False}
        try:
            tokens = part(self.client.one(f"{self.root}/tokenize", asked), list, "tokens")
        except ServerError:
            return None
        return tuple(part(tokens, int, place) for place in range(len(tokens)))

    def context_size(self) -> int:
        """Tokens that prompt and answer may have together, of one slot of the server."""
        props = self.client.one(f"{self.root}/props")
        return part(props, int, "default_generation_settings", "n_ctx")


def _table(document: object) -> Tensor:
    entries = part(document, list, "completion_probabilities", 0, "top_logprobs")
    ids = torch.tensor([part(each, int, "id") for each in entries], dtype=torch.long)
    values = torch.tensor([log_prob(part(each, object, "logprob")) for each in entries], dtype=torch.float64)
    if not len(ids) or not torch.equal(ids.sort().values, torch.arange(len(ids))):
        raise unexpected("log-probabilities of the whole vocabulary", f"{len(ids)} of them")
    total = float(values.exp().sum())
    if not 0.99 < total < 1.01:
        raise unexpected("probabilities of the whole vocabulary that add up to one", f"{total:.4g}")
    table = torch.empty_like(values)
    table[ids] = values
    return table.log_softmax(0)

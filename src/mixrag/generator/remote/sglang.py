"""SGLang's own interface, ``/generate``: token ids in and out, and log-probabilities of given tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixrag.generator.protocol import Written
from mixrag.generator.remote.client import Client, Request
from mixrag.generator.remote.completions import in_requests
from mixrag.generator.remote.documents import distribution, log_prob, part, unexpected
from mixrag.generator.remote.tokenizing import server_tokens
from mixrag.probability import Listed


@dataclass(frozen=True, slots=True)
class SGLang:
    """See ``Engine`` for the members."""

    client: Client
    root: str
    model: str

    def other(self) -> None:
        """There is one way to score."""
        return

    def write(self, rows: Sequence[tuple[int, ...]], max_tokens: int, count: int) -> list[Written]:
        """See ``Engine.write``."""
        found = []
        for meta in self._meta(rows, max_tokens, [-1] * len(rows), count):
            own, top = part(meta, list, "output_token_logprobs"), _lists(meta, "output_top_logprobs")
            tokens = tuple(part(own, int, place, 1) for place in range(len(own)))
            known = tuple(_position(own, top, place) for place in range(len(own)))
            found.append(Written(tokens, known))
        return found

    def read(
        self, rows: Sequence[tuple[int, ...]], lengths: Sequence[int], count: int
    ) -> list[tuple[Listed, ...]]:
        """See ``Engine.read``."""
        starts = [len(row) - length - 1 for row, length in zip(rows, lengths, strict=True)]
        found = []
        for meta, row, length in zip(self._meta(rows, 0, starts, count), rows, lengths, strict=True):
            own, top = part(meta, list, "input_token_logprobs"), _lists(meta, "input_top_logprobs")
            ids = tuple(part(own, int, place, 1) for place in range(len(own)))
            if ids[len(ids) - length :] != row[len(row) - length :]:
                raise unexpected(f"log-probabilities of {length} given tokens", "those of other tokens")
            found.append(tuple(_position(own, top, len(own) - length + t) for t in range(length)))
        return found

    def tokenize(self, text: str) -> tuple[int, ...] | None:
        """See ``Engine.tokenize``."""
        asked = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return server_tokens(self.client, f"{self.root}/tokenize", asked)

    def _meta(
        self, rows: Sequence[tuple[int, ...]], max_tokens: int, starts: Sequence[int], count: int
    ) -> list[Any]:
        requests, sizes = [], []
        for some in in_requests(rows):
            document = {
                "input_ids": [[*rows[at]] for at in some],
                "sampling_params": {"temperature": 0, "max_new_tokens": max_tokens},
                "return_logprob": True,
                "top_logprobs_num": count,
                "logprob_start_len": [starts[at] for at in some],
            }
            requests.append(Request(f"{self.root}/generate", document))
            sizes.append(len(some))
        found: list[Any] = []
        for document, size in zip(self.client.all(requests), sizes, strict=True):
            each = part(document, list)
            if len(each) != size:
                raise unexpected(f"{size} answers", f"{len(each)}")
            found += [part(each, dict, place, "meta_info") for place in range(size)]
        return found


def _lists(meta: Any, name: str) -> list[Any]:
    return part(meta, list, name) if meta.get(name) else []


def _position(own: list[Any], top: list[Any], place: int) -> Listed:
    """Entries are (log p, id, text)."""
    token = part(own, int, place, 1)
    entries = part(top, list, place) if place < len(top) and top[place] else []
    listed = {part(entries, int, at, 1): log_prob(part(entries, object, at, 0)) for at in range(len(entries))}
    return distribution({**listed, token: log_prob(part(own, object, place, 0))}, token)

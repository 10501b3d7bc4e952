"""A server on loopback over a model of transformers in this process, which says exactly what the model says.

It is the fake server of the tests, which speaks the dialects of real ones. As they do, it remembers the states of
the last rows, so that a row that goes on is not read again from its beginning.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from fake_server import FakeServer, listening  # type: ignore[import-not-found]

__all__ = ["ModelServer", "Rows", "listening"]

SLOTS = 8
"""Rows whose states and distributions are remembered."""


@dataclass
class _Read:
    """A row that was read."""

    states: Any
    tables: Tensor
    """(T, V) log p of the token after each of its tokens."""


class Rows:
    """What a causal model says of the next token after rows of ids."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self._read: dict[tuple[int, ...], _Read] = {}
        self._lock = Lock()

    def next_token(self, row: tuple[int, ...]) -> Tensor:
        """(V,) log p of the token after a row."""
        return self.places(row)[-1]

    def places(self, row: tuple[int, ...]) -> Tensor:
        """(T, V) log p of the token after each token of a row; what a former row begins with is not read again."""
        with self._lock, torch.inference_mode():
            if (found := self._read.pop(row, None)) is None:
                known, found = self._resumed(row)
                found = self._after(row[known:], found)
            self._read[row] = found
            while len(self._read) > SLOTS:
                self._read.pop(next(iter(self._read)))
        return found.tables

    def _after(self, tokens: tuple[int, ...], before: _Read) -> _Read:
        ids, states = torch.tensor([tokens]), before.states
        output = self.generator.model(input_ids=ids, past_key_values=states, use_cache=True)
        return _Read(states, torch.cat([before.tables, output.logits[0].float().log_softmax(-1)]))

    def _resumed(self, row: tuple[int, ...]) -> tuple[int, _Read]:
        """How many tokens of a row a former one has, and what is known of them; the former one is given up.

        One that has less than half of them in common is another passage's, with the same header.
        """
        best = max(self._read, key=lambda other: _common(row, other), default=())
        known = min(_common(row, best), len(row) - 1)
        if 2 * known <= len(row):
            nothing = torch.empty(0, self.generator.vocabulary_size)
            return 0, _Read(DynamicCache(config=self.generator.model.config), nothing)
        found = self._read.pop(best)
        if known < len(best):
            found.states.crop(known - len(best))  # so many tokens less
        return known, _Read(found.states, found.tables[:known])


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    size = min(len(one), len(other))
    return next((place for place in range(size) if one[place] != other[place]), size)


class ModelServer(FakeServer):  # type: ignore[misc]
    """The fake server over these rows; those of given texts are read once for all their places."""

    def __init__(self, rows: Rows, **options: Any) -> None:
        self.rows, tokenizer = rows, rows.generator.tokens.tokenizer
        super().__init__(
            rows.next_token,
            rows.generator.stop_tokens,
            tokenize=lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids,
            detokenize=tokenizer.decode,
            context=rows.generator.context_size + 1,
            **options,
        )

    def _given(self, row: tuple[int, ...], first: int) -> list[Tensor]:
        return [*self.rows.places(row)[first - 1 : -1]]

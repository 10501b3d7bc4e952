"""Rows of tokens that a model of llama.cpp has read.

Its memory is cells, one for each token with its keys and values. A sequence is a set of cells; a copy of one has
the same cells, so that rows which begin alike share what was read. What a row needs is looked up by its tokens:
whatever was dropped for lack of space is read again, which costs time and changes nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixrag.errors import ModelError
from mixrag.generator.llamacpp.model import READ_AT_ONCE, GGUFModel
from mixrag.generator.llamacpp.runtime import llama
from mixrag.generator.prefix_cache import PrefixCache

SEQUENCES = 256
"""Of one context; llama.cpp has no more."""
ROWS_AT_ONCE = 96
"""Each needs a sequence, and the one that it continues: both have to fit."""
OUTPUTS_AT_ONCE = 128
"""Distributions over the vocabulary in one pass; bounds memory."""
SPARE = 64
"""Tokens to come for which a row gets cells."""

Tokens = tuple[int, ...]
Found = Callable[[int, int, Tensor], None]
"""Called with the number of a row, of one of its last tokens, and (V,) logits of the token after that."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to be read."""

    tokens: Tokens
    prefix: int
    """How many of them are header and passages, which other rows begin with."""
    outputs: int = 1
    """After how many of the last tokens the next token's distribution is asked for."""
    stays: bool = False
    """Whether it will be continued."""

    @property
    def begun(self) -> Tokens:
        """All before the tokens that are asked for: what a former row may be."""
        return self.tokens[: len(self.tokens) - self.outputs]

    @property
    def shared(self) -> Tokens:
        """Header and passages."""
        return self.tokens[: min(self.prefix, len(self.tokens) - self.outputs)]


@dataclass(slots=True)
class _Cells:
    """Cells that one sequence read, and those of the sequence that it continues."""

    count: int
    before: _Cells | None
    users: int = 1


@dataclass(frozen=True, slots=True)
class _Sequence:
    number: int
    cells: _Cells


class Sequences:
    """What one model has read; several threads may ask, one at a time."""

    def __init__(self, model: GGUFModel, prefix_cache: PrefixCache | None) -> None:
        """``prefix_cache``: where the states of headers and passages are kept for later questions."""
        self.model, self.prefix_cache = model, prefix_cache
        self._lock = RLock()
        self._context: Any = None
        self._batch: Any = None
        self._cells = self._used = 0
        self._known: OrderedDict[Tokens, _Sequence] = OrderedDict()
        self._free: list[int] = []

    def read(self, rows: Sequence[Row], found: Found) -> None:
        """Read rows; what was read before of each is not read again.

        Raises:
            ModelError: no memory for them.
        """
        with self._lock:
            try:
                for first in range(0, len(rows), ROWS_AT_ONCE):
                    self._read(rows[first : first + ROWS_AT_ONCE], _counted_from(first, found))
            except BaseException:
                self.forget()  # what was read in part is of no use
                raise

    def forget(self) -> None:
        """Give the memory back; everything is read again where it is needed, or comes from the prefix cache."""
        with self._lock:
            self._open(0)

    def _read(self, rows: Sequence[Row], found: Found) -> None:
        self._make_room(rows)
        self._read_prefixes({row.shared for row in rows if row.shared and self._known.get(row.begun) is None})
        parents = [self._parent(row) for row in rows]
        own = [self._begin(parent, len(row.tokens)) for row, parent in zip(rows, parents, strict=True)]
        self._decode(
            [
                (sequence.number, row.tokens, len(parent), row.outputs)
                for row, parent, sequence in zip(rows, parents, own, strict=True)
            ],
            found,
        )
        for row, parent, sequence in zip(rows, parents, own, strict=True):
            if parent in self._known:
                self._known.move_to_end(parent, last=False)  # the first to go when space is needed
            if row.stays and row.tokens not in self._known:
                self._known[row.tokens] = sequence
            else:
                self._end(sequence)

    def _parent(self, row: Row) -> Tokens:
        """The known sequence that a row continues."""
        return next((each for each in (row.begun, row.shared) if each in self._known), ())

    def _prefix_to_read(self, row: Row) -> Tokens:
        return () if self._parent(row) else row.shared

    def _read_prefixes(self, prefixes: Collection[Tokens]) -> None:
        """Headers and passages, each as a sequence: known, from the cache, or read now."""
        unread: list[tuple[int, Tokens, int, int]] = []
        for prefix in sorted(prefixes):
            stored = None if self.prefix_cache is None else self.prefix_cache.get((self.model.name, prefix))
            if prefix in self._known:
                continue
            sequence = self._known[prefix] = self._begin((), len(prefix))
            if stored is None or not self._restored(sequence.number, stored):
                unread.append((sequence.number, prefix, 0, 0))
        self._decode(unread, _unasked)
        if self.prefix_cache is not None:
            for number, prefix, _, _ in unread:
                states = np.frombuffer(bytearray(self._context.get_state_seq_data(number)), np.uint8)
                self.prefix_cache.put((self.model.name, prefix), torch.from_numpy(states))

    def _restored(self, number: int, states: Tensor) -> bool:
        try:
            self._context.set_state_seq_data(states.numpy().tobytes(), number)
        except ValueError:  # the cells that are free are too scattered
            return False
        return True

    def _begin(self, parent: Tokens, length: int) -> _Sequence:
        """A sequence that has read what ``parent`` has, and will have ``length`` tokens."""
        number, former = self._free.pop(), self._known.get(parent)
        if former is not None:
            self._context.memory_seq_cp(former.number, number, -1, -1)
            former.cells.users += 1
        cells = _Cells(length - len(parent), None if former is None else former.cells)
        self._used += cells.count
        return _Sequence(number, cells)

    def _end(self, sequence: _Sequence) -> None:
        self._context.memory_seq_rm(sequence.number, -1, -1)
        self._free.append(sequence.number)
        cells: _Cells | None = sequence.cells
        while cells is not None:
            cells.users -= 1
            if cells.users:
                break
            self._used -= cells.count
            cells = cells.before

    def _make_room(self, rows: Sequence[Row]) -> None:
        """Free sequences and cells for these rows: the oldest go, then the memory grows, and is empty."""
        while True:
            needed, sequences = self._needed(rows)
            continued = {self._parent(row) for row in rows}
            others = [each for each in self._known if each not in continued]
            while others and (len(self._free) < sequences or self._cells - self._used < needed):
                self._end(self._known.pop(others.pop(0)))
            if len(self._free) >= sequences and self._cells - self._used >= needed:
                return
            total = needed + sum(map(len, continued))
            self._open(max(2 * self._cells, total + SPARE * len(rows)))

    def _needed(self, rows: Sequence[Row]) -> tuple[int, int]:
        """Cells and sequences that are not there yet."""
        prefixes = {prefix for row in rows if (prefix := self._prefix_to_read(row))}
        before = sum(map(len, prefixes))
        own = sum(len(row.tokens) - len(self._parent(row) or row.shared) for row in rows)
        return before + own, len(prefixes) + len(rows)

    def _open(self, cells: int) -> None:
        """An empty memory of at least that many cells; 0: none."""
        self._known.clear()
        self._used, self._free = 0, [*range(SEQUENCES)]
        if self._context is not None:
            self._context.close()
        self._context, self._cells = None, 0
        if cells:
            self._cells = -(-cells // READ_AT_ONCE) * READ_AT_ONCE
            self._context = self.model.context(self._cells, SEQUENCES)
            self._batch = llama().LlamaBatch(n_tokens=READ_AT_ONCE, embd=0, n_seq_max=1)

    def _decode(self, wanted: Sequence[tuple[int, Tokens, int, int]], found: Found) -> None:
        """Let sequences (number, tokens, how many of these are read, outputs) read the rest of their tokens."""
        batch, asked = self._batch, list[tuple[int, int, int]]()
        batch.clear()
        for row, (number, tokens, read, outputs) in enumerate(wanted):
            first = len(tokens) - outputs
            for place in range(read, len(tokens)):
                if batch.n_tokens == READ_AT_ONCE or len(asked) == OUTPUTS_AT_ONCE:
                    self._run(asked, found)
                if place >= first:
                    asked.append((batch.n_tokens, row, place - first))
                batch.add(tokens[place], place, [number], place >= first)
        if batch.n_tokens:
            self._run(asked, found)

    def _run(self, asked: list[tuple[int, int, int]], found: Found) -> None:
        """Run the batch, report the outputs (place in the batch, row, place in the row) and empty both."""
        try:
            self._context.decode(self._batch)
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{self.model.name} to read {self._batch.n_tokens} tokens", reason, "give engine torch"
            ) from error
        for place, row, output in asked:
            logits = np.fromiter(self._context.get_logits_ith(place), np.float32, self.model.vocabulary_size)
            found(row, output, torch.from_numpy(logits))
        self._batch.clear()
        asked.clear()


def _counted_from(first: int, found: Found) -> Found:
    """``found`` for rows of which the first has that number."""
    return lambda row, place, logits: found(first + row, place, logits)


def _unasked(row: int, place: int, logits: Tensor) -> None:
    """Nothing is asked for where passages are read."""

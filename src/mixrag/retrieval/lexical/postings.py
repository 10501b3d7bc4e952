"""Postings: for each word the passages that have it, as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixrag.utils.arrays import Rows

Places = npt.NDArray[np.int32]
"""(N,) places of passages in the order of their row ids, ascending."""
Counts = npt.NDArray[np.uint16]
_MOST = np.iinfo(np.uint16).max
Block = tuple[Rows, npt.NDArray[np.int64], npt.NDArray[np.uint32]]
"""Row ids (B,), numbers of words (B,), and the words of all of them in turn (``Store.words``)."""


@dataclass(frozen=True)
class Postings:
    """The passages (P,) of each of V words: places and counts of word w are at ``starts[w]:starts[w + 1]``."""

    rows: Rows
    """(P,) ascending."""
    lengths: npt.NDArray[np.int64]
    """(P,) words of each passage."""
    starts: npt.NDArray[np.int64]
    """(V + 1,)"""
    places: Places
    """(N,) places in ``rows``."""
    counts: Counts
    """(N,) how often the word is there, at most 65,535."""

    def of(self, term: int) -> tuple[Places, Counts]:
        """Places (n,) and counts (n,) of a word; none for one that these passages do not have."""
        if term + 1 >= len(self.starts):
            return self.places[:0], self.counts[:0]
        found = slice(int(self.starts[term]), int(self.starts[term + 1]))
        return self.places[found], self.counts[found]


class _Triples(NamedTuple):
    """Words, places and counts (N,), sorted by word, then place."""

    terms: npt.NDArray[np.uint32]
    places: Places
    counts: Counts


def inverted(blocks: Iterable[Block]) -> Postings:
    """The postings of passages from their words; each block is sorted by itself and then merged."""
    rows, lengths, sorted_blocks = [], [], []
    passages = 0
    for block_rows, block_lengths, terms in blocks:
        of = np.repeat(np.arange(passages, passages + len(block_rows), dtype=np.uint64), block_lengths)
        sorted_blocks.append(_counted(terms.astype(np.uint64) << np.uint64(32) | of))
        rows.append(block_rows)
        lengths.append(block_lengths)
        passages += len(block_rows)
    none = np.empty(0, np.int64)
    starts, places, counts = _merged(sorted_blocks)
    return Postings(np.concatenate([none, *rows]), np.concatenate([none, *lengths]), starts, places, counts)


def _counted(keys: npt.NDArray[np.uint64]) -> _Triples:
    unique, counts = np.unique(keys, return_counts=True)
    terms, places = (unique >> np.uint64(32)).astype(np.uint32), (unique & np.uint64(2**32 - 1)).astype(np.int32)
    return _Triples(terms, places, np.minimum(counts, _MOST).astype(np.uint16))


def _merged(blocks: list[_Triples]) -> tuple[npt.NDArray[np.int64], Places, Counts]:
    """Starts, places and counts of all blocks; the places of a later block are behind those of an earlier one."""
    size = 1 + max((int(block.terms[-1]) for block in blocks if len(block.terms)), default=-1)
    each = np.zeros(size, np.int64)
    for block in blocks:
        each += np.bincount(block.terms, minlength=size)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(each)])
    places, counts = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint16)
    free = starts[:-1].copy()
    for terms, block_places, block_counts in blocks:
        here, first, often = np.unique(terms, return_index=True, return_counts=True)
        target = np.arange(len(terms)) + np.repeat(free[here] - first, often)
        places[target], counts[target] = block_places, block_counts
        free[here] += often
    return starts, places, counts

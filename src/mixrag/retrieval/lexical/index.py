"""BM25 of all passages of one state of a store, exactly.

Postings are in two parts: those that were read from files, and those of passages added since. Places count through
both; passages that were removed since stay in the first part and are left out of results and frequencies, so every
score is that of a fresh index over the same passages, to the last bit.

A question's frequent words, the stop words, are most of its postings: what they add to every passage is
remembered. There is no search for the best passages alone: the prior needs the scores of all of them, and these
take no longer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from functools import cache
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mixrag.corpus.words import asked_words
from mixrag.errors import StoreError
from mixrag.retrieval.lexical.bm25 import inverse_frequency, length_norms, saturated
from mixrag.retrieval.lexical.postings import Counts, Places, Postings
from mixrag.retrieval.lexical.typos import Vocabulary
from mixrag.utils.arrays import Floats, Rows

_FREQUENT = 16
"""What a word adds is remembered where one passage in so many has it,"""
_REMEMBERED_BYTES = 2**29
"""within this memory."""
_COLLECTIONS = 4
"""Of so many collections, of which these passages are a part, what was computed is remembered."""
_FEW = 256
"""Words are looked up at single passages up to one in so many; beyond, scanning is faster."""
_BLOCK = 2**15
"""Postings that are read at a time: what is computed of them stays in the processor's cache."""

Positions = npt.NDArray[np.int64]


class _Weight(NamedTuple):
    """What a word of a question counts."""

    weight: float
    idf: float


class _Asked(NamedTuple):
    """The words of a question by their numbers."""

    rare: dict[int, _Weight]
    frequent: dict[int, _Weight]


class AskedWord(NamedTuple):
    """A word of a question, and in how many passages of a whole collection it is."""

    word: str
    weight: float
    frequency: int


class Near(NamedTuple):
    """A word that a misspelt one may stand for."""

    slips: int
    word: str
    frequency: int
    """Passages that have it; at least one."""


Lookup = Callable[[Collection[str]], Mapping[str, int]]
"""Words to their numbers; words that no passage has are left out."""


class LexicalIndex:
    """BM25 over the passages of one state of a store; safe to use in threads."""

    def __init__(
        self,
        base: Postings,
        added: Postings,
        live: npt.NDArray[np.bool_] | None,
        lookup: Lookup,
        vocabulary: Callable[[], Vocabulary] = lambda: Vocabulary(()),
    ) -> None:
        """The index of two parts.

        Args:
            base: passages with lower row ids than those of ``added``.
            added: the other ones.
            live: (P,) which of the passages of both parts are in the store; None: all of them.
            lookup: finds the numbers of words.
            vocabulary: all words; called at most once, and only for ``tolerant``.
        """
        self._parts, self._lookup = (base, added), lookup
        self._rows = np.concatenate([base.rows, added.rows])
        self._live = None if live is None or bool(live.all()) else live
        self._places = None if self._live is None else np.flatnonzero(self._live)
        self.rows: Rows = self._rows if self._places is None else self._rows[self._places]
        """(M,) row ids, ascending."""
        lengths = np.concatenate([base.lengths, added.lengths])
        self.words = int(lengths.sum() if self._places is None else lengths[self._places].sum())
        """Words of all passages together."""
        self._lengths = lengths
        self._norms = length_norms(lengths, self.words, max(1, len(self.rows)))
        self._passages = len(self.rows)
        self._frequencies: dict[int, int] = {}
        self._remembered: OrderedDict[tuple[int, float], Floats] = OrderedDict()
        self._views: OrderedDict[tuple[int, int], LexicalIndex] = OrderedDict()
        self._most_remembered = max(4, _REMEMBERED_BYTES // max(1, 8 * len(self._rows)))
        self._lock = Lock()
        self._vocabulary, self._is_tolerant = cache(vocabulary), False

    def __len__(self) -> int:
        """M."""
        return len(self.rows)

    def tolerant(self) -> LexicalIndex:
        """The same index, where a word of a question that no passage has stands for the nearest one."""
        other = copy(self)
        other._is_tolerant = True
        return other

    def scores(self, question: str, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """Row ids, ascending, and BM25 scores (M,) of all passages, or (N,) of the ``allowed`` ones.

        A score is 0 where the passage shares no word with the question. ``allowed`` (N,) does not change scores.

        Raises:
            StoreError: an allowed row that is not in the index.
        """
        return self._scores(self._asked(question), allowed)

    def scores_of(self, words: Iterable[AskedWord], allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """As ``scores``, for words whose frequencies in a collection are given; no word stands for another.

        The collection is that of ``in_collection``, else these passages.
        """
        words = [*words]
        ids = self._lookup([each.word for each in words])
        found: dict[int, _Weight] = {}
        for each in words:
            term = ids.get(each.word)
            if term is not None and self._frequency(term):
                idf = inverse_frequency(self._passages, each.frequency)
                found[term] = _Weight(max(each.weight, found[term].weight if term in found else 0.0), idf)
        return self._scores(self._parted(found), allowed)

    def in_collection(self, passages: int, words: int) -> LexicalIndex:
        """The same passages as a part of a collection with so many passages and words."""
        key = passages, words
        if key == (self._passages, self.words):
            return self
        with self._lock:
            found = self._views.pop(key, None) or self._part_of(passages, words)
            self._views[key] = found
            if len(self._views) > _COLLECTIONS:
                self._views.popitem(last=False)
        return found

    def _part_of(self, passages: int, words: int) -> LexicalIndex:
        part = copy(self)
        part._norms = length_norms(self._lengths, words, max(1, passages))
        part._passages, part._remembered, part._lock = passages, OrderedDict(), Lock()
        return part

    def frequencies(self, words: Collection[str]) -> dict[str, int]:
        """In how many passages each of these words is; words that none has are left out."""
        found = {word: self._frequency(term) for word, term in self._lookup(words).items()}
        return {word: often for word, often in found.items() if often}

    def near(self, word: str) -> list[Near]:
        """The words of passages that a misspelt word may stand for, those with the fewest slips first."""
        found = (Near(slips, term, self._frequency(id_)) for slips, term, id_ in self._vocabulary().within(word))
        return [each for each in found if each.frequency]

    def _scores(self, asked: _Asked, allowed: Rows | None) -> tuple[Rows, Floats]:
        if allowed is not None:
            rows = np.unique(np.asarray(allowed, np.int64))
            return rows, self._scores_at(asked, self._places_of(rows))
        total = self._totals(asked)
        return self.rows, total if self._places is None else total[self._places]

    def _asked(self, question: str) -> _Asked:
        """The question's distinct words that passages have; their order is that of all sums."""
        asked = asked_words(question)
        ids = self._lookup(asked)
        found: dict[int, float] = {}
        for word, weight in asked.items():
            term = ids.get(word)
            if self._is_tolerant and (term is None or not self._frequency(term)):
                term = self._vocabulary().nearest(word, self._frequency)
            if term is not None and self._frequency(term):
                found[term] = max(weight, found.get(term, 0.0))
        return self._parted({term: _Weight(weight, self._idf(term)) for term, weight in found.items()})

    def _parted(self, found: Mapping[int, _Weight]) -> _Asked:
        frequent = {term for term in found if self._frequency(term) * _FREQUENT >= len(self.rows)}
        return _Asked(
            {term: weight for term, weight in found.items() if term not in frequent},
            {term: weight for term, weight in found.items() if term in frequent},
        )

    def _frequency(self, term: int) -> int:
        """In how many passages of the store the word is."""
        if term not in self._frequencies:
            places = [places for _, places, _ in self._postings(term)]
            live = self._live
            count = sum(len(each) if live is None else int(live[each].sum()) for each in places)
            self._frequencies[term] = count
        return self._frequencies[term]

    def _postings(self, term: int) -> list[tuple[int, Places, Counts]]:
        """Of each part that has the word: the place of its first passage; places and counts (n,)."""
        base, added = self._parts
        first, second = base.of(term), added.of(term)
        found = [(0, *first)] if len(first[0]) else []
        if len(second[0]):
            found.append((len(base.rows), second[0] + np.int32(len(base.rows)), second[1]))
        return found

    def _idf(self, term: int) -> float:
        return inverse_frequency(self._passages, self._frequency(term))

    def _totals(self, asked: _Asked) -> Floats:
        """(P,) scores at all places."""
        total = self._of_rare(asked)
        self._add_frequent(asked.frequent, total)
        return total

    def _of_rare(self, asked: _Asked) -> Floats:
        """(P,) what rare words add to the scores at all places."""
        total = np.zeros(len(self._rows), np.float64)
        for term, weight in asked.rare.items():
            self._scatter(term, weight, total)
        return total

    def _add_frequent(self, terms: Mapping[int, _Weight], total: Floats) -> None:
        """Add what frequent words add to all passages (P,) to their scores (P,)."""
        added = [self._of_frequent(term, weight) for term, weight in terms.items()]
        for start in range(0, len(total), _BLOCK):
            block = total[start : start + _BLOCK]
            for each in added:
                block += each[start : start + _BLOCK]

    def _of_frequent(self, term: int, weight: _Weight) -> Floats:
        """(P,) what a frequent word adds to the score of each passage."""
        remembers, key = weight.weight == 1.0, (term, weight.idf)
        if remembers:
            with self._lock:
                found = self._remembered.get(key)
                if found is not None:
                    self._remembered.move_to_end(key)
                    return found
        found = np.zeros(len(self._rows), np.float64)
        self._scatter(term, weight, found)
        if remembers:
            with self._lock:
                self._remembered[key] = found
                if len(self._remembered) > self._most_remembered:
                    self._remembered.popitem(last=False)
        return found

    def _scatter(self, term: int, weight: _Weight, total: Floats) -> None:
        idf = weight.weight * weight.idf
        target = torch.from_numpy(total)
        for _, places, counts in self._postings(term):
            for start in range(0, len(places), _BLOCK):
                index = places[start : start + _BLOCK].copy()  # torch wants memory that it may write to
                values = idf * saturated(counts[start : start + _BLOCK], self._norms.take(index))
                target.index_add_(0, torch.from_numpy(index), torch.from_numpy(values))

    def _scores_at(self, asked: _Asked, places: Positions) -> Floats:
        """(N,) scores at these places."""
        if len(places) * _FEW > len(self._rows):
            return self._totals(asked)[places]
        total = np.zeros(len(places), np.float64)
        self._look_up(asked.rare, places, total)
        self._look_up(asked.frequent, places, total)
        return total

    def _look_up(self, terms: Mapping[int, _Weight], places: Positions, total: Floats) -> None:
        """Add what words add to the passages at these places (N,) to their scores (N,)."""
        for term, weight in terms.items():
            known = self._remembered.get((term, weight.idf)) if weight.weight == 1.0 else None
            if known is None:
                total += weight.weight * weight.idf * self._saturated_at(term, places)
            else:
                total += known[places]

    def _saturated_at(self, term: int, places: Positions) -> Floats:
        """(N,) what the word adds at these places, before idf."""
        counts = np.zeros(len(places), np.uint16)
        for _, having, often in self._postings(term):
            at = np.searchsorted(having, places.astype(np.int32)).clip(max=len(having) - 1)
            counts = np.where(having[at] == places, often[at], counts)
        return saturated(counts, self._norms[places])

    def _places_of(self, rows: Rows) -> Positions:
        if not len(rows):
            return np.empty(0, np.int64)
        if not len(self.rows):
            raise _unknown(int(rows[0]))
        at = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        if lost := rows[self.rows[at] != rows].tolist():
            raise _unknown(lost[0])
        return at.astype(np.int64) if self._places is None else self._places[at]


def _unknown(row: int) -> StoreError:
    return StoreError("passages of this store", f"no row {row}", "read the changed store again")

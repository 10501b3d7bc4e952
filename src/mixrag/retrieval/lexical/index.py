"""BM25 of all passages of one state of a store, exactly.

Postings are in two parts: those that were read from files, and those of passages added since. Places count through
both; passages that were removed since stay in the first part and are left out of results and frequencies, so every
score is that of a fresh index over the same passages, to the last bit.

A question's frequent words, the stop words, are most of its postings. ``scores`` remembers what they add to every
passage; ``top`` looks them up only where rarer words have been found (MaxScore: Turtle and Flood, 1995).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from mixrag.corpus.words import words
from mixrag.errors import StoreError
from mixrag.retrieval.lexical.bm25 import inverse_frequency, length_norms, most_possible, saturated
from mixrag.retrieval.lexical.postings import Counts, Places, Postings
from mixrag.retrieval.lexical.selection import best
from mixrag.utils.arrays import Floats, Rows

_FREQUENT = 16
"""What a word adds is remembered where one passage in so many has it,"""
_REMEMBERED_BYTES = 2**28
"""within this memory."""
_MARGIN = 1e-9
"""Relative; more than rounding may lower a bound."""

Positions = npt.NDArray[np.int64]
Lookup = Callable[[Collection[str]], Mapping[str, int]]
"""Words to their numbers; words that no passage has are left out."""


class LexicalIndex:
    """BM25 over the passages of one state of a store; safe to use in threads."""

    def __init__(
        self, base: Postings, added: Postings, live: npt.NDArray[np.bool_] | None, lookup: Lookup
    ) -> None:
        """``live`` (P,) says which of the passages of both parts are in the store; None: all of them."""
        self._parts, self._lookup = (base, added), lookup
        self._rows = np.concatenate([base.rows, added.rows])
        self._live = None if live is None or bool(live.all()) else live
        self._places = None if self._live is None else np.flatnonzero(self._live)
        self.rows: Rows = self._rows if self._places is None else self._rows[self._places]
        """(M,) row ids, ascending."""
        lengths = np.concatenate([base.lengths, added.lengths])
        total = int(lengths.sum() if self._places is None else lengths[self._places].sum())
        self._norms = length_norms(lengths, total, max(1, len(self.rows)))
        self._frequencies: dict[int, int] = {}
        self._remembered: OrderedDict[int, Floats] = OrderedDict()
        self._most_remembered = max(4, _REMEMBERED_BYTES // max(1, 8 * len(self._rows)))
        self._lock = Lock()

    def __len__(self) -> int:
        """M."""
        return len(self.rows)

    def scores(self, question: str, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """Row ids, ascending, and BM25 scores (M,) of all passages, or (N,) of the ``allowed`` ones.

        A score is 0 where the passage shares no word with the question. ``allowed`` (N,) does not change scores.

        Raises:
            StoreError: an allowed row that is not in the index.
        """
        if allowed is not None:
            rows = np.unique(np.asarray(allowed, np.int64))
            return rows, self.scores_of(question, rows)
        total = self._totals(self._terms(question))
        return self.rows, total if self._places is None else total[self._places]

    def scores_of(self, question: str, rows: Rows) -> Floats:
        """BM25 scores (N,) of these rows, in their order.

        Raises:
            StoreError: a row that is not in the index.
        """
        return self._scores_at(self._terms(question), self._places_of(np.asarray(rows, np.int64)))

    def top(self, question: str, n: int, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """Row ids and scores (K,) of the best passages that share a word with the question, K <= n, best first.

        Equal scores are in the order of rows. ``allowed`` (N,) restricts the search without changing scores.

        Raises:
            StoreError: an allowed row that is not in the index.
        """
        terms = self._terms(question)
        places = self._candidates(terms, n) if allowed is None else self._places_of(np.unique(allowed))
        if places is None:  # many passages may be among the best
            found = self._totals(terms)
            scores = found if self._places is None else found[self._places]
            rows = self.rows
        else:
            rows, scores = self._rows[places], self._scores_at(terms, places)
        order = best(scores, n)
        order = order[scores[order] > 0.0]
        return rows[order], scores[order]

    def _terms(self, question: str) -> list[int]:
        """Numbers of the question's distinct words that passages have, in its order, that of all sums."""
        asked = dict.fromkeys(words(question))
        ids = self._lookup(asked)
        return [ids[word] for word in asked if word in ids and self._frequency(ids[word])]

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
        return inverse_frequency(len(self.rows), self._frequency(term))

    def _totals(self, terms: list[int]) -> Floats:
        """(P,) scores at all places."""
        total = np.zeros(len(self._rows), np.float64)
        for term in terms:
            self._add(term, total)
        return total

    def _add(self, term: int, total: Floats) -> None:
        """Add what a word adds to each passage."""
        if self._frequency(term) * _FREQUENT < len(self._rows):
            self._scatter(term, total)
            return
        with self._lock:
            found = self._remembered.get(term)
            if found is not None:
                self._remembered.move_to_end(term)
        if found is None:
            found = np.zeros(len(self._rows), np.float64)
            self._scatter(term, found)
            with self._lock:
                self._remembered[term] = found
                if len(self._remembered) > self._most_remembered:
                    self._remembered.popitem(last=False)
        np.add(total, found, out=total)

    def _scatter(self, term: int, total: Floats) -> None:
        idf = self._idf(term)
        for _, places, counts in self._postings(term):
            index = np.array(places)  # a copy: torch wants memory that it may write to
            values = idf * saturated(counts, self._norms.take(index))
            torch.from_numpy(total).index_add_(0, torch.from_numpy(index), torch.from_numpy(values))

    def _scores_at(self, terms: list[int], places: Positions) -> Floats:
        """(N,) scores at these places."""
        if len(places) * 8 > len(self._rows):
            return self._totals(terms)[places]
        total = np.zeros(len(places), np.float64)
        for term in terms:
            total += self._idf(term) * self._saturated_at(term, places)
        return total

    def _saturated_at(self, term: int, places: Positions) -> Floats:
        """(N,) what the word adds at these places, before idf."""
        counts = np.zeros(len(places), np.uint16)
        for _, having, often in self._postings(term):
            at = np.searchsorted(having, places.astype(np.int32)).clip(max=len(having) - 1)
            counts = np.where(having[at] == places, often[at], counts)
        return saturated(counts, self._norms[places])

    def _candidates(self, terms: list[int], n: int) -> Positions | None:
        """Places of all passages that may be among the n best, ascending; None where they may be too many."""
        rarest = sorted(terms, key=self._frequency)
        bounds = [most_possible(self._idf(term)) for term in rarest]
        partial = np.zeros(len(self._rows), np.float64)
        touched = np.empty(0, np.int64)
        for place, term in enumerate(rarest):
            rest = sum(bounds[place:])
            if len(touched) >= n > 0:
                found = partial[touched]
                threshold = np.partition(found, len(found) - n)[len(found) - n]
                if rest * (1.0 + _MARGIN) < threshold * (1.0 - _MARGIN):
                    within: Positions = touched[(found + rest) * (1.0 + _MARGIN) >= threshold * (1.0 - _MARGIN)]
                    return within
            if self._frequency(term) * 4 > len(self._rows):
                return None
            self._scatter(term, partial)
            touched = np.union1d(touched, self._live_places(term))
        return touched

    def _live_places(self, term: int) -> Positions:
        places = np.concatenate([places for _, places, _ in self._postings(term)])
        return (places if self._live is None else places[self._live[places]]).astype(np.int64)

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

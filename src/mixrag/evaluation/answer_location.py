"""Which passages of a store hold an expected answer; where none does, where the answer is instead.

Every passage is read and compared (``passage_holds``): no word index is used, whose stems and word borders
would be others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mixrag.corpus import Passage, Store, Stretch
from mixrag.evaluation.relevance import VERDICTS, in_document
from mixrag.pairs.matching import holding_test, normalise
from mixrag.pairs.pairs import Pair

Place = Literal["passage", "document", "split", "filtered", "absent", "unknown document", "unwritten"]


@dataclass(frozen=True, slots=True)
class AnswerLocation:
    """Where an expected answer is."""

    place: Place
    """"passage": in passages that the filter lets through. "split": spread over neighbouring passages of a
    document. "filtered": only in what the filter shuts out. "document": in no passage literally, but the pair
    names a document of the store. "absent": in no passage. "unknown document": the pair's document is not in the
    store. "unwritten": a verdict (yes, no), which no passage needs to hold, and the pair names no document."""
    passages: tuple[Passage, ...] = ()
    """The passages that contain it, over which it is spread, or of which the document consists."""

    @property
    def is_let_through(self) -> bool:
        """True where passages count as holding it and may be retrieved."""
        return self.place in ("passage", "document")


def locate_answer(store: Store, pair: Pair, where: Mapping[str, str]) -> AnswerLocation:
    """Look for a pair's answers in the passages of its document, or in all where it names none.

    Args:
        store: all its passages are read, those of 256 documents at a time.
        pair: its own filter counts for nothing here.
        where: the filter of the question, as in ``Settings.where``.

    Raises:
        StoreError: the store changed meanwhile, or cannot be read.
    """
    is_verdict = all(normalise(answer) in VERDICTS for answer in pair.answers)
    if is_verdict and pair.document is None:
        return AnswerLocation("unwritten")
    own = None
    if pair.document is not None:
        paths = [record.path for record in store.documents() if in_document(record.path, pair)]
        own = frozenset(row for path in paths for row in store.rows_where({"document": path}).tolist())
    if own is not None and not own:
        return AnswerLocation("unknown document")
    allowed = frozenset(store.rows_where(where).tolist()) if where else None
    holding, split = ([], []) if is_verdict else _search(store, holding_test(pair.answers), own)
    return _choose(store, holding, split, own, allowed)


def _choose(
    store: Store,
    holding: list[int],
    split: list[list[int]],
    own: frozenset[int] | None,
    allowed: frozenset[int] | None,
) -> AnswerLocation:
    """The first place that is not empty, in the order of how easily the cause is corrected."""

    def through(rows: Sequence[int]) -> list[int]:
        return [row for row in rows if allowed is None or row in allowed]

    filtered = holding or [row for rows in split for row in rows]
    document = sorted(own or ())
    places: list[tuple[Place, Sequence[int]]] = [
        ("passage", through(holding)),
        ("split", next(filter(through, split), [])),
        ("filtered", filtered),
        ("document", through(document)),
        ("filtered", document),
    ]
    place, rows = next(((place, rows) for place, rows in places if rows), ("absent", []))
    return AnswerLocation(place, tuple(store.passages(rows)))


def _search(
    store: Store, test: Callable[[str], bool], own: frozenset[int] | None
) -> tuple[list[int], list[list[int]]]:
    """Rows that hold an answer; and of each document in which only several together do, the rows of those."""
    holding, split = list[int](), list[list[int]]()
    for stretches in store.by_document():
        ours = [stretch for stretch in stretches if own is None or stretch.row in own]
        found = [stretch.row for stretch in ours if test(stretch.text)]
        holding += found
        if not found and len(ours) > 1 and test(_joined(ours)):
            split.append([stretch.row for stretch in _fewest(ours, test)])
    return holding, split


def _fewest(stretches: Sequence[Stretch], test: Callable[[str], bool]) -> Sequence[Stretch]:
    """The first neighbours that hold an answer together, and no more: a longer text holds what its parts do."""
    sizes = range(len(stretches) + 1)
    end = bisect_left(sizes, True, key=lambda end: test(_joined(stretches[:end])))
    size = bisect_left(range(end + 1), True, key=lambda size: test(_joined(stretches[end - size : end])))
    return stretches[end - size : end]


def _joined(stretches: Sequence[Stretch]) -> str:
    """The text of neighbours as the document has it, any whitespace between them as one space."""
    before = [None, *stretches[:-1]]
    gaps = ("" if last is None or last.end == s.start else " " for last, s in zip(before, stretches, strict=False))
    return "".join(gap + stretch.text for gap, stretch in zip(gaps, stretches, strict=True))

"""Which passages are relevant to a question-answer pair.

A passage is relevant to a pair where it is from the pair's document and holds one of the answers
(``passage_holds``). Where the pair names no document, holding an answer is enough. Where the answers are no span
of the document, being from it is enough: verdicts (yes, no, maybe: "no" in a text is not evidence), and answers
that no passage of the document holds (free wording, or a span that the splitter cut). To a question without an
answer no passage is relevant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixrag.answers.pipeline import Pipeline
from mixrag.corpus import Passage, Store
from mixrag.errors import SettingError
from mixrag.pairs.matching import normalise, passage_holds
from mixrag.pairs.pairs import Pair
from mixrag.retrieval.shards.store import ShardedStore, as_sharded

VERDICTS = frozenset({"yes", "no", "maybe", "true", "false"})


def first_relevant(rag: Pipeline, pair: Pair, changes: Mapping[str, Any]) -> int | None:
    """Rank, from 1, of the first relevant passage among the k retrieved; see the head of this module."""
    flags = relevant(rag.store, pair, rag.passages(pair.question, **changes).passages)
    return flags.index(True) + 1 if True in flags else None


def relevant(store: Store, pair: Pair, passages: Sequence[Passage]) -> tuple[bool, ...]:
    """Whether each of the passages (k,) is relevant to a pair; see the head of this module."""
    if not pair.answers:
        return (False,) * len(passages)
    own = tuple(in_document(passage.document, pair) for passage in passages)
    holding = tuple(
        mine and passage_holds(passage.text, pair.answers) for mine, passage in zip(own, passages, strict=True)
    )
    if any(holding) and not is_verdict(pair):
        return holding
    return own if any(own) and not _is_span(store, pair, passages) else (False,) * len(own)


def in_document(document: str, pair: Pair) -> bool:
    """True where a passage is from what the pair names: a path, the end of it, a record, all records of a file.

    A pair that names nothing may have its answer anywhere.
    """
    named = pair.document
    if named is None or document.endswith(f"#{named}"):
        return True
    return any(path == named or path.endswith(f"/{named}") for path in (document, document.rpartition("#")[0]))


def is_verdict(pair: Pair) -> bool:
    """True where the answers are verdicts on a document, not spans of it."""
    return pair.document is not None and all(normalise(answer) in VERDICTS for answer in pair.answers)


def _is_span(store: Store, pair: Pair, found: Sequence[Passage]) -> bool:
    """True where a relevant passage must hold the answer, not just be from the document; some of it is found."""
    if pair.document is None:
        return True
    if is_verdict(pair):
        return False
    return any(passage_holds(passage.text, pair.answers) for passage in _passages_of(store, pair, found))


def _passages_of(store: Store, pair: Pair, found: Sequence[Passage]) -> Iterator[Passage]:
    """All passages of the pair's document, some over shards twice."""
    if (sharded := as_sharded(store)) is not None:  # no list has the documents behind servers
        for name in _names(pair, found):
            of_name = _asked(sharded, pair, name)
            yield from (passage for passage in of_name if in_document(passage.document, pair))
        return
    for record in store.documents():
        if in_document(record.path, pair):
            yield from store.passages(store.rows_where({"document": record.path}))


def _names(pair: Pair, found: Sequence[Passage]) -> list[str]:
    """Filters on documents that together let through all for which ``in_document`` is true.

    One exception: a record of a file with "/" or "#" in its own name, of which no passage is found, since filters
    know no patterns of such names.
    """
    named = pair.document
    exact = (each.document for each in found if in_document(each.document, pair))
    records = [document for document in exact if {*"/#"} & {*document.partition("#")[2]}]
    return [*dict.fromkeys([f"{named}", f"*/{named}", f"*#{named}", f"{named}#*", f"*/{named}#*", *records])]


def _asked(sharded: ShardedStore, pair: Pair, name: str) -> Iterator[Passage]:
    try:
        yield from sharded.passages_where({"document": [name]})
    except SettingError as error:
        expected = f"{error.expected}, to see whether {pair.document} states an answer"
        remedy = "leave out the pairs about it, or name the store itself in the place of its server"
        raise SettingError(expected, error.found, remedy) from None

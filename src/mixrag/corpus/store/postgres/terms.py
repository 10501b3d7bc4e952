"""The words of passages: numbers of words in the table ``terms``, a row of them for each passage in ``words``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from mixrag.corpus.passage import searched_text
from mixrag.corpus.store.postgres.connections import Database
from mixrag.corpus.store.prepared import SplitDocument
from mixrag.corpus.words import words

KNOWN = "SELECT t.term, t.id FROM unnest(%s::text[]) u JOIN terms t ON t.term = u"


def numbered_words(db: Database, splits: Sequence[SplitDocument]) -> Iterator[bytes]:
    """The words of each passage of the documents as the column ``words`` has them; inside a transaction."""
    found = [words(searched_text(s.front_title, p.context, p.text)) for s in splits for p in s.passages]
    distinct = list(dict.fromkeys(chain.from_iterable(found)))
    ids: dict[str, int] = dict(db.execute(KNOWN, (distinct,)).fetchall())
    if new := [word for word in distinct if word not in ids]:
        # Only new ones: a conflict would use a number up.
        query = "INSERT INTO terms (term) SELECT u FROM unnest(%s::text[]) WITH ORDINALITY v (u, n) ORDER BY n"
        ids |= dict(db.execute(f"{query} RETURNING term, id", (new,)).fetchall())
    return (np.fromiter(map(ids.__getitem__, each), "<u4", len(each)).tobytes() for each in found)

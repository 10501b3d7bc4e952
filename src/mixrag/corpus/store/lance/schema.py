"""The columns of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mixrag.corpus.store.lance.tables import pyarrow
from mixrag.utils.arrays import Vectors

Row = tuple[int, int, int, int, int, str, bytes, "int | None", str, str, bytes]
"""A passage; see ``passage_schema``."""


def passage_schema() -> Any:
    """A row is a passage: row id, document, place in it, text, hash of what was embedded, numbers of its words."""
    pa = pyarrow()
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("document", pa.int64(), nullable=False),
            pa.field("ordinal", pa.int64(), nullable=False),
            pa.field("start", pa.int64(), nullable=False),
            pa.field("stop", pa.int64(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("text_hash", pa.binary(32), nullable=False),
            pa.field("page", pa.int64()),
            pa.field("place", pa.string(), nullable=False),
            pa.field("context", pa.string(), nullable=False),
            pa.field("words", pa.binary(), nullable=False),
        ]
    )


def passage_rows(rows: Iterable[Row]) -> Any:
    """A table of pyarrow."""
    pa, schema = pyarrow(), passage_schema()
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def vector_rows(hashes: Sequence[bytes], vectors: Vectors) -> Any:
    """A table of pyarrow: the vectors (B, D) of texts, by the hashes (B,) of those."""
    pa, dimension = pyarrow(), vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, "<f4").reshape(-1), pa.float32())
    columns = [pa.array(list(hashes), pa.binary(32)), pa.FixedSizeListArray.from_arrays(flat, dimension)]
    return pa.table(columns, names=["text_hash", "vector"])

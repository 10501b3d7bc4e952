"""An index of the caller's own, completed and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixrag.errors import PluginError
from mixrag.retrieval.index.protocol import Hits, Index
from mixrag.utils.arrays import Floats, Rows, Vectors
from mixrag.utils.plugins import check_plugin

_HOWTO = "see the how-to on Index in the documentation"


@dataclass(frozen=True)
class PluginIndex:
    """What a builder returned: optional members get their defaults, and hits are checked."""

    given: Index
    rows: Rows
    """(M,) ascending: all row ids that it was built over."""
    read: Callable[[Rows], Vectors]
    """Vectors (K, D) of row ids (K,), in their order."""

    @property
    def description(self) -> str:
        """See ``CompleteIndex.description``."""
        own = getattr(self.given, "description", None)
        return str(own) if own is not None else f"{type(self.given).__name__} over {len(self)} passages"

    def __len__(self) -> int:
        """M."""
        return len(self.rows)

    def search(self, question: Vectors, k: int, allowed: Rows | None = None) -> Hits:
        """See ``Index.search``.

        Raises:
            PluginError: hits that are not at most k distinct rows of the store (and of ``allowed``), each with a
                finite inner product.
        """
        return self._checked(self.given.search(question, k, allowed), k, allowed)

    def products(self, question: Vectors, allowed: Rows | None = None) -> Hits | None:
        """See ``CompleteIndex.products``; None where the index has none.

        Raises:
            PluginError: hits that are not all rows of the store (or of ``allowed``), each with a finite product.
        """
        compute = getattr(self.given, "products", None)
        found = None if compute is None else compute(question, allowed)
        if found is None:
            return None
        count = len(self if allowed is None else allowed)
        hits = self._checked(found, count, allowed)
        if len(hits.rows) < count:
            raise self._error(f"products of all {count} rows, or None,", f"{len(hits.rows)}")
        return hits

    def vectors_of(self, rows: Rows) -> Vectors:
        """See ``CompleteIndex.vectors_of``; they are read from the store."""
        return self.read(rows)

    def log_normaliser_bounds(
        self, question: Vectors, temperature: float, known: Hits | None = None
    ) -> tuple[float, float] | None:
        """See ``CompleteIndex.log_normaliser_bounds``; None where the index has none."""
        compute = getattr(self.given, "log_normaliser_bounds", None)
        found = None if compute is None else compute(question, temperature)
        if found is None:
            return None
        low, high = (self._number(each, "log_normaliser_bounds") for each in found)
        return low, high

    def _checked(self, found: Any, k: int, allowed: Rows | None) -> Hits:
        try:
            rows, products = np.asarray(found.rows), _floats(found.inner_products)
        except (AttributeError, TypeError, ValueError):
            raise self._error("Hits(rows, inner_products)", f"a {type(found).__name__}") from None
        if rows.ndim != 1 or rows.shape != products.shape or len(rows) > k:
            raise self._error(f"rows (K,) and inner products (K,), K <= {k}", f"{rows.shape} and {products.shape}")
        if rows.dtype.kind not in "iu" or len(np.unique(rows)) != len(rows):
            raise self._error("distinct row ids", f"{rows.dtype} {rows[:5].tolist()}")
        if not np.isfinite(products).all():
            raise self._error("finite inner products", "NaN or infinity among them")
        strangers = rows[~np.isin(rows, self.rows if allowed is None else allowed)]
        if len(strangers):
            kind = "rows that it was built with" if allowed is None else "rows that the filter allows"
            raise self._error(kind, f"row {strangers[0]}")
        order = np.argsort(-products, kind="stable")
        return Hits(rows[order].astype(np.int64), products[order])

    def _number(self, value: Any, name: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if np.isnan(number):
            raise self._error(f"a number or None of {name}", repr(value)[:80])
        return number

    def _error(self, expected: str, found: str) -> PluginError:
        return PluginError(f"{expected} from the index {type(self.given).__name__}", found, _HOWTO)


def _floats(values: Any) -> Vectors | Floats:
    """(K,) as an array of float64 is, else float32."""
    if getattr(values, "dtype", None) == np.float64:
        return np.asarray(values, dtype=np.float64)
    return np.asarray(values, dtype=np.float32)


def completed_index(given: Any, rows: Rows, read: Callable[[Rows], Vectors]) -> PluginIndex:
    """The index that a builder returned for these rows (M,), with nothing left optional.

    ``read`` gives the vectors (K, D) of row ids (K,).

    Raises:
        PluginError: it has no ``search``.
    """
    return PluginIndex(check_plugin(given, Index, "the result of the index builder"), rows, read)

"""An index of the caller's own, completed and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixrag.errors import PluginError
from mixrag.retrieval.index.protocol import Hits, Index
from mixrag.utils.arrays import Rows, Vectors
from mixrag.utils.plugins import check_plugin

_HOWTO = "see the how-to on Index in the documentation"


@dataclass(frozen=True)
class PluginIndex:
    """What a builder returned: optional members get their defaults, and hits are checked."""

    given: Index
    rows: Rows
    """(M,) ascending: all row ids that it was built over."""

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
        found = self.given.search(question, k, allowed)
        try:
            rows, products = np.asarray(found.rows), np.asarray(found.inner_products, dtype=np.float32)
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

    def log_normaliser(self, question: Vectors, temperature: float, allowed: Rows | None = None) -> float | None:
        """See ``CompleteIndex.log_normaliser``; None where the index has none.

        Raises:
            PluginError: NaN, or nothing that is a number.
        """
        compute = getattr(self.given, "log_normaliser", None)
        found = None if compute is None else compute(question, temperature, allowed)
        return None if found is None else self._number(found, "log_normaliser")

    def log_normaliser_bounds(self, question: Vectors, temperature: float) -> tuple[float, float] | None:
        """See ``CompleteIndex.log_normaliser_bounds``; None where the index has none."""
        compute = getattr(self.given, "log_normaliser_bounds", None)
        found = None if compute is None else compute(question, temperature)
        if found is None:
            return None
        low, high = (self._number(each, "log_normaliser_bounds") for each in found)
        return low, high

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


def completed_index(given: Any, rows: Rows) -> PluginIndex:
    """The index that a builder returned for these rows (M,), with nothing left optional.

    Raises:
        PluginError: it has no ``search``.
    """
    return PluginIndex(check_plugin(given, Index, "the result of the index builder"), rows)

"""Names for the numpy arrays that several packages exchange."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""(M, D) vectors of passages, or (B, D) of questions."""
Rows = npt.NDArray[np.int64]
"""(K,) row ids of passages in a store, which are never given twice."""
Floats = npt.NDArray[np.float64]


def places_in(ascending: Rows, wanted: Rows) -> Rows:
    """(N,) places of rows (N,) among ascending ones (M,), all different; any up to M for one that is not there."""
    if len(ascending) and int(ascending[-1]) - int(ascending[0]) == len(ascending) - 1:
        found: Rows = (wanted - ascending[0]).clip(0, len(ascending))  # no row is missing between them
    else:
        found = np.searchsorted(ascending, wanted)
    return found

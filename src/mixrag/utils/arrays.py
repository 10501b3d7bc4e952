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
    """(N,) places of the wanted rows (N,) among ascending distinct ones (M,); of one that is not there any up to M."""
    if len(ascending) and int(ascending[-1]) - int(ascending[0]) == len(ascending) - 1:
        return (wanted - ascending[0]).clip(0, len(ascending))  # no row is missing between them
    return np.searchsorted(ascending, wanted)

"""Names for the numpy arrays that several packages exchange."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""(M, D) vectors of passages, or (B, D) of questions."""
Rows = npt.NDArray[np.int64]
"""(K,) row ids of passages in a store, which are never given twice."""
Floats = npt.NDArray[np.float64]

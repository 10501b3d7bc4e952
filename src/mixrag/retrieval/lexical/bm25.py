"""BM25, as pure functions.

    BM25(x, z) = Σ_w c_w idf(w) f (k₁ + 1) / (f + k₁ (1 - b + b |z| / avg))     over the distinct words w of x
    idf(w)     = ln(1 + (M - n + ½) / (n + ½))

c_w: 1, or ½ and less for the words of one compound (``corpus.words.asked_words``); f: how often w is in z;
|z|: words of z; avg: mean of |z| over all M passages; n: passages that have w. The idf is that of Lucene, which is
positive even for a word of every passage, so that a passage shares a word with the question if and only if its
score is positive.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009; on its
variants and how little they differ: Kamphuis et al., Which BM25 Do You Mean?, ECIR 2020.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mixrag.utils.arrays import Floats

K1 = 1.2
"""How slowly repetitions of a word stop to count; the usual value, and that of SQLite's FTS5."""
B = 0.75
"""How much the length of a passage counts; the usual value."""


def inverse_frequency(passages: int, having: int) -> float:
    """idf of a word that ``having`` of all ``passages`` have; positive."""
    return math.log1p((passages - having + 0.5) / (having + 0.5))


def length_norms(lengths: npt.NDArray[Any], total: int, passages: int) -> Floats:
    """k₁ (1 - b + b |z| / avg) of passages (P,), from their words (P,) and the words of all ``passages``."""
    mean = total / passages if total else 1.0
    return K1 * (1.0 - B + B * (lengths.astype(np.float64) / mean))


def saturated(counts: npt.NDArray[Any], norms: Floats) -> Floats:
    """(N,) f (k₁ + 1) / (f + norm), for counts f (N,) and length norms (N,)."""
    often = counts.astype(np.float64)
    return often * (K1 + 1.0) / (often + norms)

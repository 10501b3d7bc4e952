"""The length of the longest vector of an encoder, noted with every batch of vectors."""

from __future__ import annotations

import math

import numpy as np

from mixrag.utils.arrays import Vectors

_BITS = 22


def norm_key(fingerprint: str) -> str:
    """The setting of a store in a database that has the norm of this encoder.

    It stays when the store changes to another encoder. When the store changes back, the first vector replaces it.
    """
    return f"largest_norm {fingerprint}"


def grown_norm(before: float | None, vectors: Vectors, *, first: bool) -> float | None:
    """At least the length of every vector so far.

    Rounded up by at most 5e-7 of it: normalised vectors, whose lengths differ in the last bits alone, then need
    one note, not one for each batch with a slightly longer one.

    Args:
        before: the same without these; None: not known.
        vectors: (B, D) that are added.
        first: the encoder has no others.

    Returns:
        None where vectors are there whose length was never noted.
    """
    if before is None and not first:
        return None
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    longest = float(lengths[np.isfinite(lengths)].max(initial=0.0))  # others are damaged, and never searched
    mantissa, exponent = math.frexp(longest)
    rounded = math.ldexp(math.ceil(mantissa * 2**_BITS), exponent - _BITS)
    return rounded if first or before is None else max(before, rounded)

"""Encoder: what turns texts into vectors must offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """The two maps q(x) and d(z) of a bi-encoder into one space of D dimensions."""

    @property
    def name(self) -> str:
        """Path, hub name or package name."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever passage vectors would: the index is valid for one fingerprint only."""
        ...

    @property
    def temperature(self) -> float:
        """The T that suits the scale of its inner products."""
        ...

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """(B, D) float32."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(M, D) float32."""
        ...

    def passage_text(self, title: str, text: str) -> str:
        """The string that is embedded for a passage."""
        ...

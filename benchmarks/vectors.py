"""Synthetic vectors that resemble sentence embeddings, for corpora that would take days to embed.

Length one; a common mean, topics of very different size, documents in topics, passages in documents; the variance
along the axes falls as a power, and the axes are rotated at random. A question is a passage plus something
else of the same topic. The constants were chosen so that spectrum, similarities of neighbours and of
random pairs, and the recall of clusters and of codes are like those of 6,814 passages and 1,200 questions under
all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixrag.utils.arrays import Vectors

MEAN = 0.32
"""Length of the common mean."""
SHARES = (0.25, 0.25, 0.5)
"""Of the rest of the variance: topic, document, passage."""
FALL = 0.55
"""Standard deviation along axis i ∝ (i + 3)^-FALL."""
PER_TOPIC, PER_DOCUMENT = 400, 8
_BLOCK = 50_000


@dataclass(frozen=True)
class World:
    """Topics and documents; all else is drawn from ``random``, in order."""

    random: np.random.Generator
    spread: Vectors
    rotation: Vectors
    mean: Vectors
    topics: Vectors
    documents: Vectors
    topic_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, passages: int, dimension: int = 384, seed: int = 0) -> World:
        """For so many passages."""
        random = np.random.default_rng(seed)
        spread = (np.arange(dimension) + 4.0) ** -FALL
        spread = (spread / np.linalg.norm(spread)).astype(np.float32)
        rotation = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(np.float32)
        mean = random.standard_normal(dimension)
        topics, documents = max(1, passages // PER_TOPIC), max(1, passages // PER_DOCUMENT)
        weights = 1 / (np.arange(topics) + 10.0)
        return cls(
            random,
            spread,
            rotation,
            (mean * MEAN / np.linalg.norm(mean)).astype(np.float32),
            _cloud(random, topics, spread),
            _cloud(random, documents, spread),
            random.choice(topics, documents, p=weights / weights.sum()),
        )

    def passages(self, count: int) -> Iterator[tuple[Vectors, npt.NDArray[np.int64]]]:
        """Blocks of vectors and of the topics that they belong to."""
        topic, document, own = (np.float32(np.sqrt((1 - MEAN**2) * share)) for share in SHARES)
        for start in range(0, count, _BLOCK):
            of = self.random.integers(0, len(self.documents), min(_BLOCK, count - start))
            shared = self.mean + topic * self.topics[self.topic_of[of]] + document * self.documents[of]
            yield self._unit(shared + own * _cloud(self.random, len(of), self.spread)), self.topic_of[of]

    def questions(self, passages: Vectors, topics: npt.NDArray[np.int64]) -> Vectors:
        """One for each of these passages and their topics."""
        share = np.float32(0.7 * np.sqrt((1 - MEAN**2) * SHARES[0]))
        other = self._unit(
            self.mean + share * self.topics[topics] + _cloud(self.random, len(passages), self.spread)
        )
        near = self.random.uniform(0.15, 0.55, (len(passages), 1)).astype(np.float32)
        mixed = near * passages + (1 - near) * other
        return np.ascontiguousarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))

    def _unit(self, vectors: Vectors) -> Vectors:
        turned = vectors @ self.rotation
        return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


def _cloud(random: np.random.Generator, count: int, spread: Vectors) -> Vectors:
    return random.standard_normal((count, len(spread)), dtype=np.float32) * spread

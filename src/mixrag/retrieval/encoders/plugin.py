"""An encoder of the caller's own, completed and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mixrag.corpus import Tokens, title_and_text
from mixrag.corpus.splitters.tokens import ESTIMATED
from mixrag.errors import PluginError
from mixrag.retrieval.encoders.protocol import Encoder
from mixrag.utils.arrays import Vectors
from mixrag.utils.plugins import check_plugin

COSINE_TEMPERATURE = 0.045
"""Default where vectors have length one; a raw cosine as a logit would make every prior nearly uniform.

It maximises the prior mass of the passages with the answer, over the training questions of a general and
a medical corpus (docs/results.md).
"""
_HOWTO = "see the how-to on Encoder in the documentation"


@dataclass(frozen=True)
class PluginEncoder:
    """An object of the ``Encoder`` protocol: optional members get their defaults, and vectors are checked."""

    given: Encoder

    @cached_property
    def name(self) -> str:
        """See ``Encoder.name``."""
        return self._text("name")

    @cached_property
    def fingerprint(self) -> str:
        """See ``Encoder.fingerprint``."""
        return self._text("fingerprint")

    @cached_property
    def temperature(self) -> float:
        """Its own, else ``COSINE_TEMPERATURE`` where a vector has length one, and 1 where it has not.

        Raises:
            PluginError: it is not a positive number.
        """
        own: Any = getattr(self.given, "temperature", None)
        if own is None:
            return COSINE_TEMPERATURE if abs(float(np.linalg.norm(self._probe)) - 1.0) < 1e-3 else 1.0
        if not isinstance(own, (int, float)) or not 0.0 < own < math.inf:
            raise self._error("a temperature > 0", repr(own)[:80])
        return float(own)

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_questions``.

        Raises:
            PluginError: not one finite vector a question, of the dimension of the passages.
        """
        return self._checked(
            self.given.encode_questions(list(questions)), len(questions), "question", self._probe.shape[1]
        )

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_passages``.

        Raises:
            PluginError: not one finite vector a passage.
        """
        return self._checked(self.given.encode_passages(list(texts)), len(texts), "passage")

    def passage_text(self, title: str, text: str) -> str:
        """Its own choice, else the title on a line of its own, then the text."""
        own: Any = getattr(self.given, "passage_text", None)
        return title_and_text(title, text) if own is None else own(title, text)

    @property
    def tokens(self) -> Tokens:
        """Its own, else an estimate."""
        own: Tokens | None = getattr(self.given, "tokens", None)
        return ESTIMATED if own is None else own

    @cached_property
    def _probe(self) -> Vectors:
        """(1, D) the vector of a short passage: it shows dimension and length."""
        return self.encode_passages(["a passage"])

    def _checked(self, found: Any, count: int, kind: str, dimension: int | None = None) -> Vectors:
        expected = f"{count} finite vectors, one a {kind}, as an array ({count}, {dimension or 'D'})"
        try:
            vectors: Vectors = np.ascontiguousarray(found, dtype=np.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = f"a {type(found).__name__} that is no such array ({' '.join(str(error).split())[:80]})"
            raise self._error(expected, reason) from None
        if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] != (dimension or vectors.shape[1]):
            raise self._error(expected, f"the shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise self._error(expected, "NaN or infinity among them")
        return vectors

    def _text(self, member: str) -> str:
        value: Any = getattr(self.given, member)
        if not isinstance(value, str) or not value:
            raise self._error(f"a {member} that is a text and not empty", repr(value)[:80])
        return value

    def _error(self, expected: str, found: str) -> PluginError:
        return PluginError(f"{expected} from the encoder {type(self.given).__name__}", found, _HOWTO)


def completed_encoder(given: Any, where: str = "encoder") -> PluginEncoder:
    """The object with nothing left optional.

    Args:
        given: an object of the ``Encoder`` protocol.
        where: the argument that it was given as, for the message.

    Raises:
        PluginError: a class, or an object that lacks a member.
    """
    return given if isinstance(given, PluginEncoder) else PluginEncoder(check_plugin(given, Encoder, where))

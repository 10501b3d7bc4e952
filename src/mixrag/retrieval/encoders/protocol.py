"""Encoder: two maps from text to vectors, one for questions and one for passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mixrag.corpus import Tokens
from mixrag.utils.arrays import Vectors


class Encoder(Protocol):
    """Plug-in point: the two maps q(x) and d(z) of a bi-encoder into one space of D dimensions.

    Optional members, with the default that ``PluginEncoder`` supplies:

    - ``temperature`` (float > 0): the T that suits the scale of the inner products; default 0.045 where vectors
      have length one, else 1.
    - ``passage_text(title, text) -> str``: the string that is embedded for a passage; ``text`` begins with the
      passage's context, if it has one. Default: the title on a line of its own, then the text.
    - ``tokens`` (``Tokens``): its tokens, by which passages are measured; default an estimate, without a limit.
    """

    @property
    def name(self) -> str:
        """For people: path, hub name or any other."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever passage vectors would: the vectors of a store belong to one fingerprint."""
        ...

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """(B, D) float32, finite."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(M, D) float32, finite."""
        ...


class CompleteEncoder(Encoder, Protocol):
    """An encoder with nothing left optional."""

    @property
    def temperature(self) -> float:
        """The T that suits the scale of its inner products."""
        ...

    @property
    def tokens(self) -> Tokens:
        """Its tokens, by which passages are measured."""
        ...

    def passage_text(self, title: str, text: str) -> str:
        """The string that is embedded for a passage; ``text`` begins with its context, if it has one."""
        ...

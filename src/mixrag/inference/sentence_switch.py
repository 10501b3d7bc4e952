"""Where the passage may change if it changes at the ends of sentences only.

Whether an answer so far ends a sentence is decided by its text alone, never by what follows: then ρ_t is a
function of y_≤t, every next token has one distribution, and scoring, streaming and beam search all compute the
same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.corpus.splitters.sentences import has_ended
from mixrag.generator.protocol import Generator

RECENT = 128
"""So many tokens, and up to as many more before them, are looked at for the end of a sentence: the time for an
answer grows with its length, not with the square of it."""


def ends_sentence(before: str, text: str) -> bool:
    """Whether the token that made ``text`` of ``before`` ends a sentence.

    A further mark, quotation mark or space after an end is no other end: a sentence has a letter or digit.
    """
    if not has_ended(text):
        return False
    added = text[len(before) :] if text.startswith(before) else text
    return any(map(str.isalnum, added)) or not has_ended(before)


def ends_at(generator: Generator, tokens: Sequence[int]) -> bool:
    """Whether an answer so far, of at least one token, ends a sentence with its last one.

    Of a long one the last tokens decide, the same of them whatever follows.
    """
    start = max(0, len(tokens) // RECENT - 1) * RECENT
    text = generator.text(tokens[start:])
    return has_ended(text) and ends_sentence(generator.text(tokens[start:-1]), text)


def sentence_ends(generator: Generator, tokens: Sequence[int]) -> tuple[bool, ...]:
    """For each of T answer tokens, whether the answer up to it ends a sentence."""
    return tuple(ends_at(generator, tokens[: t + 1]) for t in range(len(tokens)))


@dataclass(frozen=True, slots=True)
class AnswersSoFar:
    """W answers under way, of whose texts the switch is a function."""

    generator: Generator
    tokens: tuple[tuple[int, ...], ...] = ((),)
    """One answer that has not begun, unless others are given."""

    def after(self, answers: Tensor, tokens: Tensor) -> AnswersSoFar:
        """The answers ``answers`` (W',), continued by one token each (W',)."""
        pairs = zip(answers.tolist(), tokens.tolist(), strict=True)
        return AnswersSoFar(self.generator, tuple((*self.tokens[answer], token) for answer, token in pairs))

    def ended(self, answers: Tensor, tokens: Tensor) -> Tensor:
        """(W',) float64, 1 where the answers ``answers`` end a sentence with these tokens, else 0."""
        ends = [ends_at(self.generator, each) for each in self.after(answers, tokens).tokens]
        return torch.tensor(ends, dtype=torch.float64)

"""Where the passage may change if it changes at the ends of sentences only.

Whether an answer so far ends a sentence is decided by its text alone, never by what follows: then ρ_t is a
function of y_≤t, every next token has one distribution, and scoring, streaming and beam search all compute the
same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mixrag.corpus.splitters.sentences import has_ended
from mixrag.generator.protocol import Generator


def ends_sentence(before: str, text: str) -> bool:
    """Whether the token that made ``text`` of ``before`` ends a sentence.

    A further mark, quotation mark or space after an end is no other end: a sentence has a letter or digit.
    """
    if not has_ended(text):
        return False
    added = text[len(before) :] if text.startswith(before) else text
    return any(map(str.isalnum, added)) or not has_ended(before)


def sentence_ends(generator: Generator, tokens: Sequence[int]) -> tuple[bool, ...]:
    """For each of T answer tokens, whether the answer up to it ends a sentence."""
    texts = ["", *(generator.text(tokens[: t + 1]) for t in range(len(tokens)))]
    return tuple(ends_sentence(before, text) for before, text in pairwise(texts))


@dataclass(frozen=True, slots=True)
class AnswersSoFar:
    """W answers under way, of whose texts the switch is a function."""

    generator: Generator
    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]

    @classmethod
    def start(cls, generator: Generator) -> AnswersSoFar:
        """One answer that has not begun."""
        return cls(generator, ((),), ("",))

    def after(self, answers: Tensor, tokens: Tensor) -> AnswersSoFar:
        """The answers ``answers`` (W',), continued by one token each (W',)."""
        pairs = zip(answers.tolist(), tokens.tolist(), strict=True)
        written = tuple((*self.tokens[answer], token) for answer, token in pairs)
        return AnswersSoFar(self.generator, written, tuple(map(self.generator.text, written)))

    def ended(self, answers: Tensor, tokens: Tensor) -> Tensor:
        """(W',) float64, 1 where the answers ``answers`` end a sentence with these tokens, else 0."""
        texts = self.after(answers, tokens).texts
        pairs = zip(answers.tolist(), texts, strict=True)
        ends = [ends_sentence(self.texts[answer], text) for answer, text in pairs]
        return torch.tensor(ends, dtype=torch.float64)

"""Answers that are stretches of their passage: a language model that may only copy.

Each branch writes tokens that continue some occurrence of its answer so far in its own passage, or the end. Its
distribution over these is that of the model, divided by their sum. That is a distribution over texts of the
passage that begin and end with a word, and the empty text. It is not the model's distribution conditioned on such
texts: each token is divided by what is possible at its own place.

    p'(y_t | x, z, y_<t) = p(y_t | x, z, y_<t) / Σ over allowed v of p(v | x, z, y_<t)

A component without passages is not constrained. A component of several passages may copy from each of them. Of a
passage that was shortened to fit into the prompt only what the model reads may be copied, to its last whole word.
With a switch above 0, a passage in which the answer so far does not occur writes nothing more, so that the
probabilities of all answers add up to less than one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.generator.occurrences import Occurrences, Source, Vocabulary, whole_words
from mixrag.generator.protocol import (
    Branches,
    Generator,
    JoiningBranches,
    Prompt,
    QuestionReader,
    Shortened,
    answer_room,
    can_join,
)
from mixrag.generator.questions import start_with_question
from mixrag.generator.rounding import stated_rounding
from mixrag.generator.token_bytes import token_bytes

ROWS = 32
"""Prompts that ``log_likelihood`` reads as one batch: bounds its memory."""


@dataclass(frozen=True, slots=True)
class CopyPrompt(Prompt):
    """A prompt with the texts that its answer may be copied from."""

    inner: Prompt | None = None
    """The prompt as the model made it."""
    texts: tuple[str, ...] = ()
    """Of the component's passages, as far as the model reads them; none: the answer is not constrained."""


@dataclass(frozen=True)
class CopyingBranches:
    """Rows of a ``CopyingGenerator``: those of its model, and where their answers occur."""

    generator: CopyingGenerator
    branches: Branches
    answers: tuple[Occurrences | None, ...]
    """For each row; None: not constrained."""

    @cached_property
    def log_probs(self) -> Tensor:
        """(R, V); -inf everywhere in a row whose answer occurs nowhere, which has probability zero already."""
        rows = self.branches.log_probs
        if not any(self.answers):
            return rows
        found = torch.full_like(rows, -math.inf)
        for row, answer in enumerate(self.answers):
            if answer is None:
                found[row] = rows[row]
            elif answer.possible:
                self.generator.fill(found[row], rows[row], answer)
        return found

    def advance(self, rows: Tensor, tokens: Tensor) -> CopyingBranches:
        """See ``Branches.advance``."""
        answers = self._after(rows.tolist(), tokens.tolist())
        return CopyingBranches(self.generator, self.branches.advance(rows, tokens), answers)

    def select(self, rows: Tensor) -> CopyingBranches:
        """See ``Branches.select``."""
        answers = tuple(self.answers[row] for row in rows.tolist())
        return CopyingBranches(self.generator, self.branches.select(rows), answers)

    @property
    def joins(self) -> bool:
        """Where those of the model can be joined."""
        return can_join(self.branches)

    def join(self, rows: Tensor, others: Sequence[tuple[CopyingBranches, Tensor]]) -> CopyingBranches:
        """See ``JoiningBranches.join``."""
        parts = [(self, rows), *others]
        answers = tuple(each.answers[row] for each, some in parts for row in some.tolist())
        joined = cast(JoiningBranches, self.branches).join(rows, [(each.branches, some) for each, some in others])
        return CopyingBranches(self.generator, joined, answers)

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``; a pass for each token, since the sum over the allowed ones is needed."""
        columns, branches = [], self
        for position, token in enumerate(tokens):
            columns.append(branches.log_probs[:, token])
            if position + 1 < len(tokens):
                everyone = torch.arange(len(self.answers), device=columns[0].device)
                branches = branches.advance(everyone, torch.full_like(everyone, token))
        return torch.stack(columns, -1)

    def _after(self, rows: Sequence[int], tokens: Sequence[int]) -> tuple[Occurrences | None, ...]:
        written = self.generator.vocabulary.bytes
        chosen = ((self.answers[row], token) for row, token in zip(rows, tokens, strict=True))
        return tuple(None if answer is None else answer.then(written[token]) for answer, token in chosen)


@dataclass(frozen=True)
class CopyingGenerator:
    """A ``Generator`` whose answers are texts of their passages; see the module.

    A text that a passage does not have has log-likelihood -inf under it.
    """

    generator: Generator

    @property
    def name(self) -> str:
        """That of the language model."""
        return self.generator.name

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.generator.vocabulary_size

    @property
    def stop_tokens(self) -> frozenset[int]:
        """See ``Generator.stop_tokens``."""
        return self.generator.stop_tokens

    @property
    def context_size(self) -> int:
        """See ``Generator.context_size``."""
        return self.generator.context_size

    @property
    def rounding(self) -> float | None:
        """That of the language model: log-odds between the tokens that are allowed move by no more."""
        return stated_rounding(self.generator)

    @property
    def prefix_cache(self) -> object:
        """That of the language model; None where it has none."""
        return getattr(self.generator, "prefix_cache", None)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens by what they write; stop tokens write nothing."""
        written = token_bytes(self.generator)
        return Vocabulary([None if i in self.stop_tokens else each for i, each in enumerate(written)])

    @cached_property
    def end(self) -> int:
        """The stop token of an answer that no token can continue."""
        return self.generator.answer_tokens("")[-1]

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> CopyPrompt:
        """See ``Generator.prompt``."""
        inner = self.generator.prompt(question, passages, reserve)
        short = {each.passage: each for each in inner.shortened}
        texts = tuple(
            self._read_of(passage, short[passage.id], inner) if passage.id in short else passage.text
            for passage in passages
        )
        parts = inner.header, inner.passages, inner.question, inner.shortened
        return CopyPrompt(*parts, inner, texts, own_question=inner.own_question)

    def prompt_text(self, prompt: Prompt) -> str:
        """See ``Generator.prompt_text``."""
        return self.generator.prompt_text(_inner(prompt))

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """See ``Generator.answer_tokens``."""
        return self.generator.answer_tokens(answer)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return self.generator.text(tokens)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``."""
        batches = (prompts[first : first + ROWS] for first in range(0, len(prompts), ROWS))
        return torch.cat([self.start(batch).score(answer).cpu() for batch in batches])

    @property
    def question_log_likelihood(self) -> Callable[[Sequence[Prompt]], Tensor]:
        """That of the language model, which need not copy the question; no such attribute where it has none."""
        found = cast(QuestionReader, self.generator).question_log_likelihood
        return lambda prompts: found([*map(_inner, prompts)])

    def start_with_question(self, prompts: Sequence[Prompt]) -> tuple[CopyingBranches, Tensor]:
        """``start`` and ``question_log_likelihood``."""
        branches, log_question = start_with_question(self.generator, [*map(_inner, prompts)])
        return CopyingBranches(self, branches, tuple(map(self._none_yet, prompts))), log_question

    def answer_room(self, prompts: Sequence[Prompt]) -> int:
        """That of the language model."""
        return answer_room(self.generator, [*map(_inner, prompts)])

    def start(self, prompts: Sequence[Prompt]) -> CopyingBranches:
        """See ``Generator.start``."""
        answers = tuple(map(self._none_yet, prompts))
        return CopyingBranches(self, self.generator.start([*map(_inner, prompts)]), answers)

    def fill(self, found: Tensor, log_probs: Tensor, answer: Occurrences) -> None:
        """Write the distribution (V,) of the next token of an answer that occurs, given the model's ``log_probs``.

        Where no token continues it, or the model gives zero to all that do, it ends.
        """
        tokens = [*answer.tokens, *(sorted(self.stop_tokens) if answer.may_end else ())]
        total = log_probs[tokens].logsumexp(-1) if tokens else log_probs.new_tensor(-math.inf)
        if total == -math.inf:
            found[self.end] = 0.0
        else:
            found[tokens] = log_probs[tokens] - total

    def _read_of(self, passage: Passage, short: Shortened, prompt: Prompt) -> str:
        """The whole words of a shortened passage that the model reads."""
        end = short.characters
        if end is None:  # as much of its beginning as the prompt has; what a prompt has, it has every beginning of
            text = " ".join(self.generator.prompt_text(prompt).split())
            end = bisect_left(
                range(1, len(passage.text) + 1), True, key=lambda n: " ".join(passage.text[:n].split()) not in text
            )
        return whole_words(passage.text, end)

    def _none_yet(self, prompt: Prompt) -> Occurrences | None:
        texts = prompt.texts if isinstance(prompt, CopyPrompt) else ()
        return Occurrences.none_yet(Source(texts, self.vocabulary)) if texts else None


def _inner(prompt: Prompt) -> Prompt:
    return prompt.inner or prompt if isinstance(prompt, CopyPrompt) else prompt

"""Sentences of passages as the answers of a mixture: p(s | x, z) over the sentences of z, by no language model.

The sentences that make up an extract are one answer, whose probability is the sum of theirs; every other sentence
is an answer of its own. So an extract has a posterior, a leave-one-out and an explanation like any other answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.generator.protocol import Prompt
from mixrag.generator.table import TableBranches

CONTEXT = 2**20


@dataclass(frozen=True)
class SentenceGenerator:
    """A ``Generator`` of V answers of one token: 0 is the extract, the others are single sentences.

    Without a passage it gives all answers in proportion to the number of their sentences.
    """

    extract: str
    """The text of the extract."""
    shown: int
    """Number of its sentences."""
    others: tuple[str, ...]
    """V - 1 sentences that are not in it."""
    by_passage: Mapping[str, Tensor]
    """(V,) p(answer | question, passage), by the id of the passage."""
    name: str = "sentences"
    context_size: int = CONTEXT

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return 1 + len(self.others)

    @property
    def stop_tokens(self) -> frozenset[int]:
        """All: an answer is one token."""
        return frozenset(range(self.vocabulary_size))

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """The passage, as the position of its id; see ``Generator.prompt``."""
        ids = list(self.by_passage)
        return Prompt((), tuple(ids.index(passage.id) for passage in passages), ())

    def prompt_text(self, prompt: Prompt) -> str:
        """No model reads anything."""
        return ""

    def prompt_length(self, prompt: Prompt) -> int:
        """0: no model reads anything."""
        return 0

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """The sentence of this text; the extract where there is none."""
        return (1 + self.others.index(answer),) if answer in self.others else (0,)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return " ".join(self.extract if token == 0 else self.others[token - 1] for token in tokens)

    def next_token(self, passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        """(V,) p(answer | question, passage); the mean of several passages."""
        rows = [*self.by_passage.values()]
        if passage:
            return torch.stack([rows[each] for each in passage]).mean(0)
        return torch.tensor([self.shown, *(1 for _ in self.others)], dtype=torch.float64).div(
            self.shown + len(self.others)
        )

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``."""
        return self.start(prompts).score(answer)

    def start(self, prompts: Sequence[Prompt]) -> TableBranches:
        """See ``Generator.start``."""
        return TableBranches(self, tuple(prompts), ((),) * len(prompts))

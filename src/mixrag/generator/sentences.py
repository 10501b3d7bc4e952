"""Sentences of passages as the answers of a mixture: p(s | x, z) over the sentences of z, by no language model.

The sentences that make up an extract are one answer, whose probability is the sum of theirs; every other sentence
is an answer of its own. So an extract has a posterior, a leave-one-out and an explanation like any other answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.errors import QuestionError
from mixrag.generator.protocol import Prompt
from mixrag.generator.table import TableBranches
from mixrag.pairs.matching import normalise

CONTEXT = 2**20
EXTRACT = 0
"""The token of the extract."""


def sentence_key(text: str) -> str:
    """What equal sentences have in common: SQuAD's normalisation, or the text where that leaves nothing."""
    return normalise(text) or " ".join(text.split())


@dataclass(frozen=True)
class SentenceGenerator:
    """A ``Generator`` of V answers of one token: the extract, single sentences, and a text that is neither.

    The last has probability zero. Without a passage all answers are as probable as they have sentences.
    """

    extract: str
    """The text of the extract."""
    members: tuple[str, ...]
    """The keys of its distinct sentences."""
    others: Mapping[str, str]
    """V - 2 texts of sentences that are not in it, by their keys, in the order of their tokens."""
    by_text: Mapping[str, Mapping[int, float]]
    """p(token | question, passage) of the tokens that are possible, by the text of the passage."""
    name: str = "sentences"
    context_size: int = CONTEXT

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return 2 + len(self.others)

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """All: an answer is one token."""
        return frozenset(range(self.vocabulary_size))

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {text: place for place, text in enumerate(self.by_text)}

    @cached_property
    def _rows(self) -> Sequence[Mapping[int, float]]:
        return [*self.by_text.values()]

    @cached_property
    def _texts(self) -> Sequence[str]:
        return [self.extract, *self.others.values(), ""]

    @cached_property
    def _tokens(self) -> Mapping[str, int]:
        return {key: place for place, key in enumerate(self.others, 1)}

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """The passages, each as the place of its text; see ``Generator.prompt``."""
        return Prompt((), tuple(self._places[passage.text] for passage in passages), ())

    def prompt_text(self, prompt: Prompt) -> str:
        """No model reads anything."""
        return ""

    def prompt_length(self, prompt: Prompt) -> int:
        """0: no model reads anything."""
        return 0

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """The extract, or the sentence of this text; else the last token, which is impossible.

        Raises:
            QuestionError: one of several sentences of the extract, which is no answer by itself here.
        """
        key = sentence_key(answer)
        if key == sentence_key(self.extract):
            return (EXTRACT,)
        if key in self.members:
            expected, remedy = (
                "a whole extract, or a sentence outside it",
                "score it with RAG.score, kind='extract'",
            )
            raise QuestionError(expected, "one of the sentences of this extract", remedy)
        return (self._tokens.get(key, self.vocabulary_size - 1),)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return " ".join(self._texts[token] for token in tokens)

    def next_token(self, passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        """(V,) p(answer | question, passage); the mean of several passages."""
        row = torch.zeros(self.vocabulary_size, dtype=torch.float64)
        if not passage:
            row[:-1] = 1.0
            row[EXTRACT] = len(self.members)
            return row / row.sum()
        for place in passage:
            for token, probability in self._rows[place].items():
                row[token] += probability / len(passage)
        return row

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``: looked up, without a table of V columns."""
        table = [[self._probability(prompt.passages, token) for token in answer] for prompt in prompts]
        return torch.tensor(table, dtype=torch.float64).log()

    def _probability(self, passage: Sequence[int], token: int) -> float:
        if passage:
            return sum(self._rows[place].get(token, 0.0) for place in passage) / len(passage)
        weight = len(self.members) if token == EXTRACT else float(token < self.vocabulary_size - 1)
        return weight / (len(self.members) + len(self.others))

    def start(self, prompts: Sequence[Prompt]) -> TableBranches:
        """See ``Generator.start``."""
        return TableBranches(self, tuple(prompts), ((),) * len(prompts))

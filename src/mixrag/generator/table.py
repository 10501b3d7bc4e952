"""A generator whose probabilities are a table: for tests, teaching and simulations, without any model.

It is also the worked example of the ``Generator`` protocol: all members, in one file, without a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.errors import QuestionError
from mixrag.generator.protocol import Prompt

NextToken = Callable[[tuple[int, ...], tuple[int, ...]], Tensor]
"""(prompt's passage tokens, answer so far) -> (V,) probabilities of the next token."""


class _Table(Protocol):
    def next_token(self, passage: tuple[int, ...], answer: tuple[int, ...], /) -> Tensor: ...


@dataclass(frozen=True)
class TableBranches:
    """Rows of a ``TableGenerator``, or of another one with its ``next_token``."""

    generator: _Table
    prompts: tuple[Prompt, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def log_probs(self) -> Tensor:
        """(R, V)."""
        rows = zip(self.prompts, self.answers, strict=True)
        return torch.stack([self.generator.next_token(prompt.passages, answer) for prompt, answer in rows]).log()

    def advance(self, rows: Tensor, tokens: Tensor) -> TableBranches:
        """See ``Branches.advance``."""
        chosen = list(zip(rows.tolist(), tokens.tolist(), strict=True))
        answers = tuple((*self.answers[row], token) for row, token in chosen)
        return replace(self, prompts=tuple(self.prompts[row] for row, _ in chosen), answers=answers)

    def select(self, rows: Tensor) -> TableBranches:
        """See ``Branches.select``."""
        chosen = rows.tolist()
        prompts = tuple(self.prompts[row] for row in chosen)
        return replace(self, prompts=prompts, answers=tuple(self.answers[row] for row in chosen))

    @property
    def joins(self) -> bool:
        """Always."""
        return True

    def join(self, rows: Tensor, others: Sequence[tuple[TableBranches, Tensor]]) -> TableBranches:
        """See ``JoiningBranches.join``."""
        parts = [self.select(rows), *(each.select(some) for each, some in others)]
        prompts = tuple(prompt for part in parts for prompt in part.prompts)
        return replace(self, prompts=prompts, answers=tuple(answer for part in parts for answer in part.answers))

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        columns, branches, rows = [], self, torch.arange(len(self.prompts))
        for token in tokens:
            columns.append(branches.log_probs[:, token])
            branches = branches.advance(rows, torch.full((len(rows),), token))
        return torch.stack(columns, -1)


@dataclass(frozen=True)
class TableGenerator:
    """p(next token | passage, answer so far) from a function; a token is one word of ``words``.

    The last word ends an answer. ``next_token`` receives a passage as the positions of its words in ``words``;
    a word that is not among them is -1.

    Example:
        >>> table = lambda passage, answer: torch.tensor([0.5, 0.25, 0.25])
        >>> TableGenerator(("yes", "no", "<end>"), table).log_likelihood([Prompt((), (), ())], [0, 2]).exp()
        tensor([[0.5000, 0.2500]])
    """

    words: tuple[str, ...]
    next_token: NextToken
    context_size: int = 4096
    name: str = "table"

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self.words)

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The last word alone."""
        return frozenset({len(self.words) - 1})

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``; nothing is shortened."""
        tokens = tuple(token for passage in passages for token in self._ids(passage.text))
        asked = self._ids(question)
        if len(asked) + reserve > self.context_size:
            raise QuestionError(f"at most {self.context_size} tokens", f"{len(asked)}", "shorten the question")
        return Prompt((), tokens, asked)

    def prompt_text(self, prompt: Prompt) -> str:
        """See ``Generator.prompt_text``."""
        return " ".join(self.words[token] if token >= 0 else "?" for token in prompt.tokens)

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """See ``Generator.answer_tokens``."""
        return (*self._ids(answer), len(self.words) - 1)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return " ".join(self.words[token] for token in tokens if token not in self.stop_tokens)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``."""
        answer = tuple(answer)
        rows = [
            torch.stack([self.next_token(prompt.passages, answer[:t])[answer[t]] for t in range(len(answer))])
            for prompt in prompts
        ]
        return torch.stack(rows).log()

    def start(self, prompts: Sequence[Prompt]) -> TableBranches:
        """See ``Generator.start``."""
        return TableBranches(self, tuple(prompts), ((),) * len(prompts))

    def _ids(self, text: str) -> tuple[int, ...]:
        known = {word: index for index, word in enumerate(self.words)}
        return tuple(known.get(word, -1) for word in text.split())

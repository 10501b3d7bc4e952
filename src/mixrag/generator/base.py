"""The part of a generator that a tokenizer supplies, and the base class of generators that users write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mixrag.config.prompt_template import PromptTemplate
from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT, PromptTokenizer
from mixrag.generator.protocol import Prompt
from mixrag.generator.questions import teacher_forced


class TokenizerMethods:
    """Text to tokens and back for a generator with a Hugging Face tokenizer; see ``Generator`` for each member."""

    tokens: PromptTokenizer
    stop_tokens: frozenset[int]
    stop_token: int
    """The stop token at the end of an answer whose text is given."""

    @property
    def context_size(self) -> int:
        """See ``Generator.context_size``."""
        return self.tokens.context_size

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``; passages that do not fit lose their end."""
        return self.tokens.prompt(question, passages, reserve)

    def prompt_text(self, prompt: Prompt) -> str:
        """See ``Generator.prompt_text``."""
        return self.tokens.prompt_text(prompt)

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """See ``Generator.answer_tokens``."""
        return self.tokens.answer_tokens(answer, self.stop_token)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return self.tokens.text(tokens, self.stop_tokens)


class BaseGenerator(TokenizerMethods, ABC):
    """Base of your own generators: a subclass writes ``next_log_probs``, and nothing else is needed.

    ``start`` and ``log_likelihood`` read every row again for each new token: exact, and as slow as
    ``next_log_probs`` is for whole texts. Override both where the model has a cache of its own.

    Args:
        tokenizer: a Hugging Face tokenizer; it needs an end-of-text token (``eos_token_id``).
        name: what messages and reports call this generator.
        template: the prompt; None is the default one, in the tokenizer's chat format if it has one.
        context_size: tokens that prompt and answer may have together; None is ``tokenizer.model_max_length``.
        vocabulary_size: V; None is ``len(tokenizer)``.

    Raises:
        ModelError: the tokenizer has no end-of-text token.

    Example:
        >>> class Uniform(BaseGenerator):
        ...     def next_log_probs(self, rows):
        ...         return torch.full((len(rows), self.vocabulary_size), 1 / self.vocabulary_size).log()
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str = "",
        template: PromptTemplate | None = None,
        context_size: int | None = None,
        vocabulary_size: int | None = None,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError("a tokenizer with an end-of-text token", "none", "set its eos_token")
        size = min(tokenizer.model_max_length, UNLIMITED_CONTEXT) if context_size is None else context_size
        self.name = name or type(self).__name__
        self.vocabulary_size = len(tokenizer) if vocabulary_size is None else vocabulary_size
        self.tokens = PromptTokenizer(tokenizer, template or PromptTemplate(), int(size), keep_suffix=False)
        end = int(tokenizer.eos_token_id)
        self.stop_token = self.tokens.turn_end({end}) or end
        self.stop_tokens = frozenset({end, self.stop_token})

    rounding: float | None = 0.0
    """How far the log-odds of a next token may be from those without rounding; set it for a model in bfloat16."""

    @abstractmethod
    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """(R, V): log p(next token | the token ids of a row) of R rows of any lengths, normalised."""

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``: one call of ``next_log_probs`` for each token of the answer."""
        return self.start(prompts).score(answer)

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        """See ``QuestionReader``: one call of ``next_log_probs`` for each token of the question."""
        return teacher_forced(self, prompts)

    def start(self, prompts: Sequence[Prompt]) -> RereadBranches:
        """See ``Generator.start``."""
        rows = tuple(prompt.tokens for prompt in prompts)
        return RereadBranches(self, rows, self.next_log_probs(rows))


@dataclass(frozen=True)
class RereadBranches:
    """Rows of a ``BaseGenerator``; without a cache, every row is read again for each token."""

    generator: BaseGenerator
    rows: tuple[tuple[int, ...], ...]
    """R rows of token ids: prompt and answer so far."""
    log_probs: Tensor
    """(R, V)."""

    def advance(self, rows: Tensor, tokens: Tensor) -> RereadBranches:
        """See ``Branches.advance``."""
        chosen = zip(rows.tolist(), tokens.tolist(), strict=True)
        longer = tuple((*self.rows[row], token) for row, token in chosen)
        return RereadBranches(self.generator, longer, self.generator.next_log_probs(longer))

    def select(self, rows: Tensor) -> RereadBranches:
        """See ``Branches.select``."""
        return RereadBranches(self.generator, tuple(self.rows[row] for row in rows.tolist()), self.log_probs[rows])

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        branches, columns = self, [self.log_probs[:, tokens[0]]]
        everyone = torch.arange(len(self.rows))
        for previous, token in pairwise(tokens):
            branches = branches.advance(everyone, torch.full((len(self.rows),), previous))
            columns.append(branches.log_probs[:, token])
        return torch.stack(columns, -1)

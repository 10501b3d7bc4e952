"""What causal and seq2seq generators have in common: a Hugging Face model, its tokenizer and its stop tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.generator.batching import in_batches
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.protocol import Branches, Prompt


@dataclass(frozen=True)
class ModelGenerator:
    """A model with its tokenizer; see ``Generator`` for what each member means."""

    name: str
    model: Any
    tokens: PromptTokenizer
    stop_tokens: frozenset[int]
    stop_token: int
    """The stop token that ends an answer of known text."""

    @property
    def vocabulary_size(self) -> int:
        """V, as wide as the model's output layer."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def context_size(self) -> int:
        """See ``Generator.context_size``."""
        return self.tokens.context_size

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``."""
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

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``; the output layer runs on the answer's positions only."""
        return self.log_likelihoods(prompts, [answer] * len(prompts))

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """(R, T): log p(y_t | prompt, y_<t) of R rows, each with its own answer; zero behind its end.

        Without gradient, and within bounded memory whatever R is.
        """
        with torch.inference_mode():
            return in_batches(self.token_log_probs, prompts, answers)

    @abstractmethod
    def start(self, prompts: Sequence[Prompt]) -> Branches:
        """See ``Generator.start``."""

    @abstractmethod
    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """As ``log_likelihoods``, with gradient, and all rows read together."""

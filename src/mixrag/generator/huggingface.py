"""What causal and seq2seq generators have in common: a transformers model, its tokenizer and its devices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.base import TokenizerMethods
from mixrag.generator.batching import in_batches
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.protocol import Branches, Prompt
from mixrag.generator.rounding import rounding_of_model


@dataclass(frozen=True)
class ModelGenerator(TokenizerMethods):
    """A transformers model with its tokenizer; see ``Generator`` for what each member means."""

    name: str
    model: Any
    tokens: PromptTokenizer
    stop_tokens: frozenset[int]
    stop_token: int

    @property
    def vocabulary_size(self) -> int:
        """V, as wide as the model's output layer."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that no answer has: see ``generator/thoughts.py``."""
        return self.tokens.never

    @property
    def rounding(self) -> float:
        """See ``generator/rounding.py``."""
        return rounding_of_model(self.model)

    @property
    def device(self) -> torch.device:
        """Where token ids go: see ``input_device``."""
        return input_device(self.model)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``; the output layer runs on the answer's positions only."""
        return self.log_likelihoods(prompts, [answer] * len(prompts))

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """(R, T): log p(y_t | prompt, y_<t) of R rows, each with its own answer; zero after its end.

        Without gradient, on the CPU, and within bounded memory whatever R is.
        """
        with torch.inference_mode():
            return in_batches(self.token_log_probs, prompts, answers)

    @abstractmethod
    def start(self, prompts: Sequence[Prompt]) -> Branches:
        """See ``Generator.start``."""

    @abstractmethod
    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """As ``log_likelihoods``, with gradient, all rows in one batch, on the model's device."""


def input_device(model: Any) -> torch.device:
    """The device of the embedding, which reads token ids first in a model that is spread over devices.

    accelerate leaves no weight (device "meta") in a layer that it loads when it runs; its hook knows the device.
    """
    embedding = model.get_input_embeddings()
    found = getattr(embedding, "weight", None)
    device = model.device if found is None else found.device
    if device.type == "meta":
        device = torch.device(getattr(getattr(embedding, "_hf_hook", None), "execution_device", None) or "cpu")
    return torch.device(device)


def output_device(device: torch.device) -> torch.device:
    """Where log-probabilities go from a model on ``device``: Apple's GPUs (MPS) have no float64, so to the CPU."""
    return torch.device("cpu") if device.type == "mps" else device


def next_log_probs(logits: Tensor, device: torch.device) -> Tensor:
    """(R, V) log p(next token) in float32, on ``output_device``, from logits (R, L, V) of a model there."""
    return logits[:, -1].float().log_softmax(-1).to(output_device(device))

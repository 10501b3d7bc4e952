"""Causal language models (GPT, Llama, SmolLM, ...) as generators.

Rows are padded on the left, so that the answer stands at the same place in every row. Padding is masked and
has no position: a row's log-probabilities are those of the row alone, up to the order of additions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.base import ModelGenerator
from mixrag.generator.batching import log_probs_of
from mixrag.generator.protocol import Prompt


@dataclass(frozen=True)
class CausalBranches:
    """Rows of a causal model with their key-value cache."""

    model: Any
    cache: Any
    attended: Tensor
    """(R, L) bool: False at padding."""
    log_probs: Tensor
    """(R, V)."""

    def advance(self, rows: Tensor, tokens: Tensor) -> CausalBranches:
        """See ``Branches.advance``."""
        if not _is_identity(rows, len(self.attended)):
            self.cache.reorder_cache(rows)
        attended = torch.nn.functional.pad(self.attended[rows], (0, 1), value=True)
        return CausalBranches(self.model, self.cache, attended, self._next(tokens, attended))

    def _next(self, tokens: Tensor, attended: Tensor) -> Tensor:
        with torch.inference_mode():
            output = _forward(self.model, tokens.unsqueeze(1), attended, cache=self.cache, keep=1)
        return _log_softmax(output.logits[:, -1])


@dataclass(frozen=True)
class CausalGenerator(ModelGenerator):
    """A causal model with its tokenizer."""

    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """See ``ModelGenerator.token_log_probs``."""
        rows = [[*prompt.tokens, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
        ids, attended = pad_left(rows, self.model.device)
        output = _forward(self.model, ids, attended, cache=None, keep=max(map(len, answers)))
        starts = [output.logits.shape[1] - len(answer) for answer in answers]
        return log_probs_of(output.logits, answers, starts)

    def start(self, prompts: Sequence[Prompt]) -> CausalBranches:
        """See ``Generator.start``."""
        from transformers import DynamicCache

        ids, attended = pad_left([prompt.tokens for prompt in prompts], self.model.device)
        cache = DynamicCache(config=self.model.config)
        with torch.inference_mode():
            output = _forward(self.model, ids, attended, cache=cache, keep=1)
        return CausalBranches(self.model, output.past_key_values, attended, _log_softmax(output.logits[:, -1]))


def pad_left(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (R, L) and the mask (R, L) that is False at the padding before each row."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (length - len(row)) + list(row) for row in rows], device=device)
    starts = torch.tensor([length - len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) >= starts.unsqueeze(1)


def _forward(model: Any, ids: Tensor, attended: Tensor, *, cache: Any, keep: int) -> Any:
    accepted = _arguments(type(model).forward)
    options: dict[str, Any] = {"use_cache": cache is not None, "past_key_values": cache}
    if "position_ids" in accepted:
        positions = (attended.long().cumsum(-1) - 1).clamp(min=0)
        options["position_ids"] = positions[:, -ids.shape[1] :]
    if "logits_to_keep" in accepted:
        # By number: a slice of positions is no block of memory, and torch copies the output layer for every row.
        length = ids.shape[1]
        options["logits_to_keep"] = torch.arange(max(0, length - keep), length, device=ids.device)
    return model(input_ids=ids, attention_mask=attended.long(), **options)


@cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    """What a model's forward takes; asked at every token, so looked up once."""
    return frozenset(inspect.signature(forward).parameters)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)


def _is_identity(rows: Tensor, size: int) -> bool:
    return len(rows) == size and bool((rows == torch.arange(size, device=rows.device)).all())

"""Rows that a causal language model is writing, with its key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.batching import is_identity, log_probs_of, scored_in_parts, select_rows
from mixrag.generator.huggingface import next_log_probs
from mixrag.generator.thoughts import without_tokens
from mixrag.utils.turns import turn


@dataclass(frozen=True)
class CausalBranches:
    """Rows of a causal model with their key-value cache."""

    model: Any
    cache: Any
    attended: Tensor
    """(R, L) bool: False at padding."""
    log_probs: Tensor
    """(R, V), on the output device."""
    never: tuple[int, ...] = ()
    """Tokens that no answer has (``thoughts``)."""
    origins: Tensor | None = None
    """(R,) which prompt each row has read: rows of one origin differ in their last ``written`` tokens only."""
    written: int = 0
    """Tokens read after the prompts, at most."""

    @torch.inference_mode()
    def advance(self, rows: Tensor, tokens: Tensor) -> CausalBranches:
        """See ``Branches.advance``."""
        device = self.attended.device
        rows, tokens = rows.to(device), tokens.to(device)
        if not is_identity(rows, len(self.attended)):
            self._reorder(rows)
        attended = torch.nn.functional.pad(self.attended[rows], (0, 1), value=True)
        read = tokens.unsqueeze(1)
        output = forward(self.model, read, attended, cache=self.cache, keep=1, never=self.never)
        origins = None if self.origins is None else self.origins[rows.cpu()]
        log_probs = next_log_probs(output.logits, device)
        return replace(self, attended=attended, log_probs=log_probs, origins=origins, written=self.written + 1)

    def _reorder(self, rows: Tensor) -> None:
        """Let the cache have these rows. Answers to one prompt share its states, which then need no copy."""
        if self.origins is not None and hasattr(self.cache, "layers"):
            from mixrag.generator.kv_cache import reorder_ends

            chosen = self.origins[rows.cpu()]
            same = len(chosen) <= len(self.origins) and torch.equal(chosen, self.origins[: len(chosen)])
            if same and reorder_ends(self.cache, rows, self.written):
                return
        self.cache.reorder_cache(rows)

    @torch.inference_mode()
    def select(self, rows: Tensor) -> CausalBranches:
        """See ``Branches.select``."""
        chosen = rows.to(self.attended.device)
        cache = select_rows(self.cache, chosen)
        origins = None if self.origins is None else self.origins[rows.cpu()]
        log_probs = self.log_probs[rows]
        return replace(self, cache=cache, attended=self.attended[chosen], log_probs=log_probs, origins=origins)

    @property
    def joins(self) -> bool:
        """Where all states are keys and values of each token, in torch's memory.

        OpenVINO's are not: to read those of some rows out of the engine takes as long as twenty passes with them.
        """
        if not hasattr(self.cache, "layers"):
            return False
        from mixrag.generator.kv_cache import has_all_tokens

        return has_all_tokens(self.cache)

    @torch.inference_mode()
    def join(self, rows: Tensor, others: Sequence[tuple[CausalBranches, Tensor]]) -> CausalBranches:
        """See ``JoiningBranches.join``; columns that no chosen row attends to are left out."""
        from mixrag.generator.kv_cache import joined_states

        device = self.attended.device
        parts = [(each, some.to(device)) for each, some in [(self, rows), *others]]
        masks = [each.attended[some] for each, some in parts]
        length = max(int(mask.sum(-1).max()) for mask in masks)
        attended = torch.cat([_last_columns(mask, length) for mask in masks])
        cache = joined_states([(each.cache, some) for each, some in parts], length)
        log_probs = torch.cat([each.log_probs[some.to(each.log_probs.device)] for each, some in parts])
        known = [each.origins[some.cpu()] for each, some in parts if each.origins is not None]
        origins = torch.cat(known) if len(known) == len(parts) else None
        written = max(each.written for each, _ in parts)
        return replace(self, cache=cache, attended=attended, log_probs=log_probs, origins=origins, written=written)

    @torch.inference_mode()
    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        columns, attended, cache = [self.log_probs[:, tokens[0], None]], self.attended, self.cache
        size = len(attended)
        for read, wanted in scored_in_parts(tokens, size):
            rows = torch.tensor(read, device=attended.device).expand(size, -1)
            attended = torch.nn.functional.pad(attended, (0, len(read)), value=True)
            output = forward(self.model, rows, attended, cache=cache, keep=len(read), never=self.never)
            found = log_probs_of(output.logits, [wanted] * size, [0] * size)
            columns.append(found.to(columns[0].device))
        return torch.cat(columns, -1)


def _last_columns(mask: Tensor, length: int) -> Tensor:
    """(R, length): the last columns of a mask (R, L), with padding before them where there are too few."""
    missing = length - mask.shape[1]
    return mask[:, -missing:] if missing < 0 else torch.nn.functional.pad(mask, (missing, 0), value=False)


def forward(model: Any, ids: Tensor, attended: Tensor, *, cache: Any, keep: int, never: Sequence[int] = ()) -> Any:
    """The model's output for tokens (R, L), given that it writes none of the tokens ``never``."""
    accepted = arguments_of(type(model).forward)
    options: dict[str, Any] = {"use_cache": cache is not None, "past_key_values": cache}
    if "position_ids" in accepted:
        positions = (attended.long().cumsum(-1) - 1).clamp(min=0)
        options["position_ids"] = positions[:, -ids.shape[1] :]
    if "logits_to_keep" in accepted:
        # By number: a slice of positions is not contiguous, and torch copies the output layer for every row.
        length = ids.shape[1]
        options["logits_to_keep"] = torch.arange(max(0, length - keep), length, device=ids.device)
    with turn(model):
        output = model(input_ids=ids, attention_mask=attended.long(), **options)
    output.logits = without_tokens(output.logits, never)
    return output


@cache
def arguments_of(forward: Callable[..., Any]) -> frozenset[str]:
    """Names of the arguments of a model's forward; needed at every token, so cached."""
    return frozenset(inspect.signature(forward).parameters)

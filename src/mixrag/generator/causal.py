"""Causal language models (GPT, Llama, SmolLM, ...) as generators.

Rows are padded on the left, so that the answer is at the same place in every row. Padding is masked and has no
position: a row's log-probabilities are those of the row alone, up to the order of additions.

Where the model allows it, the states of header and passages come from a cache, and only the question is read after
them. No padding is ever between the two, so that distances inside a row are those of the row alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixrag.generator.batching import (
    DISTRIBUTIONS_AT_ONCE,
    SCORED_TOKENS_AT_ONCE,
    batches_by_length,
    in_batches,
    log_probs_of,
    pad_right,
)
from mixrag.generator.causal_branches import CausalBranches, forward
from mixrag.generator.huggingface import ModelGenerator, next_log_probs
from mixrag.generator.prefix_cache import DiskPrefixCache, PrefixCache
from mixrag.generator.protocol import Prompt
from mixrag.generator.questions import own_tokens, teacher_forced

if TYPE_CHECKING:
    from mixrag.generator.recorded_steps import RecordedBranches, Steps

_BATCHES = count()
"""Numbers of the batches of prompts that were read in this process."""


@dataclass(frozen=True)
class CausalGenerator(ModelGenerator):
    """A causal model with its tokenizer."""

    engine = "torch"
    """What runs the model; see ``engines.py``."""
    prefix_cache_bytes: int | None = None
    """Memory for cached states of passages, in bytes; None: no cache, every prompt is read whole, in one pass."""
    steps: Steps | None = field(default=None, compare=False)
    """Decoding steps that are recorded and replayed (``recorded_steps``); None: each is computed anew."""
    prefix_cache: PrefixCache | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Create the cache; a copy (``dataclasses.replace``) has an empty one of its own."""
        size = self.prefix_cache_bytes
        object.__setattr__(self, "prefix_cache", None if size is None else PrefixCache(size))

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """See ``ModelGenerator.log_likelihoods``."""
        if max(map(len, answers), default=0) > DISTRIBUTIONS_AT_ONCE:
            return self._of_long_answers(prompts, answers)
        if self.prefix_cache is None or not all(prompt.question for prompt in prompts):
            return super().log_likelihoods(prompts, answers)
        with torch.inference_mode():
            return in_batches(self._log_probs_after_prefixes, prompts, answers)

    def _of_long_answers(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """As ``log_likelihoods``, row by row and part by part."""
        found = torch.zeros(len(prompts), max(map(len, answers)))
        for row, prompt, answer in zip(found, prompts, answers, strict=True):
            if answer:
                row[: len(answer)] = self.start([prompt]).score(answer)[0].cpu()
        return found

    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """See ``ModelGenerator.token_log_probs``."""
        rows = [[*prompt.tokens, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
        ids, attended = pad_left(rows, self.device)
        output = forward(self.model, ids, attended, cache=None, keep=max(map(len, answers)), never=self.never)
        starts = [output.logits.shape[1] - len(answer) for answer in answers]
        return log_probs_of(output.logits, answers, starts)

    def start(self, prompts: Sequence[Prompt]) -> CausalBranches | RecordedBranches:
        """See ``Generator.start``."""
        return self._writing(self._start(prompts, 1)[0])

    def _writing(self, read: CausalBranches) -> CausalBranches | RecordedBranches:
        return read if self.steps is None else self.steps.recorded(read)

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        """See ``QuestionReader``."""
        return teacher_forced(self, prompts)

    def start_with_question(self, prompts: Sequence[Prompt]) -> tuple[CausalBranches | RecordedBranches, Tensor]:
        """``start`` and ``question_log_likelihood`` in one pass; in two where its output would be too large."""
        # How far from the end of a row the question's own tokens begin; the token before predicts the first.
        back = [len(prompt.question) - (prompt.own_question or (0, 0))[0] for prompt in prompts]
        asked, keep = [*map(own_tokens, prompts)], max(back) + 1
        read = all(back[row] < len(prompt.question) for row, prompt in enumerate(prompts))
        if not read or not any(asked) or keep * len(prompts) > DISTRIBUTIONS_AT_ONCE:
            return self.start(prompts), self.question_log_likelihood(prompts)
        branches, logits = self._start(prompts, keep)
        starts = [logits.shape[1] - 1 - each for each in back]
        with torch.inference_mode():
            return self._writing(branches), log_probs_of(logits, asked, starts).double().sum(-1).cpu()

    def _start(self, prompts: Sequence[Prompt], keep: int) -> tuple[CausalBranches, Tensor]:
        """The branches, and the logits (R, at least ``keep``, V) at the last positions of the prompts."""
        with torch.inference_mode():
            cache, before, rows = self._with_cached_prefixes(prompts)
            ids, own = pad_left(rows, self.device)
            attended = torch.cat([before, own], -1)
            output = forward(self.model, ids, attended, cache=cache, keep=keep, never=self.never)
            log_probs = next_log_probs(output.logits, self.device)
        states, origins = output.past_key_values, (next(_BATCHES) << 32) + torch.arange(len(prompts))
        return CausalBranches(self.model, states, attended, log_probs, self.never, origins), output.logits

    def _with_cached_prefixes(self, prompts: Sequence[Prompt]) -> tuple[Any, Tensor, list[tuple[int, ...]]]:
        """A cache with the known states of R rows, its mask (R, P), and the tokens of each that must be read.

        The latter are of one length, so that no padding is between them and the known ones: where a question is
        shorter than others, the last tokens of its passages are read again.
        """
        if self.prefix_cache is None or not all(prompt.question for prompt in prompts):
            nothing = torch.zeros(len(prompts), 0, dtype=torch.bool, device=self.device)
            return self._no_states(), nothing, [prompt.tokens for prompt in prompts]
        width = max(len(prompt.question) for prompt in prompts)
        known = [max(0, len(_prefix(prompt)) + len(prompt.question) - width) for prompt in prompts]
        rest = [prompt.tokens[length:] for prompt, length in zip(prompts, known, strict=True)]
        return *self._cached_prefixes(prompts, known, width), rest

    def _log_probs_after_prefixes(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """As ``token_log_probs``, without gradient: question and answer are read after cached states of passages.

        Shorter rows are padded on the right, which no earlier token attends to.
        """
        rows = [[*prompt.question, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
        width, least = max(map(len, rows)), min(len(prompt.question) for prompt in prompts)
        cache, attended = self._cached_prefixes(prompts, [len(_prefix(prompt)) for prompt in prompts], width)
        ids, own = pad_right(rows, self.device)
        attended = torch.cat([attended, own], -1)
        keep = width - least + 1
        output = forward(self.model, ids, attended, cache=cache, keep=keep, never=self.never)
        starts = [len(prompt.question) - least for prompt in prompts]
        return log_probs_of(output.logits, answers, starts)

    def use_disk_cache(self, folder: Path) -> DiskPrefixCache:
        """Let the prefix cache also look into a folder of states that this model, with these weights, computed."""
        assert self.prefix_cache is not None
        (example,) = replace(self).prefix_states([(0,)]).values()
        self.prefix_cache.disk = DiskPrefixCache(folder, self._fingerprint(), example)
        return self.prefix_cache.disk

    def _cached_prefixes(self, prompts: Sequence[Prompt], lengths: Sequence[int], more: int) -> tuple[Any, Tensor]:
        """A cache of the first ``lengths`` tokens of header and passages of R rows, with its mask (R, P).

        There is space for ``more`` tokens, which will be read next.
        """
        prefixes = [*map(_prefix, prompts)]
        states = self.prefix_states([*dict.fromkeys(prefix for prefix in prefixes if prefix)])
        if not states:
            nothing = torch.zeros(len(prompts), 0, dtype=torch.bool, device=self.device)
            return self._no_states(), nothing
        states[()] = next(iter(states.values()))[..., :0, :]
        known = [states[prefix][..., :length, :] for prefix, length in zip(prefixes, lengths, strict=True)]
        return self._states_of(known, more)

    @torch.inference_mode()
    def prefix_states(self, prefixes: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
        """The states (layers, 2, G, P, D) of distinct prefixes (header and passages), cached or computed now.

        Only for generators with a ``prefix_cache``.
        """
        assert self.prefix_cache is not None
        weights = self._fingerprint()
        cached = {prefix: self.prefix_cache.get((weights, prefix)) for prefix in prefixes}
        found = {prefix: None if each is None else each.to(self.device) for prefix, each in cached.items()}
        missing = [prefix for prefix, states in found.items() if states is None]
        lengths = [len(prefix) for prefix in missing]
        for batch in batches_by_length(lengths, SCORED_TOKENS_AT_ONCE, len(missing)):
            some = [missing[i] for i in batch]
            ids, attended = pad_left(some, self.device)
            cache = self._no_states()
            forward(self.model, ids, attended, cache=cache, keep=1)
            read = self._rows_of(cache, [len(prefix) for prefix in some])
            for prefix, states in zip(some, read, strict=True):
                found[prefix] = states
                self.prefix_cache.put((weights, prefix), states)
        return {prefix: states for prefix, states in found.items() if states is not None}

    # What follows depends on where the states of rows are: with torch in a cache of transformers.

    def _no_states(self) -> Any:
        """States of rows that have read nothing; to be joined with cached ones only where there is a cache."""
        if self.prefix_cache is None:
            from transformers import DynamicCache

            return DynamicCache(config=self.model.config)
        from mixrag.generator.kv_cache import empty_states

        return empty_states(self.model.config)

    def _states_of(self, prefixes: Sequence[Tensor], more: int) -> tuple[Any, Tensor]:
        """See ``kv_cache.states_of``."""
        from mixrag.generator.kv_cache import states_of

        return states_of(self.model.config, prefixes, more)

    def _rows_of(self, cache: Any, lengths: Sequence[int]) -> list[Tensor]:
        """See ``kv_cache.rows_of``."""
        from mixrag.generator.kv_cache import rows_of

        return rows_of(cache, lengths)

    def _fingerprint(self) -> Hashable:
        """A hash of the address of each weight and its count of changes in place: other weights, other states."""
        tensors = chain(self.model.parameters(), self.model.buffers())
        places = [(each.data_ptr(), 0 if each.is_inference() else each._version) for each in tensors]
        return hash((self.model.dtype, self.model.device, *places))


def _prefix(prompt: Prompt) -> tuple[int, ...]:
    """Header and passages: what is read before the question, the same for every question."""
    return prompt.header + prompt.passages


def pad_left(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (R, L) and the mask (R, L) that is False at the padding before each row."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (length - len(row)) + list(row) for row in rows], device=device)
    starts = torch.tensor([length - len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) >= starts.unsqueeze(1)

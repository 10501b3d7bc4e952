"""Causal language models without a cache of keys and values: every row is read again for each new token.

Recurrent models (Mamba, RWKV, RecurrentGemma) have states of other kinds, and the first GPT has none. Reading
again is exact for all of them. Rows are batched with rows of their own length: a recurrent state also passes
through padding, and not every model masks it.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.batching import SCORED_TOKENS_AT_ONCE, log_probs_of
from mixrag.generator.huggingface import ModelGenerator, next_log_probs, output_device
from mixrag.generator.protocol import Prompt
from mixrag.generator.questions import teacher_forced
from mixrag.generator.thoughts import without_tokens
from mixrag.utils.turns import turn

TRIAL = ((1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4, 5))
"""Tokens of a trial: the second row is the beginning of the first."""


@dataclass(frozen=True)
class UncachedGenerator(ModelGenerator):
    """A causal model that reads whole rows only."""

    def start(self, prompts: Sequence[Prompt]) -> UncachedBranches:
        """See ``Generator.start``."""
        rows = tuple(prompt.tokens for prompt in prompts)
        return UncachedBranches(self, rows, self.next_log_probs(rows))

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        """See ``QuestionReader``."""
        return teacher_forced(self, prompts)

    @torch.inference_mode()
    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """(R, V): log p(next token | the tokens of a row) of R rows, on the output device."""
        found = torch.zeros(len(rows), self.vocabulary_size, device=output_device(self.device))
        for batch in _of_one_length(rows):
            logits = without_tokens(self._logits([rows[i] for i in batch], 1), self.never)
            found[batch] = next_log_probs(logits, self.device)
        return found

    def token_log_probs(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """See ``ModelGenerator.token_log_probs``."""
        rows = [(*prompt.tokens, *answer[:-1]) for prompt, answer in zip(prompts, answers, strict=True)]
        longest = max(map(len, answers), default=0)
        scored: dict[int, Tensor] = {}
        for batch in _of_one_length(rows):
            wanted = [answers[i] for i in batch]
            logits = without_tokens(self._logits([rows[i] for i in batch], max(map(len, wanted))), self.never)
            starts = [logits.shape[1] - len(answer) for answer in wanted]
            found = log_probs_of(logits, wanted, starts)
            found = torch.nn.functional.pad(found, (0, longest - found.shape[1]))
            scored |= dict(zip(batch, found, strict=True))
        return torch.stack([scored[i] for i in range(len(rows))])

    def is_causal(self) -> bool:
        """Whether a token does not see those after it, by a trial."""
        whole, beginning = (self._logits([row], len(row)).float() for row in TRIAL)
        difference = (whole[:, : beginning.shape[1]] - beginning).abs().max()
        return bool(difference < (1e-3 if self.model.dtype == torch.float32 else 0.1) * beginning.abs().max())

    def _logits(self, rows: Sequence[Sequence[int]], keep: int) -> Tensor:
        """(R, at least ``keep``, V) at the last positions of R rows of one length."""
        accepted = inspect.signature(type(self.model).forward).parameters
        options: dict[str, Any] = {}
        if "use_cache" in accepted:
            options["use_cache"] = False
        if "logits_to_keep" in accepted:
            options["logits_to_keep"] = keep
        with turn(self.model):
            found: Tensor = self.model(input_ids=torch.tensor(rows, device=self.device), **options).logits
        return found


@dataclass(frozen=True)
class UncachedBranches:
    """Rows of an ``UncachedGenerator``."""

    generator: UncachedGenerator
    rows: tuple[tuple[int, ...], ...]
    """R rows of token ids: prompt and answer so far."""
    log_probs: Tensor
    """(R, V), on the output device."""

    def advance(self, rows: Tensor, tokens: Tensor) -> UncachedBranches:
        """See ``Branches.advance``."""
        chosen = zip(rows.tolist(), tokens.tolist(), strict=True)
        longer = tuple((*self.rows[row], token) for row, token in chosen)
        return UncachedBranches(self.generator, longer, self.generator.next_log_probs(longer))

    def select(self, rows: Tensor) -> UncachedBranches:
        """See ``Branches.select``."""
        chosen = tuple(self.rows[row] for row in rows.tolist())
        return UncachedBranches(self.generator, chosen, self.log_probs[rows])

    @property
    def joins(self) -> bool:
        """Always: rows are read with rows of their own length only."""
        return True

    def join(self, rows: Tensor, others: Sequence[tuple[UncachedBranches, Tensor]]) -> UncachedBranches:
        """See ``JoiningBranches.join``."""
        parts = [self.select(rows), *(each.select(some) for each, some in others)]
        log_probs = torch.cat([part.log_probs for part in parts])
        return UncachedBranches(self.generator, tuple(row for part in parts for row in part.rows), log_probs)

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``; all tokens in one pass."""
        prompts = [Prompt((), row, ()) for row in self.rows]
        return self.generator.log_likelihood(prompts, tokens).to(self.log_probs.device)


def _of_one_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of rows of equal length, as many as are read at once."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        alike[len(row)].append(index)
    for length, indices in alike.items():
        size = max(1, SCORED_TOKENS_AT_ONCE // length)
        yield from (indices[first : first + size] for first in range(0, len(indices), size))

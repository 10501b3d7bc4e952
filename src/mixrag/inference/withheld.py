"""Mixtures some of whose components are read elsewhere: their owners give likelihoods, and no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from mixrag.errors import ModelError
from mixrag.generator.protocol import Generator, Prompt
from mixrag.inference.empty_answer import log_answered_table
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.read_rows import ReadRows


@dataclass(frozen=True)
class WithoutRows:
    """The texts of a language model, which does not read prompts here; see ``Generator`` for each member."""

    generator: Generator
    rounding: float | None
    """See ``stated_rounding``; the largest of all models that read a part, None where one of them is not known."""

    def __getattr__(self, name: str) -> Any:
        """Names, tokens and texts are the model's own."""
        if name not in _TEXTS:
            raise AttributeError(name)
        return getattr(self.generator, name)

    def start(self, prompts: Sequence[Prompt]) -> NoReturn:
        """Prompts of passages that are not shared cannot be read.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "passages with their text", "some of which their owner shares likelihoods alone", "score given answers"
        )

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> NoReturn:
        """As ``start``."""
        self.start(prompts)

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> NoReturn:
        """As ``start``."""
        self.start(prompts)


_TEXTS = frozenset(
    {"name", "vocabulary_size", "stop_tokens", "context_size", "prompt", "prompt_text", "answer_tokens", "text"}
)


def scored_from(mixture: Mixture, answers: Sequence[tuple[int, ...]], read: ReadRows) -> list[ScoredAnswer]:
    """Answers scored under a mixture by likelihoods that were found elsewhere.

    Args:
        mixture: its components are in the order of the rows; their prompts are not read.
        answers: tokens of each, with their end.
        read: of all K components.
    """
    rounding = None if mixture.stated_rounding is None else read.rounding
    found = replace(mixture, generator=WithoutRows(mixture.generator, rounding))
    found._note(read.empty if mixture.empty_answer else None, read.log_question)
    return [_scored(found, tokens, read, place) for place, tokens in enumerate(answers)]


def _scored(mixture: Mixture, tokens: tuple[int, ...], read: ReadRows, place: int) -> ScoredAnswer:
    if read.empty is None:
        return ScoredAnswer(mixture, tokens, read.tables[place])
    stops = mixture.generator.stop_tokens
    if len(tokens) == 1 and tokens[0] in stops:
        return ScoredAnswer(mixture.unconditioned(), tokens, read.empty.log_empty[:, None])
    given = torch.tensor(sorted(stops), dtype=torch.long)
    table = log_answered_table(read.tables[place], tokens, read.empty.log_answered, given)
    return ScoredAnswer(mixture, tokens, table)

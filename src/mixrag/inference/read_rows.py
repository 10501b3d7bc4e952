"""What a language model says of some prompts: rows that can be joined with those of others to one mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mixrag.generator.protocol import Generator, Prompt, QuestionReader
from mixrag.generator.rounding import stated_rounding
from mixrag.inference.empty_answer import EmptyAnswers, read_prompts
from mixrag.inference.read_together import read_together, shares_rows


@dataclass(frozen=True)
class ReadRows:
    """K rows, float64 on the CPU."""

    tables: tuple[Tensor, ...]
    """Of each answer (K, T) log p(y_t | x, z_j, y_<t), as the model has it."""
    empty: EmptyAnswers | None
    """What the rows give to ∅; None where it was not asked for."""
    log_question: Tensor | None
    """(K,) log p(x | z_j); None where it was not asked for."""
    rounding: float | None = 0.0
    """h of the model, as it says (``generator.rounding.stated_rounding``)."""


def read_rows(
    generator: Generator,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[int]],
    *,
    empty: bool,
    question: bool,
) -> ReadRows:
    """Score answers, given as tokens with their end, after K >= 1 prompts.

    Args:
        generator: the language model.
        prompts: K of them.
        answers: at least one.
        empty: also find p(∅ | x, z_j), which needs whole distributions of the first token.
        question: also find p(x | z_j).
    """
    rounding = stated_rounding(generator)
    if shares_rows(generator):
        read = read_together(generator, prompts, answers, question=question)
        return ReadRows(read.tables, read.empty if empty else None, read.log_question, rounding)
    log_question = None
    if question:
        log_question = cast(QuestionReader, generator).question_log_likelihood(prompts).double().cpu()
    if not empty:
        tables = tuple(generator.log_likelihood(prompts, each).double().cpu() for each in answers)
        return ReadRows(tables, None, log_question, rounding)
    both = [read_prompts(generator, prompts, each) for each in answers]
    return ReadRows(tuple(table for _, table in both), both[0][0], log_question, rounding)


def joined(parts: Sequence[tuple[Sequence[int], ReadRows]], rows: int) -> ReadRows:
    """The rows of several models, or of one asked in parts, put into their places among all of them.

    Args:
        parts: places of its rows, and what was read of them.
        rows: of all parts together.
    """

    def placed(columns: Sequence[Tensor]) -> Tensor:
        whole = torch.empty((rows, *columns[0].shape[1:]), dtype=torch.float64)
        for (places, _), column in zip(parts, columns, strict=True):
            whole[[*places]] = column
        return whole

    read = [each for _, each in parts]
    tables = tuple(placed(columns) for columns in zip(*(each.tables for each in read), strict=True))
    empty = [each.empty for each in read if each.empty is not None]
    question = [each.log_question for each in read if each.log_question is not None]
    found = None
    if empty:
        found = EmptyAnswers(placed([e.log_empty for e in empty]), placed([e.log_answered for e in empty]))
    known = [each.rounding for each in read if each.rounding is not None]
    rounding = max(known) if len(known) == len(read) else None
    return ReadRows(tables, found, placed(question) if question else None, rounding)

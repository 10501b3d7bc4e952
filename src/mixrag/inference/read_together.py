"""Several given answers under the same prompts: each prompt is read once, and every answer is scored after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.generator.branch_mixing import mixes_branches
from mixrag.generator.protocol import Branches, Generator, Prompt, lists_tokens, writes_answers
from mixrag.generator.questions import start_with_question
from mixrag.inference.empty_answer import ROWS_AT_ONCE, EmptyAnswers, answered_branches


@dataclass(frozen=True, slots=True)
class Read:
    """What a model says of K prompts and of the answers after them."""

    tables: tuple[Tensor, ...]
    """For each answer (K, T) float64: log p of each of its tokens, as the model has them."""
    empty: EmptyAnswers
    log_question: Tensor | None
    """(K,) log p(x | z_j), where it was asked for."""


def shares_rows(generator: Generator) -> bool:
    """Whether several answers can be scored after one reading: the model's rows are at hand (``Branches``)."""
    return not (mixes_branches(generator) or writes_answers(generator) or lists_tokens(generator))


def read_together(
    generator: Generator, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], *, question: bool = False
) -> Read:
    """Read K prompts, ``ROWS_AT_ONCE`` at a time, and score every answer after each.

    Args:
        generator: one that ``shares_rows``.
        prompts: K of them.
        answers: token ids, with the stop token at the end of each.
        question: also find log p(x | z_j).
    """
    tables, empty, log_question = [list[Tensor]() for _ in answers], list[EmptyAnswers](), list[Tensor]()
    for first in range(0, len(prompts), ROWS_AT_ONCE):
        some = prompts[first : first + ROWS_AT_ONCE]
        if question:
            branches, own = start_with_question(generator, some)
            log_question.append(own.double().cpu())
        else:
            branches = generator.start(some)
        empty.append(answered_branches(branches, generator.stop_tokens, [True] * len(some))[1])
        for table, found in zip(tables, _scored(branches, answers, len(some)), strict=True):
            table.append(found.double().cpu())
    both = (torch.cat([each.log_empty for each in empty]), torch.cat([each.log_answered for each in empty]))
    whole = tuple(torch.cat(parts) for parts in tables)
    return Read(whole, EmptyAnswers(*both), torch.cat(log_question) if question else None)


def _scored(branches: Branches, answers: Sequence[Sequence[int]], rows: int) -> Iterator[Tensor]:
    """(R, T) of each answer; all but the last are scored on copies of the rows, since scoring uses them up."""
    for left, tokens in zip(range(len(answers) - 1, -1, -1), answers, strict=True):
        own = branches.select(torch.arange(rows)) if left else branches
        yield own.score(tokens)

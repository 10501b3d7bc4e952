"""p(x | z): how probable a passage makes the question, from the model that reads the question after it.

What counts are the question's own tokens (``Prompt.own_question``), each given header, passages, what the template
has before the question, and the question so far. Not the words of the template, which are the same for every
question, and so say nothing of how this one fits the passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from mixrag.errors import ModelError, SettingError
from mixrag.generator.protocol import Branches, Generator, Prompt, QuestionReader

if TYPE_CHECKING:
    from collections.abc import Callable

    StartWithQuestion = Callable[[Sequence[Prompt]], tuple[Branches, Tensor]]


def own_tokens(prompt: Prompt) -> tuple[int, ...]:
    """The question's own tokens."""
    first, end = prompt.own_question or (0, len(prompt.question))
    return prompt.question[first:end]


def teacher_forced(generator: Generator, prompts: Sequence[Prompt]) -> Tensor:
    """(K,) log p(x | z_j) of a generator whose ``log_likelihood`` continues any prompt, as causal models do.

    Raises:
        SettingError: nothing is before the question in a prompt, so that its first token has no probability.
    """
    found = torch.zeros(len(prompts), dtype=torch.float64)
    asked = [own_tokens(prompt) for prompt in prompts]
    before = [_before(prompt) for prompt in prompts]
    for question in dict.fromkeys(filter(None, asked)):
        rows = [row for row, each in enumerate(asked) if each == question]
        table = generator.log_likelihood([before[row] for row in rows], question)
        found[rows] = table.double().sum(-1).cpu()
    return found


def start_with_question(generator: Generator, prompts: Sequence[Prompt]) -> tuple[Branches, Tensor]:
    """``generator.start`` and log p(x | z_j) (K,), in one pass where the generator can."""
    together: StartWithQuestion | None = getattr(generator, "start_with_question", None)
    if together is not None:
        return together(prompts)
    return generator.start(prompts), cast(QuestionReader, generator).question_log_likelihood(prompts)


def check_reads_questions(generator: Generator) -> None:
    """Refuse a generator that gives no probability to the question.

    Raises:
        ModelError: an encoder-decoder, an extractive reader, or another one without ``question_log_likelihood``.
    """
    if hasattr(generator, "question_log_likelihood"):
        return
    instead = "set question_likelihood to 0"
    if hasattr(generator, "finite_answers"):
        instead += "; with empty_answer this reader weighs passages by what they state"
    else:
        instead += ", or choose a causal language model"
    expected = "a generator that reads the question after the passage, for question_likelihood"
    raise ModelError(expected, f"{generator.name}, which does not", instead)


def _before(prompt: Prompt) -> Prompt:
    """All that is read before the question's first own token."""
    first, _ = prompt.own_question or (0, 0)
    found = Prompt(prompt.header, prompt.passages, prompt.question[:first])
    if not found.tokens:
        remedy = "put a word before {question}, or into header_without_passage"
        raise SettingError("text before the question in every prompt, for question_likelihood", "none", remedy)
    return found

"""The composite objective of an extractive reader: each passage is read once with each of its questions.

The terms are those of a language model (``reading_sets.py``): c log p(y | x, z) where the passage states the
answer, and λ (1 - c) log p(∅ | x, z) where it does not. An encoder reads question and passage together, so that
nothing is packed: a row has one tree of one branch.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.errors import QuestionError
from mixrag.generator import ExtractiveGenerator, Prompt
from mixrag.training.generators import ScoredRows
from mixrag.training.packing import Branch, Row, Tree, branches_of
from mixrag.training.reading_sets import ReadingSet, Target
from mixrag.training.span_answers import possible_answers
from mixrag.training.trainable_spans import TrainableSpans

NOTHING = Prompt((), (), ())


@dataclass(frozen=True, slots=True)
class SpanBranch(Branch):
    """A question and an answer (``answer``; the stop token alone is the empty one) of a passage."""

    prompt: Prompt = NOTHING
    tokens: int = 0
    """That the encoder reads."""

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return self.tokens


@dataclass(frozen=True, slots=True)
class SpanTarget:
    """A question of a passage, with the answers that are spans of it."""

    prompt: Prompt
    tokens: int
    answers: tuple[tuple[int, ...], ...]
    """Of which one is drawn at each visit; none where the passage does not state one."""
    holds: float


@dataclass(frozen=True, slots=True)
class SpanSet:
    """A passage with all that is asked about it."""

    targets: tuple[SpanTarget, ...]


class SpanReading:
    """Reading sets as an extractive reader reads them.

    Targets are left out where the answer is no span of the passage, as the reader sees it, or longer than
    ``max_answer_tokens``, or where the question is too long; ``left_out`` counts them.
    """

    def __init__(self, generator: ExtractiveGenerator, max_answer_tokens: int) -> None:
        self.generator, self.max_answer_tokens = generator, max_answer_tokens
        self.left_out = 0

    def readable(self, sets: Iterable[ReadingSet]) -> list[SpanSet]:
        """The sets that have a target left."""
        found = []
        for each in sets:
            targets = [target for one in each.targets if (target := self._target(each, one)) is not None]
            self.left_out += len(each.targets) - len(targets)
            if targets:
                found.append(SpanSet(tuple(targets)))
        return found

    def _target(self, reading: ReadingSet, target: Target) -> SpanTarget | None:
        try:
            prompt = self.generator.prompt(target.pair.question, (reading.passage,), 0)
        except QuestionError:
            return None
        answers = possible_answers(self.generator, prompt, target.pair.answers) if target.holds else ()
        short = tuple(answer for answer in answers if len(answer) <= self.max_answer_tokens)
        if target.holds and not short:
            return None
        return SpanTarget(prompt, self.generator.prompt_length(prompt), short, target.holds)


def span_rows(sets: Sequence[SpanSet], stop: int, empty_weight: float, source: random.Random) -> list[Row]:
    """The branches of one visit, in a random order; of several answers one is drawn.

    Args:
        sets: what is read.
        stop: the token that alone is the empty answer.
        empty_weight: λ.
        source: of what is drawn.
    """
    rows: list[Row] = []
    for target in (target for each in sets for target in each.targets):
        terms = []
        if target.holds > 0:
            terms.append((source.choice(target.answers), target.holds))
        if target.holds < 1 and empty_weight > 0:
            terms.append(((stop,), empty_weight * (1 - target.holds)))
        rows += [
            (Tree((), (SpanBranch((), answer, weight, target.prompt, target.tokens),)),)
            for answer, weight in terms
        ]
    source.shuffle(rows)
    return rows


class SpanRowReader:
    """Log-likelihoods of such rows, and their gradient."""

    def __init__(self, trained: TrainableSpans) -> None:
        self.trained = trained

    def log_likelihoods(self, rows: Sequence[Row]) -> Tensor:
        """(B,) float64 log p(answer | passage, question) of each branch, without gradient."""
        prompts, answers, _ = _parts(rows)
        if not prompts:
            return torch.zeros(0, dtype=torch.float64)
        return self.trained.log_likelihoods(prompts, answers).sum(-1)

    def backward(self, rows: Sequence[Row], total: float) -> Tensor:
        """Add the gradient of -(Σ weight · log p(answer)) / ``total`` to the trained weights.

        Returns (B,) float64: log p(answer | passage, question) of each branch.
        """
        prompts, answers, weights = _parts(rows)
        shares = -weights / total
        coefficients = [share.expand(len(answer)) for share, answer in zip(shares, answers, strict=True)]
        values = self.trained.backward(ScoredRows(prompts, answers, coefficients, torch.arange(len(prompts))))
        return values / shares


def _parts(rows: Sequence[Row]) -> tuple[list[Prompt], list[tuple[int, ...]], Tensor]:
    branches = [branch for branch in branches_of(rows) if isinstance(branch, SpanBranch)]
    weights = torch.tensor([branch.weight for branch in branches], dtype=torch.float64)
    return [branch.prompt for branch in branches], [branch.answer for branch in branches], weights

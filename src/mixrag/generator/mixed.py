"""Two generators as one: p(y | x, z) = w p_LM(y | x, z) + (1 - w) p_ext(y | x, z).

A mixture of generators is again a mixture. Within a branch the generator is drawn once, for the whole answer; what
mixes the next token is how probable each has found the answer so far:

    p(next v | y_<t) = Σ_g ω_g(t) p_g(v | y_<t),    ω_g(t) ∝ w_g p_g(y_<t | x, z)

The extractive generator writes tokens of the language model, so that both are distributions over the same answers.
The empty answer is a stop token as the first one in both, and mixes by the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError, SettingError
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.protocol import (
    Branches,
    Generator,
    JoiningBranches,
    Prompt,
    QuestionReader,
    answer_room,
    can_join,
)
from mixrag.generator.questions import start_with_question
from mixrag.generator.rounding import stated_rounding
from mixrag.probability import log_mixed_tokens, log_normalise

NAMES = ("language-model", "extractive")
"""What the two are called in results, in the order of all tuples here."""


@dataclass(frozen=True, slots=True)
class MixedPrompt(Prompt):
    """The language model's prompt, with those of both."""

    inner: tuple[Prompt, ...] = ()
    """The language model's and the extractive generator's."""


@dataclass(frozen=True)
class MixedBranches:
    """Rows of a ``MixedGenerator``: those of both, and the weights that mix them."""

    branches: tuple[Branches, ...]
    """R rows of each of the two, in the same order."""
    log_weights: Tensor
    """(R, 2) float64 log ω, on the device of the language model; -inf in both where the answer is impossible."""

    @cached_property
    def log_probs(self) -> Tensor:
        """(R, V) float64."""
        model, spans = (each.log_probs for each in self.branches)
        device, size = self.log_weights.device, model.shape[-1]
        mixed = self.log_weights[:, :1] + model.double()
        found = self.log_weights[:, 1:] + spans.to(device=device, dtype=torch.float64)
        return torch.cat(
            [torch.logaddexp(mixed[:, : spans.shape[-1]], found), mixed[:, spans.shape[-1] : size]], -1
        )

    def advance(self, rows: Tensor, tokens: Tensor) -> MixedBranches:
        """See ``Branches.advance``; the weights go by Bayes' rule."""
        device = self.log_weights.device
        chosen, written = rows.to(device), tokens.to(device)
        likelihood = torch.stack(
            [_at(each.log_probs, rows, tokens).to(device=device, dtype=torch.float64) for each in self.branches],
            -1,
        )
        weights = log_normalise(self.log_weights[chosen] + likelihood, -1)
        model, spans = self.branches
        return MixedBranches((model.advance(chosen, written), spans.advance(rows.cpu(), tokens.cpu())), weights)

    def select(self, rows: Tensor) -> MixedBranches:
        """See ``Branches.select``."""
        model, spans = self.branches
        chosen = rows.to(self.log_weights.device)
        return MixedBranches((model.select(chosen), spans.select(rows.cpu())), self.log_weights[chosen])

    @property
    def joins(self) -> bool:
        """Where those of both can be joined."""
        return all(map(can_join, self.branches))

    def join(self, rows: Tensor, others: Sequence[tuple[MixedBranches, Tensor]]) -> MixedBranches:
        """See ``JoiningBranches.join``; also with other weights of the two."""
        model, spans = (cast(JoiningBranches, each) for each in self.branches)
        models = [(each.branches[0], some) for each, some in others]
        readers = [(each.branches[1], some.cpu()) for each, some in others]
        parts = [(self.log_weights, rows), *((each.log_weights, some) for each, some in others)]
        weights = torch.cat([each[some.to(each.device)] for each, some in parts])
        return MixedBranches((model.join(rows, models), spans.join(rows.cpu(), readers)), weights)

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``; one pass of the language model."""
        device = self.log_weights.device
        tables = [each.score(tokens).to(device=device, dtype=torch.float64) for each in self.branches]
        return log_mixed_tokens(self.log_weights, torch.stack(tables, 1))


@dataclass(frozen=True)
class MixedGenerator:
    """A ``Generator`` whose answers a language model or an extractive generator writes; see the module.

    Attributes:
        language_model: also one that may only copy.
        extractive: writes the same tokens; of V' ≤ V tokens.
        weight: w, the probability that the language model writes; 0 < w < 1.

    Raises:
        SettingError: another weight.
        ModelError: the two do not write the same tokens.
    """

    language_model: Generator
    extractive: Generator
    weight: float = 0.5

    def __post_init__(self) -> None:
        """Check that both write answers in the same tokens."""
        if not 0.0 < self.weight < 1.0:
            raise SettingError("a weight of the language model between 0 and 1", f"{self.weight}", "choose one")
        model, spans = self.generators
        end = spans.answer_tokens("")[-1]
        if spans.vocabulary_size > model.vocabulary_size or end not in model.stop_tokens:
            found = f"{spans.vocabulary_size} tokens, the end {end}, in {spans.name}"
            expected = f"the {model.vocabulary_size} tokens of {model.name}, the end {min(model.stop_tokens)}"
            raise ModelError(expected, found, "give the extractive generator the tokenizer of the language model")

    @property
    def generators(self) -> tuple[Generator, Generator]:
        """Both, in the order of ``NAMES``."""
        return self.language_model, self.extractive

    @property
    def log_weights(self) -> Tensor:
        """(2,) float64 log w."""
        return torch.tensor([math.log(self.weight), math.log1p(-self.weight)], dtype=torch.float64)

    @property
    def name(self) -> str:
        """Those of both."""
        return f"{self.language_model.name} with {self.extractive.name}"

    @property
    def vocabulary_size(self) -> int:
        """V, of the language model."""
        return self.language_model.vocabulary_size

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Those of the language model."""
        return self.language_model.stop_tokens

    @property
    def context_size(self) -> int:
        """That of the language model."""
        return self.language_model.context_size

    @property
    def rounding(self) -> float | None:
        """That of the language model: the log-odds of a next token move by no more under the weights as they are.

        What rounding of earlier tokens does to these weights is not in it.
        """
        return stated_rounding(self.language_model)

    @property
    def prefix_cache(self) -> object:
        """That of the language model; None where it has none."""
        return getattr(self.language_model, "prefix_cache", None)

    def weighted(self, weight: float) -> MixedGenerator:
        """The same two with another weight of the language model."""
        return self if weight == self.weight else replace(self, weight=weight)

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> MixedPrompt:
        """See ``Generator.prompt``; only what the language model reads may be shortened."""
        model, spans = (each.prompt(question, passages, reserve) for each in self.generators)
        return MixedPrompt(model.header, model.passages, model.question, model.shortened, (model, spans))

    def prompt_text(self, prompt: Prompt) -> str:
        """That of the language model."""
        return self.language_model.prompt_text(prompts_of([prompt])[0][0])

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """See ``Generator.answer_tokens``; word by word, as the extractive generator has them."""
        return self.extractive.answer_tokens(answer)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return self.language_model.text(tokens)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``; one of each of the two."""
        each = zip(self.generators, prompts_of(prompts), strict=True)
        tables = [generator.log_likelihood(own, answer).double().cpu() for generator, own in each]
        return log_mixed_tokens(self.log_weights.expand(len(prompts), -1), torch.stack(tables, 1))

    @property
    def question_log_likelihood(self) -> Callable[[Sequence[Prompt]], Tensor]:
        """(K,) log p(x | z_j) by the language model; there is no such attribute where it has none."""
        found = cast(QuestionReader, self.language_model).question_log_likelihood
        return lambda prompts: found(prompts_of(prompts)[0])

    def answer_room(self, prompts: Sequence[Prompt]) -> int:
        """That of the language model."""
        return answer_room(self.language_model, prompts_of(prompts)[0])

    def start(self, prompts: Sequence[Prompt]) -> MixedBranches:
        """See ``Generator.start``."""
        return self._mixed(self.language_model.start(prompts_of(prompts)[0]), prompts)

    def start_with_question(self, prompts: Sequence[Prompt]) -> tuple[MixedBranches, Tensor]:
        """``start`` and ``question_log_likelihood``."""
        branches, log_question = start_with_question(self.language_model, prompts_of(prompts)[0])
        return self._mixed(branches, prompts), log_question

    def _mixed(self, model: Branches, prompts: Sequence[Prompt]) -> MixedBranches:
        spans, device = self.extractive.start(prompts_of(prompts)[1]), model.log_probs.device
        return MixedBranches((model, spans), self.log_weights.to(device).expand(len(prompts), -1))


def prompts_of(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts of the language model, and those of the extractive generator.

    Raises:
        ModelError: a prompt of another generator.
    """
    pairs = [prompt.inner for prompt in prompts if isinstance(prompt, MixedPrompt)]
    if len(pairs) < len(prompts):
        raise ModelError("prompts of a mixture of generators", "another kind", "make them with its prompt()")
    return [model for model, _ in pairs], [spans for _, spans in pairs]


def language_model_of(generator: Generator) -> Generator:
    """The language model of a mixture of two generators; any other generator itself."""
    return generator.language_model if isinstance(generator, MixedGenerator) else generator


def copying(generator: Generator) -> Generator:
    """The generator whose answers are texts of their passages: its language model may only copy."""
    if isinstance(generator, MixedGenerator):
        return replace(generator, language_model=CopyingGenerator(generator.language_model))
    return CopyingGenerator(generator)


def _at(log_probs: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """(R',) the log-probabilities of chosen tokens; what is no token of the row's generator is impossible."""
    rows, tokens = rows.to(log_probs.device), tokens.to(log_probs.device)
    there = tokens < log_probs.shape[-1]
    return log_probs[rows, tokens.where(there, 0)].masked_fill(~there, -math.inf)

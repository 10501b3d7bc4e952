"""Components of a mixture and their prior: as retrieved, weighed by the question, given ≠∅, without rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from mixrag.config.settings import SwitchAt
from mixrag.corpus.passage import Passage
from mixrag.generator.protocol import Generator, Prompt, QuestionReader
from mixrag.generator.rounding import rounding_of, stated_rounding
from mixrag.inference.empty_answer import EmptyAnswers, read_prompts
from mixrag.inference.sentence_switch import ends_at, sentence_ends
from mixrag.probability import (
    Switch,
    answered_outside,
    log_answered_prior,
    log_empty_probability,
    log_reweighted_prior,
    log_shifted,
    shifted_answered_prior,
)


@dataclass(frozen=True, slots=True)
class Component:
    """One prompt of the mixture and the passages it holds; none in the null component."""

    passages: tuple[Passage, ...]
    prompt: Prompt


@dataclass(frozen=True)
class WeightedComponents:
    """K prompts of one question and their weights, some of which only the language model knows.

    Where π is the prior as retrieved, π'_j ∝ π_j p(x | z_j)^β weighs it again (``probability.reweighted``). The
    prior given ≠∅ starts from π': it is π'_j (1 - p(∅ | x, z_j)) / (1 - p(∅ | x)) (``probability.empty``).
    """

    generator: Generator
    question: str
    components: tuple[Component, ...]
    unconditioned_log_prior: Tensor
    """(K,) float64, π as retrieved. Its total is one under the top-k normaliser, and 1-ε under the full one."""
    switch: float
    unconditioned_outside: float | None
    """ε: prior mass, under the full normaliser, of the components left out; None where it is unknown, or where
    a component here is none of the full mixture's (a group cut short by k)."""
    reserve: int = 64
    """Tokens of the context that the prompts leave to an answer."""
    empty_answer: bool = False
    """A stop token as the first one means that nothing is stated."""
    question_likelihood: float = 0.0
    """β; 0: the prior is π."""
    switch_at: SwitchAt = "token"
    """"sentence": ρ is 0 but at the ends of sentences (``sentence_switch``)."""
    _empty: EmptyAnswers | None = field(default=None, init=False, repr=False, compare=False)
    """What the first token's distribution says, once the prompts were read."""
    _log_question: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    """(K,) log p(x | z_j), once the prompts were read for it."""

    @property
    def by_sentence(self) -> bool:
        """Whether ρ differs between tokens."""
        return self.switch_at == "sentence" and self.switch > 0.0

    def switches(self, tokens: Sequence[int]) -> Switch:
        """ρ, or (T,) float64 ρ_t: how probably the passage is drawn again after each token of an answer."""
        if not self.by_sentence:
            return self.switch
        return self.switch * torch.tensor(sentence_ends(self.generator, tokens), dtype=torch.float64)

    def switch_after(self, tokens: Sequence[int]) -> float:
        """ρ_T of an answer so far, of at least one token."""
        return self.switch if not self.by_sentence or ends_at(self.generator, tokens) else 0.0

    def switches_inside(self, answers: Sequence[tuple[int, ...]]) -> float | dict[tuple[int, ...], float]:
        """ρ; where it differs between tokens, ρ_t after each part of these answers."""
        if not self.by_sentence:
            return self.switch
        parts = {answer[:t] for answer in answers for t in range(1, len(answer))}
        return {part: self.switch_after(part) for part in parts}

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passages of all components, in order of rank."""
        return tuple(passage for component in self.components for passage in component.passages)

    @property
    def component_of_passage(self) -> list[int]:
        """For each of ``passages``, the component that it is part of."""
        return [j for j, component in enumerate(self.components) for _ in component.passages]

    @property
    def null_component(self) -> int | None:
        """The component without passages; None where there is none."""
        return next((j for j, component in enumerate(self.components) if not component.passages), None)

    @cached_property
    def reweighted_log_prior(self) -> Tensor:
        """(K,) float64 log π'_j, with the total of π; π itself where ``question_likelihood`` is 0."""
        question = self.log_question_likelihood
        prior = self.unconditioned_log_prior
        return prior if question is None else log_reweighted_prior(prior, question, self.question_likelihood)

    @cached_property
    def log_prior(self) -> Tensor:
        """(K,) float64 log p(z_j | x); with an ``empty_answer`` log p(z_j | x, ≠∅).

        Its total is one under the top-k normaliser, and one less ``outside`` under the full one. Where all
        components are certain of ∅ it is the prior before that, and the empty answer is the only one.
        """
        answered = self.log_answered
        prior = self.reweighted_log_prior
        return prior if answered is None else log_answered_prior(prior, answered)

    @cached_property
    def outside(self) -> float | None:
        """``unconditioned_outside``; with an ``empty_answer`` the bound ε' of that mass given ≠∅."""
        return self.shifted_outside(0.0)

    @property
    def rounding(self) -> float:
        """h of ``probability.rounding``: how far rounding moves the log-odds of the generator's next token."""
        return rounding_of(self.generator)

    @property
    def stated_rounding(self) -> float | None:
        """``rounding``; None where it is not known."""
        return stated_rounding(self.generator)

    def shifted_log_prior(self, log_odds: float) -> Tensor:
        """(K,) an end of the interval of ``log_prior`` without rounding: the upper one for h, the lower for -h."""
        answered, prior = self.log_answered, self.reweighted_log_prior
        return prior if answered is None else shifted_answered_prior(prior, answered, log_odds)

    def shifted_outside(self, log_odds: float) -> float | None:
        """The largest ``outside`` can be without rounding, for -h."""
        if self.unconditioned_outside is None or self.log_answered is None:
            return self.unconditioned_outside
        answered = log_shifted(self.log_answered, log_odds)
        return float(answered_outside(self.reweighted_log_prior, answered, self.unconditioned_outside))

    @property
    def log_empty(self) -> Tensor | None:
        """(K,) float64 log p(∅ | x, z_j): that it states no answer; None without an ``empty_answer``."""
        return None if self._read is None else self._read.log_empty

    @property
    def log_p_empty(self) -> float | None:
        """log p(∅ | x) in nats; of a truncated prior the part of these components. None as ``log_empty``."""
        found = self._read
        if found is None:
            return None
        return min(0.0, float(log_empty_probability(self.reweighted_log_prior, found.log_empty)))

    @property
    def log_answered(self) -> Tensor | None:
        """(K,) log(1 - p(∅ | x, z_j)); None where answers are not given ≠∅, or all components are certain of ∅."""
        found = self._read if self.empty_answer else None
        possible = found is not None and bool((self.reweighted_log_prior + found.log_answered).isfinite().any())
        return found.log_answered if found is not None and possible else None

    @property
    def log_question_likelihood(self) -> Tensor | None:
        """(K,) float64 log p(x | z_j); None where ``question_likelihood`` is 0, or there is one component."""
        if not self._weighs_question:
            return None
        if self._log_question is None:
            reader = cast(QuestionReader, self.generator)
            self._note(log_question=reader.question_log_likelihood(self._prompts))
        return self._log_question

    @property
    def needs_question(self) -> bool:
        """Whether log p(x | z_j) is still to be found."""
        return self._weighs_question and self._log_question is None

    @property
    def _weighs_question(self) -> bool:
        return self.question_likelihood > 0.0 and len(self.components) > 1

    @property
    def _read(self) -> EmptyAnswers | None:
        """What the prompts give to ∅; the model reads them where it has not yet."""
        if self.empty_answer and self._empty is None:
            self._note(read_prompts(self.generator, self._prompts)[0])
        return self._empty

    @property
    def _prompts(self) -> list[Prompt]:
        return [component.prompt for component in self.components]

    def _note(self, empty: EmptyAnswers | None = None, log_question: Tensor | None = None) -> None:
        """Remember what was found when the prompts were first read: the weights are made of it.

        In bfloat16 a later reading, in another batch, finds a little more or less. Its likelihoods are divided by
        what it has found itself, so that they stay distributions; the weights stay those of the first one.
        """
        if empty is not None and self._empty is None:
            own = EmptyAnswers(empty.log_empty.clone(), empty.log_answered.clone())
            object.__setattr__(self, "_empty", own)
        if log_question is not None and self._log_question is None:
            object.__setattr__(self, "_log_question", log_question.double().cpu().clone())

"""Mixture: components, their prior, and everything that follows from the likelihoods of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mixrag.config.settings import SwitchAt
from mixrag.corpus.passage import Passage
from mixrag.generator.protocol import Branches, Generator
from mixrag.generator.questions import check_reads_questions, start_with_question
from mixrag.inference.components import Component, WeightedComponents
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.empty_answer import answered_branches, log_answered_table, read_prompts
from mixrag.inference.missing_generator import MissingGenerator
from mixrag.inference.read_together import read_together, shares_rows
from mixrag.inference.sentence_switch import AnswersSoFar, sentence_ends
from mixrag.probability import (
    Switch,
    is_certainly_best,
    log_answer_likelihood,
    log_leave_one_out,
    log_marginal,
    log_normalise,
    log_posterior,
    log_predictive_weights,
    log_shifted,
    log_smoothing,
    log_sum,
    log_truncation_bracket,
    shifted_answered_prior,
)


@dataclass(frozen=True)
class Mixture(WeightedComponents):
    """p(y | x) = Σ_j π_j p(y | x, z_j), with a switch; shapes are K components, T tokens, V vocabulary.

    With an ``empty_answer`` it is p(y | x, ≠∅), the distribution of answers given that one is stated, which is a
    mixture again (``probability.empty``): ``log_prior``, ``outside`` and all likelihoods of answers are given ≠∅.
    With a ``question_likelihood`` the prior is weighed again by how well each component predicts the question
    (``probability.reweighted``). Both need the model, which reads the prompts for them where it has not yet.
    """

    def __copy__(self) -> Mixture:
        """Itself, since it does not change; a pickle is not a copy of it."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Mixture:
        """Itself, since it does not change: no model is copied."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """All but the language model: a pickle has a ``MissingGenerator`` in its place."""
        without = MissingGenerator(self.generator.name, self.generator.stop_tokens, self.stated_rounding)
        derived = ("reweighted_log_prior", "log_prior", "outside")
        own = {name: value for name, value in self.__dict__.items() if name not in derived}
        return {**own, "generator": without, "unconditioned_log_prior": self.unconditioned_log_prior.clone()}

    def start(self) -> DecodingState:
        """One answer that has not begun; the model reads all prompts as one batch."""
        return self.state(start_together([self]))

    def state(self, branches: Branches) -> DecodingState:
        """One answer that has not begun, with its rows (K), which have read the prompts."""
        log_prior = self.log_prior.to(branches.log_probs.device)
        so_far = AnswersSoFar(self.generator) if self.by_sentence else None
        return DecodingState(branches, log_prior[None], log_prior, self.switch, so_far)

    def score(self, answer: str) -> ScoredAnswer:
        """Likelihoods of a given answer and its end, in one pass over all components.

        With an ``empty_answer`` that of the empty text is p(∅ | x), and of others given ≠∅.
        """
        return self.score_tokens(self.generator.answer_tokens(answer))

    def score_tokens(self, tokens: Sequence[int]) -> ScoredAnswer:
        """As ``score``, for answer token ids (T,)."""
        tokens = tuple(tokens)
        _ = self.reweighted_log_prior  # what is derived from the table later must need no model
        if not self.empty_answer:
            table = self.generator.log_likelihood(self._prompts, tokens).double().cpu()
            return ScoredAnswer(self, tokens, table)
        if len(tokens) == 1 and tokens[0] in self.generator.stop_tokens and self._read is not None:
            return ScoredAnswer(self.unconditioned(), tokens, self._read.log_empty[:, None])
        found, table = read_prompts(self.generator, self._prompts, tokens)
        self._note(found)
        stops = torch.tensor(sorted(self.generator.stop_tokens), dtype=torch.long)
        return ScoredAnswer(self, tokens, log_answered_table(table, tokens, found.log_answered, stops))

    def score_all(self, answers: Sequence[Sequence[int]]) -> list[ScoredAnswer]:
        """As ``score_tokens``, for several answers; a model whose rows are at hand reads each prompt once."""
        if not shares_rows(self.generator):
            return [self.score_tokens(tokens) for tokens in answers]
        read = read_together(self.generator, self._prompts, answers, question=self.needs_question)
        self._note(read.empty if self.empty_answer else None, read.log_question)
        _ = self.reweighted_log_prior  # what is derived from the tables later must need no model
        answered, tables = read.empty.log_answered, read.tables
        if self.empty_answer:
            stops = torch.tensor(sorted(self.generator.stop_tokens), dtype=torch.long)
            pairs = zip(tables, answers, strict=True)
            tables = tuple(log_answered_table(table, tokens, answered, stops) for table, tokens in pairs)
        return [ScoredAnswer(self, tuple(each), table) for each, table in zip(answers, tables, strict=True)]

    def log_prob(self, answer: str) -> float:
        """log p(answer | question), in nats, the end of the answer included."""
        return self.score(answer).log_prob

    def posterior(self, answer: str) -> Tensor:
        """(K,) p(z_j | x, y) at switch 0; else the expected share of the tokens that component j wrote."""
        return self.score(answer).posterior

    def predictive(self, answer: str = "") -> Tensor:
        """(V,) log p(next token | question, answer so far)."""
        tokens = self.generator.answer_tokens(answer)[:-1] if answer else ()
        state = self.start()
        for token in tokens:
            state = state.advance(torch.tensor([0]), torch.tensor([token]))
        return state.log_mixed()[0]

    def closed_book(self) -> Mixture:
        """The same question without any passage: what the language model knows by itself.

        Raises:
            QuestionError: the question does not fit into the context.
        """
        nothing, reserve, empty = self.unconditioned_log_prior[:0], self.reserve, self.empty_answer
        return condition(self.generator, self.question, (), nothing, reserve=reserve, empty_answer=empty)

    def unconditioned(self) -> Mixture:
        """The mixture over all answers and ∅, which is its empty text."""
        everything = replace(self, empty_answer=False)
        everything._note(self._empty, self._log_question)
        return everything

    def part(self, components: Sequence[int]) -> Mixture:
        """The mixture of some components, with their prior as it is; what is outside is not known."""
        return self._part(components, self.reweighted_log_prior[[*components]])

    def alone(self, component: int) -> Mixture:
        """The mixture of one component, with prior one: what this passage by itself would answer."""
        return self._part([component], torch.zeros(1, dtype=self.unconditioned_log_prior.dtype))

    def _part(self, components: Sequence[int], log_prior: Tensor) -> Mixture:
        some = replace(
            self,
            components=tuple(self.components[j] for j in components),
            unconditioned_log_prior=log_prior,
            unconditioned_outside=None,
            question_likelihood=0.0,  # which is in that prior
        )
        some._note(None if self._empty is None else self._empty.part(components))
        return some


def start_together(mixtures: Sequence[Mixture]) -> Branches:
    """The rows of several mixtures of one generator before the first token, as one batch of the model."""
    generator, prompts = mixtures[0].generator, [prompt for mixture in mixtures for prompt in mixture._prompts]
    sizes = [len(mixture.components) for mixture in mixtures]
    if any(mixture.needs_question for mixture in mixtures):
        branches, log_question = start_with_question(generator, prompts)
        for mixture, own in zip(mixtures, log_question.split(sizes), strict=True):
            if mixture.needs_question:
                mixture._note(log_question=own)
    else:
        branches = generator.start(prompts)
    if not any(mixture.empty_answer for mixture in mixtures):
        return branches
    conditional = [mixture.empty_answer for mixture in mixtures for _ in mixture.components]
    answered, found = answered_branches(branches, generator.stop_tokens, conditional)
    for mixture, places in zip(mixtures, torch.arange(len(prompts)).split(sizes), strict=True):
        if mixture.empty_answer:
            mixture._note(found.part(places.tolist()))
    return answered


class ScoredAnswer:
    """An answer with its likelihood under every component; all else is derived, without the model.

    A copy is the object itself. A pickle holds the table and the mixture without its language model, so that all
    that is derived here can still be had from it; what needs the model raises ``ModelError``.

    Attributes:
        mixture: the mixture that it was scored under.
        tokens: the T tokens scored; the last ends the answer, unless it was cut off.
        log_likelihood: (K, T) log p(y_t | x, z_j, y_<t); with an ``empty_answer`` the first token's given ≠∅.
    """

    def __init__(self, mixture: Mixture, tokens: tuple[int, ...], log_likelihood: Tensor) -> None:
        self.mixture = mixture
        self.tokens = tokens
        self.log_likelihood = log_likelihood

    def __deepcopy__(self, memo: dict[int, Any]) -> ScoredAnswer:
        """Itself, since it does not change: ``dataclasses.asdict`` of what holds it copies no model."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """The table, the text, and the mixture without its language model."""
        return {
            "mixture": self.mixture,
            "tokens": self.tokens,
            "log_likelihood": self.log_likelihood.clone(),  # of a view the pickle would hold the whole
            "text": self.text,
            "sentence_ends": self.sentence_ends,
        }

    @cached_property
    def text(self) -> str:
        """The answer without its stop token."""
        return self.mixture.generator.text(self.tokens)

    @cached_property
    def sentence_ends(self) -> tuple[bool, ...]:
        """(T,) whether the answer up to each token ends a sentence: where the passage may change then."""
        return sentence_ends(self.mixture.generator, self.tokens)

    @cached_property
    def switch(self) -> Switch:
        """ρ, or (T,) float64 ρ_t after each token, where the passage changes at the ends of sentences only."""
        if not self.mixture.by_sentence:
            return self.mixture.switch
        return self.mixture.switch * torch.tensor(self.sentence_ends, dtype=torch.float64)

    @property
    def finished(self) -> bool:
        """False where the answer was cut off before it ended."""
        return bool(self.tokens) and self.tokens[-1] in self.mixture.generator.stop_tokens

    @cached_property
    def log_prob(self) -> float:
        """log p(y | x) in nats, given ≠∅ where there is an ``empty_answer``.

        Under the full normaliser with k < M it is the part of these components: a lower bound of the whole.
        """
        return float(log_marginal(self.mixture.log_prior, self.log_likelihood, self.switch))

    @cached_property
    def log_interval(self) -> tuple[float, float]:
        """Between what ``log_prob`` lies without rounding: both are ``log_prob`` where there is none."""
        h = self.mixture.rounding
        return (self._shifted(-h), self._shifted(h)) if h else (self.log_prob, self.log_prob)

    def _shifted(self, log_odds: float) -> float:
        log_prior, table = self.mixture.shifted_log_prior(log_odds), log_shifted(self.log_likelihood, log_odds)
        return min(0.0, float(log_marginal(log_prior, table, self.switch)))

    @cached_property
    def token_log_probs(self) -> Tensor:
        """(T,) log p(y_t | x, y_<t); they add up to ``log_prob``."""
        weights = log_predictive_weights(self.mixture.log_prior, self.log_likelihood, self.switch)
        return log_sum(weights[:, :-1] + self.log_likelihood, 0)

    @cached_property
    def responsibilities(self) -> Tensor:
        """(K, T) p(z_t = j | x, y): which component wrote each token, given the whole answer."""
        return log_smoothing(self.mixture.log_prior, self.log_likelihood, self.switch).exp()

    @cached_property
    def posterior(self) -> Tensor:
        """(K,) p(z_j | x, y) at switch 0; else the expected share of the tokens that component j wrote."""
        return log_posterior(self.mixture.log_prior, self.log_likelihood, self.switch).exp()

    @cached_property
    def log_leave_one_out(self) -> Tensor:
        """(K,) log p(y | x) had component j not been there, the others' prior divided by 1 - π_j."""
        return log_leave_one_out(self.mixture.log_prior, self.log_likelihood, self.switch)

    @cached_property
    def log_component(self) -> Tensor:
        """(K,) log p(y | x, z_j): the whole answer under each component alone."""
        return log_answer_likelihood(self.log_likelihood)

    @cached_property
    def log_bracket(self) -> tuple[float, float] | None:
        """Bounds on the full mixture's log p(y | x) over all M passages, without rounding; None if ε is unknown.

        The part of these passages under the full prior, and that part plus all that the others could add.
        """
        h = self.mixture.rounding
        outside = self.mixture.shifted_outside(-h)
        if outside is None:
            return None
        switch, length = self.switch, len(self.tokens)
        lower = log_truncation_bracket(self._log_part(-h), outside, switch, length)[0]
        return float(lower), float(log_truncation_bracket(self._log_part(h), outside, switch, length)[1])

    def certainly_beats(self, other: ScoredAnswer) -> bool:
        """True where this answer is more probable than ``other`` also in the full mixture, without rounding."""
        h = self.mixture.rounding
        outside = self.mixture.shifted_outside(-h)
        if outside is None:
            return False
        own, others = self._log_part(-h), other._log_part(h)
        return bool(is_certainly_best(own, others, outside, other.switch, len(other.tokens)))

    def _log_part(self, log_odds: float) -> Tensor:
        """Log marginal under the components' share of the full prior, whichever normaliser is shown.

        All likelihoods are shifted: an end of its interval.
        """
        mixture, outside = self.mixture, self.mixture.unconditioned_outside or 0.0
        log_share = torch.tensor(1.0 - outside, dtype=torch.float64).log()
        log_prior = log_normalise(mixture.reweighted_log_prior, -1) + log_share
        if mixture.log_answered is not None:
            log_prior = shifted_answered_prior(log_prior, mixture.log_answered, log_odds)
        return log_marginal(log_prior, log_shifted(self.log_likelihood, log_odds), self.switch)


def condition(
    generator: Generator,
    question: str,
    passages: Sequence[Passage],
    log_prior: Tensor,
    *,
    log_null: float | Tensor | None = None,
    outside: float | None = None,
    group: int | None = 1,
    switch: float = 0.0,
    reserve: int = 64,
    empty_answer: bool = False,
    question_likelihood: float = 0.0,
    switch_at: SwitchAt = "token",
) -> Mixture:
    """Build the mixture over passages (K,) and their log prior (K,), best first.

    Args:
        generator: the language model.
        question: the question x.
        passages: the passages z; none leaves the null component alone, the closed-book model.
        log_prior: their log p(z | x).
        log_null: log prior of the null component; None for no such component.
        outside: prior mass of passages not among these, under the full normaliser, where known.
        group: passages in one component, whose prior is the sum of its members'; None puts all into one.
        switch: ρ.
        reserve: tokens of the context left to the answer.
        empty_answer: answers are given that they are not empty, which means that nothing is stated.
        question_likelihood: β of the prior π'_j ∝ π_j p(x | z_j)^β.
        switch_at: "sentence": the passage may change where a sentence of the answer has ended, and nowhere else.

    Raises:
        QuestionError: the question does not fit into the context.
        ModelError: β > 0, and a generator that gives the question no probability.
    """
    if question_likelihood > 0.0:
        check_reads_questions(generator)
    size = max(1, len(passages)) if group is None else group
    tuples = [tuple(passages[i : i + size]) for i in range(0, len(passages), size)]
    if log_null is not None or not tuples:
        tuples.append(())
    priors = component_log_prior(log_prior, log_null, group)
    components = tuple(Component(each, generator.prompt(question, each, reserve)) for each in tuples)
    # With 0 < ε, a last group that k cut short (or one group of all k) would be larger in the full mixture.
    complete = outside == 0.0 or (group is not None and len(passages) % size == 0)
    known = outside if complete else None
    weighed = empty_answer, question_likelihood, switch_at
    return Mixture(generator, question, components, priors, switch, known, reserve, *weighed)


def component_log_prior(log_prior: Tensor, log_null: float | Tensor | None, group: int | None) -> Tensor:
    """(K,) log prior of the components that passages with this log prior (k,) make; see ``condition``."""
    size = max(1, len(log_prior)) if group is None else group
    priors = [log_sum(log_prior[i : i + size].double(), 0) for i in range(0, len(log_prior), size)]
    if log_null is not None or not priors:
        priors.append(torch.as_tensor(0.0 if log_null is None else log_null, dtype=torch.float64))
    return torch.stack(priors)

"""One step of learning: the gradient of the objective, without storing the graphs of all branches.

The loss is a function of two tables, the log prior and the log-likelihoods. Their gradients (the coefficients)
need no model: the tables are computed first, without a graph; then each branch goes backward by itself with its
coefficient. At switch 0 the coefficient of a branch is minus its responsibility, so branches that explain nothing
need no backward pass; with a frozen generator the table of likelihoods is a constant and is cached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.corpus import Passage
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture, condition
from mixrag.pairs.matching import passage_holds
from mixrag.probability import (
    Switch,
    contributing_branches,
    distillation_loss,
    e_step,
    em_loss,
    log_any_marginal,
    log_marginal,
    log_normalise,
    log_posterior,
    log_sum,
    log_target,
)
from mixrag.training.e_step_cache import EStep, EStepCache
from mixrag.training.examples import Example
from mixrag.training.generators import ScoredRows
from mixrag.training.trainable_prior import Candidates, TrainablePrior
from mixrag.training.trainable_spans import LearningGenerator, Trainable, likelihoods_of


@dataclass(frozen=True)
class QuestionTables:
    """One question of a step, with the tables that its loss is a function of."""

    example: Example
    components: tuple[Component, ...]
    log_prior: Tensor
    """(K,) float64, with gradient where the retriever is trained."""
    log_likelihood: Tensor
    """(A, K, T) float64, zero after each answer's end."""
    mask: Tensor
    """(A, T) True at the tokens of each answer."""
    switch: Switch
    """ρ, or (A, T) after each token."""


@dataclass(frozen=True)
class Coefficients:
    """What the loss of one question changes by with each entry of its two tables."""

    loss: float
    """The objective, in nats."""
    nll: float
    """-log p(any gold answer | question), in nats."""
    prior: Tensor
    """(K,)."""
    likelihood: Tensor
    """(A, K, T)."""
    log_posterior: Tensor
    """(K,) under the most probable gold answer."""

    @property
    def possible(self) -> bool:
        """False where no component gives any gold answer a probability above zero: then nothing can be learnt."""
        return self.nll < math.inf


@dataclass(frozen=True)
class StepOutput:
    """What one process saw in one step, summed over its questions or listed by question."""

    questions: list[QuestionTables]
    coefficients: list[Coefficients]
    rows: int
    """Branches (component, answer) scored in the E-step."""
    backward: int
    """Of these, branches that went backward."""
    skipped: float
    """Largest share of a question's responsibility that was left out of the generator's gradient."""
    exact: bool
    """True where each ``nll`` is -log p; False where responsibilities were cached: it is the M-step's loss."""
    tokens: int
    """Tokens that the language model read, in the E-step and again in branches that went backward."""


class TrainingStep:
    """The objective of a batch and its gradient in whatever is trained."""

    def __init__(
        self,
        prior: TrainablePrior | None,
        generator: LearningGenerator,
        trained: Trainable | None,
        settings: TrainingSettings,
        mixture: Settings,
    ) -> None:
        self.prior, self.generator, self.trained = prior, generator, trained
        self.settings, self.mixture = settings, mixture
        self.likelihoods = likelihoods_of(generator if trained is None else trained, frozen=trained is None)
        self.e_steps = EStepCache()

    def questions(self, examples: Sequence[Example]) -> list[QuestionTables]:
        """The questions' tables; the log priors carry a gradient where the retriever is trained."""
        return self._questions(list(zip(examples, self._mixtures(examples), strict=True)))

    def learn(self, examples: Sequence[Example], total: int, *, e_step: bool = True) -> StepOutput:
        """Add the gradient of (Σ loss) / ``total`` over these examples to the trained weights.

        Without ``e_step`` the responsibilities of the last one are used, where the components are the same.
        """
        before = self.likelihoods.tokens
        asked = list(zip(examples, self._mixtures(examples), strict=True))
        known = [self._known(example, mixture, e_step) for example, mixture in asked]
        unknown = [each for each, cached in zip(asked, known, strict=True) if cached is None]
        fresh = iter(self._questions(unknown))
        questions = [
            next(fresh) if cached is None else _question_of(cached, example, mixture)
            for (example, mixture), cached in zip(asked, known, strict=True)
        ]
        output = self.learn_from(questions, total, known)
        return replace(output, tokens=output.tokens + self.likelihoods.tokens - before)

    def learn_from(
        self, questions: list[QuestionTables], total: int, known: Sequence[EStep | None] | None = None
    ) -> StepOutput:
        """As ``learn``, for questions whose tables, or whose responsibilities, are known."""
        known = known or [None] * len(questions)
        coefficients = [
            self._coefficients(question)
            if cached is None
            else Coefficients(0.0, 0.0, cached.prior, cached.likelihood, cached.log_posterior)
            for question, cached in zip(questions, known, strict=True)
        ]
        self._retriever_backward(questions, coefficients, total)
        rows, skipped = self._rows(questions, coefficients, total)
        losses = torch.zeros(0) if self.trained is None else self.trained.backward(rows)
        for i, cached in enumerate(known):
            if cached is not None:
                # The prior's part of the EM loss, -Σ draws · log π; a component that cannot be drawn adds nothing.
                drawn = torch.where(cached.prior == 0, 0.0, cached.prior * questions[i].log_prior.detach())
                loss = float(drawn.sum()) + total * float(losses[rows.owners == i].sum())
                coefficients[i] = replace(coefficients[i], loss=loss, nll=loss)
        fresh = (q for q, cached in zip(questions, known, strict=True) if cached is None)
        scored = sum(len(q.components) * len(q.example.answers) for q in fresh)
        exact = all(cached is None or not cached.components for cached in known)
        read = 0 if self.trained is None else self.trained.tokens_read(rows.prompts, rows.answers)
        return StepOutput(questions, coefficients, scored, len(rows.prompts), skipped, exact, read)

    def _questions(self, asked: list[tuple[Example, Mixture]]) -> list[QuestionTables]:
        tables = self.likelihoods.tables(asked)
        return [
            QuestionTables(
                example, mixture.components, mixture.log_prior, table, mask, switches_of(example, mixture)
            )
            for (example, mixture), (table, mask) in zip(asked, tables, strict=True)
        ]

    def _known(self, example: Example, mixture: Mixture, e_step: bool) -> EStep | None:
        """Responsibilities that need no E-step."""
        # Under the full normaliser a draw may also be of what is left out, and the prior is below 1.
        certain = len(mixture.components) == 1 and abs(float(mixture.log_prior.detach()[0])) < 1e-12
        if certain and len(example.answers) == 1 and self.trained is not None and self.trained.any_answer:
            # The one component has written the one answer, whatever its likelihood.
            ones = torch.full((1, 1, example.length), -1.0, dtype=torch.float64)
            return EStep(example.answers, (), -torch.ones(1, dtype=torch.float64), ones, ones.new_zeros(1))
        if e_step or self.trained is None:  # a frozen generator's likelihoods are cached: its E-steps read nothing
            return None
        return self.e_steps.recall(example.number, _names(mixture.components))

    def _coefficients(self, question: QuestionTables) -> Coefficients:
        """Those of the question; where E-steps are rare, they are cached."""
        found = self.coefficients(question)
        if self.settings.e_step_every > 1 and found.possible:
            self.e_steps.entries[question.example.number] = EStep(
                question.example.answers,
                _names(question.components),
                found.prior,
                found.likelihood,
                found.log_posterior,
            )
        return found

    def coefficients(self, question: QuestionTables) -> Coefficients:
        """The loss of one question and its gradient in the two tables."""
        prior = question.log_prior.detach().clone().requires_grad_()
        likelihood = question.log_likelihood.clone().requires_grad_()
        switch = question.switch
        with torch.enable_grad():
            nll = -log_any_marginal(prior, likelihood, switch, question.mask)
            loss = self._loss(prior, likelihood, question.mask, switch, nll)
            by_prior, by_likelihood = torch.autograd.grad(
                loss, (prior, likelihood), allow_unused=True, materialize_grads=True
            )
        fixed = question.log_prior.detach()
        answers = log_marginal(
            fixed.expand(len(question.mask), -1), question.log_likelihood, switch, question.mask
        )
        best = int(answers.argmax())
        own = switch[best] if isinstance(switch, Tensor) else switch
        posterior = log_posterior(fixed, question.log_likelihood[best], own, question.mask[best])
        return Coefficients(float(loss.detach()), float(nll.detach()), by_prior, by_likelihood, posterior)

    def _loss(
        self, log_prior: Tensor, log_likelihood: Tensor, mask: Tensor, switch: Switch, nll: Tensor
    ) -> Tensor:
        settings = self.settings
        if settings.objective == "marginal":
            return nll
        answers = log_prior.expand(len(mask), -1)
        if settings.objective == "em":
            # Over several gold answers, which one was given is hidden as well: each has its share.
            with torch.no_grad():
                share = log_normalise(log_marginal(answers, log_likelihood, switch, mask), 0).exp()
            expected = e_step(answers, log_likelihood, switch, mask)
            return (share * em_loss(answers, log_likelihood, expected)).sum()
        means = log_likelihood.sum(-1) / mask.sum(-1, keepdim=True)
        best = means[log_sum(means.detach(), -1).argmax()]
        target = log_target(log_prior, best, settings.prior_power, settings.likelihood_temperature)
        distilled = distillation_loss(log_prior, target, settings.reverse)
        # The generator learns by the marginal likelihood; the prior in it is a constant.
        generator = -log_any_marginal(log_prior.detach(), log_likelihood, switch, mask)
        return distilled + (generator if self.trained is not None else 0.0)

    def _mixtures(self, examples: Sequence[Example]) -> list[Mixture]:
        if not examples:  # a process without a share of a small batch
            return []
        if self.prior is None:
            return [self._closed_book(example) for example in examples]
        candidates: Sequence[Candidates] = self.prior.candidates(examples)
        priors = self.prior.priors(examples, candidates)
        return [
            self._condition(example, chosen.passages, prior.log_prior, prior.log_null)
            for example, chosen, prior in zip(examples, candidates, priors, strict=True)
        ]

    def _closed_book(self, example: Example) -> Mixture:
        if example.prompt is None:
            return self._condition(example, (), torch.empty(0, dtype=torch.float64), None)
        component, certain = Component((), example.prompt), torch.zeros(1, dtype=torch.float64)
        return Mixture(
            self.generator, "", (component,), certain, self.mixture.switch, None, switch_at=self.mixture.switch_at
        )

    def _condition(
        self, example: Example, passages: tuple[Passage, ...], log_prior: Tensor, log_null: Tensor | None
    ) -> Mixture:
        group = None if self.mixture.group == "all" else self.mixture.group
        return condition(
            self.generator,
            example.pair.question,
            passages,
            log_prior,
            log_null=log_null,
            group=group,
            switch=self.mixture.switch,
            switch_at=self.mixture.switch_at,
            reserve=max(self.settings.max_answer_tokens, example.length),
        )

    def _retriever_backward(
        self, questions: Sequence[QuestionTables], coefficients: Sequence[Coefficients], total: int
    ) -> None:
        pairs = zip(questions, coefficients, strict=True)
        terms = [(q.log_prior * c.prior).sum() for q, c in pairs if q.log_prior.requires_grad]
        if terms:
            (torch.stack(terms).sum() / total).backward()

    def _rows(
        self, questions: Sequence[QuestionTables], coefficients: Sequence[Coefficients], total: int
    ) -> tuple[ScoredRows, float]:
        prompts, answers, weights, owners = [], [], [], []
        skipped = 0.0
        if self.trained is None:
            return ScoredRows((), (), (), torch.zeros(0, dtype=torch.int64)), skipped
        for i, (question, each) in enumerate(zip(questions, coefficients, strict=True)):
            shares = each.likelihood.abs().sum(-1)  # (A, K)
            chosen = contributing_branches(shares.flatten(), self.settings.skip).reshape(shares.shape)
            skipped = max(skipped, float((shares * ~chosen).sum() / shares.sum().clamp_min(1e-300)))
            for a, j in chosen.nonzero().tolist():
                answer = question.example.answers[a]
                prompts.append(question.components[j].prompt)
                answers.append(answer)
                weights.append(each.likelihood[a, j, : len(answer)] / total)
                owners.append(i)
        return ScoredRows(prompts, answers, weights, torch.tensor(owners, dtype=torch.int64)), skipped


def gold_found(question: QuestionTables) -> bool:
    """True where a gold answer occurs in a retrieved passage."""
    passages = {p.id: p for component in question.components for p in component.passages}
    return any(passage_holds(p.text, question.example.pair.answers) for p in passages.values())


def component_name(component: Component) -> str | None:
    """The ids of its passages; None for the null component."""
    return "+".join(p.id for p in component.passages) or None


def _names(components: Sequence[Component]) -> tuple[str, ...]:
    return tuple(component_name(component) or "" for component in components)


def _question_of(cached: EStep, example: Example, mixture: Mixture) -> QuestionTables:
    mask = torch.zeros(len(cached.answers), max(map(len, cached.answers)), dtype=torch.bool)
    for row, answer in zip(mask, cached.answers, strict=True):
        row[: len(answer)] = True
    asked = replace(example, answers=cached.answers)
    table = torch.zeros_like(cached.likelihood)
    return QuestionTables(asked, mixture.components, mixture.log_prior, table, mask, switches_of(asked, mixture))


def switches_of(example: Example, mixture: Mixture) -> Switch:
    """ρ of the gold answers, or (A, T) ρ after each of their tokens."""
    if not mixture.by_sentence:
        return mixture.switch
    table = torch.zeros(len(example.answers), example.length, dtype=torch.float64)
    for row, answer in zip(table, example.answers, strict=True):
        row[: len(answer)] = torch.as_tensor(mixture.switches(answer))
    return table

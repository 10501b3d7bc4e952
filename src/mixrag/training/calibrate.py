"""Calibration: temperature and null score fitted to cached likelihoods; no model runs in the fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.errors import TrainingError
from mixrag.inference.mixture import component_log_prior
from mixrag.probability import Switch, log_any_marginal
from mixrag.training.examples import Example
from mixrag.training.step import TrainingStep
from mixrag.training.trainable_prior import Candidates

ROUNDS = 2
"""Times that candidates are chosen: under the hybrid prior the temperature moves them a little."""


@dataclass(frozen=True)
class FittedScalars:
    """What the fit changed."""

    nll_before: float
    """Mean -log p(gold answer) over the pairs, in nats."""
    nll_after: float
    temperature: float
    null: float | None


REACH = math.log(1000.0)
"""How far log T may move: where every first passage is the right one the loss keeps falling as T goes to zero."""


def calibrate(step: TrainingStep, examples: Sequence[Example], batch: int = 32) -> FittedScalars:
    """Fit the trained scalars of the prior to all examples at once, by L-BFGS.

    Raises:
        TrainingError: the fit became infinite.
    """
    prior = step.prior
    if prior is None or not prior.scalars():
        raise TrainingError("a temperature or a null score to fit", "neither", "name one in --parts")
    scalars = list(prior.scalars().values())
    before: float | None = None
    first = prior.log_temperature.detach().clone()
    for _ in range(ROUNDS):
        tables = _tables(step, examples, batch)
        start = _fit(step, tables, scalars)
        before = start if before is None else before
        with torch.no_grad():
            prior.log_temperature.clamp_(first - REACH, first + REACH)
    with torch.no_grad():
        after = float(_mean_nll(step, tables))
    if not all(bool(torch.isfinite(scalar)) for scalar in scalars) or before is None:
        raise TrainingError("finite temperature and null score", f"{scalars}", "check the pairs and the store")
    return FittedScalars(before, after, prior.temperature, None if prior.null is None else prior.null.item())


@dataclass(frozen=True)
class _Table:
    """What one example contributes to the fit."""

    example: Example
    candidates: Candidates
    log_likelihood: Tensor
    mask: Tensor
    switch: Switch


def _tables(step: TrainingStep, examples: Sequence[Example], batch: int) -> list[_Table]:
    """Candidates and likelihoods of each example; the language model runs here and only here."""
    assert step.prior is not None
    found: list[_Table] = []
    for start in range(0, len(examples), batch):
        some = examples[start : start + batch]
        with torch.no_grad():
            chosen = step.prior.candidates(some)
            questions = step.questions(some)
        found += [
            _Table(example, candidates, question.log_likelihood, question.mask, question.switch)
            for example, candidates, question in zip(some, chosen, questions, strict=True)
            # Other candidates may not have the answer: an extractive reader then gives it no probability.
            if bool((question.log_likelihood.sum(-1) > -math.inf).any())
        ]
    return found


def _fit(step: TrainingStep, tables: Sequence[_Table], scalars: list[Tensor]) -> float:
    """Move the scalars to the least mean loss; the loss before."""
    optimizer = torch.optim.LBFGS(scalars, max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _mean_nll(step, tables)
        loss.backward()
        return loss

    return float(optimizer.step(closure).detach())


def _mean_nll(step: TrainingStep, tables: Sequence[_Table]) -> Tensor:
    """Mean -log p(any gold answer), with gradient in the scalars."""
    assert step.prior is not None
    group = None if step.mixture.group == "all" else step.mixture.group
    priors = step.prior.priors([t.example for t in tables], [t.candidates for t in tables])
    losses = [
        -log_any_marginal(
            component_log_prior(prior.log_prior, prior.log_null, group),
            table.log_likelihood,
            table.switch,
            table.mask,
        )
        for prior, table in zip(priors, tables, strict=True)
    ]
    return torch.stack(losses).mean()

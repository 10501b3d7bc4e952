"""Which passage an answer is owed to: a number for every passage, by several methods, and what each costs.

The cost is counted in *LM calls*: one prompt read with one answer teacher-forced. Calls are those beyond
answering, which gives the table log p(y_t | x, z_j, y_<t) (``ScoredAnswer``). ``posterior`` and
``leave_one_out`` read it off; ``leave_one_out_rerun`` computes the second by brute force.
``concatenation_leave_one_out`` and ``context_cite`` explain the same answer under another distribution, of one
prompt with all passages, p(y | x, z_1..z_K), which the mixture has not read. No method uses attention.

Every method takes an ``Answer`` over K passages. Passages in one component's prompt share what the component has.
A higher score means that the answer owes more to the passage; only the order of scores is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mixrag.answers.answer import Answer
from mixrag.errors import SettingError
from mixrag.inference.mixture import Mixture, condition
from mixrag.utils.arrays import Floats
from mixrag.utils.extras import require

Flags = npt.NDArray[np.bool_]
MASKS = 64
"""Ablations of ContextCite, unless given; as in its authors' code."""
LASSO_ALPHA = 0.01
"""Weight of the penalty in ContextCite's linear model; as in its authors' code."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The scores of one method for an answer."""

    scores: Tensor
    """(K,) float64, in the order of the answer's passages; never NaN."""
    calls: int
    """LM calls beyond answering."""


AttributionMethod = Callable[[Answer], Attribution]


def chance(answer: Answer) -> Attribution:
    """The same score for all passages: the chance level."""
    return Attribution(torch.zeros(len(answer.passages), dtype=torch.float64), 0)


def prior(answer: Answer) -> Attribution:
    """p(z_j | x) as retrieved, which does not depend on the answer: the retriever's order."""
    return Attribution(_tensor([weighted.prior for weighted in answer.passages]), 0)


def posterior(answer: Answer) -> Attribution:
    """p(z_j | x, y) at switch 0; else the expected share of the answer's tokens that the passage wrote."""
    return Attribution(_tensor([weighted.posterior for weighted in answer.passages]), 0)


def leave_one_out(answer: Answer) -> Attribution:
    """log p(y | x) - log p(y | x) had the passage's component not been retrieved; from the table.

    In nats; +inf where without it nothing would be left, or the answer would be impossible.
    """
    scored = answer.scored
    return Attribution(_lost(scored.log_prob, scored.log_leave_one_out)[scored.mixture.component_of_passage], 0)


def leave_one_out_rerun(answer: Answer) -> Attribution:
    """As ``leave_one_out``, by building the mixture again without each component: K · (K-1) calls."""
    components = answer.scored.mixture.component_of_passage
    others = [_without(answer, j) for j in sorted(set(components))]
    log_without = [
        -math.inf if mixture is None else mixture.score_tokens(answer.scored.tokens).log_prob for mixture in others
    ]
    calls = sum(len(mixture.components) for mixture in others if mixture is not None)
    return Attribution(_lost(answer.scored.log_prob, _tensor(log_without))[components], calls)


def concatenation_leave_one_out(answer: Answer) -> Attribution:
    """log p(y | x, all passages) - log p(y | x, all but one), each in one prompt: K + 1 calls. In nats."""
    size = len(answer.passages)
    log_probs = _concatenated(answer, np.vstack([np.ones((1, size), bool), ~np.eye(size, dtype=bool)]))
    return Attribution(_lost(float(log_probs[0]), log_probs[1:]), size + 1)


def context_cite(answer: Answer, masks: int = MASKS, seed: int = 0) -> Attribution:
    """ContextCite: weights of a sparse linear model of logit p(y | x, the passages included), in nats.

    Each passage is included with probability 1/2 in each of the masks; the model is fitted to the logits of the
    answer in the prompts left. Here passages take the place of the authors' sentences; a mask drawn twice is read
    once.

    Cohen-Wang, Shah, Georgiev and Madry 2024, "ContextCite: Attributing Model Generation to Context".

    Raises:
        SettingError: no mask.
    """
    if masks < 1:
        raise SettingError("at least one mask", str(masks), "choose 32 or 64, say")
    if not answer.passages:
        return Attribution(_tensor([]), 0)
    included = np.random.default_rng(seed).random((masks, len(answer.passages))) < 0.5
    distinct, place = np.unique(included, axis=0, return_inverse=True)
    log_probs = _concatenated(answer, distinct).numpy()
    weights = sparse_weights(included, logit(log_probs)[place.ravel()], len(answer.scored.tokens))
    return Attribution(torch.from_numpy(weights), len(distinct))


def logit(log_p: Floats) -> Floats:
    """log p - log(1-p), finite: p is limited to between the least float64 and the float32 next to one."""
    limits = math.log(np.finfo(np.float64).tiny), -float(np.finfo(np.float32).eps)
    bounded = np.clip(log_p, *limits)
    return np.asarray(bounded - np.log(-np.expm1(bounded)), np.float64)


def sparse_weights(included: Flags, logits: Floats, tokens: int) -> Floats:
    """(K,) weights of a LASSO from masks (n, K) to the logits (n,) of an answer of so many tokens.

    As ContextCite's code does it: masks standardised, logits per token, and both undone in the weights. A passage
    that is in all masks or in none has weight zero.
    """
    spread = included.std(axis=0)
    varies = spread > 0
    weights = np.zeros(included.shape[1])
    if varies.any():
        standard = (included[:, varies] - included[:, varies].mean(axis=0)) / spread[varies]
        lasso = require("sklearn.linear_model", "eval", "ContextCite's attribution").Lasso
        fitted = lasso(alpha=LASSO_ALPHA).fit(standard, logits / tokens)
        weights[varies] = fitted.coef_ / spread[varies] * tokens
    return weights


def _lost(log_prob: float, log_without: Tensor) -> Tensor:
    """How much of an answer's log-probability is lost without each passage; nothing, where both are impossible."""
    lost = log_prob - log_without
    return torch.where(log_without == log_prob, torch.zeros_like(lost), lost)


def _without(answer: Answer, component: int) -> Mixture | None:
    """The mixture built again without a component's passages; None where nothing is left."""
    mixture = answer.scored.mixture
    included = [i for i, j in enumerate(mixture.component_of_passage) if j != component]
    priors = [each.prior if each.reweighted_prior is None else each.reweighted_prior for each in answer.passages]
    prior = _tensor([priors[i] for i in included])
    null = answer.null_prior if answer.null_reweighted_prior is None else answer.null_reweighted_prior
    # Mass that the prior leaves to passages not listed: none under the top-k normaliser, but for rounding.
    outside = 1.0 - math.fsum([*priors, null or 0.0])
    rest = float(prior.sum()) + (null or 0.0) + (outside if outside > 1e-12 else 0.0)
    if rest == 0.0 or (not included and null is None):
        return None
    return condition(
        mixture.generator,
        mixture.question,
        [mixture.passages[i] for i in included],
        (prior / rest).log(),
        log_null=None if null is None else _tensor([null / rest]).log()[0],
        # All groups are as large as the first, but for the last.
        group=max(1, len(mixture.components[0].passages)),
        switch=mixture.switch,
        switch_at=mixture.switch_at,
        reserve=mixture.reserve,
        empty_answer=mixture.empty_answer,
    )


def _concatenated(answer: Answer, included: Flags) -> Tensor:
    """(n,) log p(y | x, the passages that a mask includes, in one prompt) for masks (n, K); a call each."""
    mixture = answer.scored.mixture
    passages = mixture.passages
    prompts = [
        mixture.generator.prompt(mixture.question, [passages[i] for i in np.flatnonzero(row)], mixture.reserve)
        for row in included
    ]
    return mixture.generator.log_likelihood(prompts, answer.scored.tokens).double().sum(-1)


def _tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)

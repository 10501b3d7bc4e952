"""Why this answer: for each component its exact prompt, its scores, and what the answer owes to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mixrag.answers.fields import AnswerFields
from mixrag.generator.engines import engine_of_generator
from mixrag.generator.prefix_cache import PrefixCache
from mixrag.generator.protocol import prompt_length
from mixrag.inference.mixture import Mixture
from mixrag.inference.stepwise import each_alone
from mixrag.probability import (
    answered_poisoning,
    log_evidence_ratio,
    log_shifted,
    poisoning_tv,
    reweighted_poisoning,
)
from mixrag.utils.text import finite


@dataclass(frozen=True, slots=True)
class ComponentExplanation:
    """One component's part in an answer; probabilities in natural logarithms where named log."""

    passages: tuple[str, ...]
    """Ids; none in the null component."""
    prompt: str
    """What the model read, to the letter."""
    prompt_tokens: int
    """Tokens that the model reads of it; an extractive reader reads a long text in windows, which overlap."""
    prior: float
    """p(component | question), as retrieved."""
    posterior: float
    """Expected share of the answer's tokens that it wrote; at switch 0 p(component | question, answer)."""
    log_likelihood: float
    """log p(answer | question, component): the answer under this component alone."""
    inner_products: tuple[float, ...]
    """d(z)·q(x) of its passages."""
    log_without: float | None
    """log p(answer | question) had this component never been retrieved; None where nothing would be left."""
    log_evidence_ratio: float | None
    """log p(answer | question, component) / p(answer | question, no passage): above 0 it supports the answer.
    None, not defined, where one of the two is zero: an extractive reader has no answer without a passage."""
    poisoning: float | None
    """Largest change, in total variation, that rewriting its text could make to the distribution of answers so
    long; None where it has no text."""
    alone: str
    """What the model answers, greedily, from this component alone."""
    alone_log_prob: float
    """log p(that answer | question, component)."""
    p_empty: float | None = None
    """p(∅ | question, component): that it states no answer. None without ``empty_answer``, with which all
    probabilities of answers here are given that one is stated, and the priors are not."""
    reweighted_prior: float | None = None
    """The prior times p(question | component)^β, divided so that the total stays; None where β is 0."""
    log_question_likelihood: float | None = None
    """log p(question | component), in nats; None as ``reweighted_prior``."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The analysis of an answer."""

    answer: AnswerFields
    log_null_likelihood: float
    """log p(answer | question, no passage): what the model knows by itself."""
    components: tuple[ComponentExplanation, ...]
    prefix_cache: tuple[int, int] | None = None
    """How often since the model was loaded a passage had been read before, and how often not; None: no cache."""
    engine: str = ""
    """What ran the language model, and the number format of its weights; empty where that is not known."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``explain`` in ``mixrag ask --why --json`` (docs/reference/json.md).

        The logarithm of zero is None, since JSON has no infinity.
        """
        document = {
            "log_null_likelihood": self.log_null_likelihood,
            "components": [
                {name: getattr(component, name) for name in ComponentExplanation.__slots__}
                for component in self.components
            ],
            "engine": self.engine,
            "prefix_cache": self.prefix_cache and dict(zip(("hits", "misses"), self.prefix_cache, strict=True)),
        }
        found: dict[str, Any] = finite(document)
        return found


def explain(answer: AnswerFields) -> Explanation:
    """Analyse an answer; two further passes of the model (no passage at all, each passage alone)."""
    scored, mixture = answer.scored, answer.scored.mixture
    cache = getattr(mixture.generator, "prefix_cache", None)
    counts = (cache.hits, cache.misses) if isinstance(cache, PrefixCache) else None
    null = mixture.closed_book().score_tokens(scored.tokens)
    ratio = log_evidence_ratio(scored.log_likelihood, null.log_likelihood[0])
    prior, remaining = mixture.unconditioned_log_prior.exp(), mixture.log_prior.exp()
    question, reweighted = mixture.log_question_likelihood, mixture.reweighted_log_prior.exp()
    poisoning = poisoning_tv(_most_prior(mixture).clamp(max=1.0), mixture.switch, len(scored.tokens))
    empty = None if mixture.log_empty is None else mixture.log_empty.exp().tolist()
    products = {passage.id: passage.inner_product for passage in answer.passages}
    components = tuple(
        ComponentExplanation(
            passages=tuple(passage.id for passage in component.passages),
            prompt=mixture.generator.prompt_text(component.prompt),
            prompt_tokens=prompt_length(mixture.generator, component.prompt),
            prior=float(prior[j]),
            posterior=float(scored.posterior[j]),
            log_likelihood=float(scored.log_component[j]),
            inner_products=tuple(products[passage.id] for passage in component.passages),
            log_without=float(scored.log_leave_one_out[j]) if remaining[j] < 1.0 else None,
            log_evidence_ratio=None if math.isnan(ratio[j]) else float(ratio[j]),
            poisoning=float(poisoning[j]) if component.passages else None,
            alone=alone.text,
            alone_log_prob=alone.log_prob,
            p_empty=None if empty is None else empty[j],
            reweighted_prior=None if question is None else float(reweighted[j]),
            log_question_likelihood=None if question is None else float(question[j]),
        )
        for j, (component, alone) in enumerate(
            zip(mixture.components, each_alone(mixture, mixture.reserve), strict=True)
        )
    )
    return Explanation(answer, null.log_prob, components, counts, engine_of_generator(mixture.generator))


def _most_prior(mixture: Mixture) -> Tensor:
    """(K,) the largest prior that each component can have whatever its text, which decides over part of it."""
    prior, question, answered = (
        mixture.unconditioned_log_prior,
        mixture.log_question_likelihood,
        mixture.log_answered,
    )
    least = None if answered is None else log_shifted(answered, -mixture.rounding)
    if question is not None:
        return reweighted_poisoning(prior, question, mixture.question_likelihood, least)
    return prior.exp() if least is None else answered_poisoning(prior, least)

"""What each passage of an answer adds: its probability, and that nothing is stated, without the passage."""

from __future__ import annotations

import math

from mixrag.answers.fields import AnswerFields
from mixrag.probability import log_sum_others

Each = list[float | None]
"""One for each passage."""


def without_each(answer: AnswerFields) -> tuple[Each, Each]:
    """p(``best_guess`` | question) and ``p_empty_within`` had the passage never been retrieved.

    None where nothing would be left, where the passage shares its component with others, since those would then be
    grouped in another way, and of an extract, which would be another one. The second also without empty answers.
    """
    mixture = answer.scored.mixture
    of_passage = mixture.component_of_passage
    nothing: Each = [None] * len(answer.passages)
    if answer.kind == "extract" or len(mixture.components) == 1:
        return nothing, nothing
    prior = mixture.log_prior.exp().tolist()
    alone = [len(component.passages) == 1 for component in mixture.components]
    if not any(alone):
        return nothing, nothing
    without = answer.scored.log_leave_one_out.exp().tolist()
    empty = _empty_without(answer)
    return (
        [without[j] if alone[j] and prior[j] < 1.0 else None for j in of_passage],
        [empty[j] if alone[j] else None for j in of_passage],
    )


def _empty_without(answer: AnswerFields) -> Each:
    """For each component."""
    mixture = answer.scored.mixture
    if mixture.log_empty is None:
        return [None] * len(mixture.components)
    log_prior = mixture.reweighted_log_prior
    log_rest = log_sum_others(log_prior, -1).tolist()
    log_joint = log_sum_others(log_prior + mixture.log_empty, -1).tolist()
    return [
        None if rest == -math.inf else min(1.0, math.exp(joint - rest))
        for joint, rest in zip(log_joint, log_rest, strict=True)
    ]

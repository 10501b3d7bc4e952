"""The test of a guarantee on answers whose confidence and outcome are known: thresholds, counts, refusals.

The mathematics, and why the tests hold, is in ``probability/risk.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mixrag.answers.guarantee import CertifiedGroup, Guarantee, percent
from mixrag.config.command_settings import GuaranteeSettings
from mixrag.errors import PairsError
from mixrag.probability import (
    best_start,
    conformal_threshold,
    last_accepted,
    most_coverage,
    pairs_needed,
    upper_risk,
)
from mixrag.utils.arrays import Floats

STEPS = 100
"""Thresholds that are tested."""
FARTHEST = 7.0
"""Log-odds of the strictest, where no other pairs say where confidences lie; minus it, of the laxest but 0."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The confidence of an answer, and whether it was right."""

    confidence: float
    """-1 where the answer was cut off: it has no confidence, and is never covered."""
    right: bool
    group: str = ""
    """Kind of the document that most probably wrote it."""


def certify(
    judged: Sequence[Judged], chosen: GuaranteeSettings, other: Sequence[Judged] = ()
) -> tuple[CertifiedGroup, ...]:
    """The test on each kind that ``judged`` has, in the order of their names.

    ``other`` are answers of pairs that the confidence was fitted on: they choose the thresholds and where to
    start, and a kind that misses the target at all of these is not tested. Without them thresholds are even in
    log-odds, and those that answer too few are left out.

    Raises:
        PairsError: no document has the key.
    """
    names = sorted({each.group for each in judged} - {""}) if chosen.by else [""]
    if not names:
        raise PairsError(f"answers from documents with {chosen.by!r} in their metadata", "none", "check the key")
    delta = chosen.delta / len(names) if chosen.simultaneous else chosen.delta
    return tuple(
        _certified(
            name,
            [each for each in judged if not chosen.by or each.group == name],
            [each for each in other if not chosen.by or each.group == name],
            chosen.risk,
            delta,
        )
        for name in names
    )


def _certified(
    name: str, judged: Sequence[Judged], other: Sequence[Judged], risk: float, delta: float
) -> CertifiedGroup:
    thresholds = even_thresholds() if not other else _quantiles(other)
    start, reachable = None, True
    if other:
        before, bad_before = _counts(other, thresholds)
        start, reachable = best_start(before, bad_before, risk), bool((bad_before < risk * before).any())
    answers, wrong = _counts(judged, thresholds)
    place = int(last_accepted(answers, wrong, risk, delta, start)) if reachable else -1
    confidences = torch.tensor([each.confidence for each in judged], dtype=torch.float64)
    errors = torch.tensor([not each.right for each in judged])
    # What is cut off is never given, so that its loss is zero.
    control = conformal_threshold(confidences, errors & (confidences >= 0), risk)
    group = CertifiedGroup(name, len(judged), int(errors.sum()), control=control)
    if place < 0:
        return group
    number, bad = int(answers[place]), int(wrong[place])
    return replace(
        group,
        threshold=float(thresholds[place]),
        answered=number,
        wrong=bad,
        upper=upper_risk(number, bad, delta),
    )


def even_thresholds() -> Floats:
    """(m,) from strict to lax: even in log-odds, and 0, where every answer is given."""
    return np.append(1 / (1 + np.exp(-np.linspace(FARTHEST, -FARTHEST, STEPS - 1))), 0.0)


def _quantiles(other: Sequence[Judged]) -> Floats:
    """(m,) distinct confidences of other pairs, from strict to lax, and 0."""
    values = np.unique([max(0.0, each.confidence) for each in other] + [0.0])
    chosen: Floats = values[np.unique(np.linspace(0, len(values) - 1, STEPS).astype(int))][::-1].copy()
    return chosen


def _counts(judged: Sequence[Judged], thresholds: Floats) -> tuple[Tensor, Tensor]:
    """(m,) answered and (m,) wrong at each threshold."""
    given = np.array([each.confidence for each in judged])[:, None] >= thresholds
    wrong = given & ~np.array([each.right for each in judged])[:, None]
    return torch.from_numpy(given.sum(0)), torch.from_numpy(wrong.sum(0))


def refusal(judged: Sequence[Judged], found: Guarantee) -> PairsError:
    """Why no threshold was accepted, and how many pairs it would take if the confidence is right."""
    share = f"{percent(1 - found.risk)} %"
    wrong = sum(not each.right for each in judged) / len(judged)
    most = most_coverage(wrong, found.risk)
    needed = _expected_pairs([each.confidence for each in judged], found.risk, found.delta)
    if needed is None:
        remedy = "a larger --risk; the confidence itself expects no answers of so few errors"
    else:
        remedy = f"about {needed} pairs, if the confidence is right, or a larger --risk"
    return PairsError(
        f"answers of which {share} are right, with probability {percent(1 - found.delta)} %",
        f"none such on {len(judged)} pairs: {percent(wrong, 2)} % of all answers are wrong, so that even a "
        f"perfect confidence answers {percent(most, 2)} % at most",
        f"it takes {remedy}",
    )


def _expected_pairs(confidences: Sequence[float], risk: float, delta: float) -> int | None:
    """Pairs at which some threshold is expected to pass, the confidences taken at their word."""
    given = np.array(confidences)
    needs = []
    for threshold in even_thresholds()[::5]:
        covered = given[given >= threshold]
        if len(covered):
            needs.append(pairs_needed(len(covered) / len(given), 1 - float(covered.mean()), risk, delta))
    return min((each for each in needs if each is not None), default=None)

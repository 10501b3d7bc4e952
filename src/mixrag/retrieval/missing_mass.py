"""What shards that gave nothing may have of the prior over all passages, theirs included.

The prior with all shards differs from that of the others by more than passages. Where the words of a missing shard
are unknown, so are the frequencies of BM25, which are in every score (``lexical/bm25_range.py``); and λ is 0 or
not by what all shards have. Both are bounded here, and what has no bound is said to be anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.probability import largest_share, log_unseen, outside_with_others, passage_scores
from mixrag.retrieval.lexical.bm25_range import UNKNOWN, Change, change_of_bm25
from mixrag.retrieval.shards.answers import Answers, Missing
from mixrag.retrieval.shards.exchange import ShardReply
from mixrag.retrieval.shards.words import largest_bm25

_UNCHANGED = Change(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Asked:
    """How a question is asked."""

    settings: Settings
    temperature: float
    """T."""
    length: float
    """‖q‖."""


@dataclass(frozen=True)
class MissingMass:
    """Statements about the prior over all shards as they were last known."""

    outside: tuple[float, float]
    """Between what the mass of all passages that are not listed lies."""
    shares: tuple[float, ...]
    """(S',) what each missing shard has at most."""
    shift: float
    """By how much the log-odds between two listed passages may differ from those with all shards."""


def lexical_weights(answers: Answers, settings: Settings) -> tuple[float, ...]:
    """λ in effect with all shards: 0 where no passage that the filter lets through shares a word, else as set.

    One value, or both where it cannot be told; the first is that of the shards which answered.
    """
    weight = settings.lexical
    if weight == 0.0 or not answers.missing:
        return (weight if answers.matches else 0.0,)
    unknown = bool(answers.uncounted)
    if not settings.where:
        # A word that a counted shard has, or another in its place, is in a passage whatever else joins.
        return (weight,) if answers.words else ((0.0, weight) if unknown else (0.0,))
    misspelt = settings.typos and any(not each.frequency for each in answers.asked)
    if answers.matches and not (unknown and misspelt):
        return (weight,)
    if not answers.words and not unknown:
        return (0.0,)
    return (weight, 0.0) if answers.matches else (0.0, weight)


def scores_of(reply: ShardReply, asked: Asked, lexical: float) -> Tensor:
    """(K,) scores s_j of what a shard found, with this λ."""
    return passage_scores(
        torch.tensor(reply.inner_products, dtype=torch.float64),
        asked.temperature,
        bm25=None if reply.bm25 is None else torch.tensor(reply.bm25, dtype=torch.float64),
        lexical=lexical,
        lexical_temperature=asked.settings.lexical_temperature,
    )


def log_z_of(reply: ShardReply, scores: Tensor, asked: Asked, lexical: float) -> tuple[float, float] | None:
    """Bounds on log Z_s with this λ, which is that of the settings or 0; None where the shard has none."""
    if not reply.count:
        return -math.inf, -math.inf
    found = reply.log_z_dense if lexical == 0.0 < asked.settings.lexical else reply.log_z
    if found is None:
        return None
    # Rounding must not make the sum over all passages smaller than that over the best of them.
    least = float(scores.logsumexp(0)) if len(scores) == reply.count else -math.inf
    return max(found[0], least), max(found[1], least)


def known_log_z(bounds: tuple[float, float] | None, scores: Tensor) -> tuple[float, float]:
    """Bounds on log Z_s, of which at least the passages found are known."""
    return bounds if bounds is not None else (float(scores.logsumexp(0)), math.inf)


def missing_mass(answers: Answers, asked: Asked, listed: Mapping[int, Sequence[int]]) -> MissingMass:
    """What the missing shards may have, and all passages that are not listed.

    Args:
        answers: at least one shard is missing.
        asked: the question.
        listed: of each shard that answered, the places in its reply of the passages that are listed.
    """
    weights = lexical_weights(answers, asked.settings)
    found = [_with_weight(answers, asked, listed, each) for each in weights]
    return MissingMass(
        (min(each.outside[0] for each in found), max(each.outside[1] for each in found)),
        tuple(map(max, *(each.shares for each in found))) if len(found) > 1 else found[0].shares,
        found[0].shift if len(found) == 1 else math.inf,
    )


def _with_weight(
    answers: Answers, asked: Asked, listed: Mapping[int, Sequence[int]], lexical: float
) -> MissingMass:
    """The same, were this λ the one in effect."""
    change = _change(answers, asked.settings, lexical)
    null = asked.settings.null
    scores = {s: scores_of(reply, asked, lexical) for s, reply in answers.replies.items()}
    known = [known_log_z(log_z_of(answers.replies[s], each, asked, lexical), each) for s, each in scores.items()]
    unseen = [_unseen(each, asked, lexical, change.largest) for each in answers.missing.values()]
    inside = torch.cat([scores[s][list(places)] for s, places in listed.items()])
    if len(inside) == answers.count:
        # Nothing is left in the shards that answered, whatever rounding says.
        known = [(float(inside.logsumexp(0)),) * 2]
    log_z, log_others = (torch.tensor(each, dtype=torch.float64) for each in (known, unseen))
    outside = outside_with_others(
        inside.logsumexp(0), log_z, log_others, null=null, below=change.below, above=change.above
    )
    every = torch.cat([log_z - torch.tensor([change.below, 0.0]), log_others])
    shares = tuple(largest_share(every, len(known) + at, null) for at in range(len(unseen)))
    low, high = outside.tolist()
    return MissingMass((low, high), shares, change.below + change.above)


def _change(answers: Answers, settings: Settings, lexical: float) -> Change:
    """The change of the lexical part of scores, λ BM25 / T'."""
    if lexical == 0.0:
        return _UNCHANGED
    if answers.uncounted:
        found = _change_by(answers, answers.uncounted, tolerant=settings.typos)
    else:
        found = Change(0.0, 0.0, largest_bm25(answers.words, answers.collection[0]))
    return Change(*(lexical * each / settings.lexical_temperature for each in found))


def _change_by(answers: Answers, missing: Sequence[Missing], *, tolerant: bool) -> Change:
    passages = words = 0
    for each in missing:
        known = each.description
        if known is None or (known.passages and known.words is None):
            return UNKNOWN
        passages, words = passages + known.passages, words + (known.words or 0)
    return change_of_bm25(answers.asked, answers.collection, (passages, words), tolerant=tolerant)


def _unseen(missing: Missing, asked: Asked, lexical: float, largest: float) -> tuple[float, float]:
    """Bounds on log Z_s of a shard that gave nothing, by its passages and the largest score that one can have."""
    known = missing.description
    if known is None or known.largest_norm is None:
        return log_unseen(None, None)
    dense = (1.0 - lexical) * known.largest_norm * asked.length / asked.temperature
    return log_unseen(known.passages, dense + largest)

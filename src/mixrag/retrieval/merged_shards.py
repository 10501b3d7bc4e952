"""What the shards answered to one question, as one retrieval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.errors import ShardMissingError, StoreEmptyError
from mixrag.probability import UnionPrior, largest_share, log_unseen, passage_scores, union_prior
from mixrag.retrieval.lexical import AskedWord
from mixrag.retrieval.retriever import Retrieval
from mixrag.retrieval.shards.exchange import ShardDescription, ShardReply
from mixrag.retrieval.shards.protocol import Shard, Withheld
from mixrag.retrieval.shards.words import largest_bm25


@dataclass(frozen=True)
class Missing:
    """A shard that did not answer."""

    name: str
    reason: str
    description: ShardDescription | None
    """The last that is known of it."""


@dataclass(frozen=True)
class Answers:
    """What the shards said to one question."""

    shards: Sequence[Shard]
    replies: Mapping[int, ShardReply]
    missing: Mapping[int, Missing]
    words: Sequence[AskedWord]
    """Of the question, with their frequencies over the shards that said them."""
    collection: tuple[int, int]
    """Passages and words of those shards."""

    @property
    def matches(self) -> bool:
        """Whether any passage that the filter lets through shares a word with the question; else λ is 0."""
        return any(reply.matches for reply in self.replies.values())

    @property
    def count(self) -> int:
        """Passages that the filter lets through, in the shards that answered."""
        return sum(reply.count for reply in self.replies.values())


def merged(answers: Answers, settings: Settings, temperature: float, length: float) -> Retrieval:
    """The passages of the union and their prior.

    Args:
        answers: of at least one shard.
        settings: of the question.
        temperature: T.
        length: ‖q‖ of the question's vector.

    Raises:
        StoreEmptyError: no passage, or none that the filter lets through.
        ShardMissingError: none in the shards that answered.
    """
    _check_any(answers, settings)
    order = [*answers.replies]
    lexical = settings.lexical if answers.matches else 0.0
    scores = [_scores(answers.replies[s], settings, temperature, lexical) for s in order]
    bounds = [
        _bounds(answers.replies[s], own, matches=answers.matches) for s, own in zip(order, scores, strict=True)
    ]
    bounded = all(each is not None for each in bounds)
    unseen = [_unseen(answers, each, settings, temperature, lexical, length) for each in answers.missing.values()]
    known = [_known(each, own) for each, own in zip(bounds, scores, strict=True)]
    log_z = torch.tensor([*known, *unseen], dtype=torch.float64)
    products = [torch.tensor(answers.replies[s].inner_products, dtype=torch.float64) for s in order]
    full, uniform = settings.normaliser == "full", settings.weights == "uniform"
    found = union_prior(
        scores,
        log_z,
        answers.count if settings.k == "all" else settings.k,
        null=settings.null,
        full=full,
        uniform=uniform,
        max_outside=settings.max_outside,
        ties=products,
    )
    outside, outside_bounds = _outside(answers, found, bounded=bounded or bool(unseen))
    if uniform and not full and outside != 0.0:
        # Of a prior over these passages alone, the mass of others is not defined.
        outside, outside_bounds = None, None
    passages, withheld = _passages(answers, [(order[s], place) for s, place in found.places])
    shares = [largest_share(log_z, len(order) + at, settings.null) for at in range(len(unseen))]
    return Retrieval(
        passages=passages,
        log_prior=found.log_prior,
        inner_products=torch.stack([products[s][place] for s, place in found.places]),
        log_null=None if found.log_null is None else float(found.log_null),
        outside=outside,
        temperature=temperature,
        outside_bounds=outside_bounds,
        notices=(*_missing_notices(answers, shares, settings), *_duplicate_notice(passages)),
        withheld=withheld,
        missing=tuple(each.name for each in answers.missing.values()),
    )


def _check_any(answers: Answers, settings: Settings) -> None:
    if answers.count:
        return
    found = f"none with {dict(settings.where)}" if settings.where else "none"
    if answers.missing:
        names = ", ".join(each.name for each in answers.missing.values())
        remedy = "start the others, or ask otherwise"
        raise ShardMissingError("passages in a shard that answers", f"{found}, and no answer of {names}", remedy)
    remedy = "loosen the filter" if settings.where else "index documents first: mixrag index PATH --store DIR"
    raise StoreEmptyError("passages in the store", found, remedy)


def _scores(reply: ShardReply, settings: Settings, temperature: float, lexical: float) -> Tensor:
    bm25 = None if reply.bm25 is None or lexical == 0.0 else torch.tensor(reply.bm25, dtype=torch.float64)
    return passage_scores(
        torch.tensor(reply.inner_products, dtype=torch.float64),
        temperature,
        bm25=bm25,
        lexical=lexical,
        lexical_temperature=settings.lexical_temperature,
    )


def _bounds(reply: ShardReply, scores: Tensor, *, matches: bool) -> tuple[float, float] | None:
    """Bounds on log Z_s; None where the shard has none."""
    if not reply.count:
        return -math.inf, -math.inf
    found = reply.log_z_dense if reply.bm25 is not None and not matches else reply.log_z
    if found is None:
        return None
    # Rounding must not make the sum over all passages smaller than that over the best of them.
    least = float(scores.logsumexp(0)) if len(scores) == reply.count else -math.inf
    return max(found[0], least), max(found[1], least)


def _known(bounds: tuple[float, float] | None, scores: Tensor) -> tuple[float, float]:
    return bounds if bounds is not None else (float(scores.logsumexp(0)), math.inf)


def _unseen(
    answers: Answers, missing: Missing, settings: Settings, temperature: float, lexical: float, length: float
) -> tuple[float, float]:
    """Bounds on log Z_s of a shard that gave nothing, by its passages and the largest score that one can have."""
    known = missing.description
    if known is None or known.largest_norm is None:
        return log_unseen(None, None)
    dense = (1.0 - lexical) * known.largest_norm * length / temperature
    words = 0.0
    if lexical > 0.0:
        words = lexical * largest_bm25(answers.words, answers.collection[0]) / settings.lexical_temperature
    return log_unseen(known.passages, dense + words)


def _outside(
    answers: Answers, found: UnionPrior, *, bounded: bool
) -> tuple[float | None, tuple[float, float] | None]:
    """ε, or bounds on it, or neither."""
    low, high = found.outside.tolist()
    if len(found.places) == answers.count:
        # Nothing is left in the shards that answered, whatever rounding says.
        return (0.0, None) if not answers.missing else (None, (0.0, high))
    if low == high:
        return low, None
    return None, ((low, high) if bounded else None)


def _passages(
    answers: Answers, places: Sequence[tuple[int, int]]
) -> tuple[tuple[Passage, ...], tuple[Withheld | None, ...]]:
    passages, withheld = list[Passage](), list[Withheld | None]()
    for s, place in places:
        shard, reply = answers.shards[s], answers.replies[s]
        row = reply.rows[place]
        if reply.passages is None:
            passages.append(Passage(f"{shard.name}#{row}", "", shard.name, "(not shared)", 0, 0))
            withheld.append(Withheld(shard, row, reply.shard.state))
        else:
            passages.append(reply.passages[place].passage())
            withheld.append(None)
    return tuple(passages), tuple(withheld) if any(withheld) else ()


def _missing_notices(answers: Answers, shares: Sequence[float], settings: Settings) -> list[str]:
    found = []
    for missing, share in zip(answers.missing.values(), shares, strict=True):
        known = missing.description
        passages = "its passages are" if known is None else f"its {known.passages} passages are"
        most = f"at most {share:.4g}" if share < 0.999 else f"at most 1 - {1.0 - share:.2g}"
        most = "any part" if share == 1.0 else most
        said = f"shard {missing.name} is missing ({missing.reason}): {passages} not among these; they may have "
        said += f"{most} of the prior mass"
        found.append(said + ("; word frequencies are those of the others" if settings.lexical > 0.0 else ""))
    return found


def _duplicate_notice(passages: Sequence[Passage]) -> list[str]:
    """In one store a text of two sources is one document; here each shard has its own."""
    often = Counter((each.id, each.text) for each in passages)
    twice = sum(count > 1 for count in often.values())
    return [f"passages that are in several shards, and have a share for each: {twice}"] if twice else []

"""What the shards answered to one question, as one retrieval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch

from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.errors import ShardMissingError, StoreEmptyError
from mixrag.probability import UnionPrior, log_unseen, union_prior
from mixrag.retrieval.missing_mass import (
    Asked,
    MissingMass,
    known_log_z,
    lexical_weights,
    log_z_of,
    missing_mass,
    scores_of,
)
from mixrag.retrieval.retriever import Retrieval
from mixrag.retrieval.shards.answers import Answers
from mixrag.retrieval.shards.protocol import Withheld


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
    asked, order = Asked(settings, temperature, length), [*answers.replies]
    lexical = lexical_weights(answers, settings)[0]
    scores = [scores_of(answers.replies[s], asked, lexical) for s in order]
    bounds = [log_z_of(answers.replies[s], own, asked, lexical) for s, own in zip(order, scores, strict=True)]
    known = [known_log_z(each, own) for each, own in zip(bounds, scores, strict=True)]
    log_z = torch.tensor([*known, *(log_unseen(None, None) for _ in answers.missing)], dtype=torch.float64)
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
    places = [(order[s], place) for s, place in found.places]
    lost = missing_mass(answers, asked, _by_shard(places)) if answers.missing else None
    outside, outside_bounds = _outside(answers, found, lost, bounded=None not in bounds)
    if uniform and not full and outside != 0.0:
        # Of a prior over these passages alone, the mass of others is not defined.
        outside, outside_bounds = None, None
    passages, withheld = _passages(answers, places)
    notices = [] if lost is None else _missing_notices(answers, lost.shares, lexical=settings.lexical > 0.0)
    return Retrieval(
        passages=passages,
        log_prior=found.log_prior,
        inner_products=torch.stack([products[s][place] for s, place in found.places]),
        log_null=None if found.log_null is None else float(found.log_null),
        outside=outside,
        temperature=temperature,
        outside_bounds=outside_bounds,
        notices=(*notices, *_duplicate_notice(passages)),
        withheld=withheld,
        missing=tuple(each.name for each in answers.missing.values()),
        shift=0.0 if lost is None else lost.shift,
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


def _by_shard(places: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    found = dict[int, list[int]]()
    for s, place in places:
        found.setdefault(s, []).append(place)
    return found


def _outside(
    answers: Answers, found: UnionPrior, lost: MissingMass | None, *, bounded: bool
) -> tuple[float | None, tuple[float, float] | None]:
    """ε, or bounds on it, or neither."""
    if lost is not None:
        return None, lost.outside
    low, high = found.outside.tolist()
    if len(found.places) == answers.count:
        # Nothing is left, whatever rounding says.
        return 0.0, None
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


def _missing_notices(answers: Answers, shares: Sequence[float], *, lexical: bool) -> list[str]:
    found = []
    for missing, share in zip(answers.missing.values(), shares, strict=True):
        known = missing.description
        passages = "its passages are" if known is None else f"its {known.passages} passages are"
        said = f"shard {missing.name} is missing ({missing.reason}): {passages} not among these; they may have "
        said += f"{_at_most(share)} of the prior mass with all shards"
        words = ", and those that it last gave" if missing.counted else ""
        found.append(said + (f"; word frequencies are those of the others{words}" if lexical else ""))
    return found


def _at_most(share: float) -> str:
    """The share in words, never rounded down."""
    if share >= 1.0:
        return "any part"
    if share < 0.999:
        return f"at most {math.ceil(share * 10_000) / 10_000:g}"
    unit = 10.0 ** (math.floor(math.log10(1.0 - share)) - 1)
    return f"at most 1 - {math.floor((1.0 - share) / unit) * unit:.2g}"


def _duplicate_notice(passages: Sequence[Passage]) -> list[str]:
    """In one store a text of two sources is one document; here each shard has its own."""
    often = Counter((each.id, each.text) for each in passages)
    twice = sum(count > 1 for count in often.values())
    return [f"passages that are in several shards, and have a share for each: {twice}"] if twice else []

"""What shards answer, merged, against one flat list of their passages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag import Settings
from mixrag.errors import StoreEmptyError
from mixrag.probability import mass_outside, normalised_prior, passage_scores, smallest_k
from mixrag.retrieval.lexical import AskedWord
from mixrag.retrieval.merged_shards import merged
from mixrag.retrieval.shards.answers import Answers, Missing
from mixrag.retrieval.shards.exchange import ShardDescription, ShardReply, Statistics
from mixrag.retrieval.shards.known import Known
from mixrag.retrieval.shards.words import asked_of_all, largest_bm25

TEMPERATURE, LENGTH = 0.4, 1.5


def description(passages: int, **changes: Any) -> ShardDescription:
    given_ = {
        "state": "a",
        "encoder": "e",
        "encoder_name": "e",
        "dimension": 2,
        "splitter": None,
        "documents": passages,
        "passages": passages,
        "words": 10 * passages,
        "largest_norm": 2.0,
    }
    return ShardDescription(**{**given_, **changes})


@dataclass(frozen=True)
class Named:
    name: str


Passages = list[tuple[float, float]]
"""Inner product and BM25 of each passage of a shard."""


def scores(passages: Passages, share: float) -> torch.Tensor:
    products, bm25 = (torch.tensor([each[n] for each in passages], dtype=torch.float64) for n in (0, 1))
    return passage_scores(products, TEMPERATURE, bm25=bm25, lexical=share, lexical_temperature=2.0)


def reply(passages: Passages, k: int, share: float, slack: tuple[float, float] | None) -> ShardReply:
    """What a shard says of these, with bounds on log Z by ``slack``; None: it has none."""
    own = scores(passages, share)
    order = sorted(range(len(passages)), key=lambda place: (-float(own[place]), -passages[place][0]))[:k]
    bounds, dense = None, None
    if passages and slack is not None:
        value, alone = float(own.logsumexp(0)), float(scores(passages, 0.0).logsumexp(0))
        bounds, dense = [value - slack[0], value + slack[1]], [alone - slack[0], alone + slack[1]]
    matches = any(bm25 > 0 for _, bm25 in passages)
    return ShardReply(
        shard=description(len(passages)),
        count=len(passages),
        rows=order,
        inner_products=[passages[place][0] for place in order],
        bm25=[passages[place][1] for place in order],
        matches=matches,
        log_z=bounds,
        log_z_dense=None if matches else dense,
        passages=None,
    )


def answers(shards: list[Passages], k: int, share: float, slack: Any = (0.0, 0.0), **options: Any) -> Answers:
    replies = {s: reply(each, k, share, slack) for s, each in enumerate(shards)}
    names = [Named(f"shard {s}") for s in range(len(shards) + 3)]
    return Answers(names, replies, **{"missing": {}, "asked": [], "words": [], "collection": (1, 1), **options})  # type: ignore[arg-type]


numbers = st.floats(-2.0, 2.0)
bm25s = st.one_of(st.just(0.0), st.floats(0.1, 5.0))
corpora = st.lists(st.lists(st.tuples(numbers, bm25s), max_size=4), min_size=1, max_size=4).filter(any)


@settings(max_examples=150, deadline=None)
@given(corpora, st.integers(1, 9), st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([None, 0.3]), st.data())
def test_the_numbers_are_those_of_one_list(
    shards: list[Passages], k: int, share: float, null: float | None, data: st.DataObject
) -> None:
    full, uniform = data.draw(st.booleans()), data.draw(st.booleans())
    most = data.draw(st.sampled_from([None, 0.2]))
    asked = Settings(
        k=k,
        lexical=share,
        lexical_temperature=2.0,
        null=null,
        normaliser="full" if full else "top-k",
        weights="uniform" if uniform else "retriever",
        max_outside=most,
    )
    found = merged(answers(shards, k, share), asked, TEMPERATURE, LENGTH)
    every = [each for own in shards for each in own]
    whole = scores(every, share if any(bm25 > 0 for _, bm25 in every) else 0.0)
    best = whole.sort(descending=True).values[:k]
    log_z = whole.logsumexp(0)
    if most is not None:
        best = best[: smallest_k(best, most, log_z, null)]
    log_prior, log_null = normalised_prior(best, null, log_z=log_z if full else None, uniform=uniform)
    torch.testing.assert_close(found.log_prior, log_prior, rtol=0, atol=1e-12)
    assert found.log_null == (None if log_null is None else pytest.approx(float(log_null), abs=1e-12))
    outside = 0.0 if len(best) == len(every) else float(mass_outside(best.logsumexp(0), log_z, null))
    wanted = None if uniform and not full and outside != 0.0 else pytest.approx(outside, abs=1e-12)
    assert found.outside == wanted and found.outside_bounds is None and found.notices == ()
    assert found.withheld and all(each is not None for each in found.withheld)


@settings(max_examples=100, deadline=None)
@given(corpora, st.integers(1, 4), st.sampled_from([0.0, 0.5]), st.floats(0.0, 1.0), st.floats(0.01, 1.0))
def test_bounds_of_shards_bound_the_mass_outside(
    shards: list[Passages], k: int, share: float, below: float, above: float
) -> None:
    asked = Settings(k=k, lexical=share, lexical_temperature=2.0)
    exact = merged(answers(shards, k, share), asked, TEMPERATURE, LENGTH)
    found = merged(answers(shards, k, share, (below, above)), asked, TEMPERATURE, LENGTH)
    torch.testing.assert_close(found.log_prior, exact.log_prior)
    assert exact.outside is not None
    if exact.outside == 0.0:
        assert found.outside == 0.0 or found.outside_bounds is not None
    elif found.outside_bounds is not None:
        low, high = found.outside_bounds
        assert low - 1e-9 <= exact.outside <= high + 1e-9
    unknown = merged(answers(shards, k, share, None), asked, TEMPERATURE, LENGTH)
    if exact.outside:
        assert unknown.outside is None and unknown.outside_bounds is None


@settings(max_examples=100, deadline=None)
@given(corpora, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_a_missing_shard_is_within_its_bound(
    shards: list[Passages], k: int, share: float, data: st.DataObject
) -> None:
    """Of passages as good as any with these words, whose frequencies it gave before, and this norm."""
    words = [AskedWord("a", 1.0, 3), AskedWord("b", 0.5, 40)]
    collection = 100, 1000
    most = largest_bm25(words, collection[0])
    lost = data.draw(st.lists(st.tuples(st.floats(-3.0, 3.0), st.floats(0.0, most)), min_size=1, max_size=4))
    missing = {len(shards): Missing("gone", "it is gone", description(len(lost)), counted=True)}
    given_ = answers(shards, k, share, missing=missing, words=words, collection=collection)
    asked = Settings(k=k, lexical=share, lexical_temperature=2.0)
    found = merged(given_, asked, TEMPERATURE, LENGTH)
    known = scores([each for own in shards for each in own], share)
    theirs = scores(lost, share).logsumexp(0)
    assert found.outside is None and found.outside_bounds is not None
    inside = known.sort(descending=True).values[:k].logsumexp(0)
    low, high = found.outside_bounds
    outside = float(mass_outside(inside, torch.logaddexp(known.logsumexp(0), theirs)))
    assert low - 1e-12 <= outside <= high + 1e-12
    assert f"its {len(lost)} passages are not among these" in found.notices[0] and "gone" in found.notices[0]


def test_nothing_is_known_of_a_shard_never_seen() -> None:
    missing = {
        1: Missing("gone", "it is gone", None),
        2: Missing("other", "late", description(5, largest_norm=None)),
    }
    found = merged(answers([[(1.0, 0.0)]], 1, 0.0, missing=missing), Settings(k=1), TEMPERATURE, LENGTH)
    assert found.outside_bounds == (0.0, 1.0) and len(found.notices) == 2
    assert all("any part of the prior mass" in notice for notice in found.notices)
    assert math.exp(float(found.log_prior[0])) == 1.0


def test_no_passage_at_all() -> None:
    with pytest.raises(StoreEmptyError, match="index documents first"):
        merged(answers([[], []], 3, 0.0), Settings(k=3), TEMPERATURE, LENGTH)


def test_words_over_several_shards() -> None:
    """Frequencies add up; a word that none has stands for the nearest, then the most frequent, then the first."""
    found = [
        Statistics(
            shard=description(10),
            frequencies={"loan": 3},
            near={"crotf": [(1, "croft", 2), (1, "crofts", 2)], "xyzz": [(2, "xyz", 9)]},
        ),
        Statistics(
            shard=description(5), frequencies={"loan": 1}, near={"crotf": [(1, "crofts", 1), (2, "cross", 9)]}
        ),
    ]
    asked = {"loan": 1.0, "crotf": 0.5, "none": 1.0, "crofts": 1.0}
    assert asked_of_all(asked, found, tolerant=True) == [
        AskedWord("loan", 1.0, 4),
        AskedWord("crofts", 0.5, 3),
    ]
    assert asked_of_all(asked, found, tolerant=False) == [AskedWord("loan", 1.0, 4)]


def test_words_are_remembered_for_one_state() -> None:
    known = Known()
    assert known.statistics(["a"], near=False) is None and known.unknown(["a", "b"], near=True) == ["a", "b"]
    first = Statistics(shard=description(10), frequencies={"a": 3}, near={})
    known.add(first, ["a", "b"], near=False)
    have = known.statistics(["b", "a"], near=False)
    assert have is not None and have.frequencies == {"a": 3} and have.shard == first.shard
    assert known.unknown(["a", "c"], near=False) == ["c"] and known.statistics(["a"], near=True) is None
    searched = description(10, words=None)
    known.note(searched)
    assert known.description == first.shard, "words that were counted in the same state stay known"
    known.note(description(11, state="b", words=None))
    assert known.statistics(["a"], near=False) is None
    assert known.description is not None and known.description.words is None

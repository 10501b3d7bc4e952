"""The range of BM25 when others join, against BM25 of both collections as it is defined."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.retrieval.lexical import AskedWord
from mixrag.retrieval.lexical.bm25_range import UNKNOWN, change_of_bm25

Passage = list[str]
passages = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), min_size=1, max_size=5)
weights = st.dictionaries(st.sampled_from("abcdefg"), st.sampled_from([0.5, 1.0]), min_size=1)


def bm25(passage: Passage, collection: list[Passage], asked: dict[str, float]) -> float:
    mean = math.fsum(map(len, collection)) / len(collection)
    total = 0.0
    for word, weight in asked.items():
        having = sum(word in each for each in collection)
        idf = math.log(1 + (len(collection) - having + 0.5) / (having + 0.5))
        often = passage.count(word)
        total += weight * idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(passage) / mean))
    return total


def standing(asked: dict[str, float], collection: list[Passage], data: st.DataObject) -> dict[str, float]:
    """Each word that nobody has stands for any one that somebody has, or for none."""
    there = sorted({word for each in collection for word in each})
    found: dict[str, float] = {}
    for word, weight in asked.items():
        stands = word if word in there else data.draw(st.sampled_from([*there, ""]))
        if stands:
            found[stands] = max(weight, found.get(stands, 0.0))
    return found


@settings(max_examples=300, deadline=None)
@given(passages, passages, weights, st.booleans(), st.data())
def test_no_passage_leaves_the_range(
    before: list[Passage], more: list[Passage], asked: dict[str, float], tolerant: bool, data: st.DataObject
) -> None:
    after = before + more
    words = [AskedWord(word, weight, sum(word in each for each in before)) for word, weight in asked.items()]
    sizes = [(len(each), sum(map(len, each))) for each in (before, more)]
    found = change_of_bm25(words, *sizes, tolerant=tolerant)
    old, new = ((standing(asked, each, data) if tolerant else asked) for each in (before, after))
    for each in before:
        change = bm25(each, after, new) - bm25(each, before, old)
        assert -found.below - 1e-12 <= change <= found.above + 1e-12
    assert max(bm25(each, after, new) for each in after) <= found.largest


def test_the_range_is_reached() -> None:
    """One word without end: what it loses, and what it gains, is all that it may."""
    words = [AskedWord("a", 1.0, 2)]
    before = [["a"] * 10**6, ["a"] * 10**6, ["b"] * 10**6]
    same = [["a"] * 10**6] * 4
    others = [["b"] * 10**6] * 4
    found = change_of_bm25(words, (3, 3 * 10**6), (4, 4 * 10**6), tolerant=False)
    old = bm25(before[0], before, {"a": 1.0})
    assert bm25(before[0], before + same, {"a": 1.0}) - old == pytest.approx(-found.below, rel=1e-5)
    assert bm25(before[0], before + others, {"a": 1.0}) - old == pytest.approx(found.above, rel=1e-5)


def test_a_very_long_passage_makes_all_others_short() -> None:
    """More of the change comes from the mean length than frequencies could make."""
    before: list[Passage] = [["a", "b"], *([["b", "c"]] * 6)]
    found = change_of_bm25([AskedWord("a", 1.0, 1)], (7, 14), (1, 1000), tolerant=False)
    change = bm25(before[0], [*before, ["c"] * 1000], {"a": 1.0}) - bm25(before[0], before, {"a": 1.0})
    assert 2.2 * (math.log(9 / 1.5) - math.log(8 / 1.5)) < change <= found.above


def test_of_nothing_known_nothing_is_bounded() -> None:
    assert {*UNKNOWN} == {math.inf}
    found = change_of_bm25([AskedWord("a", 1.0, 0)], (0, 0), (2, 9), tolerant=False)
    assert found == (0.0, 0.0, pytest.approx(2.2 * math.log(3 / 1.5)))

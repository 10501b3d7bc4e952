"""BM25 of the index beside BM25 written out, over any history of additions and removals."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixrag.errors import StoreError
from mixrag.retrieval.lexical import LexicalIndex, Postings, Scored, inverted
from mixrag.retrieval.lexical import index as module
from mixrag.retrieval.lexical import scored as scored_module
from mixrag.retrieval.lexical.selection import best
from mixrag.utils.arrays import Floats

WORDS = ["aa", "bb", "cc", "dd", "ee", "ff"]
TERMS = {word: number for number, word in enumerate(WORDS, 3)}
PASSAGE = st.lists(st.sampled_from([*WORDS[:5], "aa", "aa", "bb"]), max_size=12).map(tuple)
CORPUS = st.lists(PASSAGE, min_size=1, max_size=30)
QUESTION = st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=6).map(" ".join)


def postings(passages: dict[int, tuple[str, ...]], block: int = 4) -> Postings:
    items = sorted(passages.items())
    return inverted(
        (
            np.array([row for row, _ in part], np.int64),
            np.array([len(text) for _, text in part], np.int64),
            np.array([TERMS[word] for _, text in part for word in text], np.uint32),
        )
        for part in (items[start : start + block] for start in range(0, len(items), block))
    )


def lookup(words: object) -> dict[str, int]:
    return {word: TERMS[word] for word in words if word in TERMS}  # type: ignore[attr-defined]


def index_of(passages: dict[int, tuple[str, ...]]) -> LexicalIndex:
    return LexicalIndex(postings({}), postings(passages), None, lookup)


def reference(question: str, passages: dict[int, tuple[str, ...]]) -> dict[int, float]:
    """BM25 as it is defined."""
    mean = sum(map(len, passages.values())) / len(passages) or 1.0
    scores = dict.fromkeys(passages, 0.0)
    for word in dict.fromkeys(question.split()):
        having = sum(word in text for text in passages.values())
        idf = math.log(1 + (len(passages) - having + 0.5) / (having + 0.5))
        for row, text in passages.items():
            often = Counter(text)[word]
            scores[row] += idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(text) / mean))
    return scores


@pytest.fixture(
    params=[(16, 256), (10**6, 1), (2, 1)], ids=["as it is", "all frequent", "few frequent"], autouse=True
)
def frequent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which words are frequent, and where words are looked up."""
    monkeypatch.setattr(module, "_FREQUENT", request.param[0])
    monkeypatch.setattr(module, "_FEW", request.param[1])
    monkeypatch.setattr(module, "_REMEMBERED_BYTES", 0)


@given(CORPUS, QUESTION, st.data())
def test_scores_are_bm25(texts: list[tuple[str, ...]], question: str, data: st.DataObject) -> None:
    passages = {7 * place + 2: text for place, text in enumerate(texts)}
    index, expected = index_of(passages), reference(question, passages)
    rows, scores = index.scores(question)
    assert rows.tolist() == list(expected) and len(index) == len(passages)
    assert scores.tolist() == pytest.approx(list(expected.values()), rel=1e-12, abs=1e-15)
    chosen = data.draw(st.lists(st.sampled_from(list(passages)), unique=True))
    wanted = np.array(chosen, np.int64)
    among, few = index.scores(question, wanted)
    assert among.tolist() == sorted(chosen)
    exact = dict(zip(rows.tolist(), scores.tolist(), strict=True))
    assert few.tolist() == [exact[row] for row in sorted(chosen)]


@given(CORPUS, QUESTION, st.integers(0, 12), st.data())
def test_the_best_are_those_of_all_scores(
    texts: list[tuple[str, ...]], question: str, n: int, data: st.DataObject
) -> None:
    passages = dict(enumerate(texts))
    index = index_of(passages)
    scored = list(zip(*(each.tolist() for each in index.scores(question)), strict=True))
    for allowed in (None, data.draw(st.lists(st.sampled_from(list(passages)), unique=True))):
        expected = sorted((-s, row) for row, s in scored if s > 0 and (allowed is None or row in allowed))[:n]
        among = index.scores(question, None if allowed is None else np.array(allowed, np.int64))
        found = Scored(*among)
        rows = found.best(n)
        assert list(zip((-found.of(rows)).tolist(), rows.tolist(), strict=True)) == expected


def test_words_are_not_scanned_for_a_few_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    passages = {row: ("aa",) * (1 + row % 3) for row in range(2000)}
    passages |= {row: (*passages[row], "bb", "cc") for row in range(100, 2000, 100)}
    scores = dict(zip(*(each.tolist() for each in index_of(passages).scores("aa bb cc")), strict=True))
    monkeypatch.setattr(module, "_FREQUENT", 16)
    monkeypatch.setattr(module, "_FEW", 40)
    scanned: list[int] = []
    scatter = LexicalIndex._scatter

    def watched(self: LexicalIndex, term: int, weight: float, total: Floats) -> None:
        scanned.append(term)
        scatter(self, term, weight, total)

    monkeypatch.setattr(LexicalIndex, "_scatter", watched)
    index = index_of(passages)
    few, many = np.arange(90, 140), np.arange(90, 141)
    for _ in range(2):  # the second time with what is remembered of frequent words
        assert dict(zip(*index.scores("aa bb cc", few), strict=True)) == {row: scores[row] for row in few.tolist()}
        assert scanned == []
        index.scores("aa bb cc")
        scanned.clear()
    assert dict(zip(*index.scores("aa bb cc", many), strict=True)) == {row: scores[row] for row in many.tolist()}
    assert scanned == [TERMS["bb"], TERMS["cc"]], "what the frequent word adds is remembered"


@given(CORPUS, st.data(), QUESTION)
def test_any_history_gives_the_scores_of_a_fresh_index(
    texts: list[tuple[str, ...]], data: st.DataObject, question: str
) -> None:
    every = dict(enumerate(texts))
    first = data.draw(st.integers(0, len(texts)))
    gone = data.draw(st.lists(st.sampled_from(list(every)), unique=True, max_size=len(every)))
    left = {row: text for row, text in every.items() if row not in gone}
    base, added = ({row: every[row] for row in part} for part in (range(first), range(first, len(every))))
    live = np.array([row in left for row in every], bool)
    grown = LexicalIndex(postings(base), postings(added), live, lookup)
    fresh = index_of(left)
    for mine, other in zip(grown.scores(question), fresh.scores(question), strict=True):
        assert mine.tolist() == other.tolist()
    some = np.array([row for row in left if row % 3], np.int64)
    for mine, other in zip(grown.scores(question, some), fresh.scores(question, some), strict=True):
        assert mine.tolist() == other.tolist()


@given(CORPUS)
def test_the_whole_and_the_parts_of_a_code_count_together_as_one_word(texts: list[tuple[str, ...]]) -> None:
    passages = dict(enumerate(texts))
    words = {"aa7": TERMS["aa"], "aa": TERMS["bb"], "7": TERMS["cc"]}
    index = LexicalIndex(postings({}), postings(passages), None, lambda asked: {w: words[w] for w in asked})
    each = [np.array(list(reference(word, passages).values())) for word in ("aa", "bb", "cc")]
    expected = each[0] / 2 + each[1] / 4 + each[2] / 4
    assert index.scores("AA-7")[1].tolist() == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("question", ["", "  ", "unknown", '"', "\0", "ff"])
def test_a_question_without_known_words(question: str) -> None:
    index = index_of({1: ("aa",), 2: ()})
    assert index.scores(question)[1].tolist() == [0.0, 0.0]
    assert not Scored(*index.scores(question)).any


def test_no_passages() -> None:
    index = index_of({})
    assert len(index.scores("aa")[0]) == len(index.scores("aa", np.empty(0, np.int64))[0]) == len(index) == 0


def test_a_row_that_is_not_there() -> None:
    for passages in ({}, {1: ("aa",)}):
        with pytest.raises(StoreError, match="no row 5"):
            index_of(passages).scores("aa", np.array([5]))


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5]), max_size=5000), st.integers(0, 9))
def test_selection(scores: list[float], n: int) -> None:
    values = np.array(scores, np.float64)
    assert best(values, n).tolist() == np.argsort(-values, kind="stable")[:n].tolist()


def test_selection_by_blocks() -> None:
    scores = np.random.default_rng(0).normal(size=50_000).round(2)
    for n in (1, 7, 48, 1000):
        assert best(scores, n).tolist() == np.argsort(-scores, kind="stable")[:n].tolist()


@pytest.mark.parametrize("block", [1, 3, 128])
@given(
    scores=st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.5]), max_size=60),
    gap=st.integers(0, 3),
    n=st.integers(0, 9),
    least=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 4.0]),
)
def test_the_high_ones_of_all_scores(block: int, scores: list[float], gap: int, n: int, least: float) -> None:
    rows = np.arange(len(scores)) * (1 + gap % 2) + gap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scored_module, "_BLOCK", block)
        found = Scored(rows, np.array(scores, np.float64))
        assert found.any == any(scores)
        order = sorted((place for place, score in enumerate(scores) if score), key=lambda place: -scores[place])
        assert found.best(n).tolist() == rows[order[:n]].tolist()
        places = found.places_from(least)
        assert places.tolist() == [place for place in sorted(order) if scores[place] >= least]
        chosen, last = found.highest(places, n)
        assert chosen.tolist() == rows[[place for place in order if scores[place] >= least][:n]].tolist()
        assert last == (found.of(chosen[-1:]).item() if len(chosen) else 0.0)
    assert found.of(rows[::-1]).tolist() == scores[::-1]

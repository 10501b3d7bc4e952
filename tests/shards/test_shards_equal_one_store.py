"""Ten shards, two of them behind servers, give the numbers of one store with the same documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mixrag import RAG
from mixrag.errors import SettingError, StoreEmptyError
from mixrag.retrieval.retriever import Retrieval

QUESTIONS = [
    json.loads(line)["question"]
    for line in (Path(__file__).parents[2] / "demo" / "questions.jsonl").read_text().splitlines()
]
WITHIN = 1e-9


def same(a: Any, b: Any, where: str = "") -> None:
    """Equal but for rounding: numbers within 1e-9, everything else as it is."""
    if isinstance(a, float) and isinstance(b, float):
        assert a == b or abs(a - b) <= WITHIN, f"{where}: {a} and {b}"
    elif isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        assert len(a) == len(b), where
        for place, (one, other) in enumerate(zip(a, b, strict=True)):
            same(one, other, f"{where}[{place}]")
    else:
        assert a == b, f"{where}: {a!r} and {b!r}"


def numbers(found: Retrieval) -> dict[str, Any]:
    return {
        "log_prior": found.log_prior.tolist(),
        "log_null": found.log_null,
        "products": found.inner_products.tolist(),
        "outside": found.outside,
        "bounds": found.outside_bounds,
        "notices": found.notices,
        "temperature": found.temperature,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normaliser": "full", "null": 1.0},
        {"lexical": 0.0},
        {"lexical": 1.0, "lexical_temperature": 2.0},
        {"max_outside": 0.3, "k": 20},
        {"weights": "uniform"},
        {"weights": "uniform", "normaliser": "full"},
        {"temperature": 0.03, "k": 30},
        {"where": {"document": "*/law/*"}},
    ],
    ids=str,
)
def test_priors_are_those_of_one_store(one: RAG, parts: RAG, changes: dict[str, Any]) -> None:
    for question in QUESTIONS[::4]:
        a, b = one.passages(question, **changes), parts.passages(question, **changes)
        assert a.passages == b.passages, question
        same(numbers(a), numbers(b), question)


def test_all_passages_as_components(one: RAG, parts: RAG) -> None:
    """Those with equal scores may stand in another order."""
    for question in QUESTIONS[:5]:
        a, b = (rag.passages(question, k="all", null=0.5) for rag in (one, parts))
        assert len(a.passages) == len(b.passages) == one.store.counts().passages
        assert {each.id for each in a.passages} == {each.id for each in b.passages}
        same(numbers(a) | {"products": None}, numbers(b) | {"products": None}, question)
        assert b.outside == 0.0


@pytest.mark.parametrize("question", ["wich licnese is dearest", "what des the harbuor charge", "zzzz qqqq"])
def test_misspelt_words_stand_for_the_same_words(one: RAG, parts: RAG, question: str) -> None:
    """Also where no passage shares a word with the question, so that λ is 0."""
    a, b = one.passages(question, k=8), parts.passages(question, k=8)
    same(numbers(a), numbers(b), question)
    a, b = one.passages(question, k=8, typos=False), parts.passages(question, k=8, typos=False)
    same(numbers(a), numbers(b), question)


@pytest.mark.parametrize("question", QUESTIONS[::6])
def test_scores_posteriors_and_brackets_are_those_of_one_store(one: RAG, parts: RAG, question: str) -> None:
    a, b = one.score(question, "nine crowns"), parts.score(question, "nine crowns")
    assert a.log_bounds is not None
    same(a.to_dict(), b.to_dict(), question)


@pytest.mark.parametrize(
    "changes", [{}, {"decoder": "beam", "beams": 2}, {"switch": 0.3, "normaliser": "full"}], ids=str
)
def test_answers_are_those_of_one_store(one: RAG, parts: RAG, changes: dict[str, Any]) -> None:
    for question in QUESTIONS[3:60:20]:
        same(one.ask(question, **changes).to_dict(), parts.ask(question, **changes).to_dict(), question)


def test_an_answer_over_shards_can_be_explained(one: RAG, parts: RAG) -> None:
    a, b = (rag.ask(QUESTIONS[0]).explain().to_dict() for rag in (one, parts))
    cache = {"prefix_cache": None}  # what it has served so far
    same({**a, **cache}, {**b, **cache})


def test_a_filter_that_lets_nothing_through_is_said_to(parts: RAG) -> None:
    with pytest.raises(StoreEmptyError, match="loosen the filter"):
        parts.passages(QUESTIONS[0], where={"document": "*/nowhere/*"})


def test_frequencies_are_asked_for_once(parts: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "how much is the quarry levy"
    parts.passages(question)
    for shard in parts._snapshots.shards:
        monkeypatch.setattr(shard, "statistics", None)
    parts.passages(question)
    parts.passages("the quarry levy")
    parts.passages("unheard of words", lexical=0.0)


def test_what_is_in_the_shards(one: RAG, parts: RAG, stores: list[str]) -> None:
    found, whole = parts.info(), one.info()
    assert found.counts.passages == whole.counts.passages and found.counts.documents == whole.counts.documents
    assert found.encoder == whole.encoder and found.splitter == whole.splitter
    assert found.index.startswith("10 shards: ") and stores[0] in found.index
    local = [each.path for each in found.documents]
    assert len(local) == len({*local}) > 20 and {*local} < {each.path for each in whole.documents}
    row = parts.store.document_row(local[-1])
    assert row is not None
    assert parts.store.extent(row).passages == len(parts.store.passages_of(row, limit=500))
    assert [local[-1].partition("#")[0]] == parts.store.files_of(row)
    assert parts.store.document_row("/nowhere") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda rag: rag.index(["demo"]),
        lambda rag: rag.add([{"text": "new"}]),
        lambda rag: rag.delete(["x"]),
        lambda rag: rag.remove(["demo"]),
        lambda rag: rag.precompute(),
    ],
)
def test_shards_are_not_written_to(parts: RAG, change: Any) -> None:
    with pytest.raises(SettingError, match="expected one store, to change it"):
        change(parts)


def test_nothing_depends_on_clocks(parts: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    before, years = numbers(parts.passages(QUESTIONS[1])), 3e8
    for now in (time.time() - years, time.time() + years):  # the servers of this process write dates as well
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert numbers(parts.passages(QUESTIONS[1])) == before
    assert torch.is_tensor(parts.passages(QUESTIONS[1]).log_prior)

"""Arguments of the wrong type, given to every method that people call: one line each, nothing raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.test_scoring import WORDS, distribution
from mixrag import RAG, MixragError, Settings
from mixrag.corpus import Store
from mixrag.generator import TableGenerator
from words_encoder import WordsEncoder

PAIRS = [{"question": "What does the licence cost?", "answers": ["nine crowns"]}]
CALLS: dict[str, tuple[tuple[Any, ...], Callable[[RAG, Any], object]]] = {
    "ask": ((None, 5, "", [], "x\ud800"), lambda rag, bad: rag.ask(bad)),
    "score question": ((None, 5, "", "x\ud800"), lambda rag, bad: rag.score(bad, "nine")),
    "score answer": ((None, 5, [], "x\ud800"), lambda rag, bad: rag.score("What?", bad)),
    "decide question": ((None, 5, "", "x\ud800"), lambda rag, bad: rag.decide(bad, ["nine", "four"])),
    "decide labels": ((None, 5, "nine", ["nine"], [5, 6]), lambda rag, bad: rag.decide("What?", bad)),
    "ask_many": ((None, 5, "What?", [5], [""]), lambda rag, bad: rag.ask_many(bad)),
    "index": ((None, 5, [5]), lambda rag, bad: rag.index(bad)),
    "index max_bytes": (("1", -1, True, 2.5), lambda rag, bad: rag.index([], reembed=True, max_bytes=bad)),
    "index parsers": ((5, "txt"), lambda rag, bad: rag.index([], reembed=True, parsers=bad)),
    "index shard": ((5, "3", [1, 2], "2/1"), lambda rag, bad: rag.index([], shard=bad)),
    "remove": ((None, 5, [5]), lambda rag, bad: rag.remove(bad)),
    "delete": ((None, 5, [5], ["x\ud800"]), lambda rag, bad: rag.delete(bad)),
    "precompute": (("1", -1), lambda rag, bad: rag.precompute(max_bytes=bad)),
    "save": ((None, 5), lambda rag, bad: rag.save(bad)),
    "load": ((None, 5), lambda rag, bad: RAG.load(bad, rag.store.directory)),
    "open parsers": ((None, 5, "txt"), lambda rag, bad: RAG.open(rag.store.directory, parsers=bad)),
    "evaluate out": ((5, []), lambda rag, bad: rag.evaluate(PAIRS, bad)),
    "train out": ((None, 5), lambda rag, bad: rag.train(PAIRS, bad)),
}


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    store = Store.open(tmp_path / "store", create=True)
    settings = Settings(k=1, max_tokens=2)
    generator = TableGenerator(WORDS, distribution)
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=settings) as opened:
        opened.add_texts(["The licence costs nine crowns."])
        yield opened


@pytest.mark.parametrize(("call", "bad"), [(name, bad) for name, (values, _) in CALLS.items() for bad in values])
def test_an_argument_of_another_type_is_one_line(rag: RAG, call: str, bad: Any) -> None:
    with pytest.raises(MixragError, match=r"expected .*; found .*; ") as caught:
        CALLS[call][1](rag, bad)
    assert "\n" not in str(caught.value)


def test_lists_may_be_any_iterable(rag: RAG) -> None:
    questions = ("What does the licence cost?", "Who pays?")
    asked = rag.ask_many(question for question in questions)
    assert [answer.best_guess for answer in asked] == [rag.ask(each).best_guess for each in questions]
    assert rag.delete(iter(())).documents == 0 and rag.remove(()).documents == 0

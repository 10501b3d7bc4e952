"""What frameworks are given of answers in kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.integrations.common import described, stated
from scripted import scripted
from words_encoder import WordsEncoder

TEXT = "The licence costs nine crowns. It is sold to members, guests and visitors. The office is closed on Sunday."


@pytest.fixture
def rag(tmp_path: Path) -> RAG:
    store = Store.open(tmp_path / "store", create=True)
    generator = scripted({"licence": {"guests": 0.6, "yes": 0.1, "no": 0.3}})
    rag = RAG(store, encoder=WordsEncoder(), generator=generator, settings=Settings(kind="auto", prune=0.0))
    rag.add([{"id": "fees", "text": TEXT}])
    return rag


@pytest.mark.parametrize(
    ("question", "kind", "items", "sentences"),
    [
        ("Who buys the licence?", "span", 0, 0),
        ("Is the licence free?", "yes-no", 2, 0),
        ("Who are the people that the licence is sold to?", "list", 3, 0),
        ("Explain the licence.", "extract", 0, 2),
    ],
)
def test_kind_items_and_sentences_are_passed_on(
    rag: RAG, question: str, kind: str, items: int, sentences: int
) -> None:
    answer = rag.ask(question)
    found = described(answer)
    assert (found["kind"], len(found["items"])) == (kind, items)
    assert len(found["sentences"]) >= sentences and bool(found["sentences"]) == bool(sentences)
    whole = answer.to_dict()
    json.dumps(found, allow_nan=False)
    assert found["items"] == whole["items"] and found["sentences"] == whole["sentences"]


def test_the_text_of_a_list_is_all_of_it(rag: RAG) -> None:
    answer = rag.ask("Who are the people that the licence is sold to?")
    assert stated(answer) == "members, guests, visitors" and described(answer)["best_guess"] == "guests"

"""A small store for the integrations, their telemetry off, and no way to the network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mixrag import RAG, Settings
from mixrag.corpus import Store
from words_encoder import WordsEncoder

# Read when the frameworks are first imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["LANGCHAIN_TRACING_V2"] = "false"

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.txt": "A licence to fish eel costs four crowns a season.",
    "hen.txt": "Hens lay fewer eggs during winter.",
}
QUESTION = "What does a licence for cod cost?"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a store of three files, made with the words encoder."""
    files = tmp_path / "files"
    files.mkdir()
    for name, text in TEXTS.items():
        (files / name).write_text(text)
    with RAG(Store.open(tmp_path / "store", create=True), encoder=WordsEncoder()) as made:
        made.index([files])
    return tmp_path / "store"


@pytest.fixture
def rag(store: Path, tiny_generator: Callable[[str], Any]) -> Iterator[RAG]:
    found = RAG(
        Store.open(store),
        encoder=WordsEncoder(),
        generator=tiny_generator("llama-chat"),
        settings=Settings(max_tokens=6),
    )
    with found:
        yield found


@pytest.fixture
def withholding(rag: RAG) -> RAG:
    """The same, with a calibration under which no answer is sure enough."""
    from mixrag.answers.confidence import ConfidenceMap

    rag.calibration = ConfidenceMap("logistic", right={}, right_offset=-2.0, threshold=0.5)
    rag.settings = Settings(max_tokens=60)
    return rag


def examples_of(module: ModuleType, rag: RAG) -> int:
    """Run the examples in a module's docstring with ``rag``; how many there were."""
    import doctest

    found = doctest.DocTestFinder(recurse=False).find(module, globs={**vars(module), "rag": rag})
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    for each in found:
        failed = runner.run(each).failed
        assert failed == 0, f"an example of {each.name} fails"
    return sum(len(each.examples) for each in found)

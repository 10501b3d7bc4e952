"""The error messages of the troubleshooting page are those that mixrag prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_pages import DOCS, blocks

from mixrag import RAG, Generator, MixragError, Settings
from mixrag.corpus import Store
from mixrag.corpus.store.sqlite.schema import FILE_NAME
from words_encoder import WordsEncoder

LINES = [
    line
    for block in blocks(DOCS / "how-to/troubleshooting.md")
    if block.info == "text"
    for line in block.text.splitlines()
]
Loaded = Callable[[str], Generator]


def pattern(line: str) -> str:
    """A regular expression: words in capitals stand for anything, numbers for any number."""
    escaped = re.escape(line)
    escaped = re.sub(r"\b(?!BM25|GGUF|RAG\b)[A-Z]{3,}\b|\bN\b", ".+", escaped)
    return re.sub(r"\d+(\\\.\d+)?", r"[\\d.]+", escaped)


def documented(error: MixragError) -> bool:
    return any(re.fullmatch(pattern(line), " ".join(str(error).split())) for line in LINES)


@pytest.fixture
def rag(tmp_path: Path, tiny_generator: Loaded) -> RAG:
    (tmp_path / "a.txt").write_text("The harbour office issues the fishing licence.")
    store = Store.open(tmp_path / "store", create=True)
    rag = RAG(store, encoder=WordsEncoder(), generator=tiny_generator("llama"), settings=Settings(max_tokens=4))
    rag.index([tmp_path / "a.txt"])
    return rag


def empty_folder(rag: RAG, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    rag.index([tmp_path / "empty"])


def damaged_store(rag: RAG, tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / FILE_NAME).write_text("this is not a database")
    RAG.open(tmp_path / "damaged")


def damaged_vector(rag: RAG, tmp_path: Path) -> None:
    with rag.store.transaction() as db:
        db.execute("UPDATE vectors SET vector = zeroblob(8)")
    rag.passages("licence?")


def damaged_lock(rag: RAG, tmp_path: Path) -> None:
    (rag.store.directory / "index.lock").write_bytes(b"junk " * 400)
    rag.index([tmp_path / "a.txt"])


def other_encoder(rag: RAG, tmp_path: Path) -> None:
    RAG(rag.store, encoder=WordsEncoder(name="other", fingerprint="words-2")).passages("licence?")


CASES: dict[str, Callable[[RAG, Path], object]] = {
    "no store": lambda rag, folder: RAG.open(folder / "nowhere"),
    "nothing to index": empty_folder,
    "damaged store": damaged_store,
    "damaged vector": damaged_vector,
    "damaged lock": damaged_lock,
    "other encoder": other_encoder,
    "empty question": lambda rag, folder: rag.ask(" "),
    "long question": lambda rag, folder: rag.ask("licence " * 300),
    "filter": lambda rag, folder: rag.passages("licence?", where={"topic": "wool"}),
    "range": lambda rag, folder: rag.passages("licence?", switch=2.0),
    "no model": lambda rag, folder: RAG.open(folder / "store", generator=str(folder / "empty")).ask("licence?"),
    "no object": lambda rag, folder: RAG.open(folder / "store", encoder=WordsEncoder).passages("licence?"),
    "no method": lambda rag, folder: RAG.open(folder / "store", encoder=object()).passages("licence?"),
}


@pytest.mark.parametrize("case", CASES)
def test_messages_are_documented(case: str, rag: RAG, tmp_path: Path) -> None:
    with pytest.raises(MixragError) as raised:
        CASES[case](rag, tmp_path)
    assert documented(raised.value), str(raised.value)

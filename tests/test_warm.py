"""Passages read ahead: a new process begins behind them, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, Models, Settings
from mixrag.errors import ModelError, OutputError
from mixrag.warm import FOLDER, folder_of
from tiny_encoder import save_encoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.txt": "A licence to fish eel costs four crowns a season.",
    "hen.txt": "Hens lay fewer eggs during winter.",
}
QUESTION = "What does a licence for cod cost?"
Opened = Callable[..., RAG]


@pytest.fixture
def opened(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Opened:
    """Opens the store anew, with models that are loaded anew."""
    (tmp_path / "files").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "files" / name).write_text(text)
    models = Models(encoder=save_encoder(tmp_path / "encoder"), generator=tiny_folder("llama"), device="cpu")

    def again(**changes: Any) -> RAG:
        settings = Settings(k=2, max_tokens=6)
        return RAG.open(tmp_path / "store", create=True, models=replace(models, **changes), settings=settings)

    with again() as rag:
        rag.index([tmp_path / "files"])
    return again


def counts(rag: RAG) -> tuple[int, int]:
    generator: Any = rag.generator
    return generator.passage_cache.hits, generator.passage_cache.misses


def test_a_new_process_reads_no_passage_and_says_the_same(opened: Opened) -> None:
    with opened() as cold:
        expected = cold.ask(QUESTION)
        assert counts(cold) == (0, 2)
        told: list[tuple[int, int]] = []
        found = cold.warm(told=lambda done, total: told.append((done, total)))
        assert (found.passages, found.of, found.read) == (3, 3, 3) and told[-1] == (3, 3)
        assert cold.info().warm == (3, found.bytes)
    with opened() as rag:
        answer = rag.ask(QUESTION)
        assert counts(rag) == (2, 0)
        assert (answer.text, answer.log_prob) == (expected.text, pytest.approx(expected.log_prob, abs=1e-5))
        assert rag.why(answer).as_dict()["passage_cache"] == {"hits": 2, "misses": 0}
        assert rag.warm().read == 0


def test_other_numbers_and_other_models_find_nothing(opened: Opened, tiny_folder: Callable[[str], Path]) -> None:
    with opened() as rag:
        rag.warm()
    for changes in ({"dtype": "bfloat16"}, {"generator": tiny_folder("gpt2")}):
        with opened(**changes) as rag:
            rag.ask(QUESTION)
            assert counts(rag) == (0, 2)


def test_no_more_room_than_is_given(opened: Opened) -> None:
    with opened() as rag:
        one = rag.warm().bytes // 3
        folder = folder_of(rag.store.directory, rag.models)
        for file in folder.iterdir():
            file.unlink()
        found = rag.warm(max_bytes=2 * one + one // 2)
        assert (found.passages, found.of) == (2, 3) and found.bytes <= 2 * one + one // 2
        assert rag.warm().read == 1


def test_torn_and_foreign_files_are_read_past(opened: Opened) -> None:
    with opened() as rag:
        expected = rag.ask(QUESTION)
        rag.warm()
        files = sorted(folder_of(rag.store.directory, rag.models).iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].write_bytes(b"")
    files[2].write_bytes(files[2].read_bytes().replace(b"states", b"statue"))
    with opened() as rag:
        assert rag.ask(QUESTION).log_prob == pytest.approx(expected.log_prob, abs=1e-5)
        assert counts(rag) == (0, 2)


def test_a_changed_passage_is_another_file(opened: Opened, tmp_path: Path) -> None:
    with opened() as rag:
        rag.warm()
        (tmp_path / "files" / "cod.txt").write_text("A licence to fish cod costs ten crowns a year.")
        rag.index([tmp_path / "files"])
        assert (rag.warm().read, rag.info().warm[0]) == (1, 4)


def test_models_that_keep_nothing_are_refused(opened: Opened, tiny_folder: Callable[[str], Path]) -> None:
    for changes in ({"passage_cache": 0}, {"generator": tiny_folder("t5")}):
        with opened(**changes) as rag, pytest.raises(ModelError, match="whose passages can be kept"):
            rag.warm()


def test_a_folder_that_cannot_be_is_one_line(opened: Opened) -> None:
    with opened() as rag:
        (rag.store.directory / FOLDER).write_text("a file")
        with pytest.raises(OutputError, match="room for what was read"):
            rag.warm()

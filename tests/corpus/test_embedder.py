"""Vectors that come later, some batches ahead: the store of one process, and files whose texts are refused."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from fake_corpus import FakeEncoder, check_sound, content, run
from mixrag.corpus import Store, open_store
from mixrag.corpus.distributed.reading import BLOCK_BYTES, BLOCK_FILES, blocks_of
from mixrag.corpus.distributed.wire import packed, unpacked
from mixrag.corpus.embedder import Embed, Embedded, Embedder
from mixrag.corpus.ingest import REFUSED
from mixrag.corpus.parsers.isolation import DEFAULT_LIMITS
from mixrag.corpus.parsers.registry import ParserRegistry
from mixrag.corpus.parsers.result import UnreadableError
from mixrag.corpus.passage import title_and_text
from mixrag.corpus.reading import ChangedFile, Read, Reading
from mixrag.corpus.splitters import StructureSplitter
from mixrag.corpus.splitting import Splitting
from mixrag.corpus.workers import Workers
from mixrag.errors import ModelError, PluginError


class Elsewhere:
    """Computes when asked, remembers what was submitted before; at texts with a word there is no vector."""

    def __init__(self, ahead: int, poison: str = "none") -> None:
        self.ahead, self.poison = ahead, poison
        self.submitted: list[list[str]] = []
        self.most, self._open = 0, 0
        self._embed: Embed = FakeEncoder()

    def read(self, files: Iterable[ChangedFile], reading: Reading) -> Generator[Read]:
        for file, found in reading.files(files):
            crossed = unpacked(packed(found), reading.splitting.embedding_text)
            assert isinstance(found, UnreadableError) or crossed == found
            yield file, crossed

    def embedder(self, embed: Embed) -> Embedder:
        self._embed = embed
        return self

    def submit(self, texts: list[str]) -> Callable[[], Embedded]:
        self.submitted.append(texts)
        self._open += 1
        self.most = max(self.most, self._open)

        def result() -> Embedded:
            self._open -= 1
            sound = [text for text in texts if self.poison not in text]
            refused = tuple(place for place, text in enumerate(texts) if self.poison in text)
            return Embedded(self._embed(sound or [""]), refused)

        return result


def elsewhere(workers: Any) -> Workers:
    found: Workers = workers
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "files"
    found.mkdir()
    for number in range(30):
        own = " ".join(f"w{number}x{each}" for each in range(400))
        (found / f"{number:02}.txt").write_text("shared words of all files. " * 5 + own)
    (found / "a.md").write_text("# Fees\n\nNine crowns.\n\n| place | fee |\n|---|---|\n| Lake | 9 |\n")
    (found / "b.jsonl").write_text('{"id": "1", "text": "One.", "year": 2024}\nno record\n{"text": "Two."}\n')
    (found / "c.txt").write_text("")
    return found


def opened(path: Path) -> Store:
    return open_store(path, create=True)


def test_ahead_is_as_here(tmp_path: Path, folder: Path) -> None:
    workers = Elsewhere(ahead=12)
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        expected, found = run(one, folder), run(two, folder, workers=elsewhere(workers))
        assert found == expected and content(two) == content(one)
        check_sound(two)
    texts = [text for batch in workers.submitted for text in batch]
    assert len(set(texts)) == len(texts) == found.embedded and 12 < workers.most < len(workers.submitted)


@pytest.mark.parametrize("ahead", [0, 100])
def test_files_with_a_refused_text_are_skipped(tmp_path: Path, folder: Path, ahead: int) -> None:
    for number in (3, 29):  # of the first group and the last
        (folder / f"{number:02}.txt").write_text("alas poison here")
    workers = Elsewhere(ahead, "poison")
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        found = run(two, folder, workers=elsewhere(workers))
        skipped = [Path(each.path).name for each in found.skipped if each.reason == REFUSED]
        assert sorted(skipped) == ["03.txt", "29.txt"] and len(found.skipped) == 4
        assert sum("poison" in text for batch in workers.submitted for text in batch) == 2  # two titles
        for name in skipped:
            (folder / name).unlink()
        run(one, folder)
        assert content(two) == content(one)


def test_reembedding_names_refused_texts(tmp_path: Path, folder: Path) -> None:
    with opened(tmp_path / "one") as store:
        run(store, folder)
        before = content(store)
        with pytest.raises(ModelError, match="died at"):
            run(store, encoder=FakeEncoder("fake-2"), reembed=True, workers=elsewhere(Elsewhere(9, "w3x7 ")))
        assert content(store) == before


def test_blocks() -> None:
    sizes = [*(10 for _ in range(40)), BLOCK_BYTES, 5, BLOCK_BYTES - 5, 1]
    files = [ChangedFile(Path(str(number)), "", b"x" * size) for number, size in enumerate(sizes)]
    blocks = [*blocks_of(files)]
    assert [file for block in blocks for file in block] == files
    assert [len(block) for block in blocks] == [BLOCK_FILES, 8, 1, 2, 1]


def test_errors_cross_as_they_are() -> None:
    reason = UnreadableError("a file", "a folder", "give a file")
    crossed = unpacked(packed(reason), title_and_text)
    assert isinstance(crossed, UnreadableError) and str(crossed) == str(reason)
    with pytest.raises(PluginError, match="expected spans; found none; correct it"):
        unpacked(packed(PluginError("spans", "none", "correct it")), title_and_text)


def test_splitting_of_every_format_crosses(tmp_path: Path, folder: Path) -> None:
    splitting = Splitting(StructureSplitter(20), title_and_text)
    reading = Reading(ParserRegistry(), DEFAULT_LIMITS, splitting)
    files = [ChangedFile(path, "", path.read_bytes()) for path in sorted(folder.iterdir()) if path.stat().st_size]
    assert len([*Elsewhere(0).read(files, reading)]) == len(files) == 32

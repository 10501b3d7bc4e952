"""The index in files: built once, appended to, whole at any instant."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pytest

from mixrag.corpus.store import locks
from mixrag.errors import StoreError
from mixrag.retrieval.index import (
    DamagedIndexError,
    ExactIndex,
    IVFIndex,
    VectorSource,
    describe_persistent,
    discard,
    open_persistent,
    persistence,
)

RANDOM = np.random.default_rng(8)
CENTRES = RANDOM.normal(size=(100, 12))
# Near some centres, so that a visit of few clusters finds most, and calibration ends soon.
VECTORS = (CENTRES[RANDOM.integers(0, 100, 5000)] + 0.2 * RANDOM.normal(size=(5000, 12))).astype(np.float32)
ASKED = VECTORS[::250] + np.float32(0.1)
SAMPLED = 18
"""Vectors that are read when an index is opened, to see whether it is of this store."""


@dataclass
class Source:
    """A store of passages; remembers from which row on it was read."""

    rows: np.ndarray
    vectors: np.ndarray
    encoder: str = "words"
    marks: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.reads: list[int] = []

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.rows, rows)
        if len(rows) != SAMPLED:
            self.reads.append(int(self.rows[places[0] - 1]) if places[0] else -1)
        return self.vectors[places]

    def corpus(self, state: str) -> VectorSource:
        marks = self.rows.astype(np.uint64) + 7 if self.marks is None else self.marks
        return VectorSource(state, self.encoder, lambda: (self.rows, marks), self.vectors_of)

    def check(self, index: IVFIndex) -> None:
        exact = ExactIndex(self.rows, self.vectors)
        assert len(index) == len(self.rows)
        found = [np.isin(exact.search(q, 5).rows, index.search(q, 5).rows).mean() for q in ASKED]
        assert np.mean(found) >= 0.8
        for question in ASKED[:3]:
            hits = index.search(question, 5)
            wanted = self.vectors[np.searchsorted(self.rows, hits.rows)] @ question
            np.testing.assert_allclose(hits.inner_products, wanted, rtol=1e-4, atol=1e-5)
            low, high = index.log_normaliser_bounds(question, 1.0)
            assert low <= exact.log_normaliser_bounds(question, 1.0)[0] + 1e-4 <= high + 2e-4


def source(count: int = 3000) -> Source:
    return Source(np.arange(count, dtype=np.int64) * 3 + 5, VECTORS[:count])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the index of ``source()`` in the state "one"; tests change copies of it."""
    folder = tmp_path_factory.mktemp("stored")
    open_persistent(folder, source().corpus("one"))
    return folder / "index"


@pytest.fixture
def with_index(stored: Path, tmp_path: Path) -> Path:
    """A folder with that index."""
    shutil.copytree(stored, tmp_path / "index")
    return tmp_path


def test_it_is_built_once_and_then_mapped(tmp_path: Path) -> None:
    there = source()
    assert describe_persistent(tmp_path, "one") is None
    there.check(open_persistent(tmp_path, there.corpus("one")))
    again = open_persistent(tmp_path, there.corpus("one"))
    there.check(again)
    assert there.reads == [-1]
    assert isinstance(again.vectors.base, np.memmap)
    assert describe_persistent(tmp_path, "one") == again.description
    assert describe_persistent(tmp_path, "two") is None


def test_new_passages_are_appended_and_those_gone_are_not_found(tmp_path: Path) -> None:
    there = source()
    built = open_persistent(tmp_path, there.corpus("one"))
    (name,) = (path.name for path in (tmp_path / "index").glob("vectors-*"))
    staying = np.arange(3000) % 11 != 0
    staying = np.concatenate([staying, np.ones(1000, bool)])
    rows, vectors = np.arange(4000, dtype=np.int64) * 3 + 5, VECTORS[:4000]
    more = Source(rows[staying], vectors[staying])
    index = open_persistent(tmp_path, more.corpus("two"))
    more.check(index)
    assert more.reads == [int(there.rows[-1])], "only the new ones are read"
    assert [path.name for path in (tmp_path / "index").glob("vectors-*")] == [name]
    assert index.trained_on == built.trained_on == 3000 and len(index.rows) == 4000
    more.check(open_persistent(tmp_path, more.corpus("two")))
    assert len(more.reads) == 1
    there.check(built)  # who had it open goes on reading the old one


@pytest.mark.parametrize("change", ["grown", "shrunk", "encoder", "texts", "older"])
def test_it_is_built_anew_when_the_old_one_does_not_serve(tmp_path: Path, change: str) -> None:
    there = source(2000)
    open_persistent(tmp_path, there.corpus("one"))
    after = {
        "grown": source(4100),
        "shrunk": Source(there.rows[:1500], there.vectors[:1500]),
        "encoder": Source(there.rows, -there.vectors, encoder="others"),
        "texts": Source(there.rows, -there.vectors, marks=there.rows.astype(np.uint64) + 8),
        "older": Source(np.arange(2000, dtype=np.int64) * 3 + 4, VECTORS[1000:3000]),
    }[change]
    index = open_persistent(tmp_path, after.corpus("two"))
    after.check(index)
    assert after.reads == [-1] and index.trained_on == len(after.rows)
    assert len(list((tmp_path / "index").glob("vectors-*"))) == 1


@pytest.mark.parametrize("damaged", ["index.json", "vectors-*", "codes-*", "cells-*"])
def test_a_damaged_file_is_built_anew(with_index: Path, damaged: str) -> None:
    there = source()
    (path,) = (with_index / "index").glob(damaged)
    path.write_bytes(path.read_bytes()[:40])
    assert describe_persistent(with_index, "one") is None
    there.check(open_persistent(with_index, there.corpus("one")))
    assert there.reads == [-1]


def changed_inside(content: bytes) -> bytes:
    """Of the same length, with other bytes in the second half."""
    junk = np.random.default_rng(3).bytes(400)
    place = len(content) * 2 // 3
    return content[:place] + junk[: len(content) - place] + content[place + 400 :]


@pytest.mark.parametrize("damaged", ["index.json", "vectors-*", "codes-*", "cells-*"])
@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: np.random.default_rng(4).bytes(len(content)),
        lambda content: bytes(len(content)),
        lambda content: content[len(content) // 2 :] + content[: len(content) // 2],
    ],
    ids=["empty", "half", "cut", "junk", "zeros", "turned"],
)
def test_whatever_the_files_hold_the_store_decides(with_index: Path, damaged: str, change) -> None:
    there = source()
    (path,) = (with_index / "index").glob(damaged)
    path.write_bytes(change(path.read_bytes()))
    describe_persistent(with_index, "one")
    there.check(open_persistent(with_index, there.corpus("one")))
    assert there.reads == [-1]


def one_bit_changed(content: bytes) -> bytes:
    """In a code, which may be any number."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damaged", ["codes-*", "cells-*"])
@pytest.mark.parametrize("change", [changed_inside, one_bit_changed])
def test_a_change_inside_codes_or_arrays_is_noticed(with_index: Path, damaged: str, change) -> None:
    more = source(3100)
    (path,) = (with_index / "index").glob(damaged)
    path.write_bytes(change(path.read_bytes()))
    more.check(open_persistent(with_index, more.corpus("two")))
    assert more.reads == [-1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_noticed_when_it_is_read(with_index: Path, value: float) -> None:
    there = source()
    (path,) = (with_index / "index").glob("vectors-*")
    lines = np.fromfile(path, "<f4").reshape(-1, 12)
    lines[1234, 5] = value
    lines.tofile(path)
    try:
        index = open_persistent(with_index, there.corpus("one"))
        for read in (
            lambda: index.search(VECTORS[1234], 5),
            lambda: index.vectors_of(there.rows[[1234]]),
            lambda: index.products(ASKED[0], there.rows[1200:1300]),
        ):
            with pytest.raises(DamagedIndexError):
                read()
    except AssertionError:
        assert there.reads == [-1], "a line of the sample that is looked at in opening"
    discard(with_index)
    there.check(open_persistent(with_index, there.corpus("one")))


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"format": 2, "lines": ' + '{"a":' * 50_000,
        " " * 100_000,
        {"lines": -1},
        {"lines": 10**30},
        {"dimension": 0},
        {"dimension": 10**18},
        {"trained_on": 0},
        {"recall": float("nan")},
        {"recall": 1e300},
        {"probes": -(10**40)},
        {"checksum": 0},
        {"vectors": ""},
        {"codes": "\u0000"},
        "[]",
        "null",
        {"probes": 0},
        {"probes": 10**6},
        {"probes": "7"},
        {"lines": "many"},
        {"lines": 1.5},
        {"vectors": 3},
        {"vectors": "../vectors.f32"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_manifest_of_something_else_is_made_anew(with_index: Path, content) -> None:
    there = source()
    path = with_index / "index" / "index.json"
    text = content if isinstance(content, str) else json.dumps({**json.loads(path.read_text()), **content})
    path.write_text(text)
    describe_persistent(with_index, "one")
    there.check(open_persistent(with_index, there.corpus("one")))
    assert there.reads == [-1]


def test_codes_that_name_a_file_of_their_own_are_made_anew(with_index: Path) -> None:
    more, victim = source(3100), with_index / "precious"
    victim.write_bytes(b"precious " * 200_000)
    (path,) = (with_index / "index").glob("codes-*")
    cells = faiss.read_index(str(path)).nlist
    forged = faiss.index_factory(12, f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    forged.cp.min_points_per_centroid = 1
    forged.train(VECTORS[:3000])
    lists = faiss.OnDiskInvertedLists(forged.nlist, forged.code_size, str(with_index / "somefile"))
    forged.replace_invlists(lists, False)
    forged.add(VECTORS[:3000])
    faiss.write_index(forged, str(path))
    path.write_bytes(path.read_bytes().replace(str(with_index / "somefile").encode(), str(victim).encode()))
    before = victim.read_bytes()
    more.check(open_persistent(with_index, more.corpus("two")))
    assert victim.read_bytes() == before and more.reads == [-1]


def test_an_open_index_outlives_the_loss_of_its_manifest(tmp_path: Path) -> None:
    there = source()
    first = open_persistent(tmp_path, there.corpus("one"))
    before = {path.name for path in (tmp_path / "index").iterdir()}
    (tmp_path / "index" / "index.json").unlink()
    there.check(open_persistent(tmp_path, there.corpus("one")))
    there.check(first)  # it maps files that are gone from the folder, and were not written over
    after = {path.name for path in (tmp_path / "index").iterdir()}
    assert before & after == {"index.json", "lock"}


@pytest.mark.parametrize("step", ["_write_lines", "_save", "write_atomically", "_remove_other_files"])
def test_an_update_cut_off_anywhere_leaves_a_whole_index(with_index: Path, monkeypatch, step: str) -> None:
    there, more = source(), source(3500)
    real = getattr(persistence, step)

    def cut(*arguments):
        if step == "_write_lines":
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(persistence, step, cut)
    with pytest.raises(KeyboardInterrupt):
        open_persistent(with_index, more.corpus("two"))
    monkeypatch.undo()
    if step != "_remove_other_files":
        there.check(open_persistent(with_index, there.corpus("one")))
        assert there.reads == []
    other = Source(more.rows, np.concatenate([VECTORS[:3000], VECTORS[4000:4500]]))
    if step != "_remove_other_files":  # what the cut-off update wrote is written over
        other.check(open_persistent(with_index, other.corpus("three")))
        assert other.reads == [int(there.rows[-1])]
    else:
        more.check(open_persistent(with_index, more.corpus("two")))
        assert more.reads == [int(there.rows[-1])]


def test_a_folder_that_cannot_be_written_costs_time_not_the_answer(tmp_path: Path, caplog) -> None:
    (tmp_path / "index").write_text("a file where the folder should be")
    there = source()
    with caplog.at_level("WARNING", "mixrag"):
        there.check(open_persistent(tmp_path, there.corpus("one")))
    assert str(tmp_path / "index") in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("full", ["vectors", "codes", "cells", "index.json"])
@pytest.mark.parametrize("count", [3000, 3500])
def test_a_full_disk_leaves_no_files_behind(
    stored: Path, tmp_path: Path, monkeypatch, caplog, full: str, count: int
) -> None:
    """At first, or as the index grows; what was there before stays."""
    more = source(count)
    if count > 3000:
        shutil.copytree(stored, tmp_path / "index")
    before = {path.name for path in (tmp_path / "index").glob("*-*")}

    def no_room(target, content, real) -> None:
        path = Path(target)
        path.write_bytes(b"some of it")
        raise real("No space left on device")

    fails = {
        "vectors": (persistence, "_write_lines", lambda path, *others: no_room(path, others, OSError)),
        "codes": (faiss, "write_index", lambda index, path: no_room(path, index, RuntimeError)),
        "cells": (np, "savez", lambda path, **arrays: no_room(path, arrays, OSError)),
        "index.json": (
            persistence,
            "write_atomically",
            lambda path, content: no_room(path.with_name("x"), content, OSError),
        ),
    }
    if full == "vectors" and count > 3000:
        return  # lines that are appended to the file are not named by the manifest
    monkeypatch.setattr(*fails[full])
    with caplog.at_level("WARNING", "mixrag"):
        more.check(open_persistent(tmp_path, more.corpus("two")))
    (record,) = caplog.records
    assert "No space left on device" in record.message and "\n" not in record.message
    assert {path.name for path in (tmp_path / "index").glob("*-*")} == before
    monkeypatch.undo()
    more.check(open_persistent(tmp_path, more.corpus("two")))
    caplog.clear()
    assert describe_persistent(tmp_path, "two") is not None


def test_junk_in_the_lock_of_the_index_is_named(tmp_path: Path, caplog) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "lock").write_bytes(b"junk " * 400)
    there = source()
    with caplog.at_level("WARNING", "mixrag"):
        there.check(open_persistent(tmp_path, there.corpus("one")))
    assert f"{tmp_path / 'index' / 'lock'} is not a lock file" in caplog.text and "delete it" in caplog.text


def test_a_manifest_cannot_name_files_elsewhere(with_index: Path) -> None:
    there = source()
    path = with_index / "index" / "index.json"
    manifest = json.loads(path.read_text())
    manifest["vectors"] = f"../index/{manifest['vectors']}"
    path.write_text(json.dumps(manifest))
    open_persistent(with_index, there.corpus("one"))
    assert there.reads == [-1]


def test_it_waits_while_another_builds(tmp_path: Path, monkeypatch, caplog) -> None:
    """However long that takes, and says so once; the files that the other wrote are then used."""
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.02)
    there, second = source(), source()
    waiting, said = threading.Event(), logging.getLogger("mixrag.retrieval")
    monkeypatch.setattr(said, "warning", lambda message: (waiting.set(), caplog.records.append(message)))
    (tmp_path / "index").mkdir()
    with ThreadPoolExecutor(1) as pool:
        with locks.exclusive(tmp_path / "index" / "lock", 1.0):
            opening = pool.submit(open_persistent, tmp_path, second.corpus("one"))
            assert waiting.wait(30)
            time.sleep(0.2)  # ten times as long as one wait
            assert not opening.done()
            persistence._rebuilt(tmp_path / "index", there.corpus("one"))
        second.check(opening.result(60))
    assert second.reads == [], "the other one has built it"
    assert caplog.records == [f"waiting for a process that builds {tmp_path / 'index'}"]


def test_an_error_in_time_under_the_lock_is_no_wait(tmp_path: Path, monkeypatch, caplog) -> None:
    """A folder on another machine may time out; that is a folder that cannot be written."""

    def timed_out(*_: object) -> int:
        raise TimeoutError("Connection timed out")

    monkeypatch.setattr(persistence, "_write_lines", timed_out)
    with caplog.at_level("WARNING", "mixrag"):
        there = source()
        there.check(open_persistent(tmp_path, there.corpus("one")))
    assert "cannot be stored" in caplog.text and "Connection timed out" in caplog.text


@pytest.mark.parametrize("free", [3000 * 12 * 4, None])
def test_an_index_that_does_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch, free: int | None) -> None:
    (tmp_path / "index").write_text("a file where the folder should be")
    there = source()
    monkeypatch.setattr(persistence, "available_memory", lambda: free)
    if free is None:  # a system that does not say
        there.check(open_persistent(tmp_path, there.corpus("one")))
        return
    with pytest.raises(StoreError) as caught:
        open_persistent(tmp_path, there.corpus("one"))
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path / "index") in message and "make room on that disk" in message
    assert "File exists" in message and "of memory" in message
    assert there.reads == [-1], "one vector is read, for its size"
    monkeypatch.setattr(persistence, "available_memory", lambda: 2 * 3000 * 12 * 4)
    there.check(open_persistent(tmp_path, there.corpus("one")))

"""Indexing by the workers of a real Ray cluster: the same store as one process makes, whatever dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dying import DyingEncoder, DyingParser, FailingEncoder, FailingSplitter
from fake_corpus import check_sound, content
from mixrag import RAG
from mixrag.corpus import IndexReport, WordSplitter, open_store
from mixrag.corpus.distributed.reading import died
from mixrag.corpus.ingest import REFUSED
from mixrag.errors import ClusterError, MixragError, PluginError, StoreError
from tiny_encoder import save_encoder
from words_encoder import WordsEncoder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("cluster")]
HOME = os.getpid()
ONE: dict[str, Any] = {"ray": "auto", "ray_encoders": 1}
"""Where neither the number of encoders nor that of their threads matters: each is a process that imports torch."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the workers have: another number of threads adds in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of several formats, two that are skipped, and more texts than a batch has."""
    found = tmp_path / "files"
    found.mkdir()
    for number in range(40):
        words = " ".join(f"word{number * each % 83}" for each in range(3 + 7 * number))
        (found / f"{number:02}.txt").write_text(words)
    (found / "a.md").write_text(
        "# Fees\n\nA licence costs nine crowns.\n\n## Children\n\nNothing, below twelve.\n"
    )
    (found / "b.csv").write_text("place,fee\nLake,9\nRiver,7\n")
    records = ['{"id": "1", "text": "The lake is closed.", "year": 2024}', "no record", '{"text": "Open again."}']
    (found / "c.jsonl").write_text("\n".join(records))
    (found / "d.html").write_text("<title>Rules</title><h1>Nets</h1><p>Nets are forbidden.</p>")
    (found / "e.txt").write_text("")
    (found / "f.json").write_text("{")
    return found


def indexed(store: Path, folder: Path, encoder: Any, **options: Any) -> tuple[IndexReport, Any]:
    """The report, and all that readers see."""
    given = {"models": {"encoder": str(encoder)}} if isinstance(encoder, Path) else {"encoder": encoder}
    with RAG.open(store, create=True, **given) as rag:
        report = rag.index(folder, **options)
        check_sound(rag.store)
        return report, content(rag.store)


def test_equals_one_process(tmp_path: Path, folder: Path, encoder: Path) -> None:
    expected = indexed(tmp_path / "one", folder, encoder)
    assert expected[0].passages > 64 and len(expected[0].skipped) == 2
    found = indexed(tmp_path / "ray", folder, encoder, ray="auto")
    assert found == expected  # vectors bit by bit
    again, _ = indexed(tmp_path / "ray", folder, encoder, ray="auto")
    assert (again.embedded, again.added, again.unchanged) == (0, 0, 44)
    (folder / "39.txt").write_text((folder / "39.txt").read_text() + " " + "tail " * 300)
    changes = [
        indexed(tmp_path / name, folder, encoder, **o) for name, o in (("one", {}), ("ray", {"ray": "auto"}))
    ]
    assert changes[0] == changes[1] and 0 < changes[0][0].embedded < 30


def test_weights_are_sent(tmp_path: Path, folder: Path) -> None:
    path = save_encoder(tmp_path / "gone", seed=1)
    with RAG.open(tmp_path / "store", create=True, models={"encoder": str(path)}) as rag:
        assert rag.encoder
        shutil.rmtree(tmp_path / "gone")
        assert rag.index(folder, ray="auto", ray_encoders=1).embedded > 64
    other = save_encoder(tmp_path / "other", seed=2)
    with RAG.open(tmp_path / "store", models={"encoder": str(other)}) as rag:
        report = rag.index([], reembed=True, ray="auto")
        assert report.embedded > 64
        vectors, expected = content(rag.store), indexed(tmp_path / "one", folder, other)[1]
        assert [each[:-1] for each in vectors] == [each[:-1] for each in expected]


@pytest.mark.parametrize("part", ["encoder", "reader"])
def test_worker_killed_in_the_middle(tmp_path: Path, folder: Path, part: str) -> None:
    (folder / "x.own").write_text("poison " * 300)
    mark = str(tmp_path / "died")
    encoder = DyingEncoder(mark=mark if part == "encoder" else "", word="poison", home=HOME)
    parser = DyingParser(mark=mark, home=HOME)
    if part == "reader":
        encoder = WordsEncoder()
    else:
        parser = DyingParser(word=b"none", home=HOME)
    expected = indexed(tmp_path / "one", folder, encoder, parsers=[parser])
    assert not Path(mark).exists()
    found = indexed(tmp_path / "ray", folder, encoder, parsers=[parser], ray="auto")
    assert Path(mark).exists() and found == expected


def test_file_at_which_readers_die(tmp_path: Path, folder: Path) -> None:
    (folder / "x.own").write_text("poison")
    (folder / "y.own").write_text("harmless")
    parser = DyingParser(home=HOME)
    report, found = indexed(tmp_path / "ray", folder, WordsEncoder(), parsers=[parser], **ONE)
    assert [each.reason for each in report.skipped if each.path.endswith("x.own")] == [str(died())]
    assert len(report.skipped) == 3
    (folder / "x.own").unlink()
    assert found == indexed(tmp_path / "one", folder, WordsEncoder(), parsers=[parser])[1]


def test_text_at_which_encoders_die(tmp_path: Path, folder: Path) -> None:
    (folder / "x.txt").write_text("poison")
    encoder = DyingEncoder(home=HOME)
    report, found = indexed(tmp_path / "ray", folder, encoder, ray="auto")
    assert [each.reason for each in report.skipped if each.path.endswith("x.txt")] == [REFUSED]
    (folder / "x.txt").unlink()
    assert found == indexed(tmp_path / "one", folder, encoder)[1]


def test_errors_of_workers_are_one_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ClusterError, match="RuntimeError: no memory for this; look") as failed:
        indexed(tmp_path / "a", folder, FailingEncoder(home=HOME), **ONE)
    assert "\n" not in str(failed.value)
    errors = []
    for name, options in (("b", {}), ("c", ONE)):
        with pytest.raises(PluginError) as raised:
            indexed(tmp_path / name, folder, WordsEncoder(), splitter=FailingSplitter(), **options)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_ended_driver_resumes(tmp_path: Path, cluster: str, encoder: Path) -> None:
    files, store = tmp_path / "files", tmp_path / "store"
    files.mkdir()
    for number in range(200):
        (files / f"{number}.txt").write_text(" ".join(f"w{number}x{each}" for each in range(200)))
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mixrag",
        "index",
        str(files),
        "--store",
        str(store),
        "--json",
    ]
    command += ["--encoder", str(encoder), "--splitter", "words:10", "--ray", cluster, "--ray-encoders", "1"]
    stored = 0
    for ending, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            while passages_in(store) == stored and run.poll() is None:
                time.sleep(0.05)
            run.send_signal(ending)
            output, errors = run.communicate()
        assert run.returncode == code and "Traceback" not in errors and output == "", errors
        assert stored < passages_in(store) < 4000
        stored = passages_in(store)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["passages"] == 4000 and report["added"] == 4000 - stored and report["embedded"] <= 4000 - stored
    assert "Traceback" not in finished.stderr and "raylet" not in finished.stdout + finished.stderr
    with open_store(store) as found:
        check_sound(found)
        assert content(found) == indexed(tmp_path / "one", files, encoder, splitter=WordSplitter(10))[1]


def passages_in(store: Path) -> int:
    try:
        with open_store(store) as found:
            return found.counts().passages
    except (StoreError, MixragError):
        return 0

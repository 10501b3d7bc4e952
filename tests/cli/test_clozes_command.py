"""mixrag clozes as a person or a script meets it: pairs that train and eval read, and nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_commands import Shell
from mixrag.corpus.store.sqlite.store import SqliteStore as Store
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import read_pairs
from tiny_encoder import save_encoder

LICENCE = "The harbour office issues the fishing licence for nine crowns and 40 pence in Tarravoe."


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("clozes-encoder"))


@pytest.fixture
def shell(tmp_path: Path, encoder: Path) -> Shell:
    shell = Shell(tmp_path, encoder, tmp_path)
    (shell.files / "licence.txt").write_text(LICENCE)
    shell("index", shell.files)
    shell.models["clozes"] = shell.models["index"]
    return shell


def test_pairs_are_written_that_are_read_again(shell: Shell) -> None:
    out = shell.folder / "clozes.jsonl"
    assert shell("clozes", "--out", out, "-n", "5") == f"5 pairs in {out}\n"
    found = read_pairs([out])
    assert len(found.pairs) == 5 and found.notices == ()
    texts = {str(path): path.read_text() for path in shell.files.iterdir()}
    assert all(passage_holds(texts[str(pair.document)], pair.answers) for pair in found.pairs)


def test_the_contract_of_clozes(shell: Shell) -> None:
    out = shell.folder / "clozes.jsonl"
    found = shell.json("clozes", "--out", out, "-n", "500")
    assert set(found) == {"file", "pairs"} and found["file"] == str(out.resolve())
    assert found["pairs"] == len(read_pairs([out]).pairs) < 500


def test_documents_can_be_chosen(shell: Shell) -> None:
    out = shell.folder / "clozes.jsonl"
    shell("clozes", "--out", out, "-n", "50", "--where", "document=licence.txt")
    assert {Path(str(pair.document)).name for pair in read_pairs([out]).pairs} == {"licence.txt"}
    either = "--where", "document=licence.txt", "--where", "document=*.md"
    assert shell.json("clozes", "--out", shell.folder / "either.jsonl", "-n", "50", *either)["pairs"]
    both = "--where", "year=2020", "--where", "year>2019"
    assert "one kind of --where" in shell.refused("clozes", "--out", shell.folder / "new.jsonl", *both)
    none = "--where", "document=none.txt"
    assert "none with document=none.txt" in shell.refused("clozes", "--out", shell.folder / "new.jsonl", *none)


def test_the_seed_decides(shell: Shell) -> None:
    outs = [shell.folder / f"{number}.jsonl" for number in range(3)]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        shell("clozes", "--out", out, "-n", "4", "--seed", seed)
    first, same, other = (out.read_text() for out in outs)
    assert first == same != other


def test_of_a_large_store_a_sample_is_read(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (shell.files / f"more-{number}.txt").write_text(LICENCE.replace("nine", f"{number} gold"))
    shell("index", shell.files)
    read: list[int] = []
    whole = Store.passages
    monkeypatch.setattr(Store, "passages", lambda self, rows: read.append(len(rows)) or whole(self, rows))
    shell("clozes", "--out", shell.folder / "clozes.jsonl", "-n", "2")
    assert read == [20]


def test_a_file_that_exists_is_not_overwritten(shell: Shell) -> None:
    own = shell.folder / "pairs.jsonl"
    own.write_text("mine")
    assert "a new file" in shell.refused("clozes", "--out", own) and own.read_text() == "mine"
    assert "--number" in shell.refused("clozes", "--out", shell.folder / "new.jsonl", "-n", "0")
    assert "clozes.jsonl" in shell.refused("clozes", "--out", shell.folder)
    assert "no folder" in shell.refused("clozes", "--out", shell.folder / "none" / "new.jsonl")


def test_documents_that_give_no_question_are_refused(tmp_path: Path, encoder: Path) -> None:
    shell = Shell(tmp_path, encoder, tmp_path)
    for path in shell.files.iterdir():
        path.unlink()
    (shell.files / "licence.txt").write_text("漁業の許可証は港湾事務所が発行します。")
    shell("index", shell.files)
    out = tmp_path / "clozes.jsonl"
    assert "English" in shell.refused("clozes", "--out", out) and not out.exists()

import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from fake_corpus import check_sound, content, run
from made_documents import put, split
from mixrag.corpus import Counts, Store
from mixrag.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreMissingError,
    StoreVersionError,
)

FILE = "mixrag.sqlite"


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)


def test_missing(tmp_path):
    with pytest.raises(StoreMissingError, match="mixrag index"):
        Store.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_blank_file_of_a_killed_creation(tmp_path):
    (tmp_path / FILE).touch()
    with pytest.raises(StoreMissingError):
        Store.open(tmp_path)
    with Store.open(tmp_path, create=True) as store:
        assert store.generation == 0


def test_newer_version(store):
    store.query("PRAGMA user_version = 99")
    with pytest.raises(StoreVersionError, match="upgrade"):
        Store.open(store.directory)


@pytest.mark.parametrize("create", [True, False])
def test_not_a_database(tmp_path, create):
    (tmp_path / FILE).write_bytes(b"something else altogether " * 100)
    with pytest.raises(StoreCorruptError):
        Store.open(tmp_path, create=create)


def test_database_of_another_application(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("CREATE TABLE meta (a)")
    with pytest.raises(StoreCorruptError, match="another application"):
        Store.open(tmp_path, create=True)


def test_lost_table(store):
    store.query("DROP TABLE metadata")
    with pytest.raises(StoreCorruptError, match="no table metadata"):
        Store.open(store.directory)


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_damaged_file(folder, tmp_path, damage):
    write(folder, a="# A\n" + "many words here " * 3000)
    with Store.open(tmp_path, create=True) as store:
        run(store, folder)
    data = bytearray((tmp_path / FILE).read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    else:
        data[4096 : len(data) - 4096] = b"\xa5" * (len(data) - 8192)
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"move .* away"):
        Store.open(tmp_path)


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "store", create=True)


def test_busy(store, folder):
    write(folder, a="text")
    with Store.open(store.directory, timeout=0.05) as second, store.transaction():
        with pytest.raises(StoreBusyError), second.transaction():
            pass
        with pytest.raises(StoreBusyError):
            run(second, folder)


@pytest.mark.parametrize("blob", [None, b"abc", b"\xff\xff\xff\xff"])
def test_damaged_words(store, folder, blob):
    write(folder, a="some text")
    run(store, folder)
    with store.transaction() as db:
        db.execute("UPDATE passages SET words = ?", (blob,))
    with pytest.raises(StoreCorruptError, match="index again"):
        list(store.words())


def test_a_failure_inside_the_swap_changes_nothing(store, folder, monkeypatch):
    from mixrag.corpus.store.sqlite import changes

    for name in "ab":
        (folder / f"{name}.txt").write_text(f"{name} one two three four five six")
    run(store, folder)
    before = content(store)
    (folder / "a.txt").write_text("new one two three four five six")
    with monkeypatch.context() as patch:
        patch.setattr(changes, "_drop_if_unused", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(store, folder)
    assert content(store) == before
    assert run(store, folder).embedded == 0  # the vectors had been committed before
    check_sound(store)


def test_documents_from_memory_are_records_of_one_file(store):
    """So they need no table of their own."""
    put(store, split(["one"], "a"))
    rows = store.query("SELECT path, record FROM sources JOIN files ON files.id = file_id")
    assert rows == [("memory:", "a")] and not Path("memory:").is_absolute()
    store.delete(["a"])
    assert store.query("SELECT * FROM files") == []


# state


def test_a_copy_that_is_changed_otherwise_is_another_store(tmp_path):
    """As after a backup was restored: it counts changes and passages as the lost files did."""
    with Store.open(tmp_path / "store", create=True) as store:
        put(store, split(["Imprint"], "1"))
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    with Store.open(tmp_path / "store") as store, Store.open(tmp_path / "backup") as backup:
        assert store.state == backup.state, "they are equal"
        put(store, split(["quarries"], "2"), split(["Licence"], "3"))
        put(backup, split(["fisheries"], "2"), split(["Licence"], "3"))
        assert (store.generation, store.counts()) == (backup.generation, backup.counts())
        assert store.state != backup.state


def test_a_store_of_an_older_version_has_a_state_before_and_after_its_next_change(tmp_path):
    with Store.open(tmp_path / "store", create=True) as store:
        put(store, split(["one", "two"], "1"))
        with store.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = 'change'")
        before = store.state
        ends = [(1, split(["one"]).passages[0].text_hash), (2, split(["two"]).passages[0].text_hash)]
        formula = repr((1, Counts(1, 2, 1), ends)).encode()
        assert before == store.state == hashlib.sha256(formula).hexdigest()[:16], "so that its index serves"
        put(store, split(["three"], "2"))
        assert store.state != before
        after = store.state
        with store.transaction() as db:  # an older version counts changes, and gives them no number
            db.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")
        assert store.state != after

"""What a run left out: counted by kind, and said again as long as the files do not change."""

import os
import shutil
from pathlib import Path

import pytest

from fake_corpus import check_sound, run
from mixrag.corpus import Notice, ParseResult, ParserRegistry, Skipped, Store, find_files
from mixrag.corpus.passage import Document
from mixrag.corpus.report import aggregated, kinds_in_words
from mixrag.corpus.store.sqlite import schema
from mixrag.errors import SourceError, StoreError


class Noticing:
    """Counts the stars in a text as images that it left out."""

    name, suffixes = "noticing:1", (".note",)

    def parse(self, data, name):
        text = data.decode()
        stars, dots = text.count("*"), text.count("!")
        notices = [Notice("images", stars, f"{stars} left out")] * bool(stars)
        skipped = (Skipped(f"{name}:1", "bad record"),) * dots
        return ParseResult((Document(text),), skipped, tuple(notices))


def noticed(store, folder):
    return run(store, folder, parsers=ParserRegistry([Noticing()]))


def test_files_of_other_kinds_are_counted(store, folder):
    for name in ("a.txt", "b.TXT", "c.zzz", "d.ZZZ", "e.gz", "README", "sub/f.zzz", "b.Md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"text of {name}")
    report = run(store, folder)
    assert report.documents == 3
    assert report.left_out == {".gz": 1, ".zzz": 3, "without suffix": 1}
    assert report.skipped == () and run(store, folder).left_out == report.left_out


def test_hidden_files_that_would_be_read_are_counted(store, folder):
    (folder / ".git").mkdir()
    for name in ("a.txt", ".b.txt", ".hidden", ".git/c.txt", "~$d.docx"):
        (folder / name).write_text("text")
    report = run(store, folder)
    assert report.left_out == {"hidden files": 1, "hidden folders": 1}


def test_pipes_and_devices_are_skipped_with_a_reason(folder):
    os.mkfifo(folder / "pipe.txt")
    (folder / "device.txt").symlink_to("/dev/null")
    found = find_files(folder, (".txt",))
    assert found.files == () and [skip.path for skip in found.skipped] == [
        str(folder / "device.txt"),
        str(folder / "pipe.txt"),
    ]
    assert all("a pipe, socket or device" in skip.reason for skip in found.skipped)


def test_a_folder_of_other_kinds_only_says_which(store, folder):
    (folder / "a.zzz").write_text("text")
    with pytest.raises(SourceError, match=r"but 1 \.zzz"):
        run(store, folder)


def test_kinds_in_words():
    assert kinds_in_words({".a": 1, ".b": 10, "hidden files": 2}) == "10 .b, 2 hidden files, 1 .a"
    assert kinds_in_words({"hidden files": 1, "hidden folders": 1}) == "1 hidden file, 1 hidden folder"


def test_notices_are_counted_by_kind_with_examples():
    found = [(f"{i}.pdf", Notice("images", i, f"{i} images")) for i in (4, 3, 2, 1)]
    images, pages = aggregated([*found, ("1.pdf", Notice("pages without text", 1))])
    assert (images.kind, images.count, images.files) == ("images", 10, 4)
    assert images.examples == (("1.pdf", "1 images"), ("2.pdf", "2 images"), ("3.pdf", "3 images"))
    assert (pages.kind, pages.count, pages.examples) == ("pages without text", 1, (("1.pdf", ""),))


def test_notices_are_said_again_while_the_file_stays(store, folder):
    (folder / "a.note").write_text("one * two *")
    (folder / "b.note").write_text("three *")
    first = noticed(store, folder)
    assert [(n.kind, n.count, n.files) for n in first.notices] == [("images", 3, 2)]
    again = noticed(store, folder)
    assert again.unchanged == 2 and again.notices == first.notices
    (folder / "a.note").write_text("one two")
    assert [(n.count, n.files) for n in noticed(store, folder).notices] == [(1, 1)]
    (folder / "b.note").unlink()
    assert noticed(store, folder).notices == () and store.query("SELECT * FROM notices") == []
    check_sound(store)


def test_skipped_records_are_said_again(store, folder):
    (folder / "a.note").write_text("bad! *")
    first = noticed(store, folder)
    assert len(first.skipped) == 1 and noticed(store, folder).skipped == first.skipped


def test_a_link_to_an_endless_file_of_the_system_is_read_with_a_bound(store, folder):
    (folder / "a.txt").write_text("words")
    (folder / "memory.txt").symlink_to("/proc/self/pagemap")
    report = run(store, folder, max_bytes=2**20)
    assert report.documents == 1 and len(report.skipped) == 1
    assert any("expected a file of at most 1 MB" in skip.reason for skip in report.skipped)


def test_a_full_disk_is_one_line_and_leaves_the_store_whole(store, folder, monkeypatch):
    (folder / "a.txt").write_text("old words")
    run(store, folder)
    for number in range(50):
        (folder / f"{number}.txt").write_text(" ".join(f"word{number}x{i}" for i in range(500)))
    (pages,) = store.query("PRAGMA page_count")[0]
    store.query(f"PRAGMA max_page_count = {pages + 8}")
    with pytest.raises(StoreError, match="full; check free space") as caught:
        run(store, folder, batch=16)
    assert "\n" not in str(caught.value) and store.counts().passages == 1
    assert store.query("PRAGMA integrity_check") == [("ok",)]
    store.query("PRAGMA max_page_count = 1073741823")
    assert run(store, folder).documents == 51
    check_sound(store)


def test_a_store_in_a_folder_without_permission_is_one_line(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "stat", refuse)
    with pytest.raises(StoreError, match="found Permission denied; check the permissions"):
        schema.open_database(tmp_path / "store", create=False, timeout=0.1)


def test_a_store_of_version_1_gets_the_table_of_notices(tmp_path):
    old = Path(__file__).parents[1] / "fixtures" / "version-0.1" / "store" / schema.FILE_NAME
    shutil.copy(old, tmp_path)
    with Store.open(tmp_path) as store:
        assert store.counts().passages > 0 and store.notices(["/a.txt"]) == []

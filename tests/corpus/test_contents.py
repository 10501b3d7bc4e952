"""Files whose content is of another format than their name says."""

import gzip
import io
import zipfile

import pytest

from fake_corpus import run
from mixrag.corpus import UnreadableError, read
from mixrag.corpus.parsers.contents import real_suffix

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\nstartxref\n9\n%%EOF"


def archive(**parts):
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for name, text in parts.items():
            file.writestr(name.replace("__", "/").replace("_xml", ".xml"), text)
    return found.getvalue()


@pytest.mark.parametrize(
    "data, suffix, real",
    [
        (PDF, ".txt", ".pdf"),
        (b"\n" + PDF, ".html", ".pdf"),
        (b"%PDF-1.4 is how such a file begins", ".txt", ".txt"),
        (b"<!-- x -->\n<HTML lang=en><p>Fees", ".txt", ".html"),
        (b"\xef\xbb\xbf<!doctype html>", ".pdf", ".html"),
        (b"<html lang=en>", ".md", ".html"),
        (b"The tag <html> begins a page", ".txt", ".txt"),
        (b"<!doctype html>", ".xml", ".xml"),
        (b"<!doctype html>", ".py", ".py"),
        (rb"{\rtf1 Fees}", ".txt", ".rtf"),
        (archive(word__document_xml=""), ".txt", ".docx"),
        (archive(xl__workbook_xml=""), ".csv", ".xlsx"),
        (archive(ppt__presentation_xml=""), ".docx", ".pptx"),
        (archive(mimetype="application/epub+zip"), ".txt", ".epub"),
        (archive(mimetype="application/vnd.oasis.opendocument.text"), ".docx", ".odt"),
        (archive(other=""), ".docx", ".docx"),
        (b"PK\x03\x04 cut off", ".docx", ".docx"),
        (b"BZh is a word, GIF8 another", ".txt", ".txt"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".docx", ".docx"),
        (b"\x89PNG\r\n\x1a\n\0", ".png", ".png"),
        (b"", ".txt", ".txt"),
    ],
)
def test_what_the_bytes_are(data, suffix, real):
    assert real_suffix(data, suffix) == real


@pytest.mark.parametrize(
    "data, kind",
    [
        (gzip.compress(b"words", mtime=0), "gzip data"),
        (archive(other=""), "a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n\0", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
        (b"SQLite format 3\0", "an SQLite database"),
    ],
)
def test_other_kinds_of_data_are_named(folder, data, kind):
    (folder / "a.txt").write_bytes(data)
    with pytest.raises(UnreadableError, match=rf"expected a \.txt file; found {kind} under this name"):
        read(folder / "a.txt", max_bytes=1000)


def test_a_page_under_the_name_of_a_text_is_read_as_a_page(store, folder):
    (folder / "a.txt").write_text("<!doctype html><title>Fees</title><p>Nine crowns.")
    report = run(store, folder)
    assert store.passages(store.rows_where({}))[0].text == "Nine crowns."
    (notice,) = report.notices
    assert notice.kind == "files of another format than their name says"
    assert notice.examples == ((str(folder / "a.txt"), "read as HTML"),)


def test_a_format_that_cannot_be_read_is_named(folder, monkeypatch):
    from mixrag.corpus import ParserRegistry
    from mixrag.corpus.parsers import registry

    monkeypatch.setattr(
        registry, "BUILTIN_PARSERS", [p for p in registry.BUILTIN_PARSERS if ".html" not in p.suffixes]
    )
    with pytest.raises(UnreadableError, match=r"found a \.html file under this name"):
        ParserRegistry().parse(folder / "a.txt", b"<!doctype html>x")

import csv
import json
import os
import subprocess
import sys
import zipfile

import pytest

from mixrag.corpus import ParserRegistry, UnreadableError, read
from mixrag.corpus.store.sources import fallback_title
from mixrag.errors import MixragError

LIMIT = 2**20


def pdf(text=b"", extra=(), trailer=b""):
    """A PDF of one page, written by hand."""
    stream = b"BT /F1 24 Tf 72 720 Td (" + text + b") Tj ET" if text else b"0 0 m 10 10 l S"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n" % len(stream) + stream + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *extra,
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    size = b"trailer\n<< /Size %d /Root 1 0 R %s>>\n" % (len(objects) + 1, trailer)
    return out + head + table + size + b"startxref\n%d\n%%%%EOF\n" % len(out)


ENCRYPTED = pdf(
    b"secret",
    [b"<< /Filter /Standard /V 1 /R 2 /Length 40 /O <" + b"ab" * 32 + b"> /U <" + b"cd" * 32 + b"> /P -44 >>"],
    b"/Encrypt 6 0 R /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>] ",
)
OFFICE = "http://schemas.openxmlformats.org"


def write_docx(path, body, title=""):
    main = f"{OFFICE}/officeDocument/2006/relationships/officeDocument"
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{OFFICE}/package/2006/content-types"><Default Extension="xml"'
            f' ContentType="application/xml"/><Override PartName="/word/document.xml"'
            f' ContentType="{word}"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{OFFICE}/package/2006/relationships">'
            f'<Relationship Id="r1" Type="{main}" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="{OFFICE}/wordprocessingml/2006/main"><w:body>{body}</w:body></w:document>',
        )
        if title:
            archive.writestr(
                "docProps/core.xml",
                f'<cp:coreProperties xmlns:cp="{OFFICE}/package/2006/metadata/core-properties"'
                f' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></cp:coreProperties>',
            )


def paragraph(text, style=""):
    style = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{style}<w:r><w:t>{text}</w:t></w:r></w:p>"


def only(path):
    (document,) = read(path, max_bytes=LIMIT).documents
    return document


def reason(path, limit=LIMIT):
    with pytest.raises(UnreadableError) as caught:
        read(path, max_bytes=limit)
    assert isinstance(caught.value, MixragError) and "\n" not in str(caught.value)
    return str(caught.value)


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# formats


def test_plain_text_is_the_files_own_text(folder):
    document = only(put(folder, "a.txt", "\ufeffline\r\nÄ 日本 😀\r\n"))
    assert document.text == "line\nÄ 日本 😀" and document.title == ""


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# The title #\n\nbody", "The title"),
        ("body\n\n# Later\n", "Later"),
        ("```\n# code\n```\n# Real", "Real"),
        ("---\ndate: 1\ntitle: 'Front'\n---\n# Heading", "Front"),
        ("## Second level only", ""),
    ],
)
def test_markdown_title(folder, text, title):
    assert only(put(folder, "a.md", text)).title == title


def test_pdf(folder):
    document = only(put(folder, "a.PDF", pdf(b"The quick brown fox")))
    assert document.text.strip() == "The quick brown fox" and document.title == ""
    titled = pdf(b"words", [b"<< /Title (Foxes and dogs) >>"], b"/Info 6 0 R ")
    assert only(put(folder, "b.pdf", titled)).title == "Foxes and dogs"


def test_docx(folder):
    write_docx(folder / "a.docx", paragraph("The heading", "Heading1") + paragraph("Body é 日本."))
    assert only(folder / "a.docx").title == "The heading"
    assert only(folder / "a.docx").text == "The heading\n\nBody é 日本."
    write_docx(folder / "b.docx", paragraph("Body."), "From metadata")
    assert only(folder / "b.docx").title == "From metadata"


def test_html_keeps_text_and_drops_navigation(folder):
    page = (
        "<html><head><title>My &amp; Page</title><style>x{}</style></head><body>"
        "<nav><a>Home</a><nav>deep</nav> rest</nav>bare <h1>Head <b>one</b></h1>"
        "<div>direct<p>para  with\n<a href='x>y'>link</a>"
        "</p>tail</div><!-- <p>no</p> --><ul><li>one<li>two</ul><dl><dt>term<dd>meaning</dl>"
        "<table><tr><td>1<td>2</table><pre>a\n  b</pre><script>if (a < b) alert('</p>')</script>1 < 2 &lt;p&gt;"
    )
    document = only(put(folder, "a.html", page))
    assert document.title == "My & Page"
    lines = [line.strip() for line in document.text.split("\n") if line.strip()]
    assert lines == [
        *("bare", "Head one", "direct", "para with link", "tail", "- one", "- two", "term: meaning"),
        *("1 | 2", "a", "b", "1 < 2 <p>"),
    ]


def test_html_title_falls_back_to_the_first_heading(folder):
    assert only(put(folder, "a.htm", "<h2>First</h2><h1>Second</h1>text")).title == "First"


def test_html_declared_charset(folder):
    page = '<meta charset="iso-8859-1"><p>café</p>'.encode("latin-1")
    assert only(put(folder, "a.html", page)).text == "café"
    undeclared = read(put(folder, "b.html", "<p>caf\xe9</p>".encode("latin-1")), max_bytes=LIMIT)
    assert undeclared.documents[0].text == "café" and undeclared.notices[0].kind == "guessed encodings"


@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", '<a href="', "</", "<script", "<p>", "&#", "<![CDATA[", "<a b='\""]
)
def test_broken_html_is_read_to_its_end(folder, piece):
    """A parser of quadratic time would hang here."""
    path = put(folder, "a.html", "text" + piece * (400_000 // len(piece)))
    assert only(path).text.startswith("text")


def test_jsonl(folder):
    lines = [
        {"id": "a", "text": "first", "title": "T", "year": 1999, "deep": {"x": [1]}, "ok": True, "none": None},
        {"text": "second"},
        {"id": 7, "text": "third", "bad": float("nan")},
    ]
    path = put(folder, "a.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, lines)))
    first, second, third = read(path, max_bytes=LIMIT).documents
    assert (first.id, first.text, first.title) == ("a", "first", "T")
    assert first.metadata == {"year": 1999, "deep": '{"x": [1]}', "ok": True, "none": None}
    assert (second.id, second.title, third.id) == ("3", "", "7")
    assert third.metadata == {"bad": "nan"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"id": "x"}', "under 'text'; found none"),
        (b'{"text": "  "}', "under 'text'; found none"),
        (b'{"text": 5}', "under 'text'; found none"),
        (b"{broken", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b'["list"]', "found a JSON list"),
        (b'{"text": "t", "m": ' + b"[" * 150 + b"]" * 150 + b"}", "at most 100 levels"),
        (b'{"text": "\xff"}', "other bytes at offset 10"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "t", "m": "\\udfff"}', "surrogate"),
    ],
)
def test_jsonl_record_skipped(folder, line, why):
    path = put(folder, "a.jsonl", b'{"id": "a", "text": "one"}\n' + line + b'\n{"id": "c", "text": "three"}')
    reading = read(path, max_bytes=LIMIT)
    assert [document.id for document in reading.documents] == ["a", "c"]
    (skip,) = reading.skipped
    assert skip.path == f"{path}:2" and why in skip.reason


def test_records_with_one_id_are_all_read(folder):
    reading = read(put(folder, "a.jsonl", '{"id": 7, "text": "one"}\n{"id": "7", "text": "two"}'), max_bytes=LIMIT)
    assert [document.id for document in reading.documents] == ["7", "7 (2)"]
    assert [(notice.kind, notice.count) for notice in reading.notices] == [("repeated ids", 1)]


def test_csv_with_text_column(folder):
    path = put(
        folder,
        "a.csv",
        'id,text,country\r\na,"two\r\nlines, one value",France\r\n\r\n,second,\r\na,x,y\r\nb,,z\r\n',
    )
    reading = read(path, max_bytes=LIMIT)
    first, second, third = reading.documents
    assert (first.id, first.text, first.metadata) == ("a", "two\r\nlines, one value", {"country": "France"})
    assert (second.id, second.text, third.id) == ("5", "second", "a (2)")
    assert [(s.path, s.reason.split("; ")[1]) for s in reading.skipped] == [(f"{path}:7", "found none")]


def test_csv_without_text_column(folder):
    path = put(folder, "a.csv", "name;age\nAda;36\nBob;\n")
    assert [(d.id, d.text) for d in read(path, max_bytes=LIMIT).documents] == [
        ("2", "name: Ada\nage: 36"),
        ("3", "name: Bob"),
    ]


def test_csv_huge_field(folder):
    before = csv.field_size_limit()
    path = put(folder, "a.csv", "text\n" + "x" * 500_000 + "\na,b\n")
    assert [len(document.text) for document in read(path, max_bytes=LIMIT).documents] == [500_000, 3]
    assert csv.field_size_limit() == before


def test_fallback_title():
    assert fallback_title("/x/1973-oil_crisis.txt") == "1973 oil crisis"
    assert fallback_title("/x/a.jsonl", "rec 1") == "rec 1"


# what must be skipped, each with its reason


def test_empty_file(folder):
    assert "0 bytes" in reason(put(folder, "a.txt", b""))


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.md", "a.rst"])
def test_blank_file(folder, name):
    assert "no extractable text" in reason(put(folder, name, b" \n\t "))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_no_record(folder, name):
    assert "no record" in reason(put(folder, name, b"\n \n"))


def test_too_large(folder):
    size = 3 * 2**20
    path = put(folder, "a.txt", b"word " * (size // 5))
    assert "at most 2 MB; found 3.0 MB; split it or raise --max-mb" in reason(path, limit=2 * 2**20)
    assert read(path, max_bytes=size).documents
    assert "expected" in reason(path, limit=path.stat().st_size - 1)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.md", "a.html"])
def test_nul_bytes(folder, name):
    assert "NUL byte at offset 4" in reason(put(folder, name, b"abc\n\0def"))


def test_invalid_utf8_is_said(folder):
    reading = read(put(folder, "a.txt", b"\xef\xbb\xbfab\xff"), max_bytes=LIMIT)
    assert reading.documents[0].text == "ab\ufffd" and reading.notices[0].kind == "undecodable bytes"


def test_broken_pdf(folder):
    assert "valid .pdf" in reason(put(folder, "a.pdf", b"%PDF-1.4\n garbage \x00\xff"))
    assert "valid .pdf" in reason(put(folder, "b.pdf", pdf(b"some text")[:200]))


def test_encrypted_pdf(folder):
    assert "password" in reason(put(folder, "a.pdf", ENCRYPTED))


def test_scanned_pdf(folder):
    assert "OCR" in reason(put(folder, "a.pdf", pdf()))


def test_broken_and_empty_docx(folder):
    assert "valid .docx" in reason(put(folder, "a.docx", b"PK\x03\x04 nonsense"))
    write_docx(folder / "b.docx", "")
    assert "no extractable text" in reason(folder / "b.docx")


def test_unsupported_suffix_lists_the_supported(folder):
    message = reason(put(folder, "a.xyz", b"text"))
    assert ".xyz" in message and all(suffix in message for suffix in (".pdf", ".docx", ".md", ".jsonl"))
    assert "without suffix" in reason(put(folder, "noname", b"text"))


def test_missing_and_irregular(folder):
    assert "No such file" in reason(folder / "none.txt")
    (folder / "folder.txt").mkdir()
    assert "another kind of file" in reason(folder / "folder.txt")
    os.mkfifo(folder / "pipe.txt")
    assert "another kind of file" in reason(folder / "pipe.txt")


class PanicException(BaseException):
    """Stands for what a panic of the Rust library raises."""


@pytest.mark.parametrize(
    "error", [RuntimeError("two\nlines"), PanicException("index out of bounds"), MemoryError()]
)
def test_a_crash_of_the_parser_is_unreadable(folder, monkeypatch, error):
    def crash(*_, **__):
        raise error

    monkeypatch.setattr("pypdfium2.PdfDocument", crash)
    with pytest.raises(UnreadableError, match=r"valid \.pdf") as caught:
        ParserRegistry().parse(folder / "a.pdf", pdf(b"x"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes(folder, monkeypatch, error):
    def crash(*_, **__):
        raise error

    monkeypatch.setattr("pypdfium2.PdfDocument", crash)
    with pytest.raises(error):
        ParserRegistry().parse(folder / "a.pdf", b"x")


def test_reading_leaves_no_cache_behind(folder, tmp_path):
    put(folder, "a.pdf", pdf(b"some text"))
    home = tmp_path / "home"
    home.mkdir()
    script = "import sys, pathlib, mixrag.corpus as c; c.read(pathlib.Path(sys.argv[1]), max_bytes=9999)"
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "c"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", script, str(folder / "a.pdf")], check=True, env=environment, cwd=home)
    assert list(home.rglob("*")) == []


def test_importing_the_floor_does_not_import_the_parsers():
    script = "import sys, mixrag.corpus; print({'kreuzberg', 'tokenizers'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", script], check=True, env=environment, capture_output=True, text=True
    )
    assert out.stdout.strip() == "set()"

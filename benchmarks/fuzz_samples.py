"""Small files of every format, made here, whose sentences can be counted: "mark7" stands in the seventh."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping

WORDS = [
    "anchor",
    "barrel",
    "beacon",
    "boat",
    "bridge",
    "buoy",
    "cable",
    "canal",
    "cargo",
    "chart",
    "coal",
    "crane",
    "crew",
    "diver",
    "dock",
    "ferry",
    "fish",
    "flag",
    "gale",
    "gate",
    "grain",
    "herring",
    "hull",
    "island",
    "jetty",
    "keeper",
    "lamp",
    "light",
    "lock",
    "mast",
    "mooring",
    "net",
    "oar",
    "pilot",
    "quay",
    "rope",
    "sail",
    "salt",
    "ship",
    "tide",
]
SENTENCES = [f"The {word} of harbour mark{number} is {number + 3} crowns." for number, word in enumerate(WORDS)]
"""No two alike, or they would be taken for the headers of pages."""
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
_P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MIME = "application/vnd.openxmlformats-officedocument."


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A ZIP archive of these parts."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return found.getvalue()


def _package(main: str, kind: str, parts: Mapping[str, str]) -> bytes:
    """A file of Microsoft Office with its lists of parts."""
    types = (
        f'<Types xmlns="{_TYPES}"><Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/{main}" ContentType="{_MIME}{kind}.main+xml"/></Types>'
    )
    return zipped({"[Content_Types].xml": types, "_rels/.rels": _relations({"officeDocument": main}), **parts})


def _relations(targets: Mapping[str, str]) -> str:
    relations = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind.rstrip("0123456789")}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets.items(), start=1)
    )
    return f'<Relationships xmlns="{_RELS}">{relations}</Relationships>'


def _docx() -> bytes:
    body = "".join(f"<w:p><w:r><w:t>{each}</w:t></w:r></w:p>" for each in SENTENCES)
    return _package(
        "word/document.xml",
        "wordprocessingml.document",
        {"word/document.xml": f"<w:document {_W}><w:body>{body}</w:body></w:document>"},
    )


def _xlsx() -> bytes:
    rows = "".join(
        f'<row r="{n}"><c r="A{n}" t="inlineStr"><is><t>{each}</t></is></c><c r="B{n}"><v>{n}</v></c></row>'
        for n, each in enumerate(SENTENCES, start=1)
    )
    book = f'<workbook {_S} {_R}><sheets><sheet name="Fees" sheetId="1" r:id="rId1"/></sheets></workbook>'
    return _package(
        "xl/workbook.xml",
        "spreadsheetml.sheet",
        {
            "xl/workbook.xml": book,
            "xl/_rels/workbook.xml.rels": _relations({"worksheet": "worksheets/sheet1.xml"}),
            "xl/worksheets/sheet1.xml": f"<worksheet {_S}><sheetData>{rows}</sheetData></worksheet>",
        },
    )


def _pptx() -> bytes:
    slides: dict[str, str] = {}
    for number in range(4):
        body = "".join(f"<a:p><a:r><a:t>{each}</a:t></a:r></a:p>" for each in SENTENCES[number::4])
        shape = f"<p:sp><p:nvSpPr/><p:spPr/><p:txBody><a:bodyPr/>{body}</p:txBody></p:sp>"
        tree = f"<p:cSld><p:spTree>{shape}</p:spTree></p:cSld>"
        slides[f"ppt/slides/slide{number + 1}.xml"] = f"<p:sld {_A} {_P}>{tree}</p:sld>"
    ids = "".join(f'<p:sldId id="{256 + n}" r:id="rId{n + 1}"/>' for n in range(4))
    show = f"<p:presentation {_P} {_R}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    targets = {f"slide{n + 1}": f"slides/slide{n + 1}.xml" for n in range(4)}
    return _package(
        "ppt/presentation.xml",
        "presentationml.presentation",
        {"ppt/presentation.xml": show, "ppt/_rels/presentation.xml.rels": _relations(targets), **slides},
    )


def _odt() -> bytes:
    office = "urn:oasis:names:tc:opendocument:xmlns"
    body = "".join(f"<text:p>{each}</text:p>" for each in SENTENCES)
    content = (
        f'<office:document-content xmlns:office="{office}:office:1.0" xmlns:text="{office}:text:1.0">'
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def _epub() -> bytes:
    box = "urn:oasis:names:tc:opendocument:xmlns:container"
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(4))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(4))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    chapters = {
        f"c{n}.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body>'
        + "".join(f"<p>{each}</p>" for each in SENTENCES[n::4])
        + "</body></html>"
        for n in range(4)
    }
    files = '<rootfile full-path="c.opf" media-type="application/oebps-package+xml"/>'
    container = f'<container version="1.0" xmlns="{box}"><rootfiles>{files}</rootfiles></container>'
    mime = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "c.opf": package}
    return zipped({**mime, **chapters})


def pdf(pages: int = 4) -> bytes:
    """A PDF with text that is not compressed."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for number in range(pages):
        lines = "".join(f"({each}) Tj 0 -14 Td " for each in SENTENCES[number::pages])
        stream = f"BT /F1 11 Tf 60 760 Td {lines}ET".encode()
        objects.append(b"<</Length %d>>stream\n%b\nendstream" % (len(stream), stream))
        content = len(objects)
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R"
            b"/Resources<</Font<</F1 3 0 R>>>>>>" % content
        )
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<</Type/Pages/Kids[%b]/Count %d>>" % (b" ".join(kids), pages)
    found, places = bytearray(b"%PDF-1.4\n"), []
    for number, part in enumerate(objects, start=1):
        places.append(len(found))
        found += b"%d 0 obj\n%b\nendobj\n" % (number, part)
    start = len(found)
    found += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    found += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(found) + b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)


def _html() -> str:
    rows = "".join(f"<tr><th>Fee {n}</th><td>{each}</td></tr>" for n, each in enumerate(SENTENCES[20:]))
    paragraphs = "".join(f"<p>{each}</p>\n" for each in SENTENCES[:20])
    return f"<!doctype html><title>Fees</title><h1>Fees</h1>{paragraphs}<table>{rows}</table>"


def _records() -> list[dict[str, str]]:
    return [{"id": f"r{number}", "text": each} for number, each in enumerate(SENTENCES)]


def _rows(separator: str) -> str:
    return "\n".join(separator.join(row.values()) for row in ({"id": "id", "text": "text"}, *_records()))


def _eml() -> str:
    lines = "\r\n".join(SENTENCES)
    head = "From: a@b.org\r\nTo: c@d.org\r\nSubject: Fees\r\nMIME-Version: 1.0\r\n"
    return f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{lines}\r\n"


def _body() -> str:
    return "\n\n".join(SENTENCES)


SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "a.pdf": pdf,
    "a.docx": _docx,
    "a.xlsx": _xlsx,
    "a.pptx": _pptx,
    "a.odt": _odt,
    "a.epub": _epub,
    "a.eml": lambda: _eml().encode(),
    "a.rtf": lambda: (r"{\rtf1\ansi " + r"\par ".join(SENTENCES) + "}").encode(),
    "a.html": lambda: _html().encode(),
    "a.md": lambda: f"# Fees\n\n{_body()}\n\n```\ncode\n```\n".encode(),
    "a.csv": lambda: _rows(",").encode(),
    "a.tsv": lambda: _rows("\t").encode(),
    "a.json": lambda: json.dumps(_records(), indent=1).encode(),
    "a.jsonl": lambda: "\n".join(map(json.dumps, _records())).encode(),
    "a.xml": lambda: f"<fees>{''.join(f'<fee>{each}</fee>' for each in SENTENCES)}</fees>".encode(),
    "a.tex": lambda: (
        rf"\documentclass{{article}}\begin{{document}}\section{{Fees}} {_body()}\end{{document}}".encode()
    ),
    "a.txt": lambda: _body().encode(),
    "utf16.txt": lambda: _body().encode("utf-16"),
    "cp1252.txt": lambda: f"Gebühr {_body()} für".encode("cp1252"),
    "utf8-bom.txt": lambda: f"Gebühr {_body()}".encode("utf-8-sig"),
}
"""The bytes of a sound file, by its name."""

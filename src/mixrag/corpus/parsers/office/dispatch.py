"""Which reader an office file needs: found by its content, since suffixes of such files are often wrong."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.html.page import read_html
from mixrag.corpus.parsers.office.docx import read_docx
from mixrag.corpus.parsers.office.epub import read_epub
from mixrag.corpus.parsers.office.legacy import MAGIC, has_stream, read_legacy
from mixrag.corpus.parsers.office.mail import read_mail, read_mailbox
from mixrag.corpus.parsers.office.odf import read_odf
from mixrag.corpus.parsers.office.ods import read_ods
from mixrag.corpus.parsers.office.package import kind_of
from mixrag.corpus.parsers.office.pptx import read_pptx
from mixrag.corpus.parsers.office.rtf import read_rtf
from mixrag.corpus.parsers.office.tally import Tally, finish
from mixrag.corpus.parsers.office.xls import read_xls
from mixrag.corpus.parsers.office.xlsx import read_xlsx
from mixrag.corpus.parsers.result import OTHER_FORMAT, Notice, ParseResult, UnreadableError

_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|table)\b", re.I | re.S
)
_Read = Callable[[bytes, str], ParseResult]
_PARTS: tuple[tuple[str, _Read], ...] = (
    ("word/", read_docx),
    ("xl/", read_xlsx),
    ("ppt/", read_pptx),
)
_BY_SUFFIX: dict[str, _Read] = {
    ".docx": read_docx, ".docm": read_docx, ".dotx": read_docx, ".dotm": read_docx,
    ".xlsx": read_xlsx, ".xlsm": read_xlsx, ".xltx": read_xlsx, ".xltm": read_xlsx,
    ".odt": read_odf, ".ott": read_odf, ".odp": read_odf, ".otp": read_odf, ".ods": read_ods, ".ots": read_ods,
    ".epub": read_epub,
    ".pptx": read_pptx, ".pptm": read_pptx, ".ppsx": read_pptx, ".potx": read_pptx,
}  # fmt: skip


def read_office(data: bytes, name: str) -> ParseResult:
    """The document of an office file.

    Raises:
        UnreadableError: it is broken, encrypted, of an unknown kind, or without text.
    """
    if data.startswith(b"PK"):
        return (_packaged(data) or _BY_SUFFIX.get(kind_of(name, ""), read_docx))(data, name)
    if data.startswith(MAGIC):
        old_excel = has_stream(data, "Workbook") or has_stream(data, "Book")
        return (read_xls if old_excel else read_legacy)(data, name)
    if data[:200].lstrip().startswith(b"{\\rtf"):
        return read_rtf(data, name)
    if kind_of(name, "") in (".eml", ".mbox"):
        return (read_mail if kind_of(name, "") == ".eml" else read_mailbox)(data, name)
    return _read_text(data, name)


def _packaged(data: bytes) -> _Read | None:
    """The reader for the parts of an archive; None where they do not say."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            mime = archive.read("mimetype")[:100] if "mimetype" in names[:1] else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if b"opendocument" in mime:
        return read_ods if b"spreadsheet" in mime else read_odf
    if b"epub" in mime or "META-INF/container.xml" in names:
        return read_epub
    return next((read for start, read in _PARTS if any(name.startswith(start) for name in names)), None)


def _read_text(data: bytes, name: str) -> ParseResult:
    """A plain text under the suffix of an office file."""
    kind = kind_of(name, "office")
    if _HTML.match(data):  # what programs write to be opened by an office program
        result = read_html(data, name)
        notice = Notice(OTHER_FORMAT, 1, f"HTML, not {kind}; read as HTML")
        return ParseResult(result.documents, result.skipped, (*result.notices, notice))
    try:
        text, notices = decode_text(data)
    except UnreadableError as error:
        raise UnreadableError(
            f"a valid {kind} file", "another format", "give it the suffix of its format"
        ) from error
    builder, tally = DocumentBuilder(), Tally()
    tally.extend(notices)
    tally.add(OTHER_FORMAT, detail=f"plain text, not {kind}; read as text")
    for paragraph in text.split("\n\n"):
        builder.paragraph(paragraph)
    return finish(builder, tally)

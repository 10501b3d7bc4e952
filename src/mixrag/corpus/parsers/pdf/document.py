"""PDF files: pages, columns, headings, lists and tables, read from the places of the glyphs that pdfium finds.

pdfium (pypdfium2) and not kreuzberg: kreuzberg gives no places of words, reads two columns and tables across, and
its process dies of an outline that contains itself; outlines are not read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mixrag.corpus.parsers.pdf.assembly import assemble, goes_on
from mixrag.corpus.parsers.pdf.blocks import Piece, pieces
from mixrag.corpus.parsers.pdf.columns import Column
from mixrag.corpus.parsers.pdf.glyphs import PageText, rows_of
from mixrag.corpus.parsers.pdf.layout import regions
from mixrag.corpus.parsers.pdf.ocr import Ocr, PictureReader
from mixrag.corpus.parsers.pdf.pages import Found, read_page, read_picture
from mixrag.corpus.parsers.pdf.repeats import RunningHeads
from mixrag.corpus.parsers.result import Notice, ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title
from mixrag.utils.extras import require

NO_OCR = Ocr()
_CHUNK = 40
"""Pages that are held at a time."""
_PASSWORD = 4  # FPDF_ERR_PASSWORD


def read_pdf(data: bytes, name: str, ocr: Ocr = NO_OCR) -> ParseResult:
    """One document with its pages, and notices of what is left out.

    Raises:
        UnreadableError: no PDF, a password, or no page with text.
    """
    pdfium = require("pypdfium2", "files", "PDF")
    pdf = _open(pdfium, data)
    try:
        if pdf.get_formtype():
            pdf.init_forms()
        found = Found(len(pdf))
        pages = _read_pages(pdf, found, PictureReader(ocr))
        title = _metadata_title(pdf)
    finally:
        pdf.close()
    document = assemble(pages, title)
    if not document.text.strip():
        where = "its page" if found.pages == 1 else f"its {found.pages} pages"
        raise UnreadableError(
            "a PDF with text", f"none on {where}", found.remedy or "run OCR on it or leave it out"
        )
    return ParseResult((document,), notices=tuple(_notices(found)))


def _open(pdfium: Any, data: bytes) -> Any:
    try:
        pdf = pdfium.PdfDocument(data)
        pages = len(pdf)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD or "password" in str(error).lower():
            raise UnreadableError("a PDF that opens", "one with a password", "save it without") from error
        raise UnreadableError("a valid .pdf file", "damaged or other data", "repair it or leave it out") from error
    if not pages:
        pdf.close()
        raise UnreadableError("a PDF with pages", "none", "leave it out")
    return pdf


def _metadata_title(pdf: Any) -> str:
    title = pdf.get_metadata_value("Title")
    return useful_title(title) if isinstance(title, str) else ""


def _read_pages(pdf: Any, found: Found, reader: PictureReader) -> list[list[Piece]]:
    heads = RunningHeads()
    result: list[list[Piece]] = []
    above: list[Column] = []
    for start in range(0, found.pages, _CHUNK):
        chunk = [read_page(pdf, number, found) for number in range(start, min(start + _CHUNK, found.pages))]
        stamps = [list(page.text.fragments) for page in chunk]
        heads.remove([page.text for page in chunk], start + 1)
        for place, page in enumerate(chunk):
            if page.is_picture:
                read = read_picture(pdf, start + place, reader)
                if read:
                    found.read += 1
                    page.text = read
                else:
                    found.empty.append(start + place + 1)
                if not page.text.fragments:
                    page.text.fragments = stamps[place]
                    heads.lines -= len(rows_of(stamps[place]))
            elif not page.text.fragments and not page.text.turned:
                found.blank += 1
            page_pieces, above = _pieces(page.text, above)
            result.append(page_pieces)
    found.heads, found.headed, found.remedy = heads.lines, len(heads.pages), reader.problem
    return result


def _pieces(text: PageText, above: list[Column]) -> tuple[list[Piece], list[Column]]:
    """The pieces of a page in the order of reading, and the columns of the table that it ends with."""
    result: list[Piece] = []
    last: list[Column] = []
    for number, region in enumerate(regions(text.fragments)):
        found, last = pieces(region, above if number == 0 else None)
        if result and found and goes_on(result[-1], found[0]):
            result[-1].lines += found[0].lines
            result[-1].full = found[0].full
            found = found[1:]
        result += found
    if text.turned:
        result.append(Piece("text", text.turned))
    return result, last


def _notices(found: Found) -> Iterator[Notice]:
    if found.empty:
        yield Notice(
            "pages without text", len(found.empty), "; ".join(filter(None, (_nothing(found), found.remedy)))
        )
    if found.read:
        detail = f"{found.read} of {found.pages} pages are pictures, read by OCR: errors are likely"
        yield Notice("pages read by OCR", found.read, detail)
    if found.broken:
        yield Notice("pages that cannot be read", found.broken)
    if found.blank:
        yield Notice("blank pages", found.blank, "in a damaged file, what stood there may be lost")
    if found.images:
        yield Notice("images", found.images)
    if found.annotations:
        yield Notice("comments", found.annotations, "annotations of a PDF are not read")
    if found.attachments:
        yield Notice("attached files", found.attachments, "extract them from the PDF to index them")
    if found.outside:
        yield Notice("characters outside the page", found.outside)
    if found.heads:
        detail = f"{found.heads} lines that stand at the same place of {found.headed} pages"
        yield Notice("page headers and footers", found.heads, detail)


def _nothing(found: Found) -> str:
    return f"{len(found.empty)} of {found.pages} pages have no text"

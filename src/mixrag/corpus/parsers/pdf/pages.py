"""One page of a PDF: its words, the values of its form fields, and what it holds besides text."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

from mixrag.corpus.parsers.pdf.glyphs import PageText, page_text
from mixrag.corpus.parsers.pdf.grids import lines_of, put_grids
from mixrag.corpus.parsers.pdf.ocr import PictureReader
from mixrag.utils.extras import require

_STAMP = 80
"""Letters at the edge of a page, beside a picture, that are no text of it."""
_EDGE = 0.15
_OBJECTS = 20_000
_ANNOTATIONS = 5_000
_OUTLINES = 200
"""Drawings on a page without text from which on they are taken to be letters."""
_TICKS = (2, 3)  # FPDF_FORMFIELD_CHECKBOX, RADIOBUTTON
_SILENT = frozenset({2, 16, 20})  # FPDF_ANNOT_LINK, POPUP, WIDGET


@dataclass(slots=True)
class Found:
    """What the pages of a file hold, besides their text."""

    pages: int = 0
    empty: list[int] = field(default_factory=list)
    """Numbers of the pages that are pictures, with no text but perhaps a stamp."""
    remedy: str = ""
    """How they could be read."""
    read: int = 0
    """Pictures that OCR read."""
    broken: int = 0
    blank: int = 0
    """Pages without text or picture."""
    images: int = 0
    annotations: int = 0
    attachments: int = 0
    outside: int = 0
    heads: int = 0
    """Lines of running heads, footers and page numbers."""
    headed: int = 0
    """Pages that have some."""


@dataclass(slots=True)
class PdfPage:
    """A page as it was read."""

    text: PageText
    drawn: bool = False
    """Whether it has a picture, or drawings that may be letters."""

    @property
    def is_picture(self) -> bool:
        """Whether it has a picture, and no text but little at its edges."""
        height = self.text.bottom - self.text.top
        inner = [f for f in self.text.fragments if _EDGE < (f.y - self.text.top) / max(height, 1) < 1 - _EDGE]
        return self.drawn and not inner and sum(len(f.text) for f in self.text.fragments) < _STAMP


def read_page(pdf: Any, number: int, found: Found) -> PdfPage:
    """Page ``number`` (from 0) of a document of pypdfium2; adds to what was found."""
    raw = require("pypdfium2.raw", "files", "PDF")
    pdfium = require("pypdfium2", "files", "PDF")
    try:
        page = pdf[number]
    except pdfium.PdfiumError:
        found.broken += 1
        return PdfPage(PageText([], [], 0, 0.0, 0.0))
    try:
        images, drawings = _objects(raw, page.raw)
        text = page_text(page, _fields(raw, pdf, page, found))
        put_grids(text, *lines_of(raw, page.raw, text.angle))
    except pdfium.PdfiumError:
        found.broken += 1
        return PdfPage(PageText([], [], 0, 0.0, 0.0))
    finally:
        page.close()
    found.images += images
    found.outside += text.outside
    return PdfPage(text, images > 0 or drawings >= _OUTLINES)


def read_picture(pdf: Any, number: int, reader: PictureReader) -> PageText | None:
    """The text of page ``number`` (from 0) by OCR; None where there is none or it cannot be read."""
    if reader.problem:
        return None
    pdfium = require("pypdfium2", "files", "PDF")
    try:
        page = pdf[number]
    except pdfium.PdfiumError:
        return None
    try:
        fragments = reader.read(page)
        return PageText(fragments, [], 0, 0.0, page.get_height()) if fragments else None
    except pdfium.PdfiumError:
        return None
    finally:
        page.close()


def _objects(raw: Any, page: Any) -> tuple[int, int]:
    """How many images and how many drawings stand on a page."""
    images = drawings = 0
    for i in range(min(raw.FPDFPage_CountObjects(page), _OBJECTS)):
        kind = raw.FPDFPageObj_GetType(raw.FPDFPage_GetObject(page, i))
        images += kind == raw.FPDF_PAGEOBJ_IMAGE
        drawings += kind == raw.FPDF_PAGEOBJ_PATH
        if kind == raw.FPDF_PAGEOBJ_FORM:
            images += _images_in_form(raw, raw.FPDFPage_GetObject(page, i))
    return images, drawings


def _images_in_form(raw: Any, form: Any) -> int:
    count = min(raw.FPDFFormObj_CountObjects(form), 100)
    kinds = (raw.FPDFPageObj_GetType(raw.FPDFFormObj_GetObject(form, i)) for i in range(max(0, count)))
    return sum(kind == raw.FPDF_PAGEOBJ_IMAGE for kind in kinds)


def _fields(raw: Any, pdf: Any, page: Any, found: Found) -> list[tuple[float, float, float, float, str]]:
    """Left, bottom, right, top and value of the form fields on a page; counts its annotations."""
    result = []
    for i in range(min(raw.FPDFPage_GetAnnotCount(page.raw), _ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page.raw, i)
        if not annotation:
            continue
        try:
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            found.annotations += kind not in _SILENT
            if kind != raw.FPDF_ANNOT_WIDGET or pdf.formenv is None:
                continue
            rect = raw.FS_RECTF()
            if raw.FPDFAnnot_GetRect(annotation, rect) and (value := _value(raw, pdf.formenv.raw, annotation)):
                result.append((rect.left, rect.bottom, rect.right, rect.top, value))
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return result


def _value(raw: Any, form: Any, annotation: Any) -> str:
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in _TICKS:
        return "[x]" if raw.FPDFAnnot_IsChecked(form, annotation) else "[ ]"
    length = raw.FPDFAnnot_GetFormFieldValue(form, annotation, None, 0)
    if not 2 < length < 200_000:
        return ""
    buffer = ctypes.create_string_buffer(length)
    raw.FPDFAnnot_GetFormFieldValue(form, annotation, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), length)
    value = buffer.raw[:length].decode("utf-16-le", errors="ignore").rstrip("\0")
    return " ".join(value.split())

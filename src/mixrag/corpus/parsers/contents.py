"""What the bytes of a file are, where they say it without a doubt and its name says something else."""

from __future__ import annotations

import io
import re
import zipfile

from mixrag.corpus.parsers.result import UnreadableError

_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_PDF = re.compile(rb"%PDF-\d\.\d")
_BOM = b"\xef\xbb\xbf"
_ZIP = b"PK\x03\x04"
_PARTS = {"word/document.xml": ".docx", "xl/workbook.xml": ".xlsx", "ppt/presentation.xml": ".pptx"}
_MIME_TYPES = {
    b"application/vnd.oasis.opendocument.text": ".odt",
    b"application/vnd.oasis.opendocument.spreadsheet": ".ods",
    b"application/vnd.oasis.opendocument.presentation": ".odp",
    b"application/epub+zip": ".epub",
}
_ZIP_SUFFIXES = frozenset({*_PARTS.values(), *_MIME_TYPES.values()})
_TEXT = frozenset({".txt", ".text", ".md", ".markdown", ".rst"})
"""Suffixes that name no format: what looks like one in them is one."""
_OFFICE = (".do", ".xl", ".pp", ".pot", ".od", ".ot", ".msg")
"""How the suffixes of office files begin: their parser tells one of them from another."""
_UNPACK, _CONVERT = "unpack it", "convert it, or leave it out"
_OTHERS: tuple[tuple[bytes, str, tuple[str, ...], str], ...] = (
    (b"\x1f\x8b\x08", "gzip data", (".gz", ".tgz"), _UNPACK),
    (b"BZh", "bzip2 data", (".bz2",), _UNPACK),
    (b"\xfd7zXZ\x00", "xz data", (".xz",), _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd data", (".zst",), _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", (".7z",), _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", (".rar",), _UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file", _OFFICE, "give it the suffix of its format"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", (".png",), _CONVERT),
    (b"\xff\xd8\xff", "a JPEG image", (".jpg", ".jpeg", ".jpe"), _CONVERT),
    (b"GIF8", "a GIF image", (".gif",), _CONVERT),
    (b"II*\x00", "a TIFF image", (".tif",), _CONVERT),
    (b"MM\x00*", "a TIFF image", (".tif",), _CONVERT),
    (b"\x7fELF", "a program", (), "leave it out"),
    (b"SQLite format 3\x00", "an SQLite database", (), _CONVERT),
)
"""How other kinds of data begin, their names, and how their own suffixes begin."""


def real_suffix(data: bytes, suffix: str) -> str:
    """Suffix of the format that the bytes are: the one given, unless they are without a doubt another.

    >>> real_suffix(b"<!DOCTYPE html><p>Fees", ".txt"), real_suffix(b"Fees", ".txt")
    ('.html', '.txt')

    Raises:
        UnreadableError: they are of a kind that no parser reads, such as compressed data.
    """
    start = data[:64]
    for mark, kind, own, remedy in _OTHERS:
        # A text may begin with the letters of bzip2 or GIF, but has no such bytes after them.
        if start.startswith(mark) and not suffix.startswith(own) and (b"\0" in start or not start.isascii()):
            raise UnreadableError(f"a {suffix} file", f"{kind} under this name", remedy)
    if start.startswith(_ZIP):
        return _zipped(data, suffix)
    text = data.removeprefix(_BOM).lstrip()[:4096]
    if suffix != ".pdf" and _PDF.match(text) and b"startxref" in data[-4096:]:
        return ".pdf"
    if suffix in _TEXT and text.startswith(b"{\\rtf1"):
        return ".rtf"
    if (suffix in _TEXT or suffix in _ZIP_SUFFIXES or suffix == ".pdf") and _HTML.match(text):
        return ".html"
    return suffix


def _zipped(data: bytes, suffix: str) -> str:
    """Suffix of a file of an office suite; the one given where the archive is of a kind of its own."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            mime = archive.read("mimetype")[:100].strip() if "mimetype" in names else b""
    except Exception:  # damaged: whoever reads it says so
        return suffix
    found = next((kind for part, kind in _PARTS.items() if part in names), _MIME_TYPES.get(mime, ""))
    if found or suffix in _ZIP_SUFFIXES or suffix.startswith(_OFFICE):
        return found or suffix
    raise UnreadableError(f"a {suffix} file", "a ZIP archive under this name", _UNPACK)

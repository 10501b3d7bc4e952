"""Files to Documents: one reader a format."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixrag.corpus.parsers.markup import html_text, markdown_title
from mixrag.corpus.parsers.records import read_csv, read_jsonl
from mixrag.corpus.parsers.result import ParseResult, UnreadableError, decode
from mixrag.corpus.passage import Document
from mixrag.errors import MissingPackageError
from mixrag.utils.extras import require


def read(path: Path, *, max_bytes: int) -> ParseResult:
    """Documents of one file; a title is empty where the file names none (see ``fallback_title``).

    Raises:
        UnreadableError: the file is too large (in bytes), empty, broken, encrypted, or of another format.
    """
    return parse(path, load(path, max_bytes=max_bytes))


def load(path: Path, *, max_bytes: int) -> bytes:
    """Bytes of a regular, non-empty file of at most ``max_bytes`` bytes.

    Raises:
        UnreadableError: it is not such a file, or the system refuses to read it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("a regular file", "another kind of file", "give a file or a folder")
        if status.st_size > max_bytes:
            found = f"{status.st_size / 2**20:.1f} MB"
            raise UnreadableError(
                f"a file of at most {max_bytes / 2**20:g} MB", found, "split it or raise --max-mb"
            )
        data = path.read_bytes()
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise UnreadableError("a readable file", problem, "check the path and its permissions") from error
    if not data:
        raise UnreadableError("a file with text", "an empty file (0 bytes)", "fill it or leave it out")
    return data


def parse(path: Path, data: bytes) -> ParseResult:
    """Documents in the bytes of one file, whose format is told by its suffix.

    Raises:
        UnreadableError: the bytes are not of that format, or hold no text.
    """
    parser = _parsers().get(path.suffix.lower())
    if parser is None:
        found = f"suffix {path.suffix!r}" if path.suffix else "a name without suffix"
        raise UnreadableError(f"one of {' '.join(SUFFIXES)}", found, "convert or rename it")
    try:
        return parser(path, data)
    except UnreadableError:
        raise
    except MissingPackageError as error:
        raise UnreadableError(error.expected, error.found, error.remedy) from error
    except Exception as error:
        raise _broken(path, error) from error
    except BaseException as error:
        # A panic of the Rust extractor is no Exception; Ctrl-C and SystemExit must pass.
        if type(error).__name__ != "PanicException":
            raise
        raise _broken(path, error) from error


def one_document(text: str, title: str = "", *, remedy: str = "leave it out") -> ParseResult:
    """Reading of a file that is one document.

    Raises:
        UnreadableError: the text is blank.
    """
    if not text.strip():
        raise UnreadableError("a file with text", "no extractable text", remedy)
    return ParseResult((Document(text=text, title=" ".join(title.split())),))


def _broken(path: Path, error: BaseException) -> UnreadableError:
    detail = (" ".join(str(error).split()) or type(error).__name__)[:200]
    return UnreadableError(f"a valid {path.suffix.lower()} file", detail, "repair it or leave it out")


def _read_plain(path: Path, data: bytes) -> ParseResult:
    return one_document(decode(data))


def _read_markdown(path: Path, data: bytes) -> ParseResult:
    text = decode(data)
    return one_document(text, markdown_title(text))


def _read_html(path: Path, data: bytes) -> ParseResult:
    text, title = html_text(data)
    return one_document(text, title)


def _read_pdf(path: Path, data: bytes) -> ParseResult:
    text, title = _extract(data, "application/pdf")
    return one_document(text, title, remedy="a scanned PDF has pictures of text only: run OCR on it first")


def _read_docx(path: Path, data: bytes) -> ParseResult:
    return one_document(*_extract(data, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"))


def _extract(data: bytes, mime: str) -> tuple[str, str]:
    """Text and title by kreuzberg: no cache on disk, no OCR, no network."""
    kreuzberg = require("kreuzberg", "files", "PDF and DOCX")
    config = kreuzberg.ExtractionConfig(use_cache=False, output_format="plain", include_document_structure=True)
    result = kreuzberg.extract_bytes_sync(data, mime, config=config)
    metadata: dict[str, Any] = dict(result.metadata)
    title = metadata.get("title")
    return result.content, title if isinstance(title, str) and title.strip() else _first_heading(result.document)


def _first_heading(structure: Any) -> str:
    contents = (node.get("content", {}) for node in (structure or {}).get("nodes", ()))
    headings = (c.get("text") for c in contents if c.get("node_type") in {"title", "heading"})
    return next((text for text in headings if text), "")


def _parsers() -> dict[str, Callable[[Path, bytes], ParseResult]]:
    return {
        ".pdf": _read_pdf,
        ".docx": _read_docx,
        ".html": _read_html,
        ".htm": _read_html,
        ".md": _read_markdown,
        ".markdown": _read_markdown,
        ".txt": _read_plain,
        ".text": _read_plain,
        ".rst": _read_plain,
        ".csv": read_csv,
        ".jsonl": read_jsonl,
    }


SUFFIXES = tuple(_parsers())
"""Suffixes of the files that can be read, in lower case."""

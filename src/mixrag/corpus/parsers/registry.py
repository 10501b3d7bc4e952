"""Which parser reads which file: the built-in ones, and those of the caller before them."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixrag.corpus.documents import checked
from mixrag.corpus.parsers.html import read_html
from mixrag.corpus.parsers.json_file import read_json
from mixrag.corpus.parsers.latex import read_latex
from mixrag.corpus.parsers.markdown import read_markdown
from mixrag.corpus.parsers.notebook import read_notebook
from mixrag.corpus.parsers.plain import CODE_SUFFIXES, read_code, read_text
from mixrag.corpus.parsers.protocol import Parser
from mixrag.corpus.parsers.records import read_csv, read_jsonl
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.rst import read_rst
from mixrag.corpus.parsers.xml_file import read_xml
from mixrag.corpus.passage import Document
from mixrag.errors import MixragError, PluginError
from mixrag.utils.extras import require
from mixrag.utils.plugins import check_plugin


@dataclass(frozen=True, slots=True)
class FormatParser:
    """A built-in ``Parser``: a function from the bytes and the path of a file to its documents."""

    name: str
    suffixes: tuple[str, ...]
    function: Callable[[bytes, str], ParseResult]

    def parse(self, data: bytes, name: str) -> ParseResult:
        """See ``Parser.parse``."""
        return self.function(data, name)


class ParserRegistry:
    """Parsers by the suffix of the file: of two for one suffix the first given counts, a built-in one last."""

    def __init__(self, given: Sequence[Parser] = ()) -> None:
        """Check the parsers.

        Raises:
            PluginError: an object that lacks what ``Parser`` asks for, or an invalid suffix.
        """
        self._parsers: dict[str, Parser] = {}
        for parser in (*given, *BUILTIN_PARSERS):
            for suffix in _suffixes(check_plugin(parser, Parser, "a parser")):
                self._parsers.setdefault(suffix, parser)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that can be read, in lower case; those of the built-in parsers first."""
        return (*SUFFIXES, *(suffix for suffix in self._parsers if suffix not in SUFFIXES))

    def fingerprint(self, path: Path, data: bytes) -> str:
        """SHA-256 of the name of the parser that reads a file, with its version, and of the file's bytes."""
        parser = self._parsers.get(path.suffix.lower())
        own = b"" if parser is None else f"{parser.name}\0".encode()
        return hashlib.sha256(own + data).hexdigest()

    def parse(self, path: Path, data: bytes) -> ParseResult:
        """Documents in the bytes of one file, whose parser is found by its suffix.

        Titles are empty where the file has none. Documents of a parser of the caller are checked; where they are
        several, those without an id are numbered from 1.

        Raises:
            UnreadableError: no parser for the suffix, or the parser failed, whatever it raised.
        """
        parser = self._parsers.get(path.suffix.lower())
        if parser is None:
            found = f"suffix {path.suffix!r}" if path.suffix else "a name without suffix"
            raise UnreadableError(f"one of {' '.join(self.suffixes)}", found, "convert or rename it")
        builtin = _is_builtin(parser)
        try:
            result = parser.parse(data, str(path))
            return result if builtin and isinstance(result, ParseResult) else _checked_result(parser, result)
        except UnreadableError:
            raise
        except Exception as error:
            raise _broken(path, None if builtin else parser, error) from error
        except BaseException as error:
            # A panic of the Rust extractor is not an Exception; Ctrl-C and SystemExit must pass.
            if type(error).__name__ != "PanicException":
                raise
            raise _broken(path, None if builtin else parser, error) from error


def read(path: Path, *, max_bytes: int) -> ParseResult:
    """Documents of one file, by the built-in parsers.

    Raises:
        UnreadableError: the file is too large (in bytes), empty, broken, encrypted, or of another format.
    """
    return ParserRegistry().parse(path, load(path, max_bytes=max_bytes))


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


def one_document(text: str, title: str = "", *, remedy: str = "leave it out") -> ParseResult:
    """The result of a file that is one document.

    Raises:
        UnreadableError: the text is blank.
    """
    if not text.strip():
        raise UnreadableError("a file with text", "no extractable text", remedy)
    return ParseResult((Document(text=text, title=" ".join(title.split())),))


def _is_builtin(parser: Parser) -> bool:
    return any(parser is each for each in BUILTIN_PARSERS)


def _suffixes(parser: Parser) -> tuple[str, ...]:
    given: Any = parser.suffixes
    for suffix in (None,) if isinstance(given, str) else given:
        if not isinstance(suffix, str) or not suffix or Path(f"a{suffix}").suffix != suffix:
            expected = "suffixes such as ('.eml',) of a parser"
            raise PluginError(expected, f"{given!r} of {type(parser).__name__}", "give a tuple, each with its dot")
    return tuple(suffix.lower() for suffix in given)


def _checked_result(parser: Parser, result: Any) -> ParseResult:
    """What a parser of the caller returned, its documents checked and each with an id where they are several."""
    expected = f"a ParseResult or a list of Document from parser {parser.name!r}"
    remedy = "correct its method parse"
    given, skipped = (result.documents, result.skipped) if isinstance(result, ParseResult) else (result, ())
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UnreadableError(expected, type(given).__name__, remedy)
    documents = list(given)
    if not documents and not skipped:
        raise UnreadableError("a file with text", f"no document, by parser {parser.name!r}", "leave the file out")
    taken: dict[str, Document] = {}
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, Document):
            raise UnreadableError(expected, f"a {type(document).__name__} among the documents", remedy)
        alone = len(documents) == 1
        one = checked(document, f"document {number} of parser {parser.name!r}", None if alone else str(number))
        if (one.id or "") in taken:
            raise UnreadableError("documents with an id each", f"id {one.id!r} twice", remedy)
        taken[one.id or ""] = one
    return ParseResult(tuple(taken.values()), skipped)


def _broken(path: Path, parser: Parser | None, error: BaseException) -> UnreadableError:
    if isinstance(error, MixragError):
        return UnreadableError(error.expected, error.found, error.remedy)
    detail = (" ".join(str(error).split()) or type(error).__name__)[:200]
    if parser is None:
        return UnreadableError(f"a valid {path.suffix.lower()} file", detail, "repair it or leave it out")
    expected = f"a file that parser {parser.name!r} can read"
    return UnreadableError(expected, f"{type(error).__name__}: {detail}", "repair the file or the parser")


def _read_pdf(data: bytes, name: str) -> ParseResult:
    text, title = _extract(data, "application/pdf")
    return one_document(text, title, remedy="a scanned PDF has pictures of text only: run OCR on it first")


def _read_docx(data: bytes, name: str) -> ParseResult:
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


BUILTIN_PARSERS: tuple[Parser, ...] = (
    FormatParser("pdf", (".pdf",), _read_pdf),
    FormatParser("docx", (".docx",), _read_docx),
    FormatParser("html:2", (".html", ".htm", ".xhtml"), read_html),
    FormatParser("markdown:2", (".md", ".markdown", ".mdown", ".mkd"), read_markdown),
    FormatParser("text:2", (".txt", ".text", ".adoc", ".asciidoc", ".org", ".srt", ".vtt"), read_text),
    FormatParser("rst:2", (".rst",), read_rst),
    FormatParser("latex:1", (".tex", ".latex", ".ltx"), read_latex),
    FormatParser("code:1", CODE_SUFFIXES, read_code),
    FormatParser("notebook:1", (".ipynb",), read_notebook),
    FormatParser("csv:2", (".csv", ".tsv", ".tab"), read_csv),
    FormatParser("jsonl:2", (".jsonl", ".ndjson"), read_jsonl),
    FormatParser("json:1", (".json", ".geojson"), read_json),
    FormatParser("xml:1", (".xml", ".rss", ".atom"), read_xml),
)

SUFFIXES = tuple(suffix for parser in BUILTIN_PARSERS for suffix in parser.suffixes)
"""Suffixes of the files that the built-in parsers read, in lower case."""

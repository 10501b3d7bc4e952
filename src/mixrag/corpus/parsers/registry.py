"""Which parser reads which file: the built-in ones, and those of the caller before them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mixrag.corpus.documents import checked
from mixrag.corpus.parsers.contents import real_suffix
from mixrag.corpus.parsers.isolation import DEFAULT_LIMITS, ParseLimits, borrowed_worker
from mixrag.corpus.parsers.pdf.ocr import Ocr
from mixrag.corpus.parsers.plain import CODE_SUFFIXES
from mixrag.corpus.parsers.protocol import Parser
from mixrag.corpus.parsers.result import OTHER_FORMAT, Notice, ParseResult, UnreadableError
from mixrag.corpus.passage import Document
from mixrag.errors import MixragError, PluginError
from mixrag.utils.plugins import check_plugin


@dataclass(frozen=True, slots=True)
class FormatParser:
    """A built-in ``Parser``: a function from the bytes and the path of a file to its documents."""

    name: str
    suffixes: tuple[str, ...]
    function: Callable[[bytes, str], ParseResult]
    with_ocr: Callable[[bytes, str, Ocr], ParseResult] | None = None
    """In its place where pictures of text are read."""

    def parse(self, data: bytes, name: str, ocr: Ocr | None = None) -> ParseResult:
        """See ``Parser.parse``."""
        return self.with_ocr(data, name, ocr) if self.with_ocr and ocr else self.function(data, name)


class ParserRegistry:
    """Parsers by the suffix of the file: of two for one suffix the first given counts, a built-in one last."""

    def __init__(self, given: Sequence[Parser] = ()) -> None:
        """Check the parsers.

        Raises:
            PluginError: an object that lacks what ``Parser`` asks for, or an invalid suffix.
        """
        self.given = tuple(given)
        """The parsers that are not built in."""
        self._parsers: dict[str, Parser] = {}
        for parser in (*given, *BUILTIN_PARSERS):
            for suffix in _suffixes(check_plugin(parser, Parser, "a parser")):
                self._parsers.setdefault(suffix, parser)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files that can be read, in lower case; those of the built-in parsers first."""
        return (*SUFFIXES, *(suffix for suffix in self._parsers if suffix not in SUFFIXES))

    @property
    def formats(self) -> str:
        """The formats, for messages: one suffix of each parser."""
        first: dict[int, str] = {}
        for suffix in self.suffixes:
            first.setdefault(id(self._parsers[suffix]), suffix)
        return " ".join(first.values())

    def is_builtin(self, path: Path) -> bool:
        """Whether a built-in parser reads the file."""
        parser = self._parsers.get(path.suffix.lower())
        return parser is not None and _is_builtin(parser)

    def fingerprint(self, path: Path, data: bytes) -> str:
        """SHA-256 of the name of the parser that reads a file, with its version, and of the file's bytes."""
        parser = self._parsers.get(path.suffix.lower())
        own = b"" if parser is None else f"{parser.name}\0".encode()
        return hashlib.sha256(own + data).hexdigest()

    def parse(self, path: Path, data: bytes, ocr: Ocr | None = None) -> ParseResult:
        """Documents in the bytes of one file, whose parser is found by its suffix.

        Titles are empty where the file has none. Documents of a parser of the caller are checked; where they are
        several, those without an id are numbered from 1.

        Raises:
            UnreadableError: no parser for the suffix, or the parser failed, whatever it raised.
        """
        parser = self._parsers.get(path.suffix.lower())
        if parser is None:
            found = f"suffix {path.suffix!r}" if path.suffix else "a name without suffix"
            raise UnreadableError(f"one of the formats {self.formats}", found, "convert or rename it")
        builtin = _is_builtin(parser)
        try:
            if builtin:
                return self._parse_by_content(parser, path, data, ocr)
            return _checked_result(parser, parser.parse(data, str(path)))
        except UnreadableError:
            raise
        except Exception as error:
            raise _broken(path, None if builtin else parser, error) from error
        except BaseException as error:
            # A panic of the Rust extractor is not an Exception; Ctrl-C and SystemExit must pass.
            if type(error).__name__ != "PanicException":
                raise
            raise _broken(path, None if builtin else parser, error) from error

    def _parse_by_content(self, parser: Parser, path: Path, data: bytes, ocr: Ocr | None) -> ParseResult:
        """The result of the built-in parser for the format that the bytes are, whatever the name says."""
        suffix = path.suffix.lower()
        real = real_suffix(data, suffix)
        if real != suffix:
            parser = next((each for each in BUILTIN_PARSERS if real in each.suffixes), parser)
            if real not in parser.suffixes:
                raise UnreadableError(f"a {suffix} file", f"a {real} file under this name", "convert or rename it")
        assert isinstance(parser, FormatParser)
        result = parser.parse(data, str(path), ocr)
        assert isinstance(result, ParseResult)
        if suffix in parser.suffixes:
            return result
        notice = Notice(OTHER_FORMAT, 1, f"read as {real[1:].upper()}")
        return replace(result, notices=(*result.notices, notice))


def read(path: Path, *, max_bytes: int, limits: ParseLimits = DEFAULT_LIMITS) -> ParseResult:
    """Documents of one file, by the built-in parsers, in a process of their own.

    Raises:
        UnreadableError: the file is too large (in bytes), empty, broken, encrypted, or of another format; or its
            parser crashed, or exceeded a limit.
    """
    data = load(path, max_bytes=max_bytes)
    with borrowed_worker() as worker:
        worker.submit(str(path), data, limits)
        return worker.collect()


def load(path: Path, *, max_bytes: int) -> bytes:
    """Bytes of a regular, non-empty file of at most ``max_bytes`` bytes.

    Raises:
        UnreadableError: it is not such a file, or the system refuses to read it.
    """
    try:
        # A pipe would wait for a writer, and a file of the system may be endless, whatever size it states.
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("a regular file", "another kind of file", "give a file or a folder")
            data: bytes | None = b"" if status.st_size > max_bytes else file.read(max_bytes + 1)
        if data is None:
            raise UnreadableError("a readable file", "one that waits for data", "leave it out")
        if (size := status.st_size) > max_bytes or len(data) > max_bytes:
            found = f"{size / 2**20:.1f} MB" if size > max_bytes else "one that goes on"
            raise UnreadableError(
                f"a file of at most {max_bytes / 2**20:g} MB", found, "split it or raise --max-mb"
            )
    except IsADirectoryError as error:
        raise UnreadableError("a regular file", "another kind of file", "give a file or a folder") from error
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise UnreadableError("a readable file", problem, "check the path and its permissions") from error
    if not data:
        raise UnreadableError("a file with text", "an empty file (0 bytes)", "fill it or leave it out")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
    whole = result if isinstance(result, ParseResult) else ParseResult(result)
    given = whole.documents
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UnreadableError(expected, type(given).__name__, remedy)
    documents = list(given)
    if not documents and not whole.skipped:
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
    return replace(whole, documents=tuple(taken.values()))


def _broken(path: Path, parser: Parser | None, error: BaseException) -> UnreadableError:
    if isinstance(error, MixragError):
        return UnreadableError(error.expected, error.found, error.remedy)
    detail = (" ".join(str(error).split()) or type(error).__name__)[:200]
    if parser is None:
        return UnreadableError(f"a valid {path.suffix.lower()} file", detail, "repair it or leave it out")
    expected = f"a file that parser {parser.name!r} can read"
    return UnreadableError(expected, f"{type(error).__name__}: {detail}", "repair the file or the parser")


_MODULES: set[str] = set()


def import_parsers() -> None:
    """Import the modules of all built-in parsers now, as a process does that reads files within limits."""
    for module in sorted(_MODULES):
        import_module(module)


def _of(module: str, function: str) -> Callable[..., ParseResult]:
    """A function of a module of parsers, which is imported when it is called: questions are asked without."""
    name = f"mixrag.corpus.parsers.{module}"
    _MODULES.add(name)

    def read(*given: Any) -> ParseResult:
        found: ParseResult = getattr(import_module(name), function)(*given)
        return found

    return read


_PDF, _OFFICE = _of("pdf.document", "read_pdf"), _of("office.dispatch", "read_office")
BUILTIN_PARSERS: tuple[Parser, ...] = (
    FormatParser("pdf", (".pdf",), _PDF, _PDF),
    FormatParser("docx:2", (".docx", ".docm", ".dotx", ".dotm", ".doc"), _OFFICE),
    FormatParser("xlsx", (".xlsx", ".xlsm", ".xltx", ".xltm", ".xls"), _OFFICE),
    FormatParser("pptx", (".pptx", ".pptm", ".ppsx", ".potx", ".ppt"), _OFFICE),
    FormatParser("opendocument", (".odt", ".ods", ".odp", ".ott", ".ots", ".otp"), _OFFICE),
    FormatParser("rtf", (".rtf",), _OFFICE),
    FormatParser("epub", (".epub",), _OFFICE),
    FormatParser("mail", (".eml", ".mbox", ".msg"), _OFFICE),
    FormatParser("html:2", (".html", ".htm", ".xhtml"), _of("html.page", "read_html")),
    FormatParser("markdown:2", (".md", ".markdown", ".mdown", ".mkd"), _of("markdown", "read_markdown")),
    FormatParser(
        "text:2", (".txt", ".text", ".adoc", ".asciidoc", ".org", ".srt", ".vtt"), _of("plain", "read_text")
    ),
    FormatParser("rst:2", (".rst",), _of("rst", "read_rst")),
    FormatParser("latex:1", (".tex", ".latex", ".ltx"), _of("latex", "read_latex")),
    FormatParser("code:1", CODE_SUFFIXES, _of("plain", "read_code")),
    FormatParser("notebook:1", (".ipynb",), _of("notebook", "read_notebook")),
    FormatParser("csv:2", (".csv", ".tsv", ".tab"), _of("records", "read_csv")),
    FormatParser("jsonl:2", (".jsonl", ".ndjson"), _of("records", "read_jsonl")),
    FormatParser("json:1", (".json", ".geojson"), _of("json_file", "read_json")),
    FormatParser("xml:1", (".xml", ".rss", ".atom"), _of("xml_file", "read_xml")),
)

SUFFIXES = tuple(suffix for parser in BUILTIN_PARSERS for suffix in parser.suffixes)
"""Suffixes of the files that the built-in parsers read, in lower case."""

"""EPUB files: the chapters in the order of the book, each read as the page that it is."""

from __future__ import annotations

import posixpath
import re
from typing import Any
from urllib.parse import unquote

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import xml_encoding
from mixrag.corpus.parsers.office.package import Package, kind_of, local
from mixrag.corpus.parsers.office.page import add_page, decoded
from mixrag.corpus.parsers.office.tally import finish
from mixrag.corpus.parsers.result import ParseResult, UnreadableError
from mixrag.corpus.parsers.titles import useful_title
from mixrag.corpus.passage import Scalar

_DC = "{http://purl.org/dc/elements/1.1/}"
_PAGES = ("application/xhtml+xml", "text/html", "application/xml", "text/xml", "")
_MOST_CHAPTERS = 5000
_LONGEST_PLACE = 80
_HEADING = re.compile(r"<h[1-6][\s>]", re.IGNORECASE)
# In XHTML any element may close itself; to a reader of HTML <title/> opens a title that swallows the page.
_SELF_CLOSED = re.compile(
    r"<(?!(?:br|hr|img|input|meta|link|col|area|base|embed|param|source|track|wbr)\b)([a-zA-Z][\w:-]*)"
    r"((?:\s[^<>]*)?)/>"
)
_FONTS = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})


def read_epub(data: bytes, name: str) -> ParseResult:
    """The document of an EPUB file, with its author and language as metadata.

    Raises:
        UnreadableError: it is broken, encrypted or without text.
    """
    return _Book(Package(data, kind_of(name, ".epub"))).result()


class _Book:
    def __init__(self, package: Package) -> None:
        self.package, self.builder, self.tally = package, DocumentBuilder(), package.tally
        self.opf = self._package_document()
        self.root = package.xml(self.opf)
        self.items = {each.get("id", ""): each for each in self.root.iter("{*}item") if local(each) == "item"}
        self.locked = self._locked()

    def result(self) -> ParseResult:
        """The book, and what was left out of it."""
        names, read = self._names(), set[str]()
        chapters = list(self.root.iter("{*}itemref"))[:_MOST_CHAPTERS]
        for each in chapters:
            item = self.items.get(each.get("idref", ""))
            part = "" if item is None else self._part(item.get("href", ""))
            if item is None or item.get("media-type", "") not in _PAGES or part not in self.package:
                self.tally.add("missing chapters")
            elif "nav" in item.get("properties", "").split() or part in read:
                continue
            elif part in self.locked:
                self.tally.add("encrypted chapters")
            else:
                read.add(part)
                self._chapter(part, names.get(part, ""))
        images = sum(each.get("media-type", "").startswith("image/") for each in self.items.values())
        self.tally.add("images", images)
        return finish(self.builder, self.tally, useful_title(self._said("title")), self._metadata())

    def _package_document(self) -> str:
        container = self.package.optional_xml("META-INF/container.xml")
        roots = () if container is None else container.iter("{*}rootfile")
        path = next((each.get("full-path") for each in roots if each.get("full-path") in self.package), None)
        found = path or next((each for each in self.package.names("") if each.lower().endswith(".opf")), None)
        if not found:
            raise UnreadableError(
                f"a valid {self.package.kind} file", "one without a list of chapters", "repair it"
            )
        return str(found)

    def _part(self, reference: str) -> str:
        """Full name of the part that a reference in the package document leads to."""
        path = unquote(reference.split("#")[0])
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(self.opf), path)).lstrip("/")

    def _chapter(self, part: str, name: str) -> None:
        data = self.package.read(part)
        source = decoded(data, xml_encoding(data), self.tally)
        self.builder.at(name[:_LONGEST_PLACE])
        if name and not _HEADING.search(source):
            self.builder.heading(name, 1)
        add_page(self.builder, _SELF_CLOSED.sub(r"<\1\2></\1>", source), self.tally)

    def _names(self) -> dict[str, str]:
        """Names of the chapters by their part: from the table of contents."""
        found: dict[str, str] = {}
        for item in self.items.values():
            part = self._part(item.get("href", ""))
            if part not in self.package:
                continue
            folder = posixpath.dirname(part)
            if "nav" in item.get("properties", "").split():
                _read_nav(self._contents(part), folder, found)
            elif item.get("media-type") == "application/x-dtbncx+xml":
                _read_ncx(self._contents(part), folder, found)
        return found

    def _contents(self, part: str) -> Any:
        root = self.package.optional_xml(part)
        return self.root if root is None else root

    def _locked(self) -> set[str]:
        """Parts under encryption; obfuscated fonts do not matter."""
        root = self.package.optional_xml("META-INF/encryption.xml")
        locked: set[str] = set()
        for each in () if root is None else root.iter("{*}EncryptedData"):
            methods = {method.get("Algorithm") for method in each.iter("{*}EncryptionMethod")}
            if not methods & _FONTS:
                locked |= {unquote(ref.get("URI", "")) for ref in each.iter("{*}CipherReference")}
        return locked

    def _said(self, name: str) -> str:
        found = next(self.root.iter(f"{_DC}{name}"), None)
        return "" if found is None else " ".join("".join(found.itertext()).split())

    def _metadata(self) -> dict[str, Scalar]:
        said = {"author": self._said("creator"), "language": self._said("language"), "date": self._said("date")}
        return {name: text for name, text in said.items() if text}


def _full(folder: str, reference: str) -> str:
    path = unquote(reference.split("#")[0])
    return posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")


def _read_ncx(root: Any, folder: str, found: dict[str, str]) -> None:
    for point in root.iter("{*}navPoint"):
        content, label = point.find("{*}content"), point.find("{*}navLabel")
        if content is not None and label is not None:
            found.setdefault(_full(folder, content.get("src", "")), " ".join("".join(label.itertext()).split()))


def _read_nav(root: Any, folder: str, found: dict[str, str]) -> None:
    for nav in root.iter("{*}nav"):
        kind = nav.get("{http://www.idpf.org/2007/ops}type", "toc")
        for link in nav.iter("{*}a") if kind == "toc" else ():
            text = " ".join("".join(link.itertext()).split())
            if text and link.get("href"):
                found.setdefault(_full(folder, link.get("href")), text)

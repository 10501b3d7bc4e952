"""The zip archive that office documents are: its parts within limits, their XML without entities, and links."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any
from urllib.parse import unquote

from mixrag.corpus.parsers.office.tally import Tally
from mixrag.corpus.parsers.result import UnreadableError
from mixrag.corpus.parsers.safe_xml import xml_parser
from mixrag.utils.extras import require

MAX_PARTS = 20_000
MAX_UNPACKED = 2**29
"""Bytes of all parts together: above it, a file of 25 MB would be an archive made to fill the memory."""
MAX_TREE = 2**27
"""Bytes of one XML part that is read as a tree; sheets are streamed, and may be larger."""

R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
# Documents saved as "Strict Open XML" differ in these names only.
_STRICT = (
    (b"http://purl.oclc.org/ooxml/wordprocessingml/main", b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"),
    (b"http://purl.oclc.org/ooxml/spreadsheetml/main", b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"),
    (b"http://purl.oclc.org/ooxml/presentationml/main", b"http://schemas.openxmlformats.org/presentationml/2006/main"),
    (b"http://purl.oclc.org/ooxml/officeDocument/relationships", b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"),
    (b"http://purl.oclc.org/ooxml/officeDocument/math", b"http://schemas.openxmlformats.org/officeDocument/2006/math"),
    (b"http://purl.oclc.org/ooxml/drawingml/", b"http://schemas.openxmlformats.org/drawingml/2006/"),
)  # fmt: skip
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


class Package:
    """A zip archive of named parts, and a tally of what was left out of it.

    Raises:
        UnreadableError: it is broken or encrypted, or would unpack to more than ``MAX_UNPACKED`` bytes.
    """

    def __init__(self, data: bytes, kind: str) -> None:
        self.kind, self.tally = kind, Tally()
        self._seen: set[str] = set()
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN as error:
            raise self._broken(error) from error
        parts = self._zip.infolist()
        if len(parts) > MAX_PARTS:
            raise UnreadableError(
                f"at most {MAX_PARTS} parts in a file", f"{len(parts)}", "split it or leave it out"
            )
        size = sum(part.file_size for part in parts)
        if size > MAX_UNPACKED:
            found = f"one that unpacks to {size / 2**20:.0f} MB"
            expected = f"a file that unpacks to at most {MAX_UNPACKED / 2**20:.0f} MB"
            raise UnreadableError(expected, found, "split it or leave it out")
        if any(part.flag_bits & 1 for part in parts):
            raise UnreadableError(
                f"a {kind} file without a password", "an encrypted one", "save it without password"
            )
        self._names = {part.filename.lstrip("/").lower(): part.filename for part in parts}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._names

    def names(self, start: str) -> list[str]:
        """Names of the parts below a folder or with a common start."""
        return [name for low, name in self._names.items() if low.startswith(start.lower())]

    def read(self, name: str, limit: int = MAX_TREE) -> bytes:
        """Bytes of a part."""
        try:
            with self.open(name, limit) as stream:
                return stream.read(limit)
        except _BROKEN as error:
            raise self._broken(error) from error

    def open(self, name: str, limit: int = MAX_UNPACKED) -> IO[bytes]:
        """A part as a stream."""
        actual = self._names.get(name.lower())
        if actual is None:
            raise UnreadableError(f"a valid {self.kind} file", f"one without its part {name}", "save it again")
        size = self._zip.getinfo(actual).file_size
        if size > limit:
            found = f"{size / 2**20:.0f} MB in {name}"
            raise UnreadableError(f"parts of at most {limit / 2**20:.0f} MB", found, "split it or leave it out")
        try:
            return self._zip.open(actual)
        except _BROKEN as error:
            raise self._broken(error) from error

    def xml(self, name: str) -> Any:
        """Root element of a part."""
        return parse_xml(self.read(name), self.kind)

    def optional_xml(self, name: str) -> Any | None:
        """Root element of a part; None where there is no such part, or it is damaged, which is counted."""
        if name not in self:
            return None
        try:
            return self.xml(name)
        except UnreadableError as error:
            self.damaged(name, error)
            return None

    def once(self, name: str) -> Any | None:
        """Root element of a part at the first call; None later, so that many links to one part cost no time."""
        if name in self._seen:
            return None
        self._seen.add(name)
        return self.optional_xml(name)

    def damaged(self, name: str, error: UnreadableError) -> None:
        """Note that a part cannot be read, or only its beginning."""
        self.tally.add("damaged parts of files", detail=f"damaged and not read to its end: {name}: {error.found}")

    def rows(self, name: str, tag: str | Sequence[str]) -> Iterator[Any]:
        """Each finished element with one of these tags, from a streamed part."""
        etree = require("lxml.etree", "files", self.kind)
        try:
            with self.open(name) as stream:
                options = {"resolve_entities": False, "no_network": True, "huge_tree": True}
                yield from (each for _, each in etree.iterparse(stream, events=("end",), tag=tag, **options))
        except (etree.XMLSyntaxError, *_BROKEN) as error:
            raise self._broken(error) from error

    def links(self, name: str) -> dict[str, tuple[str, str]]:
        """Of a part: id of each link to (last word of its type, full name of the part that it leads to)."""
        folder, base = posixpath.split(name)
        root = self.optional_xml(posixpath.join(folder, "_rels", f"{base}.rels"))
        found: dict[str, tuple[str, str]] = {}
        for each in () if root is None else root:
            target = each.get("Target", "") if isinstance(each.tag, str) else ""
            if target and each.get("TargetMode") != "External":
                full = posixpath.normpath(posixpath.join("/", folder, unquote(target))).lstrip("/")
                found[each.get("Id", "")] = (each.get("Type", "").rpartition("/")[2], full)
        return found

    def main(self, default: str) -> str:
        """Name of the part that the document begins with."""
        links = self.links("").values()
        return next((target for kind, target in links if kind == "officeDocument" and target in self), default)

    def title(self) -> str:
        """Title in the core properties; empty where there is none."""
        root = self.optional_xml("docProps/core.xml")
        found = None if root is None else next(root.iter(_DC_TITLE), None)
        return "" if found is None else "".join(found.itertext())

    def _broken(self, error: Exception) -> UnreadableError:
        detail = " ".join(str(error).split())[:150] or type(error).__name__
        return UnreadableError(f"a valid {self.kind} file", detail, "repair it or leave it out")


def parse_xml(data: bytes, kind: str) -> Any:
    """Root element; no entity is expanded and nothing is loaded.

    Raises:
        UnreadableError: it is no XML, or declares entities.
    """
    etree = require("lxml.etree", "files", kind)
    for strict, usual in _STRICT if b"purl.oclc.org" in data[:8192] else ():
        data = data.replace(strict, usual)
    parser = xml_parser(etree)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        detail = " ".join(str(error).split())[:150]
        raise UnreadableError(f"a valid {kind} file", detail, "repair it or leave it out") from error
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and next(iter(declared.iterentities()), None) is not None:
        raise UnreadableError(f"a {kind} file without XML entities", "entity declarations", "leave it out")
    return root


def kind_of(name: str, usual: str) -> str:
    """What messages call the format of a file: its suffix."""
    return posixpath.splitext(name)[1].lower() or usual


def local(element: Any) -> str:
    """Name of an element without its namespace; empty for a comment."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def alternative(element: Any) -> Any | None:
    """Of an element with versions of one content, the first with text, else the first."""
    versions = [each for each in element if each.tag in (f"{MC}Choice", f"{MC}Fallback")]
    return next((each for each in versions if "".join(each.itertext()).strip()), versions[0] if versions else None)

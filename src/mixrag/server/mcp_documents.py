"""Documents as resources of MCP: the list of all, page by page, and their text from a page or an offset on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import parse_qsl, quote, unquote, urlencode

from mcp_types import ListResourcesResult, ReadResourceResult, Resource, ResourceTemplate, TextResourceContents

from mixrag.corpus import Passage
from mixrag.server.errors import NotFoundError, RequestError
from mixrag.server.stores import Served, Stores

SCHEME = "mixrag:///"
TEMPLATE = ResourceTemplate(
    name="document",
    title="A document, from a page or an offset on",
    uri_template="mixrag:///{store}/{document}{?page,offset}",
    description="The extracted text of a document. page: the passages that begin on this page; offset: those from "
    "this character on. Where the text goes on, next in _meta is the URI that continues it.",
    mime_type="text/plain",
)
LISTED = 200
"""Documents in one answer to resources/list."""
READ = 40
"""Passages in one answer to resources/read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a URI names."""

    store: str
    document: str
    page: int | None = None
    offset: int = 0


def document_uri(store: str, document: str, *, page: int | None = None, offset: int | None = None) -> str:
    """The URI of a document, at a page or an offset.

    >>> document_uri("rules", "/files/a b.pdf", page=3)
    'mixrag:///rules/%2Ffiles%2Fa%20b.pdf?page=3'
    """
    place = {name: value for name, value in (("page", page), ("offset", offset)) if value is not None}
    uri = f"{SCHEME}{quote(store, safe='')}/{quote(document, safe='')}"
    return f"{uri}?{urlencode(place)}" if place else uri


def wanted_by(uri: str) -> Wanted:
    """What a URI names.

    Raises:
        RequestError: it is none of ``document_uri``.
    """
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    store, _, document = path.partition("/")
    place = dict(parse_qsl(query, keep_blank_values=True))
    numbers = {name: value for name, value in place.items() if value.isascii() and value.isdigit()}
    known = uri.startswith(SCHEME) and store and document and numbers.keys() == place.keys()
    if not known or place.keys() - {"page", "offset"} or any(len(each) > 9 for each in place.values()):
        raise RequestError(TEMPLATE.uri_template, repr(uri[:200]), "see resources/list")
    page = int(numbers["page"]) if "page" in numbers else None
    return Wanted(unquote(store), unquote(document), page, int(numbers.get("offset", 0)))


def listed(stores: Stores, cursor: str | None) -> ListResourcesResult:
    """The documents of all stores, ``LISTED`` at a time.

    Raises:
        RequestError: a cursor that is none.
    """
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
        raise RequestError("a cursor that resources/list gave", repr(cursor[:80]), "begin without one")
    first = int(cursor or 0)
    every = [(each, record) for each in stores for record in each.rag.store.documents()]
    found = [
        Resource(
            uri=document_uri(served.name, record.path),
            name=PurePath(record.path).name or record.path,
            title=record.title,
            description=f"{record.passages} passages in {served.name}: {record.path}",
            mime_type="text/plain",
        )
        for served, record in every[first : first + LISTED]
    ]
    following = first + LISTED
    return ListResourcesResult(resources=found, next_cursor=str(following) if following < len(every) else None)


def read(stores: Stores, uri: str) -> ReadResourceResult:
    """The text that a URI names.

    Raises:
        RequestError: it is no URI of a document.
        NotFoundError: there is no such document, or it has no such page.
    """
    wanted = wanted_by(uri)
    served: Served = stores.choice(wanted.store).store
    store = served.rag.store
    with store.snapshot():
        row = store.document_row(wanted.document)
        if row is None:
            raise NotFoundError("a document of the store", repr(wanted.document[:200]), "see resources/list")
        found = store.passages_of(row, offset=wanted.offset, page=wanted.page, limit=READ + 1)
        extent = store.extent(row)
    if not found and (wanted.page is not None or wanted.offset):
        expected = f"a document with passages there, of {extent.characters} characters"
        expected += f" and {extent.pages} pages" if extent.pages else ""
        raise NotFoundError(expected, uri[-80:], "read it from its beginning")
    shown, more = found[:READ], found[READ:]
    meta: dict[str, object] = {"characters": extent.characters, "pages": extent.pages, "passages": extent.passages}
    if more:
        meta["next"] = document_uri(served.name, wanted.document, page=wanted.page, offset=more[0].start)
    contents = TextResourceContents(uri=uri, mime_type="text/plain", text=_text(shown), _meta=meta)
    return ReadResourceResult(contents=[contents])


def _text(passages: list[Passage]) -> str:
    """The passages in their order; what two of them share stands once."""
    text, end = "", 0
    for each in passages:
        part = each.text[max(0, end - each.start) :] if text else each.text
        joint = "" if not text or each.start <= end else "\n\n"
        text, end = text + joint + part, max(end, each.end)
    return text

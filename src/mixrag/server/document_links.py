"""Addresses of documents on this server, which open one at a page or a passage."""

from __future__ import annotations

from pathlib import PurePath
from urllib.parse import urlencode

from fastapi import Request

from mixrag.utils.text import printable_name

CONTENT = "v1/documents/content"


def document_link(request: Request, store: str, document: str, page: int | None, start: int) -> str:
    """The address of a document of a store: the page's reader there, or its text as JSON where the page is off.

    ``start`` is the offset of a passage; where the document has pages, ``page`` is the one on which it begins.
    """
    named: dict[str, str | int] = {"store": store, "document": document}
    if getattr(request.app.state, "has_page", False):
        place = {"offset": start} if page is None else {"page": page, "offset": start}
        return f"{request.base_url}#{urlencode({**named, **place})}"
    place = {"offset": start} if page is None else {"page": page}
    return f"{request.base_url}{CONTENT}?{urlencode({**named, **place})}"


def document_title(title: str, document: str, place: str) -> str:
    """What a citation calls it: its title, else its file name, and the place in it.

    >>> document_title("", "/files/fees.pdf", "page 12")
    'fees.pdf, page 12'
    """
    named = printable_name(" ".join(title.split()) or PurePath(document).name or document)
    return f"{named}, {printable_name(place)}" if place else named

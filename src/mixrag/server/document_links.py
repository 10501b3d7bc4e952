"""Addresses of documents on this server, which open one at a page or an offset."""

from __future__ import annotations

from pathlib import PurePath
from urllib.parse import urlencode

from fastapi import Request

from mixrag.utils.text import printable_name

CONTENT = "v1/documents/content"


def document_link(request: Request, store: str, document: str, page: int | None, start: int) -> str:
    """The address of a document of a store, at a page where it has pages, else at a character offset."""
    place = {"offset": start} if page is None else {"page": page}
    return f"{request.base_url}{CONTENT}?{urlencode({'store': store, 'document': document, **place})}"


def document_title(title: str, document: str, place: str) -> str:
    """What a citation calls it: its title, else its file name, and the place in it.

    >>> document_title("", "/files/fees.pdf", "page 12")
    'fees.pdf, page 12'
    """
    named = printable_name(" ".join(title.split()) or PurePath(document).name or document)
    return f"{named}, {printable_name(place)}" if place else named

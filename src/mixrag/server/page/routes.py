"""The page at ``/``, and the files that it loads: nothing else of the package can be read here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mixrag.server.errors import NotFoundError

router = APIRouter(include_in_schema=False)

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Scripts and styles are files of this server, and nothing else is loaded. Text is never read as HTML: with no
policy for trusted types a browser refuses every assignment that would."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page."""

    content: bytes
    kind: str
    tag: str
    """Its entity tag."""


@router.api_route("/", methods=["GET", "HEAD"])
def page(request: Request) -> Response:
    """The page."""
    return _response("index.html", request)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
def page_file(name: str, request: Request) -> Response:
    """A file that the page loads."""
    return _response(name, request)


@cache
def page_files() -> Mapping[str, PageFile]:
    """All files of the page by name."""
    found = {}
    for each in resources.files("mixrag.server.page").joinpath("static").iterdir():
        suffix = each.name[each.name.rfind(".") :]
        if suffix in KINDS:
            content = each.read_bytes()
            found[each.name] = PageFile(content, KINDS[suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def _response(name: str, request: Request) -> Response:
    found = page_files().get(name)
    if found is None:
        raise NotFoundError("a file of the page", repr(name[:80]), "open /")
    headers = {**HEADERS, "ETag": found.tag}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.kind, headers=headers)

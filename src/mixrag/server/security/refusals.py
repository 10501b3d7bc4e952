"""Requests that are refused before they reach a route."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mixrag.server.errors import RequestError, error_object, status_of


class HostError(RequestError):
    """The request names another server: a page of another site that had its name point here."""

    status = 421
    code = "unknown_host"


class OriginError(RequestError):
    """A page of another site sent it."""

    status = 403
    code = "origin_not_allowed"


class KeyMissingError(RequestError):
    """Without a key, or with one that is not in the file."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class TooLargeError(RequestError):
    """More bytes than the server takes."""

    status = 413
    code = "request_too_large"


class TooSlowError(RequestError):
    """It did not arrive in time."""

    status = 408
    code = "request_timeout"


class EncodedError(RequestError):
    """A compressed body."""

    status = 415
    code = "unsupported_encoding"


class BodyError(RequestError):
    """A body that is not JSON as RFC 8259 has it, or is nested too deeply."""

    code = "invalid_json"


async def refuse(
    error: RequestError, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str] | None = None
) -> None:
    """Send an error in OpenAI's shape."""
    await JSONResponse(error_object(error), status_of(error), headers)(scope, receive, send)

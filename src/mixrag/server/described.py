"""What the description of the endpoints (``/openapi.json``) says of all of them: errors and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel


class ErrorObject(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    """One line: what was expected, what was found, what to do."""
    type: str
    param: str | None
    """The field of the request that it is about."""
    code: str | None


class ErrorResponse(BaseModel):
    """The body of every response whose status is 400 or above."""

    error: ErrorObject


MEANINGS = {
    400: "The request cannot be carried out as it is.",
    401: "No API key, or none of this server's.",
    403: "Sent by a page of another site.",
    404: "No such store, document or path.",
    405: "Another method; `Allow` lists those of this path.",
    408: "The request did not arrive in time.",
    409: "The store is busy with another change, or has no documents.",
    413: "The request is too large.",
    415: "The body is compressed, or of another type.",
    421: "The Host header names another server.",
    429: "Too many questions are waiting: try again after `Retry-After` seconds.",
    500: "An error of the server; its log has it under `X-Request-Id`.",
    502: "The server of the language model failed.",
    503: "The server is busy or stopping: try again after `Retry-After` seconds. Or its models are not loaded.",
    504: "The answer took longer than the server allows.",
    507: "No space is left for what was sent.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": meaning} for status, meaning in MEANINGS.items()
}
"""For every route: what is not about one route is decided before it."""
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
"""One server-sent event, as the ``itemSchema`` of a stream."""
_KEY = "API key"


def complete(schema: dict[str, Any], is_open: Callable[[str, str], bool]) -> dict[str, Any]:
    """Add keys to a description, and take out status 422, which is answered with 400 here.

    Args:
        schema: as FastAPI makes it; changed in place.
        is_open: whether a path and method need no key.
    """
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {
        _KEY: {"type": "http", "scheme": "bearer", "description": "Where the server has keys (`--keys`)."}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            if not is_open(path, method.upper()):
                operation["security"] = [{_KEY: []}]
    return schema

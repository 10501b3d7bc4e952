"""Errors of requests, and what a client gets for an error: a status and OpenAI's error object."""

from __future__ import annotations

import logging
from typing import Any

from mixrag.errors import (
    MissingPackageError,
    MixragError,
    ModelError,
    ModelLoadError,
    PairsError,
    QuestionError,
    ServerError,
    SettingError,
    ShardMissingError,
    SourceError,
    StoreBusyError,
    StoreEmptyError,
    StoreFullError,
)

_LOG = logging.getLogger("mixrag.server")


class RequestError(MixragError):
    """A request that cannot be carried out as it is."""

    status = 400
    kind = "invalid_request_error"
    code: str | None = None

    def __init__(self, expected: str, found: str, remedy: str, param: str | None = None) -> None:
        super().__init__(expected, found, remedy)
        self.param = param


class UnknownModelError(RequestError):
    """No store or preset of this name."""

    status = 404
    code = "model_not_found"

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(expected, found, remedy, "model")


class NotFoundError(RequestError):
    """Something of this name is not in the store."""

    status = 404
    code = "not_found"


class BusyError(RequestError):
    """Too many questions are waiting; ``seconds`` is after how long to try again."""

    status = 429
    kind = "rate_limit_error"
    code = "queue_full"

    def __init__(self, expected: str, found: str, remedy: str, seconds: int) -> None:
        super().__init__(expected, found, remedy)
        self.seconds = seconds


class ClosingError(BusyError):
    """The server is about to stop, and begins nothing more."""

    status = 503
    kind = "server_error"
    code = "shutting_down"


class TimeLimitError(RequestError):
    """An answer took longer than the server allows."""

    status = 504
    kind = "server_error"
    code = "timeout"


_STATUS: dict[type[MixragError], tuple[int, str, str | None]] = {
    SettingError: (400, "invalid_request_error", "invalid_setting"),
    QuestionError: (400, "invalid_request_error", "invalid_question"),
    PairsError: (400, "invalid_request_error", "invalid_answer"),
    SourceError: (400, "invalid_request_error", "invalid_document"),
    StoreBusyError: (409, "conflict_error", "store_busy"),
    StoreEmptyError: (409, "conflict_error", "store_empty"),
    ShardMissingError: (503, "server_error", "shard_missing"),
    StoreFullError: (507, "server_error", "disk_full"),
    ServerError: (502, "server_error", "language_model_server"),
    ModelLoadError: (503, "server_error", "model_not_loaded"),
    MissingPackageError: (503, "server_error", "model_not_loaded"),
    ModelError: (400, "invalid_request_error", "invalid_for_model"),
}
"""The first that fits counts."""
_NOT_LOADED = MixragError(
    "the models of this store in memory", "that they cannot be loaded", "see the server's log"
)


def status_of(error: Exception) -> int:
    """The HTTP status for an error."""
    return _described(error)[0]


def error_object(error: Exception) -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code"}}``, with the message of ``public_message``."""
    _, kind, code = _described(error)
    return {
        "error": {
            "message": public_message(error),
            "type": kind,
            "param": getattr(error, "param", None),
            "code": code,
        }
    }


def public_message(error: Exception) -> str:
    """What a client reads of an error, in one line.

    An error that is not mixrag's own is only named so. One of loading a model names folders of the server, so it
    is logged in the place of being sent.
    """
    if isinstance(error, ModelLoadError):
        _LOG.warning("the models of a store are not loaded: %s", error)
        return str(_NOT_LOADED)
    return str(error) if isinstance(error, MixragError) else "unexpected error; the server's log has it"


def _described(error: Exception) -> tuple[int, str, str | None]:
    if isinstance(error, RequestError):
        return error.status, error.kind, error.code
    for kind, described in _STATUS.items():
        if isinstance(error, kind):
            return described
    return 500, "server_error", "mixrag_error" if isinstance(error, MixragError) else "internal_error"

"""The application: routes, errors, and what lasts as long as the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp

import mixrag.server.native.answers
import mixrag.server.native.decisions
import mixrag.server.native.diagnose
import mixrag.server.native.docs
import mixrag.server.native.documents
import mixrag.server.native.health
import mixrag.server.native.metrics
import mixrag.server.native.passages
import mixrag.server.native.score
import mixrag.server.native.shards
import mixrag.server.openai.chat
import mixrag.server.openai.completions
import mixrag.server.openai.embeddings
import mixrag.server.openai.models
import mixrag.server.openai.rerank
import mixrag.server.openai.responses
import mixrag.server.page.routes
import mixrag.server.page.settings
from mixrag.errors import MixragError
from mixrag.server.described import RESPONSES, complete
from mixrag.server.errors import BusyError, RequestError, error_object, status_of
from mixrag.server.mcp import McpEndpoint
from mixrag.server.native.documents import settle_uploads
from mixrag.server.native.health import load_models
from mixrag.server.native.metrics import Metrics
from mixrag.server.native.telemetry import Telemetry
from mixrag.server.security.policy import Security, is_open
from mixrag.server.security.stack import protected
from mixrag.server.service import Service

_LOG = logging.getLogger("mixrag.server")

CODES = {404: "not_found", 405: "method_not_allowed", 408: "request_timeout", 413: "request_too_large"}
"""Of errors that the framework finds, by status."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROUTERS: tuple[APIRouter, ...] = (
    mixrag.server.openai.models.router,
    mixrag.server.page.routes.router,
    mixrag.server.page.settings.router,
    mixrag.server.openai.chat.router,
    mixrag.server.openai.responses.router,
    mixrag.server.openai.completions.router,
    mixrag.server.openai.embeddings.router,
    mixrag.server.openai.rerank.router,
    mixrag.server.native.answers.router,
    mixrag.server.native.passages.router,
    mixrag.server.native.score.router,
    mixrag.server.native.decisions.router,
    mixrag.server.native.diagnose.router,
    mixrag.server.native.documents.router,
    mixrag.server.native.health.router,
    mixrag.server.native.metrics.router,
    mixrag.server.native.docs.router,
    mixrag.server.native.shards.router,
)
FEDERATED: tuple[APIRouter, ...] = (
    mixrag.server.native.shards.router,
    mixrag.server.native.health.router,
    mixrag.server.native.metrics.router,
    mixrag.server.native.docs.router,
)
"""Of a server that shares no documents."""


class App(FastAPI):
    """The routes of ``ROUTERS`` behind ``mixrag.server.security``."""

    def __init__(self, security: Security, **given: Any) -> None:
        self.security = security
        super().__init__(**given)

    def build_middleware_stack(self) -> ASGIApp:
        """As FastAPI's; errors of the server itself are answered inside of the checks, too."""
        return protected(super().build_middleware_stack(), self.security)

    def openapi(self) -> dict[str, Any]:
        """The description of all endpoints."""
        if self.openapi_schema is None:
            complete(super().openapi(), is_open)
        assert self.openapi_schema is not None
        return self.openapi_schema


def make_app(service: Service, security: Security | None = None) -> App:
    """The ASGI application over these stores; it closes them when it ends."""
    mcp = McpEndpoint(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start(service))
        async with mcp.running():
            yield
        starting.cancel()
        service.close()

    # An address is answered or not: with redirections to and from a slash at its end, the server would write
    # addresses into its answers that are made of what a client says of its name.
    app = App(
        security or Security(),
        title="mixrag",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=RESPONSES,
    )
    app.state.service = service
    app.state.has_page = mixrag.server.page.routes.router in ROUTERS
    app.state.metrics = Metrics(service.stores, service.questions)
    service.questions.watches = [app.state.metrics, Telemetry(service.stores)]
    federated = service.share == "likelihoods"
    for router in FEDERATED if federated else ROUTERS:
        app.include_router(router)
    if not federated:
        app.router.routes.append(Route("/mcp", endpoint=mcp))
    app.add_exception_handler(MixragError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    return app


async def _start(service: Service) -> None:
    """Done while the first requests are answered: interrupted uploads are indexed, models are loaded."""
    await settle_uploads(service)
    await load_models(service)


async def _error(_: Request, error: Exception) -> JSONResponse:
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, BusyError) else None
    return JSONResponse(error_object(error), status_of(error), headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"][1:]))[:80] or "the body"
    found = RequestError("a valid request", f"{place}: {first['msg'][:300]}", "see /openapi.json", place)
    return JSONResponse(error_object(found), found.status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status, headers, message = error.status_code, dict(error.headers or {}), str(error.detail)
    if status == 404:
        message = str(RequestError("a path of this server", repr(request.url.path[:80]), "see /openapi.json"))
    if status == 405:
        headers["Allow"] = allowed = ", ".join(_methods(request))
        message = str(RequestError(allowed, request.method[:16], "see /openapi.json"))
    kind = "server_error" if status >= 500 else "invalid_request_error"
    found = {"message": message, "type": kind, "param": None, "code": CODES.get(status)}
    return JSONResponse({"error": found}, status, headers)


def _methods(request: Request) -> list[str]:
    """The methods of this path, over all routes."""

    def has(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if has(method)]


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("unexpected %s in request %s", type(error).__name__, request.state.request_id, exc_info=error)
    return JSONResponse(error_object(error), 500)

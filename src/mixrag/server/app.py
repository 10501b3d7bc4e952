"""The application: routes, errors, and what lasts as long as the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import mixrag.server.native.answers
import mixrag.server.native.decisions
import mixrag.server.native.diagnose
import mixrag.server.native.docs
import mixrag.server.native.documents
import mixrag.server.native.health
import mixrag.server.native.metrics
import mixrag.server.native.passages
import mixrag.server.native.score
import mixrag.server.openai.models
import mixrag.server.page.routes
import mixrag.server.page.settings
from mixrag.errors import MixragError
from mixrag.server.errors import BusyError, RequestError, error_object, status_of
from mixrag.server.native.documents import settle_uploads
from mixrag.server.native.health import load_models
from mixrag.server.native.metrics import Metrics
from mixrag.server.native.telemetry import Telemetry
from mixrag.server.service import Service

_LOG = logging.getLogger("mixrag.server")

ROUTERS: tuple[APIRouter, ...] = (
    mixrag.server.openai.models.router,
    mixrag.server.page.routes.router,
    mixrag.server.page.settings.router,
    mixrag.server.native.answers.router,
    mixrag.server.native.passages.router,
    mixrag.server.native.score.router,
    mixrag.server.native.decisions.router,
    mixrag.server.native.diagnose.router,
    mixrag.server.native.documents.router,
    mixrag.server.native.health.router,
    mixrag.server.native.metrics.router,
    mixrag.server.native.docs.router,
)


def make_app(service: Service) -> FastAPI:
    """The ASGI application over these stores; it closes them when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start(service))
        yield
        starting.cancel()
        service.close()

    app = FastAPI(title="mixrag", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.metrics = Metrics(service.stores, service.questions)
    service.questions.watches = [app.state.metrics, Telemetry(service.stores)]
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(MixragError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    return app


async def _start(service: Service) -> None:
    """What is done beside the first requests: uploads that were interrupted are indexed, models are loaded."""
    await settle_uploads(service)
    await load_models(service)


async def _error(_: Request, error: Exception) -> JSONResponse:
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, BusyError) else None
    return JSONResponse(error_object(error), status_of(error), headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"][1:])) or "the body"
    found = RequestError("a valid request", f"{place}: {first['msg']}", "see /openapi.json", place)
    return JSONResponse(error_object(found), found.status)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    found = {"message": str(error.detail), "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": found}, error.status_code, error.headers)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    _LOG.error("unexpected %s", type(error).__name__, exc_info=error)
    return JSONResponse(error_object(error), 500)

"""The application: routes, errors, and what lasts as long as the process."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import mixrag.server.openai.models
from mixrag.errors import MixragError
from mixrag.server.disconnects import CancelledWithClient
from mixrag.server.errors import BusyError, RequestError, error_object, status_of
from mixrag.server.service import Service

_LOG = logging.getLogger("mixrag.server")

ROUTERS: tuple[APIRouter, ...] = (mixrag.server.openai.models.router,)


def make_app(service: Service) -> FastAPI:
    """The ASGI application over these stores; it closes them when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="mixrag", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(CancelledWithClient)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(MixragError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    return app


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

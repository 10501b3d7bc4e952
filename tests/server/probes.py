"""Routes of the tests' own behind the server's checks: they say what reached them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from mixrag.server.app import App, make_app
from mixrag.server.security.policy import Security
from mixrag.server.service import Service


def probed(service: Service, security: Security | None = None) -> App:
    """The server's application with ``/probe`` and its kin."""
    app = make_app(service, security)

    @app.get("/probe")
    @app.post("/probe")
    async def probe(request: Request) -> dict[str, Any]:
        return {"client": request.state.client, "id": request.state.request_id, "bytes": len(await request.body())}

    @app.post("/probe/json")
    async def probe_json(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @app.post("/v1/documents/probe")
    async def probe_upload(request: Request) -> dict[str, Any]:
        return {"bytes": sum([len(each) async for each in request.stream()])}

    @app.get("/probe/failing")
    async def probe_failing() -> None:
        raise RuntimeError("what only the log may say")

    @app.get("/probe/failing-stream")
    async def probe_failing_stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"data: first\n\n"
            raise RuntimeError("what only the log may say")

        return StreamingResponse(parts(), media_type="text/event-stream")

    return app

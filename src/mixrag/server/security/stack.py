"""The order in which a request passes the checks."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from mixrag.server.security.access import OwnHost, OwnOrigin, WithKey
from mixrag.server.security.bodies import LimitedBody
from mixrag.server.security.policy import Security
from mixrag.server.security.tracing import Traced


def protected(app: ASGIApp, security: Security) -> ASGIApp:
    """An application behind all checks; bodies are read of those only who may ask."""
    app = WithKey(LimitedBody(app, security), security)
    if security.origins:
        # Scripts send the keys that they know, not browsers: no credentials. Preflight requests have no key.
        app = CORSMiddleware(
            app,
            allow_origins=security.origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After", "Mcp-Session-Id"],
        )
    return Traced(OwnHost(OwnOrigin(app, security), security))

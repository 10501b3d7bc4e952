"""Requests made at random from the description of the endpoints: no error of the server, and what it describes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.python import asgi
from schemathesis.schemas import BaseSchema

from mixrag.server.app import App, make_app
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security
from mixrag.server.service import Service
from mixrag.server.stores import Stores

EXAMPLES = int(os.environ.get("MIXRAG_SCHEMATHESIS", "8"))
"""Of each endpoint, beside those at the ends of ranges."""


def described() -> BaseSchema:
    """The whole description; which stores there are is not part of it."""
    app = make_app(Service(Stores([])), Security(hosts=frozenset({asgi.HOST})))
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=SchemathesisConfig())


@pytest.fixture
def served(service: Service, tmp_path: Path) -> Iterator[tuple[App, dict[str, str]]]:
    """An application with a store and a key, and the header that has it."""
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("alice")
    yield (
        make_app(service, Security(keys=keys, hosts=frozenset({asgi.HOST}))),
        {"Authorization": f"Bearer {key}"},
    )
    asgi.shutdown_lifespans()


@described().parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    # One store is asked everything: documents that one request adds are there for the next.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_no_request_is_an_error_of_the_server(case: schemathesis.Case, served: tuple[App, dict[str, str]]) -> None:
    app, headers = served
    # What a description cannot say (a document that exists, settings that go together) is refused with 400.
    case.call_and_validate(
        app=app, headers=headers, excluded_checks=[schemathesis.checks.positive_data_acceptance]
    )

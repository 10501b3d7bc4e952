"""Requests made at random from the description of the endpoints: no error of the server, and what it describes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.config import SchemathesisConfig
from schemathesis.python import asgi
from schemathesis.schemas import BaseSchema

from mixrag.server.app import App, make_app
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security
from mixrag.server.service import Service
from mixrag.server.stores import Stores

KNOWN = {
    **{"model": "demo", "store": "demo", "role": "user"},
    **dict.fromkeys(("content", "question", "query"), "What does a licence for cod cost?"),
    **dict.fromkeys(("n", "stop", "logit_bias", "tools", "functions", "previous_response_id")),
}
"""Names that exist, a question, and nothing that is refused whatever else is asked for."""
EXAMPLES = int(os.environ.get("MIXRAG_SCHEMATHESIS", "8"))
"""Of each endpoint, beside those at the ends of ranges."""


def described() -> BaseSchema:
    """The whole description; which stores there are is not part of it."""
    app = make_app(Service(Stores([])), Security(hosts=frozenset({asgi.HOST})))
    config = SchemathesisConfig()
    generation, rejection = (
        config.projects.default.generation,
        config.projects.default.checks.negative_data_rejection,
    )
    # Every request is sent with the key, and servers ignore parameters that they do not know.
    generation.with_security_parameters = generation.allow_extra_parameters = False
    # A request that is too long for its description may be too large to be looked at.
    rejection.expected_statuses = [*rejection.expected_statuses, "413"]
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


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


def known(value: Any) -> Any:
    """A request that is answered: most end before anything is done, for a name that does not exist."""
    if isinstance(value, list):
        return [known(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: KNOWN[name] if name in KNOWN and each is not None else known(each) for name, each in value.items()
    }


@pytest.mark.slow
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
    if case.meta is not None and all(each.mode.is_positive for each in case.meta.components.values()):
        case.body, case.query = known(case.body), known(case.query)
    # What a description cannot say (a document that exists, settings that go together) is refused with 400.
    excluded = [checks.positive_data_acceptance]
    if case.media_type == "multipart/form-data":  # a form turns values of any type into valid ones
        excluded.append(checks.negative_data_rejection)
    case.call_and_validate(app=app, headers=headers, excluded_checks=excluded)

"""The examples of OpenAI's dialect in /openapi.json: requests that are understood, keys that are there."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/rerank")


def described(client: TestClient, path: str) -> Any:
    return client.get("/openapi.json").json()["paths"][path]["post"]


@pytest.mark.parametrize("path", PATHS)
def test_examples_are_requests_and_their_responses(client: TestClient, path: str) -> None:
    operation = described(client, path)
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    responses = operation["responses"]["200"]["content"]
    for example in examples.values():
        found = client.post(path, json=example["value"])
        assert found.status_code == 200, found.text
        kind = found.headers["content-type"].split(";")[0]
        assert kind in responses
        if kind == "application/json":
            missing = [*_missing(responses[kind]["example"], found.json())]
            assert missing == [] or "echo" not in example["value"], missing
    plain = client.post(path, json=next(iter(examples.values()))["value"]).json()
    if path != "/v1/completions":
        assert [*_missing(responses["application/json"]["example"], plain)] == []


def _missing(example: Any, found: Any, place: str = "") -> Any:
    """Keys of an example that a response has not."""
    if isinstance(example, dict):
        for key, value in example.items():
            if not isinstance(found, dict) or key not in found:
                yield f"{place}.{key}"
            elif value is not None:
                yield from _missing(value, found[key], f"{place}.{key}")
    elif isinstance(example, list):
        for value in example[:1]:
            yield from _missing(value, (found or [None])[0], place)

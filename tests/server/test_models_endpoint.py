"""``/v1/models``, and the shape of errors."""

from __future__ import annotations

import openai
from fastapi.testclient import TestClient


def test_stores_and_their_presets_are_models(client: TestClient) -> None:
    found = client.get("/v1/models").json()
    assert [each["id"] for each in found["data"]] == ["demo", "demo:short"]
    assert client.get("/v1/models/demo:short").json() == found["data"][1]


def test_an_unknown_model_is_openais_error(client: TestClient) -> None:
    for name in ("other", "demo:other", "demo:", ":short"):
        found = client.get(f"/v1/models/{name}")
        assert found.status_code == 404
        assert found.json()["error"]["code"] == "model_not_found"


def test_an_unknown_path_is_openais_error(client: TestClient) -> None:
    found = client.get("/v2")
    assert (found.status_code, found.json()["error"]["type"]) == (404, "invalid_request_error")


def test_the_official_client_lists_models(official: openai.OpenAI) -> None:
    assert [each.id for each in official.models.list()] == ["demo", "demo:short"]
    assert official.models.retrieve("demo:short").owned_by == "mixrag"

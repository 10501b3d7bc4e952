"""Request ids, headers of responses, and the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from probes import probed
from test_access import error

from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security
from mixrag.server.service import Service


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def probe(service: Service) -> Iterator[TestClient]:
    with TestClient(probed(service), base_url="http://127.0.0.1", raise_server_exceptions=False) as found:
        yield found


def test_an_id_is_taken_from_the_client_or_made(probe: TestClient) -> None:
    found = probe.get("/probe", headers={"X-Request-Id": "trace-1:a.b"})
    assert found.headers["x-request-id"] == found.json()["id"] == "trace-1:a.b"
    made = [probe.get("/probe").headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1] and all(re.fullmatch(r"req_[0-9a-f]{24}", each) for each in made)


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "é", "a\tb", "<script>"])
def test_an_id_that_could_forge_a_line_is_replaced(probe: TestClient, given: str) -> None:
    found = probe.get("/probe", headers={"X-Request-Id": given.encode()})
    assert found.headers["x-request-id"].startswith("req_")


def test_every_response_restricts_browsers(probe: TestClient) -> None:
    responses = [
        probe.get("/probe"),
        probe.get("/nothing"),
        probe.delete("/probe"),
        probe.get("/probe/failing"),
        probe.get("/probe", headers={"Host": "evil.example"}),
        probe.post("/probe", headers={"Origin": "https://evil.example"}),
        probe.post("/probe/json", content=b"{", headers={"Content-Type": "application/json"}),
    ]
    assert [each.status_code for each in responses] == [200, 404, 405, 500, 421, 403, 400]
    for each in responses:
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert each.headers["referrer-policy"] == "same-origin"
        assert each.headers["cross-origin-opener-policy"] == "same-origin"
        assert each.headers["cross-origin-resource-policy"] == "same-origin"
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["x-request-id"]


def test_an_unexpected_error_is_named_in_the_log_only(probe: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    found = probe.get("/probe/failing", headers={"X-Request-Id": "trace-1"})
    assert error(found) == (500, "internal_error")
    assert "only the log" not in found.text
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "RuntimeError" in record.message and "trace-1" in record.message


def test_an_error_in_a_stream_ends_the_connection(service: Service) -> None:
    """Else what was sent would look complete."""
    with (
        TestClient(probed(service), base_url="http://127.0.0.1") as client,
        pytest.raises(RuntimeError, match="only the log"),
    ):
        client.get("/probe/failing-stream")


def test_a_request_is_a_line_without_what_it_says(
    service: Service, keys: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    key = keys.add("alice")
    caplog.set_level(logging.DEBUG, "mixrag")
    with TestClient(probed(service, Security(keys=keys)), base_url="http://127.0.0.1") as client:
        headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "trace-1"}
        client.post("/probe?q=secret-query", json={"question": "secret-question"}, headers=headers)
        client.get("/probe", headers={"X-Api-Key": "secret-key"})
        client.get("/a%0Aforged%1b[31m", headers=headers)
    lines = [each for each in caplog.records if each.name == "mixrag.server.access"]
    assert re.fullmatch(r"POST /probe 200 \d+\.\d{3}s client=alice id=trace-1", lines[0].message)
    assert re.fullmatch(r"GET /probe 401 \d+\.\d{3}s client=testclient id=req_\w+", lines[1].message)
    assert lines[2].message.startswith("GET /a%0Aforged%1B%5B31m 404 ")
    assert (lines[0].request_id, lines[0].client, lines[0].status) == ("trace-1", "alice", 200)
    assert "secret" not in caplog.text and key not in caplog.text and "cod" not in caplog.text

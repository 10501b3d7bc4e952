"""What a body may be."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from probes import probed
from test_access import error

from mixrag.server.security.policy import Security
from mixrag.server.service import Service

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def probe(service: Service) -> Iterator[TestClient]:
    app = probed(service, Security(request_bytes=10_000, upload_bytes=20_000))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as found:
        yield found


def in_parts(size: int) -> Iterator[bytes]:
    """A body whose length is not said before."""
    for _ in range(size // 100):
        yield b"x" * 100


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize("headers", [{}, JSON, {"Content-Type": "text/plain"}, FORM])
def test_a_body_is_limited_whether_its_length_is_declared_or_not(
    probe: TestClient, headers: dict[str, str]
) -> None:
    limits = (("/probe", 10_000), ("/v1/documents/probe", 20_000 if headers is FORM else 10_000))
    for path, largest in limits:
        for body in (b"x" * (largest + 1), in_parts(largest + 100)):
            assert error(probe.post(path, content=body, headers=headers)) == (413, "request_too_large")
    if headers is not JSON:
        for path, largest in limits:
            for body in (b"x" * largest, in_parts(largest)):
                assert probe.post(path, content=body, headers=headers).json()["bytes"] == largest


def test_a_length_that_no_number_holds(probe: TestClient) -> None:
    found = probe.post("/probe", content=b"x", headers={"Content-Length": "9" * 5000})
    assert error(found) == (413, "request_too_large")


def test_a_question_of_ten_megabytes(client: TestClient) -> None:
    body = json.dumps({"question": "why? " * 2_000_000})
    assert error(client.post("/v1/answers", content=body, headers=JSON)) == (413, "request_too_large")


def test_compressed_bodies_are_refused(probe: TestClient) -> None:
    found = probe.post("/probe", content=b"x", headers={"Content-Encoding": "gzip"})
    assert error(found) == (415, "unsupported_encoding")
    assert probe.post("/probe", content=b"x", headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"\xff\xfe{\x00}\x00",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 9000,
        b'{"a": "\\ud800"}',
        b'{"a": ["x", {"\\udfff\\ud800": 1}]}',
        b'{"a": "\x00"}',
    ],
    ids=str,
)
def test_bad_json_is_one_line(probe: TestClient, body: bytes) -> None:
    assert error(probe.post("/probe/json", content=body, headers=JSON)) == (400, "invalid_json")
    kind = {"Content-Type": "application/problem+json; charset=utf-8"}
    assert error(probe.post("/probe/json", content=body, headers=kind)) == (400, "invalid_json")


@pytest.mark.parametrize(
    "value",
    [
        "née 🐟",
        "\ud83d\udc1f".encode("utf-16", "surrogatepass").decode("utf-16"),
        1e308,
        10**300,
        [[[[1]]]],
        [{"a": [i]} for i in range(200)],
        "[" * 200,
        {"": None},
    ],
    ids=lambda value: str(value)[:20],
)
def test_all_other_json_arrives_as_it_is(probe: TestClient, value: object) -> None:
    body = {"a": value}
    assert probe.post("/probe/json", json=body).json() == body
    assert probe.post("/probe/json", content=json.dumps(body, ensure_ascii=True), headers=JSON).json() == body


def test_sixty_four_levels_pass(probe: TestClient) -> None:
    body = b'{"a":' * 63 + b"[]" + b"}" * 63
    assert probe.post("/probe/json", content=body, headers=JSON).status_code == 200


def test_no_body_and_another_type_are_errors_of_the_route(probe: TestClient) -> None:
    for content, headers in ((b"", JSON), (b"{}", {}), (b"{}", {"Content-Type": "text/plain"})):
        found = probe.post("/probe/json", content=content, headers=headers)
        assert found.status_code == 400 and found.json()["error"]["type"] == "invalid_request_error"


def test_another_method_is_refused_with_those_of_the_path(probe: TestClient) -> None:
    found = probe.delete("/probe")
    assert error(found) == (405, "method_not_allowed")
    assert found.headers["allow"] == "GET, POST"
    assert probe.post("/v1/models").headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/nothing", "/probe/", "/..%2fetc/passwd", "/%00", "/\u00e9", "/v1"])
def test_other_paths_are_not_found(probe: TestClient, path: str) -> None:
    found = probe.get(path, follow_redirects=False)
    assert error(found) == (404, "not_found")


def test_a_model_id_that_is_a_path(probe: TestClient) -> None:
    for name in ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "a" * 5000, "demo/", "%ed%a0%80"):
        assert error(probe.get(f"/v1/models/{name}"))[0] == 404

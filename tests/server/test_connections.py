"""Clients of bad will or bad luck, on sockets of their own: the server answers in OpenAI's shape and goes on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from probes import probed
from served import listening, wait_until

from mixrag.server.security import protocol
from mixrag.server.security.policy import Security
from mixrag.server.service import Service
from mixrag.server.serving import configured

Served = Callable[..., str]


@pytest.fixture
def served(service: Service) -> Iterator[Served]:
    """Serves the probed application as ``mixrag serve`` does, with some limits; returns its address."""
    with ExitStack() as stack:

        def made(proxies: tuple[str, ...] = (), **limits: float) -> str:
            security = Security(**limits)
            app = probed(service, security)
            config = configured(app, security, proxies)
            config.port = 0
            return stack.enter_context(listening(app, config))

        yield made


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def answered(connection: socket.socket) -> tuple[int, dict[str, str], str]:
    """Status, headers and code of the last response, the server having closed the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)["error"]["code"] or ""


HEAD = b"POST /probe HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HT",
        HEAD,
        HEAD + b"Content-Length: 9\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{",
    ],
)
def test_a_request_that_never_ends_is_ended(served: Served, sent: bytes) -> None:
    """Slow loris: headers, or a body, one byte at a time."""
    address = served(read_seconds=0.3)
    with connected(address) as connection:
        connection.sendall(sent)
        status, headers, code = answered(connection)
        assert (status, code) == (408, "request_timeout")
        assert headers["connection"] == "close"
    assert httpx.get(f"{address}/probe").status_code == 200


def test_single_bytes_do_not_wind_the_clock_again(served: Served) -> None:
    with connected(served(read_seconds=0.5)) as connection, pytest.raises(OSError):
        for each in HEAD * 50:
            connection.sendall(bytes([each]))
            time.sleep(0.02)
        raise AssertionError("the server took them all")


def test_a_connection_that_says_nothing_is_closed(served: Served) -> None:
    with connected(served(read_seconds=0.2)) as connection, pytest.raises(ConnectionResetError):
        assert connection.recv(1) == b""
        raise ConnectionResetError


def test_the_second_request_of_a_connection_has_the_same_limit(served: Served) -> None:
    with connected(served(read_seconds=0.4)) as connection:
        connection.sendall(b"GET /probe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /probe HTT")
        first = connection.recv(65536)
        assert first.startswith(b"HTTP/1.1 200")
        while b"}" not in first:
            first += connection.recv(65536)
        assert answered(connection)[::2] == (408, "request_timeout")


def test_a_body_that_nobody_reads_is_taken_in_limited_time(served: Served) -> None:
    """The request was refused; the client goes on sending and gets its answer."""
    address = served(read_seconds=0.5, request_bytes=1000)
    with connected(address) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000000\r\n\r\n" + b"x" * 2_000_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)
    with httpx.Client() as client:
        for _ in range(2):
            found = client.post(f"{address}/probe", content=b"x" * 10_000_000)
            assert (found.status_code, found.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /probe\r\n\r\n", 400),
        (b"GET /pr\xc3\xa9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /probe HTTP/1.1\r\n\r\n", 400),
        (b"GET /probe HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header: x\r\n\r\n", 400),
        (b"POST /probe HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /probe HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /probe HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /probe HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 40_000, 431),
        (b"GET /" + b"x" * 40_000, 431),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_http_is_openais_error(served: Served, sent: bytes, status: int) -> None:
    address = served()
    with connected(address) as connection:
        connection.sendall(sent)
        assert answered(connection)[0] == status
    assert httpx.get(f"{address}/probe").status_code == 200


def test_paths_are_taken_as_they_are(served: Served) -> None:
    """No path is simplified before its key is looked for or after, and no answer is a redirection."""
    address = served()
    for target in (
        "//probe",
        "/probe/",
        "/../../../etc/passwd",
        "/page/../probe",
        "/page/..%2f..%2fapp.py",
        "/page/%2e%2e%2froutes.py",
        "/%2e%2e/etc/passwd",
        "/page//etc/passwd",
        "http://127.0.0.1/probe",
        "//evil.example/%2e%2e",
        "/%00",
        "/%ff",
    ):
        with connected(address) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            assert answered(connection)[::2] == (404, "not_found"), target


def test_a_request_that_ends_in_the_middle_is_forgotten(served: Served) -> None:
    address = served()
    for sent in (b"GET /pro", HEAD, HEAD + b"Content-Length: 90\r\n\r\n{"):
        with connected(address) as connection:
            connection.sendall(sent)
    assert httpx.get(f"{address}/probe").status_code == 200


def test_connections_beyond_the_limit_are_refused(served: Served) -> None:
    address = served(connections=2)
    with ExitStack() as stack:
        first = [stack.enter_context(connected(address)) for _ in range(2)]
        for each in first:
            each.sendall(b"GET /probe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert each.recv(65536).startswith(b"HTTP/1.1 200")
        found = httpx.get(f"{address}/probe")
        assert (found.status_code, found.json()["error"]["code"]) == (503, "overloaded")
        assert int(found.headers["retry-after"]) > 0
        further = [stack.enter_context(connected(address)) for _ in range(3)]
        assert further[-1].recv(65536) == b""  # beyond twice the limit there is no answer at all
    wait_until(lambda: httpx.get(f"{address}/probe").status_code == 200)


def test_a_client_that_does_not_read_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.2)
    address = served()
    with connected(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(OSError):
            for _ in range(100_000):  # answers that nobody takes fill all buffers between the two
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            connection.recv(1)
            raise AssertionError("the server waits")
    assert httpx.get(f"{address}/probe").status_code == 200


def test_what_a_client_says_of_its_address_is_believed_of_a_proxy_only(served: Served) -> None:
    said = {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.8"}
    assert httpx.get(f"{served()}/probe", headers=said).json()["client"] == "127.0.0.1"
    assert httpx.get(f"{served(('192.0.2.1',))}/probe", headers=said).json()["client"] == "127.0.0.1"
    assert httpx.get(f"{served(('127.0.0.1',))}/probe", headers=said).json()["client"] == "192.0.2.7"


def test_an_upgrade_is_not_made(served: Served) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "eA==",
        "Sec-WebSocket-Version": "13",
    }
    assert httpx.get(f"{served()}/probe", headers=headers).status_code == 200


def test_a_stream_that_fails_is_not_taken_for_complete(served: Served) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{served()}/probe/failing-stream")

"""Requests to a server that is well, and to servers that are not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import pickle
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from listening import wait_until
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from mixrag.config.model_config import ModelConfig, completed
from mixrag.config.server_address import Address, address_of, is_remote
from mixrag.errors import ServerError, SettingError
from mixrag.generator.remote import event_loop
from mixrag.generator.remote.client import Client, Key, Limits, Request

URL = "http://server.test/v1"
SECRET = "sk-very-secret-0123456789"


def client(handle: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> tuple[Client, list[float]]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    return Client(URL, transport=httpx2.MockTransport(handle), pause=pause, **options), pauses


def answers(*responses: httpx2.Response) -> Callable[[httpx2.Request], httpx2.Response]:
    left = iter(responses)
    return lambda request: next(left)


def test_several_answers_come_in_the_order_of_the_requests() -> None:
    found, _ = client(lambda request: httpx2.Response(200, json={"path": request.url.path}))
    requests = [Request(f"{URL}/{place}") for place in range(30)]
    assert [each["path"] for each in found.all(requests)] == [f"/v1/{place}" for place in range(30)]


def test_no_more_requests_at_a_time_than_the_limit() -> None:
    running, most = 0, 0

    async def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx2.Response(200, json={})

    found = Client(URL, limits=Limits(requests=3), transport=httpx2.MockTransport(handle))
    found.all([Request(f"{URL}/{place}") for place in range(12)])
    assert most == 3


def test_a_busy_server_is_asked_again_with_longer_pauses() -> None:
    busy = [httpx2.Response(status, json={"error": "busy"}) for status in (429, 503, 500, 529)]
    found, pauses = client(answers(*busy, httpx2.Response(200, json={"done": 1})))
    assert found.one(f"{URL}/x") == {"done": 1}
    assert [round(pause / 2**i / 0.5, 0) for i, pause in enumerate(pauses)] == [1, 1, 1, 1]


def test_the_server_says_when_to_come_back() -> None:
    busy = httpx2.Response(429, json={}, headers={"Retry-After": "7"})
    found, pauses = client(answers(busy, httpx2.Response(200, json={})))
    found.one(f"{URL}/x")
    assert pauses == [7.0]


def test_patience_ends() -> None:
    found, pauses = client(lambda _: httpx2.Response(429, json={"error": {"message": "quota"}}))
    with pytest.raises(ServerError, match=r"within 120 s; found 429 quota; try again later"):
        found.one(f"{URL}/x")
    assert 60 < sum(pauses) <= 120


def test_a_server_that_is_busy_for_a_minute() -> None:
    """It is asked again for two minutes, and then answers."""
    passed = [0.0]

    async def pause(seconds: float) -> None:
        passed[0] += seconds

    def handle(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429 if passed[0] < 60 else 200, json={})

    found = Client(URL, transport=httpx2.MockTransport(handle), pause=pause)
    assert found.all([Request(f"{URL}/{place}") for place in range(20)]) == [{}] * 20
    assert passed[0] >= 60


def test_at_once_is_not_asked_without_end() -> None:
    found, pauses = client(lambda _: httpx2.Response(429, json={}, headers={"Retry-After": "0"}))
    with pytest.raises(ServerError, match="429"):
        found.one(f"{URL}/x")
    assert len(pauses) < 12


def test_vain_attempts_count_as_waiting() -> None:
    async def handle(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0.05)
        return httpx2.Response(503, json={})

    limits, asked = Limits(patience=0.2, first_pause=0.0), []

    async def pause(seconds: float) -> None:
        asked.append(seconds)

    with pytest.raises(ServerError):
        Client(URL, limits=limits, transport=httpx2.MockTransport(handle), pause=pause).one(f"{URL}/x")
    assert len(asked) <= 4


def test_waiting_is_logged_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    busy = httpx2.Response(429, json={"error": f"slow down, {SECRET}"})
    found, _ = client(answers(busy, httpx2.Response(200, json={})), key=Key(SECRET))
    with caplog.at_level(logging.INFO, "mixrag.generator"):
        found.one(f"{URL}/x")
    assert "429 slow down, ***; asked again in" in caplog.text
    assert SECRET not in caplog.text


def test_a_wait_longer_than_the_patience_is_not_begun() -> None:
    found, pauses = client(lambda _: httpx2.Response(429, json={}, headers={"Retry-After": "86400"}))
    with pytest.raises(ServerError):
        found.one(f"{URL}/x")
    assert pauses == []


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx2.Response(200, html="<html>hello"), "expected JSON from .*; found an HTML page"),
        (httpx2.Response(200, text="hello"), "found an answer that is no JSON"),
        (httpx2.Response(200, text=""), "found an empty answer"),
        (httpx2.Response(200, text='{"cut": [1, 2'), "a whole answer of .*; found one that ended in the middle"),
        (httpx2.Response(404, json={"detail": "Not Found"}), "found 404 Not Found; check address and model"),
        (httpx2.Response(400, json={"error": {"message": "a\nb\x1b[31m"}}), r"found 400 a b\\x1b\[31m"),
        (httpx2.Response(403, html="<html>"), "found 403 an HTML page; name the variable"),
        (httpx2.Response(307, headers={"location": "http://evil.test/v1"}), "a redirect to http://evil.test/v1"),
    ],
)
def test_what_is_no_answer_is_one_line(response: httpx2.Response, message: str) -> None:
    found, _ = client(lambda _: response)
    with pytest.raises(ServerError, match=message) as error:
        found.one(f"{URL}/x")
    assert "\n" not in str(error.value)


def test_no_redirect_is_followed_and_no_other_host_asked() -> None:
    asked = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        return httpx2.Response(302, headers={"location": "http://other.test/"})

    found, _ = client(handle)
    for url in (f"{URL}/x", "http://other.test/v1/x", "https://server.test/v1/x", "http://server.test:81/v1/x"):
        with pytest.raises(ServerError):
            found.one(url)
    assert asked == ["server.test"]


def test_the_environment_adds_no_proxy_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.test:1")
    found, _ = client(lambda _: httpx2.Response(200, json={}))
    found.one(f"{URL}/x")
    assert found._http is not None
    assert found._http.trust_env is False


def test_a_server_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=rf"a server at http://127.0.0.1:{port}/v1; .*start it, or check"):
        Client(f"http://127.0.0.1:{port}/v1").one(f"http://127.0.0.1:{port}/v1/models")


def test_a_server_that_is_slow() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(ServerError, match=r"within 0.2 s; found none"):
            Client(url, limits=Limits(answer=0.2)).one(f"{url}/models")


def test_an_answer_that_ends_in_the_middle_is_asked_for_again() -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            for body in (cut, whole):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(body)

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        assert Client(url, limits=Limits(first_pause=0.01)).one(f"{url}/models") == {}


def test_an_answer_that_always_ends_in_the_middle() -> None:
    def handle(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.RemoteProtocolError("peer closed connection")

    found, _ = client(handle)
    with pytest.raises(ServerError, match=r"found one that ended in the middle \(peer closed connection\)"):
        found.one(f"{URL}/x")


def test_an_answer_without_end_is_not_read_to_it() -> None:
    found, _ = client(lambda _: httpx2.Response(200, content=b"x" * 2**21), limits=Limits(megabytes=1))
    with pytest.raises(ServerError, match="below 1 MB"):
        found.one(f"{URL}/x")


def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", f" {SECRET}\n")
    seen = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(401, json={"error": {"message": f"Incorrect API key provided: {SECRET}"}})

    key = Key.of_environment("MY_KEY")
    found, _ = client(handle, key=key)
    with caplog.at_level(logging.DEBUG), pytest.raises(ServerError) as error:
        found.one(f"{URL}/x", {"model": "m"})
    assert seen == [f"Bearer {SECRET}"]
    assert "Incorrect API key provided: ***" in str(error.value)
    for text in (str(error.value), repr(error.value), caplog.text, repr(found), repr(key), str(vars(found))):
        assert SECRET not in text
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("value", [None, "", "  ", "clé"])
def test_no_key_in_the_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(SettingError, match="a key in the environment variable MY_KEY"):
        Key.of_environment("MY_KEY")


def test_an_error_ends_the_other_requests() -> None:
    ended = []

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("bad"):
            return httpx2.Response(400, json={})
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(request.url.path)
            raise
        return httpx2.Response(200, json={})

    found = Client(URL, transport=httpx2.MockTransport(handle))
    with pytest.raises(ServerError, match="400"):
        found.all([Request(f"{URL}/slow"), Request(f"{URL}/bad")])
    assert ended == ["/v1/slow"]


def test_a_caller_that_is_interrupted_ends_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def handle(_: httpx2.Request) -> httpx2.Response:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise
        return httpx2.Response(200, json={})

    def interrupted(future: Any, timeout: Any = None) -> Any:
        assert begun.wait(10)
        raise KeyboardInterrupt

    found = Client(URL, transport=httpx2.MockTransport(handle))
    monkeypatch.setattr(concurrent.futures.Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.one(f"{URL}/x")
    assert ended.wait(10)


def test_a_client_works_after_a_fork() -> None:
    """The thread of its requests is not there any more."""
    found, _ = client(lambda _: httpx2.Response(200, json={"done": 1}))
    found.one(f"{URL}/x")
    loop = event_loop.running_loop()
    event_loop._RUNNING[:] = [(threading.Thread(), loop)]  # as a fork leaves it
    try:
        assert found.one(f"{URL}/x") == {"done": 1}
        assert event_loop.running_loop() is not loop
    finally:
        loop.call_soon_threadsafe(loop.stop)


def test_all_clients_share_a_thread_and_close_what_they_opened() -> None:
    closed = list[int]()

    class Transport(httpx2.MockTransport):
        async def aclose(self) -> None:
            closed.append(1)

    several = [Client(URL, transport=Transport(lambda _: httpx2.Response(200, json={}))) for _ in range(3)]
    for each in several:
        each.one(f"{URL}/x")
    assert [thread.name for thread in threading.enumerate()].count("mixrag-remote") == 1
    del each
    several.clear()
    gc.collect()
    wait_until(lambda: len(closed) == 3)


def test_it_runs_inside_of_an_event_loop() -> None:
    found, _ = client(lambda _: httpx2.Response(200, json={"done": 1}))

    async def inside() -> Any:
        return found.one(f"{URL}/x")

    assert asyncio.run(inside()) == {"done": 1}


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("http://gpu:8000/v1", Address("http://gpu:8000/v1")),
        ("http://gpu:8000/v1/", Address("http://gpu:8000/v1")),
        ("http://gpu:8000", Address("http://gpu:8000/v1")),
        ("owner/name@https://gpu/v1", Address("https://gpu/v1", "", "owner/name")),
        ("openai:gpt-4o-mini", Address("https://api.openai.com/v1", "openai", "gpt-4o-mini")),
        ("ollama:llama3.2:3b", Address("http://127.0.0.1:11434/v1", "ollama", "llama3.2:3b")),
        ("vllm:http://gpu:8000/v1", Address("http://gpu:8000/v1", "vllm")),
        ("vllm:owner/name@http://gpu:8000/v1", Address("http://gpu:8000/v1", "vllm", "owner/name")),
        ("vllm:", Address("http://127.0.0.1:8000/v1", "vllm")),
    ],
)
def test_names_of_remote_models(name: str, address: Address) -> None:
    assert is_remote(name)
    assert address_of(name) == address


@pytest.mark.parametrize(
    "name",
    [
        "http://",
        "http://user:pass@gpu/v1",
        "http://gpu/v1?key=1",
        "name http://gpu/v1",
        "vllm:a@http://",
        "http://gpu:x/",
    ],
)
def test_names_that_are_no_address(name: str) -> None:
    with pytest.raises(SettingError) as error:
        address_of(name)
    assert "pass" not in error.value.found


@pytest.mark.parametrize("name", [None, "extractive", "owner/name", "/models/a:b", "C:\\models", 3])
def test_names_of_other_models(name: object) -> None:
    assert not is_remote(name)


def test_a_trained_folder_does_not_choose_a_server(tmp_path: Path) -> None:
    """Whoever wrote it would decide where questions and passages go."""
    write_bundle(Bundle(tmp_path, generator="http://evil.test/v1"))
    trained = read_bundle(tmp_path)
    with pytest.raises(SettingError, match="name the server yourself"):
        completed(ModelConfig(), trained)
    assert completed(ModelConfig(generator=URL), trained).generator == URL

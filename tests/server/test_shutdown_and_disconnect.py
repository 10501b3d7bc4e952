"""What becomes of work whose client has gone, and of all that is under way when the server is told to stop."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import Request
from gated import Gate, gated

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.disconnect import unless_gone
from mixrag.server.questions import Limits, Questions
from mixrag.server.service import Service
from mixrag.server.serving import GracefulServer
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"
ANSWERS = {"cod": {"nine crowns a year": 0.9}, "": {"four crowns": 0.5}}


class Running:
    """A server whose endpoints answer at a gate, stream, and work for as long as the test wants."""

    def __init__(self, rag: RAG, limits: Limits) -> None:
        self.questions = Questions(limits)
        self.uploads: list[str] = []
        self.finish = threading.Event()
        app = make_app(Service(Stores([Served("demo", rag)]), self.questions))

        @app.post("/ask")
        async def ask(request: Request) -> dict[str, str]:
            body = await request.json()

            async def text() -> str:
                async with self.questions.ask(rag, body["question"], {}) as asked:
                    return (await asked.answer()).text

            return {"text": await unless_gone(request, text())}

        @app.post("/upload")
        async def upload(request: Request) -> dict[str, int]:
            name = (await request.body()).decode()

            def work() -> int:
                self.finish.wait()
                self.uploads.append(name)
                return len(self.uploads)

            return {"count": await unless_gone(request, self.questions.run(work))}

        self.server = GracefulServer(uvicorn.Config(app, port=0, log_level="warning"), self.questions)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def sent(self, path: str) -> socket.socket:
        """A connection on which a whole request has been sent."""
        body = json.dumps({"question": QUESTION}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(head + body)
        return connection

    @property
    def counts(self) -> tuple[int, int, int]:
        """Under way, waiting, in a batch."""
        return self.questions.running, self.questions.waiting, self.questions.batches.answers


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.opened.set()


@pytest.fixture
def running(tmp_path: Path, gate: Gate) -> Iterator[Running]:
    store = Store.open(tmp_path / "store", create=True)
    model = gated(scripted(ANSWERS), gate)
    with RAG(store, encoder=WordsEncoder(), generator=model, settings=Settings(k=1, max_tokens=6)) as rag:
        rag.add([{"id": "cod", "text": "A licence to fish cod costs nine crowns a year."}])
        found = Running(rag, Limits(threads=2, waiting=4))
        yield found
        gate.opened.set()
        found.finish.set()
        found.server.should_exit = True
        found.thread.join(30)
        assert not found.thread.is_alive()


def test_the_question_of_a_client_that_has_gone_leaves_the_batch(running: Running, gate: Gate) -> None:
    gate.shut()
    connection = running.sent("/ask")
    wait_until(gate.reached.is_set)
    assert running.counts[0] == 1
    connection.close()
    wait_until(lambda: running.questions.running == 0)  # while the pass has not ended
    gate.opened.set()
    wait_until(lambda: running.counts == (0, 0, 0))
    assert httpx.post(f"{running.url}/ask", json={"question": QUESTION}).json() == {"text": "nine crowns a year"}


def test_one_that_waits_leaves_the_queue(running: Running, gate: Gate) -> None:
    uploads = [running.sent("/upload") for _ in range(2)]
    wait_until(lambda: running.counts[:2] == (2, 0))
    connection = running.sent("/ask")
    wait_until(lambda: running.counts[:2] == (2, 1))
    connection.close()
    wait_until(lambda: running.counts[:2] == (2, 0))
    for each in uploads:
        each.close()
    running.finish.set()
    wait_until(lambda: len(running.uploads) == 2)  # begun, so they end


def test_a_whole_response_is_not_disturbed_by_its_clients_leaving(running: Running, gate: Gate) -> None:
    for _ in range(20):
        with httpx.Client() as client:
            assert client.post(f"{running.url}/ask", json={"question": QUESTION}).status_code == 200
    assert running.counts[:2] == (0, 0)


def test_told_to_stop_it_ends_what_has_begun_and_refuses_the_rest(running: Running, gate: Gate) -> None:
    gate.shut()
    with ThreadPoolExecutor() as threads, httpx.Client(timeout=60) as client:

        def post(path: str) -> httpx.Response:
            return client.post(f"{running.url}{path}", json={"question": QUESTION})

        question, upload = threads.submit(post, "/ask"), threads.submit(post, "/upload")
        wait_until(lambda: running.counts[:2] == (2, 0) and gate.reached.is_set())
        waiting = threads.submit(post, "/ask")
        wait_until(lambda: running.counts[:2] == (2, 1))
        running.server.should_exit = True
        refused = waiting.result(30)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert int(refused.headers["Retry-After"]) >= 1
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{running.url}/ask", json={"question": QUESTION}, timeout=5)
        assert running.thread.is_alive()
        gate.opened.set()
        assert question.result(30).json() == {"text": "nine crowns a year"}
        running.finish.set()
        assert upload.result(30).json() == {"count": 1}
    running.thread.join(30)
    assert not running.thread.is_alive() and len(running.uploads) == 1


def test_too_many_at_once_get_429_with_the_time_to_wait(running: Running, gate: Gate) -> None:
    gate.shut()
    connections = [running.sent("/ask") for _ in range(6)]
    wait_until(lambda: running.counts[:2] == (2, 4))
    refused = httpx.post(f"{running.url}/ask", json={"question": QUESTION})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) >= 1
    gate.opened.set()
    for each in connections:
        assert each.recv(15) == b"HTTP/1.1 200 OK"
        each.close()

"""A real server under load: answers per second, waiting times, memory, and whether each answer is the right one.

    mixrag index demo/corpus --store STORE
    python benchmarks/serving.py STORE demo/pairs.jsonl [--clients 1 8 32] [--seconds 60] [-- --engine openvino]

What follows ``--`` are options of ``mixrag serve``. Every question is first asked alone, which also lets the
language model read all passages, as a server that has been asked for a while has. Then so many clients at a time
ask them by ``POST /v1/answers``, each one question after the other, in an order of its own, while files are
uploaded to a second store of the same process, some found there by a question, and deleted. A client that is
refused (429) waits as long as ``Retry-After`` says. ``core s/answer``: seconds of all cores that the server took
for each.

Each answer is compared with that of the question asked alone. ``off``: by how many nats its log-probability
differs at most; in bfloat16 it depends on what is read together. ``other text``: answers with another text, which
rounding may do where two are about as probable; some are printed with both log-probabilities. ``lost``: questions
without an answer, uploads that the list or the passages of a question lack, and deletions that either does not
show. ``mixed up``: answers to other questions. Below the table is the memory of the server, the median of each 10
seconds, its growth by least squares over the last two thirds of the time, and the load of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil

from mixrag.corpus import Store
from mixrag.pairs.pairs import read_pairs

OTHER = "uploads"
"""Name of the store to which files are uploaded."""
TIMEOUT = 600.0
PAUSE = 2.0
"""Seconds between two uploads."""
ASKED = 10
"""Of so many uploads, one is also looked for by a question, which waits like all others."""
PERIOD = 10
"""Seconds of each number of ``Found.trace``."""


@dataclass(frozen=True)
class Alone:
    """What a question asked alone was answered."""

    text: str
    log_prob: float

    @classmethod
    def of(cls, document: dict[str, Any]) -> Alone:
        """From the document of ``/v1/answers``."""
        return cls(document["best_guess"], document["log_prob"])


@dataclass
class Found:
    """What came of one number of clients."""

    clients: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    mixed_up: list[str] = field(default_factory=list)
    other_text: list[str] = field(default_factory=list)
    off: float = 0.0
    uploads: int = 0
    memory: list[float] = field(default_factory=list)
    """Resident MiB of the server, each second."""
    load: list[float] = field(default_factory=list)
    """Processes of the whole machine that run or want to, each second: the mean of the minute before."""
    processor: float = 0.0
    """Seconds of all cores."""
    end: float = 0.0
    least: int = 0

    @property
    def complete(self) -> bool:
        """Whether the time is up, and there are as many answers, and a file, as were wanted at least."""
        return time.perf_counter() >= self.end and (
            not self.least or (self.answers >= self.least and self.uploads > 0)
        )

    @property
    def answers(self) -> int:
        """Right ones and others."""
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds

    def row(self) -> str:
        """Of the Markdown table."""
        p50, p95 = quantile(self.latencies, 0.5), quantile(self.latencies, 0.95)
        half = len(self.memory) // 2
        halves = self.memory[:half], self.memory[half:]
        first, last = (statistics.median(part) if part else math.nan for part in halves)
        return (
            f"| {self.clients} | {self.answers} | {self.rate:.2f} | {p50:.2f} | {p95:.2f} "
            f"| {self.processor / max(1, self.answers):.2f} | {self.refused} "
            f"| {len(self.other_text)} | {self.off:.2g} | {len(self.mixed_up)} | {len(self.lost)} "
            f"| {self.uploads} | {first:.0f} to {last:.0f} |"
        )

    def trace(self) -> str:
        """The memory over time, and what else the machine did."""
        shown = " ".join(f"{statistics.median_low(each):.0f}" for each in _parts(self.memory, PERIOD))
        load = statistics.median(self.load) if self.load else math.nan
        return f"{self.clients} clients: MiB {shown}; {self.growth:+.1f} MiB a minute; load {load:.1f}"

    @property
    def growth(self) -> float:
        """MiB a minute, by least squares over the last two thirds of the time."""
        settled = self.memory[len(self.memory) // 3 :]
        return 60.0 * statistics.linear_regression(range(len(settled)), settled).slope if settled[1:] else 0.0


HEAD = (
    "| clients | answers | answers/s | p50, s | p95, s | core s/answer "
    "| refused | other text | off | mixed up | lost "
    "| uploads | MiB, first to second half |\n|" + " --- |" * 13
)


def _parts(values: Sequence[float], size: int) -> Iterator[Sequence[float]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share is not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


async def ask(client: httpx.AsyncClient, question: str, found: Found | None = None) -> dict[str, Any]:
    """The document of an answer; waits and asks again where the server is busy."""
    while True:
        response = await client.post("/v1/answers", json={"question": question})
        if response.status_code != 429:
            response.raise_for_status()
            document: dict[str, Any] = response.json()
            return document
        if found is not None:
            found.refused += 1
        await asyncio.sleep(float(response.headers["Retry-After"]))


async def asked_alone(address: str, questions: Sequence[str]) -> dict[str, Alone]:
    """Each question by itself, one after the other."""
    async with connected(address) as client:
        return {question: Alone.of(await ask(client, question)) for question in questions}


async def under_load(
    address: str,
    alone: dict[str, Alone],
    clients: int,
    seconds: float,
    store: str | None,
    server: psutil.Process,
    least: int = 0,
) -> Found:
    """So many clients for so many seconds; what is under way then is waited for.

    Args:
        address: of the server.
        alone: the questions, and what each is answered alone.
        clients: each with one question at a time.
        seconds: after which no question is begun.
        store: files are uploaded to it and deleted; None: to none.
        server: its process, whose memory and time are noted.
        least: answers, and one upload with its deletion, before it ends, however long that takes; 0: as many as
            there are.
    """
    start, before = time.perf_counter(), processor(server)
    found = Found(clients, end=start + seconds, least=least)
    async with connected(address) as client:
        work = [one_client(client, alone, number, found) for number in range(clients)]
        others = [] if store is None else [writer(client, store, found)]
        await asyncio.gather(*work, *others, sampled(server, found))
    found.seconds = time.perf_counter() - start
    found.processor = processor(server) - before
    return found


async def one_client(client: httpx.AsyncClient, alone: dict[str, Alone], number: int, found: Found) -> None:
    """Ask until the time is up, and compare."""
    order = [*alone]
    random.Random(number).shuffle(order)
    place = 0
    while not found.complete:
        question, place = order[place % len(order)], place + 1
        began = time.perf_counter()
        try:
            document = await ask(client, question, found)
        except (httpx.HTTPError, KeyError, ValueError) as error:
            found.lost.append(f"{question}: {type(error).__name__} {error}")
            continue
        found.latencies.append(time.perf_counter() - began)
        compare(question, document, alone[question], found)


def compare(question: str, document: dict[str, Any], alone: Alone, found: Found) -> None:
    """Note what differs from the answer alone."""
    mine = Alone.of(document)
    if document["question"] != question:
        found.mixed_up.append(f"{question}: {document['question']}")
    elif mine.text != alone.text:
        pair = [f"{each.text!r} ({each.log_prob:.3f})" for each in (mine, alone)]
        found.other_text.append(f"{question}: {pair[0]}, alone {pair[1]}")
    elif mine.log_prob != alone.log_prob:
        found.off = max(found.off, abs(mine.log_prob - alone.log_prob))


async def writer(client: httpx.AsyncClient, store: str, found: Found) -> None:
    """Upload a file, see it in the list, delete it, see it gone; again and again, some also by a question."""
    number = 0
    while not found.complete:
        number += 1
        name = f"notice-{found.clients}-{number}.txt"
        text = f"Notice {number}: the quarry at Ostervale closes its gate {number} minutes after dusk."
        try:
            document = await uploaded(client, store, name, text)
            asks = number % ASKED == 1
            if asks and (await nearest(client, store, text))[:1] != [text]:
                found.lost.append(f"{name} among the passages")
            gone = await client.delete("/v1/documents", params={"store": store, "document": document})
            gone.raise_for_status()
            if await listed(client, store, name) or (asks and text in await nearest(client, store, text)):
                found.lost.append(f"the deletion of {name}")
            found.uploads += 1
        except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
            found.lost.append(f"{name}: {type(error).__name__} {error}")
        await asyncio.sleep(PAUSE)


async def uploaded(client: httpx.AsyncClient, store: str, name: str, text: str) -> str:
    """Upload a file; its document in the list."""
    form = [("files", (name, text.encode()))]
    response = await client.post("/v1/documents", files=form, params={"store": store})
    response.raise_for_status()
    found: str = (await listed(client, store, name))[0]["document"]
    return found


async def nearest(client: httpx.AsyncClient, store: str, question: str) -> list[str]:
    """Texts of the passages for a question; an empty store has none."""
    while True:
        response = await client.post("/v1/passages", json={"question": question, "model": store})
        if response.status_code == 409 and response.json()["error"]["code"] == "store_empty":
            return []
        if response.status_code != 429:
            response.raise_for_status()
            return [each["text"] for each in response.json()["passages"]]
        await asyncio.sleep(float(response.headers["Retry-After"]))


async def listed(client: httpx.AsyncClient, store: str, name: str) -> list[dict[str, Any]]:
    """The documents of this name."""
    response = await client.get("/v1/documents", params={"store": store, "contains": name})
    response.raise_for_status()
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def sampled(server: psutil.Process, found: Found) -> None:
    """The memory of the server, each second."""
    while not found.complete:
        found.memory.append(server.memory_info().rss / 2**20)
        found.load.append(psutil.getloadavg()[0])
        await asyncio.sleep(1.0)


def processor(server: psutil.Process) -> float:
    """Seconds of all cores that the server has taken."""
    times = server.cpu_times()
    return float(times.user + times.system)


def connected(address: str) -> httpx.AsyncClient:
    """A client whose connections are as many as it needs."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=address, timeout=TIMEOUT, limits=limits)


@contextmanager
def serving(store: Path, options: Sequence[str]) -> Iterator[tuple[str, psutil.Process]]:
    """``mixrag serve`` in a process of its own: its address, and the process."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / OTHER
        Store.open(other, create=True).close()
        given = ["--store", str(store), "--also", f"{OTHER}={other}", "--port", "0", *options]
        command = [sys.executable, "-m", "mixrag", "serve", *given]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                address = next(
                    match[1] for line in process.stderr if (match := re.search(r"open (http://\S+)", line))
                )
                yield address, psutil.Process(process.pid)
            finally:
                process.terminate()


async def measured(address: str, server: psutil.Process, options: argparse.Namespace) -> None:
    """All numbers of clients in turn; a Markdown table."""
    questions = [pair.question for pair in read_pairs([options.pairs]).pairs][: options.questions]
    start = time.perf_counter()
    alone = await asked_alone(address, questions)
    rate = len(alone) / (time.perf_counter() - start)
    print(f"{len(alone)} questions alone, passages read for the first time: {rate:.2f} answers/s")
    print(HEAD, flush=True)
    for clients in options.clients:
        found = await under_load(
            address, alone, clients, options.seconds, OTHER if options.writes else None, server
        )
        print(found.row(), flush=True)
        print(f"    {found.trace()}", file=sys.stderr)
        for kind in (found.mixed_up, found.lost, found.other_text):
            for line in sorted(set(kind))[:5]:
                print(f"    {line}", file=sys.stderr)


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The arguments before and behind ``--``."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def main() -> None:
    """Start the server, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each number of clients")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--no-writes", dest="writes", action="store_false", help="neither uploads nor deletions")
    own, serve = split(sys.argv[1:])
    options = parser.parse_args(own)
    with serving(options.store, serve) as (address, server):
        asyncio.run(measured(address, server, options))


if __name__ == "__main__":
    main()

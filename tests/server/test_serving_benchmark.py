"""The load test of benchmarks/serving.py, for some seconds: a tiny model, uploads and deletions meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from served import listening

from mixrag import RAG, Generator, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.questions import Limits, Questions
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from serving import Alone, Found, asked_alone, compare, quantile, under_load
from words_encoder import WordsEncoder

CLIENTS, ANSWERS = 8, 40
FISH = ("cod", "eel", "pike", "trout", "perch", "carp", "bream", "roach", "tench", "zander")
QUESTIONS = [f"What does a licence to fish {fish} cost?" for fish in FISH]


@pytest.fixture
def service(tmp_path: Path, tiny_generator: Callable[[str], Generator]) -> Iterator[Service]:
    rag = RAG(
        Store.open(tmp_path / "store", create=True),
        encoder=WordsEncoder(),
        generator=tiny_generator("llama"),
        settings=Settings(k=3, max_tokens=6, decoder="beam", beams=3),
    )
    with rag:
        texts = [f"A licence to fish {fish} costs {n} crowns a year." for n, fish in enumerate(FISH, 2)]
        rag.add([{"id": fish, "text": text} for fish, text in zip(FISH, texts, strict=True)])
        yield Service(Stores([Served("demo", rag)]), Questions(Limits(threads=6, waiting=64)))


def test_nothing_is_lost_or_mixed_up_under_load(service: Service) -> None:
    async def loaded(address: str) -> Found:
        alone = await asked_alone(address, QUESTIONS)
        assert len({each.log_prob for each in alone.values()}) == len(QUESTIONS)
        return await under_load(address, alone, CLIENTS, 1.0, "demo", psutil.Process(), least=ANSWERS)

    with listening(make_app(service)) as address:
        found = asyncio.run(loaded(address))
    assert not found.lost and not found.mixed_up and not found.other_text
    assert found.off < 1e-3  # float32, read in other batches
    assert found.answers >= ANSWERS and found.uploads and not found.refused and min(found.memory) > 0
    assert (service.questions.running, service.questions.waiting, service.questions.batches.answers) == (0, 0, 0)
    assert found.row().startswith(f"| {CLIENTS} | {found.answers} |")


def test_what_differs_is_told_apart() -> None:
    found, alone = Found(1), Alone("nine crowns", -1.0)
    document = {"question": "q", "best_guess": "nine crowns", "log_prob": -1.25}
    compare("q", document, alone, found)
    assert found.off == 0.25 and not found.other_text and not found.mixed_up
    compare("q", {**document, "best_guess": "ten"}, alone, found)
    compare("other", document, alone, found)
    assert len(found.other_text) == 1 and len(found.mixed_up) == 1


def test_memory_is_shown_over_time() -> None:
    flat, leak = Found(2, memory=[100.0 + second % 2 for second in range(60)]), Found(2)
    leak.memory = [100.0 + second for second in range(60)]
    assert abs(flat.growth) < 1.0 and leak.growth == pytest.approx(60.0)
    assert leak.trace().startswith("2 clients: MiB 104 114 124 134 144 154; +60.0 MiB a minute; load ")
    assert Found(1).growth == 0.0


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert quantile([*map(float, range(100))], 0.95) == 94.0
    assert math.isnan(quantile([], 0.5))

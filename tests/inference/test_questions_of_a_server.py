"""Several questions to a model behind a server: asked side by side, with the answers of one by one."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import cache
from typing import Any

import httpx2
import pytest
import torch

from fake_server import FakeServer, random_model
from mixrag.errors import ServerError
from mixrag.generator.protocol import QUESTIONS_AT_A_TIME
from mixrag.generator.remote.client import Limits
from mixrag.generator.remote.connection import connect
from mixrag.inference.candidates import Candidates
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.token_mixing import TokenMixing
from tables import passage
from tiny_models import chat_tokenizer

SECONDS = 20
TOGETHER = 4
COUNT = 20
DECODERS = [Candidates(), TokenMixing()]
PASSAGES = [passage(f"p{j}", text) for j, text in enumerate(("nine crowns", "four crowns"))]
LOG_PRIOR = torch.tensor([0.6, 0.4], dtype=torch.float64).log()


@cache
def tokenizer() -> Any:
    return chat_tokenizer()


class Shared:
    """A server that answers nobody before ``TOGETHER`` requests are under way, once ``waits`` is set."""

    def __init__(self) -> None:
        own = tokenizer()
        self.server = FakeServer(
            random_model(len(own), scale=3.0),
            frozenset({own.eos_token_id}),
            tokenize=lambda text: own(text, add_special_tokens=False).input_ids,
            detokenize=own.decode,
        )
        self.waits = self.fails = False
        self.running = self.most = self.aborted = self.count = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.running, self.count = self.running + 1, self.count + 1
        self.most = max(self.most, self.running)
        try:
            await self._waited()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1
        if self.fails:
            return httpx2.Response(400, json={"error": "no"})
        document = json.loads(request.content) if request.content else None
        found = self.server.answer(request.url.path, document, dict(request.headers))
        return httpx2.Response(200, content=json.dumps(found).encode())

    async def _waited(self) -> None:
        if self.fails and self.count < TOGETHER:
            await asyncio.Event().wait()  # until one of the others fails
        async with asyncio.timeout(SECONDS):
            while self.waits and self.most < TOGETHER:
                await asyncio.sleep(0.001)

    def mixtures(self) -> list[Mixture]:
        generator: Any = connect(
            "http://server.test/v1",
            tokenizer=tokenizer(),
            transport=httpx2.MockTransport(self),
            limits=Limits(requests=TOGETHER, answer=2 * SECONDS),
        )
        self.most = self.count = 0
        asked = [f"What does number {place} cost?" for place in range(COUNT)]
        return [condition(generator, question, PASSAGES, LOG_PRIOR) for question in asked]


@pytest.mark.parametrize("decoder", DECODERS)
def test_answers_are_those_of_one_by_one_and_requests_overlap(decoder: Any) -> None:
    shared = Shared()
    mixtures = shared.mixtures()
    shared.waits = True
    together = list(decoder.decode_batch(mixtures, 3))
    assert shared.most == TOGETHER, "as many as the client may send, and no more"
    shared.waits = False
    alone = [[*decoder.decode(mixture, 3)][-1] for mixture in shared.mixtures()]
    assert len(together) == COUNT > QUESTIONS_AT_A_TIME
    for one, other in zip(together, alone, strict=True):
        assert [each.tokens for each in one.answers] == [each.tokens for each in other.answers]
        assert [each.log_prob for each in one.answers] == [each.log_prob for each in other.answers]
        assert one.certified == other.certified
    assert len({each.answers[0].log_prob for each in together}) > 1, "else the order would not be seen"


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_error_of_one_question_ends_the_others(decoder: Any) -> None:
    shared = Shared()
    mixtures = shared.mixtures()
    shared.fails = True
    with pytest.raises(ServerError, match="400"):
        list(decoder.decode_batch(mixtures, 3))
    assert not [each for each in threading.enumerate() if each.name.startswith("mixrag-concurrent")]
    assert shared.count < COUNT
    assert list(decoder.decode_batch([], 3)) == []

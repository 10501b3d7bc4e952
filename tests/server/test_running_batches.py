"""Decoders of several threads: those that join a batch, those of one call for several, those by themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch
from gated import Gate, gated

from enumeration import Toy
from mixrag.errors import StreamClosedError
from mixrag.inference.decoders import Beam, Greedy
from mixrag.inference.mixture import Mixture
from mixrag.inference.protocol import DecodedToken, Decoder, DecoderResult
from mixrag.server.batches import Batches, InBatch
from tables import toy_mixture

LIMIT = 5
WHOLE = toy_mixture(Toy([0.4, 0.3, 0.2, 0.1], seed=23, vocabulary=4, length=LIMIT), 0.0)
SKEWED = replace(WHOLE, unconditioned_log_prior=torch.tensor([0.1, 0.1, 0.7, 0.1], dtype=torch.float64).log())
TOYS = (WHOLE, SKEWED, replace(WHOLE, switch=1.0), replace(WHOLE, switch=0.2, empty_answer=True), WHOLE.alone(1))


def decoded(decoder: Decoder, mixture: Mixture) -> list[DecodedToken | DecoderResult]:
    return [*decoder.decode(mixture, LIMIT)]


def result(decoder: Decoder, mixture: Mixture) -> DecoderResult:
    *_, found = decoded(decoder, mixture)
    assert isinstance(found, DecoderResult)
    return found


def same(found: DecoderResult, alone: DecoderResult) -> None:
    assert [each.tokens for each in found.answers] == [each.tokens for each in alone.answers]
    assert found.answers[0].log_prob == pytest.approx(alone.answers[0].log_prob)


def together(decoder: Decoder, mixtures: Sequence[Mixture], batches: Batches) -> list[DecoderResult]:
    """Each in a thread of its own."""
    with ThreadPoolExecutor(len(mixtures)) as threads:
        return [*threads.map(lambda mixture: result(batches.decoder(decoder), mixture), mixtures)]


@pytest.mark.parametrize("rows", [1, 5, 80])
@pytest.mark.parametrize("decoder", [Greedy(prune=0.0), Greedy(prune=0.3), Beam(3), Beam(2, samples=1)], ids=str)
def test_threads_get_what_each_gets_alone(decoder: Decoder, rows: int) -> None:
    batches, mixtures = Batches(rows), [*TOYS, *reversed(TOYS)]
    for found, mixture in zip(together(decoder, mixtures, batches), mixtures, strict=True):
        same(found, result(decoder, mixture))
    assert batches.answers == 0


@dataclass(frozen=True)
class Calls:
    """Decodes several in one call, as an engine does that mixes branches itself."""

    sizes: list[int] = field(default_factory=list, compare=False)
    wait: threading.Event = field(default_factory=threading.Event, compare=False)
    fails_at: int = 100
    inner: Any = field(default=Greedy(prune=0.0))
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = True

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        self.sizes.append(-1)
        yield from self.inner.decode(mixture, max_tokens)

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        self.sizes.append(len(mixtures))
        self.wait.wait()
        for number, each in enumerate(self.inner.decode_batch(mixtures, max_tokens)):
            if number == self.fails_at:
                raise ValueError("half way")
            yield each


def until(true: Any) -> None:
    while not true():
        threading.Event().wait(0.002)


@pytest.mark.parametrize("fails_at", [100, 2])
def test_decoders_of_whole_batches_get_those_that_wait_in_one_call(fails_at: int) -> None:
    calls, batches = Calls(fails_at=fails_at), Batches()
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(result, batches.decoder(calls), WHOLE)
        until(lambda: calls.sizes == [1])
        others = [threads.submit(result, batches.decoder(calls), each) for each in TOYS]
        until(lambda: batches.answers == 5)
        calls.wait.set()
        same(first.result(), result(Greedy(prune=0.0), WHOLE))
        for found, mixture in zip(others, TOYS, strict=True):
            same(found.result(), result(Greedy(prune=0.0), mixture))
    assert calls.sizes[:2] == [1, 5] and calls.sizes[2:] == ([] if fails_at == 100 else [-1] * 3)


def test_unlike_decoders_wait_for_one_another() -> None:
    """One of calls, one that joins, and calls again, which all have one model."""
    calls, batches, order = Calls(), Batches(), list[str]()
    with ThreadPoolExecutor(4) as threads:

        def ask(name: str, decoder: Decoder) -> DecoderResult:
            found = result(batches.decoder(decoder), WHOLE)
            order.append(name)
            return found

        asked = [threads.submit(ask, "first call", calls)]
        until(lambda: calls.sizes == [1])
        for number, (name, decoder) in enumerate([("beam", Beam(2)), ("second call", calls)], 1):
            asked.append(threads.submit(ask, name, decoder))
            until(lambda n=number: sum(not each.done() for each in asked) == n + 1 and batches.answers >= n)
        calls.wait.set()
        for each in asked:
            each.result()
    assert sorted(order) == ["beam", "first call", "second call"] and calls.sizes == [1, 1]


def test_cancelled_before_it_begins_while_it_waits_and_while_it_runs() -> None:
    gate, batches = Gate(), Batches(rows=4)
    mixture = replace(WHOLE, generator=gated(WHOLE.generator, gate))
    early = batches.decoder(Greedy())
    early.cancel()
    with pytest.raises(StreamClosedError):
        decoded(early, mixture)
    gate.shut()
    with ThreadPoolExecutor(2) as threads:
        running, waiting = batches.decoder(Beam(2)), batches.decoder(Beam(2))
        first = threads.submit(decoded, running, mixture)
        until(gate.reached.is_set)
        second = threads.submit(decoded, waiting, mixture)
        until(lambda: batches.answers == 2)
        for decoder, future in ((waiting, second), (running, first)):
            decoder.cancel()
            with pytest.raises(StreamClosedError):
                future.result(10)
        gate.opened.set()
    until(lambda: batches.answers == 0)


def test_tokens_that_were_given_are_not_given_again_after_a_failure() -> None:
    """The pass fails once, after the first token."""
    gate, batches, failed = Gate(), Batches(), list[int]()
    mixture = replace(WHOLE, generator=gated(WHOLE.generator, gate))

    def fail_once(rows: int) -> None:
        if not failed:
            failed.append(rows)
            raise MemoryError

    gate.passed = fail_once  # type: ignore[method-assign]
    found, alone = decoded(batches.decoder(Greedy(prune=0.0)), mixture), decoded(Greedy(prune=0.0), WHOLE)
    assert failed and len(found) == len(alone) > 2
    for mine, other in zip(found[:-1], alone[:-1], strict=True):
        assert isinstance(mine, DecodedToken) and isinstance(other, DecodedToken)
        assert mine.token == other.token
    same(found[-1], alone[-1])  # type: ignore[arg-type]


def test_a_generator_behind_a_server_is_asked_by_each_thread() -> None:
    @dataclass(frozen=True)
    class Remote:
        inner: Any
        capabilities: str = "all"

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    batches = Batches()
    mixture = replace(WHOLE, generator=Remote(WHOLE.generator))
    decoder = batches.decoder(Greedy(prune=0.0))
    steps = decoder.decode(mixture, LIMIT)
    assert isinstance(next(steps), DecodedToken) and batches.answers == 0
    same(result(InBatch(Greedy(prune=0.0), batches), mixture), result(Greedy(prune=0.0), WHOLE))

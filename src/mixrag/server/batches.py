"""Questions of several threads in one running batch for each language model.

``Batches.decoder`` puts a decoder of the same answers in the place of one that a stream has. The thread that reads
the stream waits, while a thread of the batch makes the passes of the model for all answers under way.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from queue import SimpleQueue
from threading import Lock, Thread

from torch import Tensor

from mixrag.errors import StreamClosedError
from mixrag.generator import Generator
from mixrag.generator.branch_mixing import mixes_branches
from mixrag.generator.mixed import MixedGenerator
from mixrag.generator.protocol import lists_tokens, writes_answers
from mixrag.inference.continuous import Left, RunningBatch, Writing
from mixrag.inference.decoders import begun, decode_all
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture
from mixrag.inference.protocol import DecodedToken, Decoder, DecoderResult

_LOG = logging.getLogger("mixrag.server")

ROWS = 80
"""Rows of the language model in one running batch, unless a single question needs more: bounds its memory."""


class _Cancelled:
    """The client of an answer has gone."""


class _Alone:
    """An answer has to be decoded by itself, since something was raised by a pass that it shared."""


Event = DecodedToken | DecoderResult | Exception | _Cancelled | _Alone | None
"""What happens to an answer in a batch; None: it has ended."""


class Batches:
    """The running batches of a process; each lasts, with its thread, as long as there is an answer in it."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows = rows
        self._lock = Lock()
        self._batches: dict[Hashable, _Batch] = {}

    def decoder(self, decoder: Decoder) -> InBatch:
        """A decoder for the answer that ``decoder`` finds, in a batch with others where that is possible."""
        return InBatch(decoder, self)

    @property
    def answers(self) -> int:
        """Answers in all batches, those that wait for their rows included."""
        with self._lock:
            return sum(each.size for each in self._batches.values())

    def add(self, asked: Asked) -> None:
        """Let an answer join the batch of its model, which begins with it if there is none."""
        key = _key(asked.mixture.generator)
        with self._lock:
            batch = self._batches.get(key)
            if batch is None:
                batch = self._batches[key] = _Batch(self, key)
                batch.waiting.append(asked)
                Thread(target=batch.run, name="mixrag-batch", daemon=True).start()
            else:
                batch.waiting.append(asked)

    def _taken(self, batch: _Batch) -> list[Asked] | None:
        """What may join a batch now; None: there is nothing left, and the batch has ended."""
        with self._lock:
            batch.waiting = [each for each in batch.waiting if not each.cancelled]
            if not batch.waiting and not batch.answers:
                del self._batches[batch.key]
                return None
            found = batch.fitting(self.rows)
            batch.waiting = [each for each in batch.waiting if each not in found]
            return found

    def _dissolved(self, batch: _Batch) -> list[Asked]:
        """All that are in a batch, which is no more."""
        with self._lock:
            del self._batches[batch.key]
            return [*batch.waiting, *(each.asked for each in batch.answers)]


class InBatch:
    """A decoder for one answer."""

    def __init__(self, decoder: Decoder, batches: Batches) -> None:
        self.inner, self._batches = decoder, batches
        self._asked: Asked | None = None
        self._cancelled = False

    @property
    def streams(self) -> bool:
        """As the decoder itself."""
        return self.inner.streams

    @property
    def certifies(self) -> bool:
        """As the decoder itself."""
        return self.inner.certifies

    @property
    def batches(self) -> bool:
        """It is for one answer."""
        return False

    def cancel(self) -> None:
        """Let the answer leave its batch; from any thread, at any time.

        ``decode`` then raises ``StreamClosedError`` in the place of what was to come.
        """
        self._cancelled = True
        if self._asked is not None:
            self._asked.cancel()

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``; waits while others make its passes."""
        asked = self._asked = Asked(self.inner, mixture, max_tokens)
        if self._cancelled:
            raise _gone()
        if not asked.shares:
            yield from self.inner.decode(mixture, max_tokens)
            return
        self._batches.add(asked)
        try:
            yield from asked.found()
        finally:
            asked.cancel()


class Asked:
    """An answer in a batch, or waiting for it: what happens to it, for the thread that asked."""

    def __init__(self, decoder: Decoder, mixture: Mixture, max_tokens: int) -> None:
        self.decoder, self.mixture, self.max_tokens = decoder, mixture, max_tokens
        self.writing = None if _elsewhere(mixture.generator) else begun(decoder, mixture, max_tokens)
        self.cancelled = False
        self._events: SimpleQueue[Event] = SimpleQueue()

    @property
    def shares(self) -> bool:
        """Whether it is decoded with others: token by token, or in one call of a decoder that batches."""
        return self.writing is not None or self.together

    @property
    def together(self) -> bool:
        """Whether it is decoded with others in one call."""
        return self.writing is None and self.decoder.batches and not _elsewhere(self.mixture.generator)

    @property
    def rows(self) -> int:
        """The most rows of the model that it takes."""
        return len(self.mixture.components) if self.writing is None else self.writing.rows

    def put(self, event: Event) -> None:
        """Something has happened."""
        self._events.put(event)

    def cancel(self) -> None:
        """Nobody waits for it any longer."""
        self.cancelled = True
        self._events.put(_Cancelled())

    def found(self) -> Iterator[DecodedToken | DecoderResult]:
        """What its decoder would yield, as it happens."""
        seen = 0
        while (event := self._events.get()) is not None:
            if isinstance(event, DecodedToken):
                seen += 1
                yield event
            elif isinstance(event, DecoderResult):
                yield event
                return
            elif isinstance(event, _Alone):
                yield from self._alone(seen)
                return
            else:
                raise _gone() if isinstance(event, _Cancelled) else event
        assert self.writing is not None
        yield self.writing.result()

    def _alone(self, seen: int) -> Iterator[DecodedToken | DecoderResult]:
        """Decode it once more, in this thread, without the tokens that were seen, which are the same again."""
        for number, each in enumerate(self.decoder.decode(self.mixture, self.max_tokens)):
            if number >= seen or isinstance(each, DecoderResult):
                yield each


class _Member:
    """The ``Writing`` of an answer, which reports each step."""

    def __init__(self, asked: Asked, writing: Writing) -> None:
        self.asked, self._writing = asked, writing

    @property
    def mixture(self) -> Mixture:
        return self._writing.mixture

    @property
    def rows(self) -> int:
        return self._writing.rows

    @property
    def step(self) -> DecodedToken | None:
        return self._writing.step

    @property
    def continued(self) -> tuple[Tensor, Tensor]:
        return self._writing.continued

    def result(self) -> DecoderResult:
        return self._writing.result()

    def extend(self, state: DecodingState) -> bool:
        if self.asked.cancelled:
            return True
        ended = self._writing.extend(state)
        if self._writing.step is not None:
            self.asked.put(self._writing.step)
        if ended:
            self.asked.put(None)
        return ended

    def drop(self, state: DecodingState) -> Tensor | None:
        return self._writing.drop(state)


class _Batch:
    """One model's batch, and who waits for it; ``waiting`` is guarded by the lock of ``Batches``."""

    def __init__(self, batches: Batches, key: Hashable) -> None:
        self.key, self._batches = key, batches
        self.waiting: list[Asked] = []
        self.answers: list[_Member] = []
        self._running = RunningBatch()

    @property
    def size(self) -> int:
        return len(self.waiting) + len(self.answers)

    def fitting(self, rows: int) -> list[Asked]:
        """Those of ``waiting`` that may join now: as many as there are rows for, in their order.

        Where the model's branches cannot join, or one call decodes them, those that wait are read together when
        the others have ended.
        """
        found, free = list[Asked](), rows - self._running.rows
        if self.answers and not self._running.joins:
            return found
        for each in self.waiting:
            if each.together and (self.answers or (found and not _alike(found[0], each))):
                break
            if (self.answers or found) and (each.rows > free or (found and found[0].together != each.together)):
                break
            found.append(each)
            free -= each.rows
        return found

    def run(self) -> None:
        """Make passes until nobody is left."""
        try:
            while (joining := self._batches._taken(self)) is not None:
                if joining and joining[0].together:
                    self._decode(joining)
                    continue
                self._join(joining)
                self._step()
        except BaseException as error:
            _LOG.error("a running batch has ended", exc_info=error)
            for asked in self._batches._dissolved(self):
                asked.put(_Alone())

    def _decode(self, asked: Sequence[Asked]) -> None:
        """One call for several."""
        done = 0
        try:
            for each, result in zip(
                asked,
                decode_all(asked[0].decoder, [each.mixture for each in asked], asked[0].max_tokens),
                strict=True,
            ):
                each.put(result)
                done += 1
        except Exception:
            _LOG.info("answers that were decoded together are decoded one by one", exc_info=True)
            for each in asked[done:]:
                each.put(_Alone())

    def _join(self, asked: Sequence[Asked]) -> None:
        """Let answers join, one by one where they cannot all: what is raised belongs to the one that raises it."""
        members = [_Member(each, each.writing) for each in asked if each.writing is not None]
        try:
            self._running.add(members)
            self.answers += members
        except Exception as error:
            if len(members) == 1:
                members[0].asked.put(error)
                return
            for member in members:
                self._join([member.asked])

    def _step(self) -> None:
        for member in [each for each in self.answers if each.asked.cancelled]:
            self._left(Left(member))
            self._running.remove(member)
        try:
            for left in self._running.step():
                self._left(left)
        except Exception:
            _LOG.info("answers of a batch are decoded one by one", exc_info=True)
            for member in self.answers:
                member.asked.put(_Alone())
            self.answers, self._running = [], RunningBatch()

    def _left(self, left: Left) -> None:
        member = next(each for each in self.answers if each is left.writing)
        self.answers.remove(member)
        if left.error is not None:
            member.asked.put(left.error)


def _key(generator: Generator) -> Hashable:
    """Equal for generators whose rows can be in one batch."""
    if isinstance(generator, MixedGenerator):
        return tuple(map(id, generator.generators))
    return id(generator)


def _elsewhere(generator: Generator) -> bool:
    """Whether a server does the work, which is asked for several answers at a time."""
    remote = getattr(generator, "capabilities", None) is not None
    return remote or writes_answers(generator) or (lists_tokens(generator) and not mixes_branches(generator))


def _alike(one: Asked, other: Asked) -> bool:
    """Whether one call decodes both."""
    return (
        other.together
        and one.mixture.generator is other.mixture.generator
        and one.max_tokens == other.max_tokens
        and one.decoder == other.decoder
    )


def _gone() -> StreamClosedError:
    return StreamClosedError("a stream that was read to its end", "one closed before it", "ask again")

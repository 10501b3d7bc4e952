"""Vectors are computed by actors, each of which loads the encoder once; batches are those of a single process.

This process decides which texts share a batch and hands batches out in their order, a few ahead of the workers. An
actor that dies is replaced, and what it had is done again. A batch at which an actor died is given to one that has
nothing else, so that it is known what it died of; if that happens again and again the batch is halved, until the
text at which actors die is alone, and refused.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from mixrag.corpus.embedder import Embed, Embedded
from mixrag.errors import ClusterError, MixragError
from mixrag.utils.arrays import Vectors

AHEAD = 2
"""Batches that an actor has at a time."""
DEATHS = 2
"""Of actors at one batch, before it is halved or refused."""
START_SECONDS = 600.0
"""How long no actor at all may be ready, at the beginning or after the last one died."""
LOSSES = 3
"""Of the vectors of a batch by the cluster, before the run ends."""
_STARTS = 3
"""Actors that may die before the first one is ready."""


class Portable(Protocol):
    """An encoder as it is sent to workers."""

    def encode(self, threads: int | None) -> Embed:
        """The encoder, loaded in the process of a worker; ``threads`` of the processor, or None on a GPU.

        Raises:
            MixragError: it cannot be loaded there, or is another one.
        """
        ...


@dataclass(frozen=True, slots=True)
class Size:
    """How many actors there are, and what each has."""

    actors: int
    gpus: float
    """GPUs of an actor."""
    threads: int | None
    """Of an actor; None on a GPU."""

    @property
    def resources(self) -> Mapping[str, float]:
        """What Ray reserves for an actor; half of a processor is left for reading."""
        return {"num_cpus": max(1.0, float(self.threads or 1)) / 2, "num_gpus": self.gpus}


class EncoderActor:
    """In a worker: the encoder."""

    def __init__(self, portable: Portable, threads: int | None) -> None:
        self._portable, self._threads = portable, threads
        self._encode: Embed | None = None

    def ready(self) -> bool:
        """Load the encoder; True."""
        self._encode = self._portable.encode(self._threads)
        return True

    def encode(self, texts: list[str]) -> Vectors:
        """(B, D) float32."""
        assert self._encode is not None
        return np.ascontiguousarray(self._encode(texts), dtype="<f4")


@dataclass(eq=False, slots=True)
class _Batch:
    """Texts that are encoded together, or their halves."""

    texts: list[str]
    deaths: int = 0
    losses: int = 0
    vectors: Vectors | None = None
    refused: bool = False
    halves: tuple[_Batch, _Batch] | None = None

    @property
    def done(self) -> bool:
        if self.halves:
            return self.halves[0].done and self.halves[1].done
        return self.refused or self.vectors is not None

    def rows(self) -> list[Vectors | None]:
        """(D,) of each text; None: it is refused."""
        if self.halves:
            return self.halves[0].rows() + self.halves[1].rows()
        return [None] if self.vectors is None else [*self.vectors]


@dataclass(eq=False, slots=True)
class _Worker:
    """An actor, and what it is at work on."""

    actor: Any
    ready: bool = False
    running: dict[Any, _Batch | None] = field(default_factory=dict)
    """By the reference of the result; None: its start."""


class EncoderPool:
    """``Embedder`` of the cluster that this process is connected to.

    Args:
        ray: the module.
        portable: makes the encoder that is sent, when the first batch comes.
        size: of the pool.
    """

    def __init__(self, ray: Any, portable: Callable[[], Portable], size: Size) -> None:
        self._ray, self._portable, self._size = ray, portable, size
        self.ahead = size.actors * (AHEAD + 1)
        self._queue: deque[_Batch] = deque()
        self._workers: list[_Worker] = []
        self._make: Callable[[], Any] | None = None
        self._started, self._failed_starts = 0.0, 0

    def submit(self, texts: list[str]) -> Callable[[], Embedded]:
        """See ``Embedder.submit``."""
        batch = _Batch(texts)
        self._queue.append(batch)
        self._start()
        self._hand_out()
        return partial(self._result, batch)

    def close(self) -> None:
        """End all actors."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()

    def _start(self) -> None:
        if self._make is None:
            # One copy in the object store; each machine fetches it once.
            sent = self._ray.put(self._portable())
            made = self._ray.remote(EncoderActor).options(max_restarts=0, **self._size.resources)
            self._make = partial(made.remote, sent, self._size.threads)
            self._started = time.monotonic()
            for _ in range(self._size.actors):
                self._add()

    def _add(self) -> None:
        assert self._make is not None
        actor = self._make()
        self._workers.append(_Worker(actor, running={actor.ready.remote(): None}))

    def _result(self, batch: _Batch) -> Embedded:
        while not batch.done:
            self._hand_out()
            self._wait()
        rows = batch.rows()
        refused = tuple(position for position, row in enumerate(rows) if row is None)
        vectors = [row for row in rows if row is not None]
        return Embedded(np.stack(vectors) if vectors else np.empty((0, 0), "<f4"), refused)

    def _hand_out(self) -> None:
        """Give batches to actors that have room, in their order; a suspect to one that has nothing else."""
        while self._queue:
            batch = self._queue[0]
            most = 1 if batch.deaths else AHEAD
            free = [w for w in self._workers if w.ready and len(w.running) < most and not _has_suspect(w)]
            if not free:
                return
            worker = min(free, key=lambda each: len(each.running))
            worker.running[worker.actor.encode.remote(batch.texts)] = batch
            self._queue.popleft()

    def _wait(self) -> None:
        """Until one result or more are there."""
        references = [reference for worker in self._workers for reference in worker.running]
        done, _ = self._ray.wait(references, num_returns=1, timeout=5.0)
        for reference in done:
            worker = next((each for each in self._workers if reference in each.running), None)
            if worker is not None:  # else it died meanwhile
                self._take(worker, reference)
        if not done and not any(worker.ready for worker in self._workers):
            self._check_start()

    def _take(self, worker: _Worker, reference: Any) -> None:
        exceptions = self._ray.exceptions
        try:
            found = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            raise _raised(error) from error
        except (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
            self._replace(worker, error)
            return
        except exceptions.ObjectLostError as error:
            self._do_again(worker, reference, error)
            return
        except exceptions.RayError as error:
            raise ray_failed("vectors from the encoder of a worker", error) from error
        batch = worker.running.pop(reference)
        if batch is None:
            worker.ready, self._failed_starts = True, 0
        else:
            batch.vectors = found

    def _do_again(self, worker: _Worker, reference: Any, error: Exception) -> None:
        """Let what was computed, and lost before it came here, be computed once more."""
        batch = worker.running.pop(reference)
        if batch is None:
            worker.ready = True  # what is lost says no more than that
            return
        batch.losses += 1
        if batch.losses >= LOSSES:
            raise ray_failed(f"vectors that are not lost {LOSSES} times", error) from error
        self._queue.appendleft(batch)

    def _replace(self, worker: _Worker, error: Exception) -> None:
        """Another actor for one that died; what it was at work on comes first."""
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                found = f"that {_STARTS} of them died ({' '.join(str(error).split())[-200:]})"
                remedy = "give them more memory, or fewer --ray-encoders"
                raise ClusterError("encoders that can be loaded by workers", found, remedy)
        self._workers.remove(worker)
        if worker.ready and not any(each.ready for each in self._workers):
            self._started = time.monotonic()
        lost = [batch for batch in worker.running.values() if batch is not None]
        for batch in reversed(lost):
            batch.deaths += 1
            self._queue.extendleft(reversed(_again(batch)))
        self._add()

    def _check_start(self) -> None:
        if time.monotonic() - self._started > START_SECONDS:
            wanted = ", ".join(f"{value:g} {name}" for name, value in self._size.resources.items() if value)
            found = f"none within {START_SECONDS:.0f} s, each of {wanted}"
            raise ClusterError(
                "encoders that start on the cluster", found, "give it more, or fewer --ray-encoders"
            )


def _has_suspect(worker: _Worker) -> bool:
    return any(batch is not None and batch.deaths for batch in worker.running.values())


def _again(batch: _Batch) -> list[_Batch]:
    """What is still to be done of a batch at which an actor died."""
    # The first time it may have been another batch of that actor.
    if batch.deaths <= DEATHS:
        return [batch]
    if len(batch.texts) == 1:
        batch.refused = True
        return []
    middle = len(batch.texts) // 2
    # One more death of an actor that has nothing else is enough to halve again.
    batch.halves = _Batch(batch.texts[:middle], DEATHS), _Batch(batch.texts[middle:], DEATHS)
    return [*batch.halves]


def ray_failed(expected: str, error: Exception) -> ClusterError:
    """An error of Ray itself, on one line."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ClusterError(expected, reason, "look into the state of the cluster: ray status")


def _raised(error: Any) -> MixragError:
    """What an actor raised, as it would be raised in one process where mixrag raised it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MixragError):
        return cause
    reason = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
    return ClusterError("vectors from the encoder of a worker", reason, "look into the logs of Ray")

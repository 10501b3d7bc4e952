"""What is lost on the way, and errors of Ray itself: stand-ins for its module, no cluster."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
from ray import exceptions

from mixrag.corpus.distributed import encoders
from mixrag.corpus.distributed.encoders import EncoderPool, Size
from mixrag.corpus.distributed.reading import RayReader
from mixrag.errors import ClusterError

LOST = exceptions.ObjectLostError("ab", None, "")
DIED = exceptions.ActorDiedError()


class Method:
    """Of an actor: a call has a reference, which says what it gives."""

    def __init__(self, give: Callable[..., Any]) -> None:
        self.give = give

    def remote(self, *arguments: Any) -> Any:
        """The reference."""
        return Reference(lambda: self.give(*arguments))


class Reference:
    """To a result."""

    def __init__(self, give: Callable[[], Any]) -> None:
        self.give = give


class FakeRay:
    """As much of the module as the pool calls.

    Args:
        events: what each call of ``encode`` does, in their order: raise an error, or None for its result.
    """

    def __init__(self, *events: Exception | None) -> None:
        self.exceptions, self.events, self.actors = exceptions, list(events), 0
        self.waits: list[Callable[[], bool]] = []
        """Whether a call of ``wait`` finds something; those that follow all do."""

    def put(self, value: Any) -> Any:
        """A reference."""
        return value

    def remote(self, _: Any) -> Any:
        """What makes actors."""
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._actor))

    def _actor(self, *_: Any) -> Any:
        self.actors += 1
        return SimpleNamespace(ready=Method(lambda: True), encode=Method(self._encoded))

    def _encoded(self, texts: list[str]) -> Any:
        event = self.events.pop(0) if self.events else None
        if event is not None:
            raise event
        return np.array([[len(text)] for text in texts], "<f4")

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        """The first one is there."""
        if self.waits and not self.waits.pop(0)():
            return [], references
        return references[:1], references[1:]

    def get(self, reference: Any) -> Any:
        """A result."""
        return reference.give()


def pool(ray: FakeRay) -> EncoderPool:
    return EncoderPool(ray, lambda: None, Size(1, 0.0, 1))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "error",
    [LOST, exceptions.OwnerDiedError("ab", None, ""), exceptions.ObjectFetchTimedOutError("ab", None, "")],
)
def test_vectors_that_were_lost_are_computed_again(error: Exception) -> None:
    ray = FakeRay(error, None, error)
    made = pool(ray)
    results = [made.submit([text]) for text in ("a", "bb", "ccc")]
    assert [result().vectors.tolist() for result in results] == [[[1.0]], [[2.0]], [[3.0]]]
    assert ray.actors == 1


def test_vectors_that_are_lost_again_and_again_end_the_run() -> None:
    with pytest.raises(ClusterError, match="not lost 3 times") as error:
        pool(FakeRay(*[LOST] * 3)).submit(["a"])()
    assert "\n" not in str(error.value)


def test_other_errors_of_ray_are_one_line() -> None:
    with pytest.raises(ClusterError, match="RaySystemError") as error:
        pool(FakeRay(exceptions.RaySystemError("that\nbroke"))).submit(["a"])()
    assert "\n" not in str(error.value)


def test_a_replacement_has_as_long_to_start_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(encoders.time, "monotonic", lambda: now[0])
    ray = FakeRay(None, DIED)
    made = pool(ray)
    assert made.submit(["a"])().vectors.tolist() == [[1.0]]
    now[0] += encoders.START_SECONDS + 1  # then the only actor dies, and its replacement is not there at once

    def slow() -> bool:
        now[0] += encoders.START_SECONDS / 2
        return False

    ray.waits = [lambda: True, slow]
    assert made.submit(["bb"])().vectors.tolist() == [[2.0]]
    assert ray.actors == 2
    ray.events, ray.waits = [DIED], [lambda: True, slow, slow, slow]
    with pytest.raises(ClusterError, match="none within 600 s"):
        made.submit(["ccc"])()


# files


class Reader(RayReader):
    """A reader whose datasets are lists of references."""

    def __init__(self, *rounds: list[Any]) -> None:
        self.rounds = list(rounds)
        super().__init__(SimpleNamespace(exceptions=exceptions, get=self._got, data=self), 1, lambda each: each)
        self.DataContext = SimpleNamespace(current=lambda _: pytest.MonkeyPatch.context())

    def _got(self, reference: Any) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return pyarrow.table({"number": [reference], "found": [b"found"]})

    def _context(self) -> Any:
        return None

    def from_blocks(self, _: Any) -> Any:
        """A dataset."""
        return SimpleNamespace(map_batches=lambda *_, **__: self)

    def iter_internal_ref_bundles(self) -> Any:
        """What it gives."""
        return [SimpleNamespace(block_refs=self.rounds.pop(0))]


def test_blocks_that_were_lost_are_left_out_once() -> None:
    reader = Reader([0, LOST, 2], [0, LOST])
    blocks: Any = [[]]
    assert [number for number, _ in reader._run(None, blocks)] == [0, 2]
    with pytest.raises(ClusterError, match="ObjectLostError") as error:
        list(reader._run(None, blocks, last=True))
    assert "\n" not in str(error.value)


def test_other_errors_of_ray_while_files_are_read_are_one_line() -> None:
    blocks: Any = [[]]
    with pytest.raises(ClusterError, match="RaySystemError") as error:
        list(Reader([exceptions.RaySystemError("that\nbroke")])._run(None, blocks))
    assert "\n" not in str(error.value)

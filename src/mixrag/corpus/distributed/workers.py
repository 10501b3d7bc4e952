"""``Workers`` of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mixrag.corpus.distributed.cluster import check_worker, connected, processors_of, size_for
from mixrag.corpus.distributed.encoders import EncoderPool, Portable
from mixrag.corpus.distributed.reading import RayReader
from mixrag.corpus.embedder import Embed, Embedder
from mixrag.corpus.reading import ChangedFile, Read, Reading
from mixrag.corpus.splitting import Splitting
from mixrag.corpus.workers import Workers


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """Readers and encoders of a cluster that this process is connected to."""

    reader: RayReader
    pool: EncoderPool

    def read(self, files: Iterable[ChangedFile], reading: Reading) -> Generator[Read]:
        """See ``Workers.read``."""
        return self.reader.read(files, reading)

    def embedder(self, embed: Embed) -> Embedder:
        """See ``Workers.embedder``; the encoder of this process computes nothing."""
        return self.pool


@contextmanager
def on_cluster(
    address: str,
    encoders: int | None,
    encoder: Callable[[], Portable],
    splitting: Callable[[Splitting], Splitting],
) -> Iterator[Workers]:
    """The workers of a cluster, for the time of an indexing run.

    Args:
        address: see ``connected``.
        encoders: actors that load the encoder; None: one for each GPU, or each processor where there is none.
        encoder: makes what is sent of the encoder.
        splitting: makes of a splitting one that can be sent.

    Raises:
        SettingError, MissingPackageError, ClusterError: as ``connected``.
    """
    with connected(address) as ray:
        check_worker(ray)
        pool = EncoderPool(ray, encoder, size_for(ray, encoders))
        try:
            yield RayWorkers(RayReader(ray, processors_of(ray), splitting), pool)
        finally:
            pool.close()

"""Files are read by tasks of Ray Data: blocks of bytes go out, passages come back in the order of the files.

Bytes are sent, not paths, so that workers need no disk in common. Datasets are rounds of some blocks for each
processor, so that what is under way is bounded. A block whose worker died is tried again, then each of its files
alone: the file at which workers die is skipped, the others are not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from mixrag.corpus.distributed.encoders import ray_failed
from mixrag.corpus.distributed.wire import packed, unpacked
from mixrag.corpus.parsers.isolation import ParseLimits
from mixrag.corpus.parsers.protocol import Parser
from mixrag.corpus.parsers.registry import ParserRegistry
from mixrag.corpus.parsers.result import UnreadableError
from mixrag.corpus.reading import ChangedFile, Read, Reading
from mixrag.corpus.splitting import Splitting
from mixrag.errors import ClusterError, MixragError

BLOCK_FILES, BLOCK_BYTES = 32, 2**20
"""Small files share a block, a large one is alone."""
BLOCKS = 8
"""In a round, for each processor."""
LEAST_BLOCKS = 16
SHARE = 0.5
"""Of a processor, for each task: the other half is for the encoder that computes there."""
RETRIES = 1
"""Of a block whose worker died, and of each file alone after that."""


@dataclass(frozen=True, slots=True)
class PortableReading:
    """``Reading`` as it is sent to workers: a registry knows the built-in parsers by what they are there."""

    parsers: tuple[Parser, ...]
    limits: ParseLimits
    splitting: Splitting

    def here(self) -> Reading:
        """The reading, in the process of a worker."""
        return Reading(ParserRegistry(self.parsers), self.limits, self.splitting)


class RayReader:
    """Reads files by the workers of the cluster that this process is connected to.

    Args:
        ray: the module.
        processors: of the cluster.
        portable: makes of the splitting one that can be sent to workers.
    """

    def __init__(self, ray: Any, processors: int, portable: Callable[[Splitting], Splitting]) -> None:
        self._ray, self._portable = ray, portable
        self._blocks = max(LEAST_BLOCKS, BLOCKS * processors)

    def read(self, files: Iterable[ChangedFile], reading: Reading) -> Generator[Read]:
        """See ``Workers.read``."""
        task: Any = None
        waiting = blocks_of(files)
        while blocks := [*islice(waiting, self._blocks)]:
            task = task or self._task(reading)
            yield from self._round(task, blocks, reading)

    def _task(self, reading: Reading) -> Any:
        sent = PortableReading(reading.parsers.given, reading.limits, self._portable(reading.splitting))
        try:
            reference = self._ray.put(sent)
        except (TypeError, AttributeError, self._ray.exceptions.RayError) as error:
            found = " ".join(str(error).split())[:200]
            expected = "a splitter and parsers that can be sent to workers"
            raise ClusterError(expected, found, "give objects that pickle can write") from error
        return partial(_read_block, reference.hex(), [reference])

    def _round(self, task: Any, blocks: Sequence[Sequence[ChangedFile]], reading: Reading) -> Iterator[Read]:
        """Read the files of some blocks; those that are missing afterwards, each in a block of its own."""
        files = [file for block in blocks for file in block]
        numbers = iter(range(len(files)))
        numbered = [[(next(numbers), file) for file in block] for block in blocks]
        waiting: dict[int, Read] = {}
        following = 0
        for number, data in self._run(task, numbered):
            waiting[number] = files[number], unpacked(data, reading.splitting.embedding_text)
            while following in waiting:
                yield waiting.pop(following)
                following += 1
        missing = [n for n in range(following, len(files)) if n not in waiting]
        for number, data in self._run(task, [[(n, files[n])] for n in missing], last=True):
            waiting[number] = files[number], unpacked(data, reading.splitting.embedding_text)
        if len(missing) > 1 and waiting.keys().isdisjoint(missing):  # that is not one file's fault
            found = f"that they died at each of {len(missing)} files"
            raise ClusterError("workers that read files", found, "give them more memory, or look into Ray's logs")
        for number in range(following, len(files)):
            yield waiting.pop(number, (files[number], died()))

    def _run(
        self, task: Any, blocks: Sequence[Sequence[tuple[int, ChangedFile]]], *, last: bool = False
    ) -> Iterator[tuple[int, bytes]]:
        """Numbers and packed results of the files in these blocks; none of blocks whose worker died.

        Where a result is lost before it comes here, there is none either; the ``last`` time that is an error.
        """
        if not blocks:
            return
        with self._ray.data.DataContext.current(self._context()), warnings.catch_warnings():
            # There is no other way to limit retries yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = self._ray.data.from_blocks([_table(block) for block in blocks]).map_batches(
                task,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=SHARE,
                ray_remote_args_fn=_retries,
            )
        # Batches would be fetched by further threads, which go on after this generator is closed.
        try:
            for bundle in dataset.iter_internal_ref_bundles():
                for reference in bundle.block_refs:
                    table = self._fetched(reference, last=last)
                    if table is not None:
                        yield from zip(table["number"].to_pylist(), table["found"].to_pylist(), strict=True)
        except self._ray.exceptions.RayError as error:
            raise ray_failed("files from workers that read them", error) from error

    def _fetched(self, reference: Any, *, last: bool) -> Any:
        """A block; None where it was lost."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.ObjectLostError:
            if last:
                raise
            return None

    def _context(self) -> Any:
        """Results in order; blocks whose worker died are left out, and nothing is shown."""
        context = self._ray.data.DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.max_errored_blocks = -1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        return context


def blocks_of(files: Iterable[ChangedFile]) -> Iterator[list[ChangedFile]]:
    """Files in their order, up to ``BLOCK_FILES`` and ``BLOCK_BYTES`` together; a larger one is alone."""
    block: list[ChangedFile] = []
    size = 0
    for file in files:
        if block and (len(block) == BLOCK_FILES or size + len(file.data) > BLOCK_BYTES):
            yield block
            block, size = [], 0
        block.append(file)
        size += len(file.data)
    if block:
        yield block


def died() -> UnreadableError:
    """Why a file was skipped at which workers die."""
    found = f"that {2 * (RETRIES + 1)} workers died while they read it"
    return UnreadableError("a file that a worker can read", found, "look into the logs of Ray or leave it out")


def _retries() -> dict[str, Any]:
    return {"max_retries": RETRIES}


def _table(block: Sequence[tuple[int, ChangedFile]]) -> Any:
    import pyarrow

    columns = {
        "number": pyarrow.array([number for number, _ in block], pyarrow.int64()),
        "path": pyarrow.array([str(file.path) for _, file in block], pyarrow.string()),
        "sha256": pyarrow.array([file.sha256 for _, file in block], pyarrow.string()),
        "data": pyarrow.array([file.data for _, file in block], pyarrow.large_binary()),
    }
    return pyarrow.table(columns)


def _read_block(key: str, reference: Sequence[Any], table: Any) -> Any:
    """In a worker: numbers and packed results of the files in a block."""
    import pyarrow

    rows = zip(*(table[name].to_pylist() for name in ("path", "sha256", "data")), strict=True)
    files = [ChangedFile(Path(path), sha256, data) for path, sha256, data in rows]
    found: list[bytes] = []
    try:
        found += [packed(result) for _, result in _here(key, reference[0]).files(files)]
    except MixragError as error:
        found.append(packed(error))
    except Exception as error:
        reason = " ".join(str(error).partition("\ntraceback:")[0].split())[:200] or "no reason"
        remedy = "install the same packages on all machines, or look into the logs of Ray"
        found.append(
            packed(ClusterError("files that workers can read", f"{type(error).__name__}: {reason}", remedy))
        )
    numbers = table["number"].to_pylist()[: len(found)]
    return pyarrow.table({"number": numbers, "found": pyarrow.array(found, pyarrow.large_binary())})


@lru_cache(maxsize=1)
def _here(key: str, reference: Any) -> Reading:
    """The reading of this run, once in a worker."""
    import ray

    portable: PortableReading = ray.get(reference)
    return portable.here()

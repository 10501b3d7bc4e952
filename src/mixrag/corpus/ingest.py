"""Files and documents into the store: incremental by content hash, resumable after a kill at any instant."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from mixrag.corpus.documents import content_id
from mixrag.corpus.embedder import Embed
from mixrag.corpus.parsers.isolation import DEFAULT_LIMITS, ParseLimits
from mixrag.corpus.parsers.registry import ParserRegistry, load
from mixrag.corpus.parsers.result import Notice, Skipped, UnreadableError
from mixrag.corpus.parts import Part
from mixrag.corpus.passage import Document, title_and_text
from mixrag.corpus.reading import ChangedFile, Reading
from mixrag.corpus.report import IndexReport, aggregated, kinds_in_words
from mixrag.corpus.splitters import Splitter, Tokens
from mixrag.corpus.splitting import SplitFile, Splitting
from mixrag.corpus.store import vectors as embedding
from mixrag.corpus.store.prepared import document_hash
from mixrag.corpus.store.protocol import Store
from mixrag.corpus.store.sources import MEMORY
from mixrag.corpus.store.vectors import EmbeddingText, Encoding, VectorWriter, claim
from mixrag.corpus.walk import absolute, find_files, storable
from mixrag.corpus.workers import HERE, Workers
from mixrag.corpus.writer import PassageWriter
from mixrag.errors import SettingError, SourceError
from mixrag.utils.progress import Progress, ProgressEvent, guarded
from mixrag.utils.text import unicode_path

logger = logging.getLogger("mixrag.corpus")
REFUSED = (
    "expected a file whose passages can be embedded; found that the worker which embeds one of them died again and"
    " again; look into the logs of Ray or leave the file out"
)
"""Why a file was skipped."""


def ingest(
    store: Store,
    paths: Sequence[Path],
    *,
    embed: Embed,
    encoder_fingerprint: str,
    encoder_name: str,
    splitter: Splitter,
    parsers: ParserRegistry | None = None,
    embedding_text: EmbeddingText = title_and_text,
    tokens: Tokens | None = None,
    max_bytes: int = 25 * 2**20,
    limits: ParseLimits = DEFAULT_LIMITS,
    batch: int = 64,
    reembed: bool = False,
    part: Part | None = None,
    workers: Workers = HERE,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring the store to the state of the files and folders at ``paths``.

    Unchanged files are not parsed again, changed ones replace their passages in one transaction, and those
    gone from a folder disappear. What was stored of a file stays while the file cannot be read. Files above
    ``max_bytes`` bytes are left out, and so are files whose built-in parser, which runs in a process of its own,
    crashes or exceeds ``limits``. ``tokens`` are the encoder's, to count the passages that are longer than it
    reads. Of the files only those of a ``part`` are looked at, if one is given; others are as if they were not
    there. With ``reembed`` every stored passage first gets a vector of this encoder (then ``paths`` may be empty).
    ``encoder_fingerprint`` must change with ``embedding_text``. ``workers`` read the files and compute the
    vectors; this process alone writes.

    Raises:
        SourceError: nothing at the paths can be read, and nothing is stored of them.
        SettingError: the store has another part of a corpus, or another than all of it.
        EncoderMismatchError: the store has vectors of another encoder, and ``reembed`` is false.
        ModelError: the encoder returned something else than one finite vector a text.
        PluginError: the splitter fails, or its spans are invalid.
        StoreBusyError: another process is writing to the store.
    """
    encoding = Encoding(embed, encoder_name, encoder_fingerprint, embedding_text, batch, tokens)
    with store.writing():
        if paths:
            _claim_part(store, part)
        vectors = VectorWriter(store, encoding, guarded(progress), workers.embedder(embed))
        splitting = Splitting(splitter, embedding_text, tokens)
        reading = Reading(parsers or ParserRegistry(), limits, splitting)
        run = _FileRun(PassageWriter(store, vectors, splitting), reading, workers, max_bytes, part)
        if reembed:
            embedding.reembed(store, vectors)
        claim(store, encoding)
        if paths or not reembed:
            run.index([absolute(Path(path)) for path in paths])
        return run.report()


def add_documents(
    store: Store,
    documents: Iterable[Document],
    *,
    embed: Embed,
    encoder_fingerprint: str,
    encoder_name: str,
    splitter: Splitter,
    embedding_text: EmbeddingText = title_and_text,
    tokens: Tokens | None = None,
    batch: int = 64,
    progress: Progress | None = None,
) -> IndexReport:
    """Put documents from memory into the store, each in the place of the one that was added with its id.

    Unchanged documents are not embedded again; changed ones replace their passages in one transaction. They are
    read one by one and written some hundred at a time; where an error ends the run, what was written stays.

    Args:
        store: where they go.
        documents: checked (``documents_in``); one without an id gets that of its content.
        embed: texts to vectors.
        encoder_fingerprint: of the encoder that ``embed`` calls; it must change with ``embedding_text``.
        encoder_name: of that encoder, for messages.
        splitter: how documents become passages.
        embedding_text: title of a passage, and its context with its text, to the text that is embedded.
        tokens: of the encoder, to count the passages that are longer than it reads.
        batch: texts that are embedded, and committed, at a time.
        progress: called with what happens.

    Raises:
        SourceError: raised by ``documents``.
        EncoderMismatchError: the store has vectors of another encoder.
        ModelError: the encoder returned something else than one finite vector a text.
        PluginError: the splitter fails, or its spans are invalid.
        StoreBusyError: another process is writing to the store.
    """
    encoding = Encoding(embed, encoder_name, encoder_fingerprint, embedding_text, batch, tokens)
    unchanged = 0
    with store.writing():
        splitting = Splitting(splitter, embedding_text, tokens)
        writer = PassageWriter(store, VectorWriter(store, encoding, guarded(progress)), splitting)
        claim(store, encoding)
        for document in documents:
            id_ = document.id or content_id(document)
            writer.pending.pop(id_, None)  # the later of two documents with one id counts
            if store.memory_hash(id_) == document_hash(document, splitting.name, document.title):
                unchanged += 1
            else:
                writer.put_document(id_, replace(document, id=id_), MEMORY)
        writer.flush()
        return writer.finish(unchanged)


def _claim_part(store: Store, part: Part | None) -> None:
    """A store is one part of a corpus, or all of one: files of others would be there twice, or be removed."""
    known, remedy = store.part, "name another store"
    if part is None:
        if known is not None:
            expected = f"files of shard {known} alone, as {store.name} has"
            raise SettingError(expected, "no --shard", f"give --shard {known}, or {remedy}")
    elif known is None:
        if store.counts().documents:
            expected = f"an empty store, or one of shard {part}"
            raise SettingError(expected, f"{store.name}, which was indexed without --shard", remedy)
        store.claim_part(str(part))
    elif known != str(part):
        raise SettingError(f"the store of shard {part}", f"that of shard {known} in {store.name}", remedy)


@dataclass
class _FileRun:
    """State of one run over files and folders."""

    writer: PassageWriter
    reading: Reading
    workers: Workers
    max_bytes: int
    part: Part | None = None
    elsewhere: bool = False
    """Whether files of other parts were found."""
    skipped: list[Skipped] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notices: list[tuple[str, Notice]] = field(default_factory=list)
    unchanged: set[str] = field(default_factory=set)
    parsed: int = 0

    @property
    def store(self) -> Store:
        return self.writer.store

    @property
    def parsers(self) -> ParserRegistry:
        return self.reading.parsers

    def index(self, paths: list[Path]) -> None:
        files, folders = self._find(paths)
        with closing(self.workers.read(self._changed(files), self.reading)) as results:
            for file, result in results:
                if isinstance(result, UnreadableError):
                    self._skip(file.path, str(result))
                else:
                    self._put(file, result)
        self.writer.vectors.progress(ProgressEvent("reading files", len(files), len(files)))
        self.writer.flush()
        for path in self.writer.refused:
            self._skip(Path(path), REFUSED)
        self.parsed -= len(self.writer.refused)
        self._remove_gone(files, folders)
        if moved := self.store.forget_moved([str(path) for path in files]):
            first = unicode_path(moved[0])
            logger.info(f"files that are elsewhere now and are cited there: {len(moved)}, the first was {first}")
        self._check_fruitful(paths)

    def report(self) -> IndexReport:
        """End the run; what it did. Of unchanged files, what was said when they were read is said again."""
        done = self.writer.finish(len(self.unchanged))
        notices = aggregated([*self.notices, *self.store.notices(self.unchanged)])
        return replace(done, skipped=tuple(self.skipped), left_out=dict(self.left_out), notices=notices)

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(unicode_path(path), reason))

    def _find(self, paths: list[Path]) -> tuple[list[Path], list[Path]]:
        """Files to look at, each once, and the folders among the paths."""
        files: list[Path] = []
        # os.path answers False where Path raises: no permission, or a name that is too long.
        folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112
        for path in paths:
            if path in folders:
                found = find_files(path, self.parsers.suffixes)
                files += self._of_part(found.files, path)
                self.skipped += found.skipped
                self.left_out.update(found.left_out)
            elif storable(path) is None:
                self._skip(path, "expected a file name in UTF-8; found other bytes; rename it")
            elif not os.path.exists(path):  # noqa: PTH110
                remedy = "check the spelling of the path"
                if self.store.files_below(str(path)):
                    remedy = f"to drop what is stored of it, run: mixrag remove {path} --store {self.store.name}"
                self._skip(path, f"expected a file or folder; found nothing there; {remedy}")
            else:
                files += self._of_part([path], path)
        return list(dict.fromkeys(files)), folders

    def _of_part(self, files: Sequence[Path], root: Path) -> list[Path]:
        own = [path for path in files if self.part is None or self.part.has(path, root)]
        self.elsewhere |= len(own) < len(files)
        return own

    def _changed(self, files: list[Path]) -> Iterator[ChangedFile]:
        """The files that must be parsed: those that are not stored, or have changed."""
        for number, path in enumerate(files):
            self.writer.vectors.progress(ProgressEvent("reading files", number, len(files), str(path)))
            try:
                data = load(path, max_bytes=self.max_bytes)
            except UnreadableError as error:
                self._skip(path, str(error))
                continue
            sha256 = self.parsers.fingerprint(path, data)
            if self.store.has_file(str(path), sha256, self.writer.splitting.name):
                self.unchanged.add(str(path))
            else:
                yield ChangedFile(path, sha256, data)

    def _put(self, file: ChangedFile, split: SplitFile) -> None:
        """Put the documents of a file in the place of what is stored of it."""
        path = str(file.path)
        self.skipped += split.skipped
        self.notices += [(path, notice) for notice in split.notices]
        if not split.documents:
            return
        # Without a hash the file is parsed again next time, so that its skipped records are reported again.
        self.writer.put_file(path, "" if split.skipped else file.sha256, split)
        self.parsed += 1

    def _remove_gone(self, files: list[Path], folders: list[Path]) -> None:
        """Remove what is stored below the folders and was not found there.

        What is at or below a skipped path may still be there, and stays; so does a file that is there but has a
        suffix which only a parser of another run can read.
        """
        stored = {path for folder in folders for path in self.store.files_below(str(folder))}
        found = {str(path) for path in files}
        unknown = {skip.path for skip in self.skipped}
        gone = [
            path
            for path in sorted(stored - found)
            if unknown.isdisjoint({path, *map(str, Path(path).parents)})
            and (Path(path).suffix.lower() in self.parsers.suffixes or not os.path.isfile(path))  # noqa: PTH113
        ]
        if gone:
            self.writer.removed += self.store.remove_files(gone).passages

    def _check_fruitful(self, paths: list[Path]) -> None:
        """Raise SourceError where the run read nothing, changed nothing, and the store has nothing of it."""
        if self.parsed or self.unchanged or self.writer.removed or (self.elsewhere and not self.skipped):
            return
        missing = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110
        if len(missing) < len(paths) and any(self.store.files_below(str(path)) for path in paths):
            return
        expected = f"files of the formats {self.parsers.formats}"
        if not self.skipped:
            where = ", ".join(map(unicode_path, paths)) or "no path"
            others = f" (but {kinds_in_words(self.left_out)})" if self.left_out else ""
            raise SourceError(expected, f"none in {where}{others}", "give a file or folder to index")
        first, more = self.skipped[0], len(self.skipped) - 1
        found = f"nothing readable: {first.path}: {first.reason}"
        raise SourceError(expected, found, f"and {more} more skipped" if more else "give another path")

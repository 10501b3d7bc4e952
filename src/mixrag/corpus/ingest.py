"""Files and documents into the store: incremental by content hash, resumable after a kill at any instant."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mixrag.corpus.documents import content_id
from mixrag.corpus.parsers.registry import ParserRegistry, load
from mixrag.corpus.parsers.result import Skipped, UnreadableError
from mixrag.corpus.passage import Document
from mixrag.corpus.splitters import Splitter
from mixrag.corpus.store import vectors as embedding
from mixrag.corpus.store.changes import ParsedFile, document_hash
from mixrag.corpus.store.database import Store
from mixrag.corpus.store.sources import display
from mixrag.corpus.store.vectors import Embed, EmbeddingText, Encoding, VectorWriter, claim
from mixrag.corpus.walk import absolute, find_files, storable
from mixrag.corpus.writer import IndexReport, PassageWriter
from mixrag.errors import SourceError
from mixrag.utils.progress import Progress, ProgressEvent, guarded
from mixrag.utils.text import unicode_path

logger = logging.getLogger("mixrag.corpus")


def title_and_text(title: str, text: str) -> str:
    """The text to embed: title, line end, text; the text alone where there is no title."""
    return f"{title}\n{text}" if title else text


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
    max_bytes: int = 25 * 2**20,
    batch: int = 64,
    reembed: bool = False,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring the store to the state of the files and folders at ``paths``.

    Unchanged files are not parsed again, changed ones replace their passages in one transaction, and those
    gone from a folder disappear. What was stored of a file stays while the file cannot be read. Files above
    ``max_bytes`` bytes are left out. With ``reembed`` every stored passage first gets a vector of this
    encoder (then ``paths`` may be empty). ``encoder_fingerprint`` must change with ``embedding_text``.

    Raises:
        SourceError: nothing at the paths can be read, and nothing is stored of them.
        EncoderMismatchError: the store has vectors of another encoder, and ``reembed`` is false.
        ModelError: the encoder returned something else than one finite vector a text.
        PluginError: the splitter fails, or its spans are invalid.
        StoreBusyError: another process is writing to the store.
    """
    encoding = Encoding(embed, encoder_name, encoder_fingerprint, embedding_text, batch)
    with store.writing():
        vectors = VectorWriter(store, encoding, guarded(progress))
        run = _FileRun(PassageWriter(store, vectors, splitter), parsers or ParserRegistry(), max_bytes)
        if reembed:
            embedding.reembed(store, vectors)
        claim(store, encoding)
        if paths or not reembed:
            run.index([absolute(Path(path)) for path in paths])
        return run.writer.finish(run.unchanged, tuple(run.skipped))


def add_documents(
    store: Store,
    documents: Iterable[Document],
    *,
    embed: Embed,
    encoder_fingerprint: str,
    encoder_name: str,
    splitter: Splitter,
    embedding_text: EmbeddingText = title_and_text,
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
        embedding_text: title and text of a passage to the text that is embedded.
        batch: texts that are embedded, and committed, at a time.
        progress: called with what happens.

    Raises:
        SourceError: raised by ``documents``.
        EncoderMismatchError: the store has vectors of another encoder.
        ModelError: the encoder returned something else than one finite vector a text.
        PluginError: the splitter fails, or its spans are invalid.
        StoreBusyError: another process is writing to the store.
    """
    encoding = Encoding(embed, encoder_name, encoder_fingerprint, embedding_text, batch)
    unchanged = 0
    with store.writing():
        writer = PassageWriter(store, VectorWriter(store, encoding, guarded(progress)), splitter)
        claim(store, encoding)
        for document in documents:
            id_ = document.id or content_id(document)
            writer.pending.pop(id_, None)  # the later of two documents with one id counts
            if store.memory_hash(id_) == document_hash(document, splitter.name):
                unchanged += 1
            else:
                writer.put(id_, writer.split(replace(document, id=id_), id_))
        writer.flush()
        return writer.finish(unchanged)


@dataclass
class _FileRun:
    """State of one run over files and folders."""

    writer: PassageWriter
    parsers: ParserRegistry
    max_bytes: int
    skipped: list[Skipped] = field(default_factory=list)
    unchanged: int = 0
    parsed: int = 0

    @property
    def store(self) -> Store:
        return self.writer.store

    def index(self, paths: list[Path]) -> None:
        files, folders = self._find(paths)
        for number, path in enumerate(files):
            self.writer.vectors.progress(ProgressEvent("reading files", number, len(files), str(path)))
            try:
                self._take(path)
            except UnreadableError as error:
                self._skip(path, str(error))
        self.writer.vectors.progress(ProgressEvent("reading files", len(files), len(files)))
        self.writer.flush()
        self._remove_gone(files, folders)
        if moved := self.store.forget_moved([str(path) for path in files]):
            first = unicode_path(moved[0])
            logger.info(f"files that are elsewhere now and are cited there: {len(moved)}, the first was {first}")
        self._check_fruitful(paths)

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
                files += found.files
                self.skipped += found.skipped
            elif storable(path) is None:
                self._skip(path, "expected a file name in UTF-8; found other bytes; rename it")
            elif not os.path.exists(path):  # noqa: PTH110
                remedy = "check the spelling of the path"
                if self.store.files_below(str(path)):
                    remedy = (
                        f"to drop what is stored of it, run: mixrag remove {path} --store {self.store.directory}"
                    )
                self._skip(path, f"expected a file or folder; found nothing there; {remedy}")
            else:
                files.append(path)
        return list(dict.fromkeys(files)), folders

    def _take(self, path: Path) -> None:
        """Parse and split a file, unless it is stored already and has not changed."""
        data = load(path, max_bytes=self.max_bytes)
        sha256, splitter = self.parsers.fingerprint(path, data), self.writer.splitter
        if self.store.has_file(str(path), sha256, splitter.name):
            self.unchanged += 1
            return
        result = self.parsers.parse(path, data)
        self.skipped += result.skipped
        if not result.documents:
            return
        split = [self.writer.split(each, display(str(path), each.id or "")) for each in result.documents]
        # Without a hash the file is parsed again next time, so that its skipped records are reported again.
        known = "" if result.skipped else sha256
        self.writer.put(str(path), ParsedFile(str(path), known, splitter.name, tuple(split)))
        self.parsed += 1

    def _remove_gone(self, files: list[Path], folders: list[Path]) -> None:
        """Remove what is stored below the folders and was not found there.

        What is at or below a skipped path may still be there, and stays; so does a file that is there but has a
        suffix which only a parser of another run can read.
        """
        stored = {id_: path for folder in folders for id_, path in self.store.files_below(str(folder))}
        found = {str(path) for path in files}
        unknown = {skip.path for skip in self.skipped}
        gone = [
            id_
            for id_, path in stored.items()
            if path not in found
            and unknown.isdisjoint({path, *map(str, Path(path).parents)})
            and (Path(path).suffix.lower() in self.parsers.suffixes or not os.path.isfile(path))  # noqa: PTH113
        ]
        if gone:
            self.writer.removed += self.store.remove_files(gone).passages

    def _check_fruitful(self, paths: list[Path]) -> None:
        """Raise SourceError where the run read nothing, changed nothing, and the store has nothing of it."""
        if self.parsed or self.unchanged or self.writer.removed:
            return
        missing = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110
        if len(missing) < len(paths) and any(self.store.files_below(str(path)) for path in paths):
            return
        expected = f"files of the formats {' '.join(self.parsers.suffixes)}"
        if not self.skipped:
            where = ", ".join(map(unicode_path, paths)) or "no path"
            raise SourceError(expected, f"none in {where}", "give a file or folder to index")
        first, more = self.skipped[0], len(self.skipped) - 1
        found = f"nothing readable: {first.path}: {first.reason}"
        raise SourceError(expected, found, f"and {more} more skipped" if more else "give another path")

"""Files into the store: incremental by content hash, resumable after a kill at any instant."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mixrag.corpus.parsers.registry import SUFFIXES, load, parse
from mixrag.corpus.parsers.result import Skipped, UnreadableError
from mixrag.corpus.splitters import Splitter
from mixrag.corpus.store import changes
from mixrag.corpus.store import vectors as embedding
from mixrag.corpus.store.changes import ParsedFile
from mixrag.corpus.store.database import Store
from mixrag.corpus.store.vectors import Embed, EmbeddingText, Encoding, VectorWriter, claim
from mixrag.corpus.walk import absolute, find_files, storable
from mixrag.errors import SourceError
from mixrag.utils.progress import Progress, ProgressEvent, guarded
from mixrag.utils.text import unicode_path

# Small files are gathered up to these amounts, so that the encoder sees full batches.
_PENDING_TEXTS = 512
_PENDING_CHARACTERS = 2**20


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an indexing run did."""

    documents: int
    """Documents in the store after the run."""
    passages: int
    """Passages in the store after the run."""
    added: int
    """Passages that are new."""
    removed: int
    """Passages that are gone."""
    embedded: int
    """Vectors computed in this run."""
    unchanged: int
    """Files that were as stored, and not parsed again."""
    skipped: tuple[Skipped, ...]


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
    embedding_text: EmbeddingText = title_and_text,
    max_bytes: int = 25 * 2**20,
    batch: int = 64,
    reembed: bool = False,
    progress: Progress | None = None,
) -> IndexReport:
    """Bring the store to the state of the files and folders at ``paths``.

    Unchanged files are not parsed again, changed ones replace their passages in one transaction, and those
    gone from a folder disappear. A file that cannot be read keeps what was stored of it. Files above
    ``max_bytes`` bytes are left out. With ``reembed`` every stored passage first gets a vector of this
    encoder (then ``paths`` may be empty). ``encoder_fingerprint`` must change with ``embedding_text``.

    Raises:
        SourceError: nothing at the paths can be read, and nothing is stored of them.
        EncoderMismatchError: the store has vectors of another encoder, and ``reembed`` is false.
        ModelError: the encoder returned something else than one finite vector a text.
        StoreBusyError: another process is writing to the store.
    """
    encoding = Encoding(embed, encoder_name, encoder_fingerprint, embedding_text, batch)
    with store.writing():
        run = _Run(store, VectorWriter(store, encoding, guarded(progress)), splitter, max_bytes)
        if reembed:
            embedding.reembed(store, run.vectors)
        claim(store, encoding)
        if paths or not reembed:
            run.index([absolute(Path(path)) for path in paths])
        return run.report()


@dataclass
class _Run:
    """State of one indexing run."""

    store: Store
    vectors: VectorWriter
    splitter: Splitter
    max_bytes: int
    skipped: list[Skipped] = field(default_factory=list)
    pending: list[ParsedFile] = field(default_factory=list)
    texts: dict[bytes, str] = field(default_factory=dict)
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    read: int = 0

    def index(self, paths: list[Path]) -> None:
        files, folders = self._find(paths)
        for number, path in enumerate(files):
            self.vectors.progress(ProgressEvent("reading files", number, len(files), str(path)))
            try:
                self._take(path)
            except UnreadableError as error:
                self._skip(path, str(error))
        self.vectors.progress(ProgressEvent("reading files", len(files), len(files)))
        self._flush()
        self._remove_gone(files, folders)
        self._check_fruitful(paths)
        self._finish()

    def report(self) -> IndexReport:
        counts = self.store.counts()
        return IndexReport(
            documents=counts.documents,
            passages=counts.passages,
            added=self.added,
            removed=self.removed,
            embedded=self.vectors.computed,
            unchanged=self.unchanged,
            skipped=tuple(self.skipped),
        )

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(unicode_path(path), reason))

    def _find(self, paths: list[Path]) -> tuple[list[Path], list[Path]]:
        """Files to look at, each once, and the folders among the paths."""
        files: list[Path] = []
        # os.path answers False where Path raises: no permission, or a name that is too long.
        folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112
        for path in paths:
            if path in folders:
                found = find_files(path)
                files += found.files
                self.skipped += found.skipped
            elif storable(path) is None:
                self._skip(path, "expected a file name in UTF-8; found other bytes; rename it")
            elif not os.path.exists(path):  # noqa: PTH110
                self._skip(path, f"expected a file or folder; found nothing there; {self._remedy(path)}")
            else:
                files.append(path)
        return list(dict.fromkeys(files)), folders

    def _remedy(self, path: Path) -> str:
        if self.store.files_below(str(path)):
            return f"to drop what is stored of it, run: mixrag remove {path} --store {self.store.directory}"
        return "check the spelling of the path"

    def _take(self, path: Path) -> None:
        """Parse and split a file, unless it is as stored."""
        data = load(path, max_bytes=self.max_bytes)
        sha256 = hashlib.sha256(data).hexdigest()
        sql = "SELECT 1 FROM files WHERE path = ? AND sha256 = ? AND splitter = ?"
        if self.store.query(sql, (str(path), sha256, self.splitter.name)):
            self.unchanged += 1
            return
        reading = parse(path, data)
        self.skipped += reading.skipped
        if not reading.documents:
            return
        split = []
        for document in reading.documents:
            one, texts = changes.split_document(document, self.splitter, self.vectors.encoding.embedding_text)
            split.append(one)
            self.texts.update(texts)
        # Without a hash the file is parsed again next time, so that its skipped records are told again.
        known = "" if reading.skipped else sha256
        self.pending.append(ParsedFile(str(path), known, self.splitter.name, tuple(split)))
        self.read += 1
        if len(self.texts) >= _PENDING_TEXTS or sum(map(len, self.texts.values())) >= _PENDING_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        """Embed what the pending files need, then put all of them in place in one transaction."""
        self.vectors.add(self.texts)
        added = removed = 0
        if self.pending:
            with self.store.transaction() as db:
                for file in self.pending:
                    new, old = changes.replace_file(db, file)
                    added, removed = added + new, removed + old
                if added or removed:
                    changes.bump_generation(db)
        self.added, self.removed = self.added + added, self.removed + removed
        self.pending, self.texts = [], {}

    def _remove_gone(self, files: list[Path], folders: list[Path]) -> None:
        """Remove what is stored below the folders and was not found there.

        What lies at or below a skipped path cannot be told to be gone, and stays.
        """
        stored = {id_: path for folder in folders for id_, path in self.store.files_below(str(folder))}
        found = {str(path) for path in files}
        unknown = {skip.path for skip in self.skipped}
        gone = [
            id_
            for id_, path in stored.items()
            if path not in found and unknown.isdisjoint({path, *map(str, Path(path).parents)})
        ]
        if not gone:
            return
        with self.store.transaction() as db:
            removed = changes.remove_files(db, gone).passages
            if removed:
                changes.bump_generation(db)
        self.removed += removed

    def _check_fruitful(self, paths: list[Path]) -> None:
        """Raise SourceError where the run read nothing, changed nothing, and the store has nothing of it."""
        if self.read or self.unchanged or self.removed:
            return
        missing = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110
        if len(missing) < len(paths) and any(self.store.files_below(str(path)) for path in paths):
            return
        expected = f"files of the formats {' '.join(SUFFIXES)}"
        if not self.skipped:
            where = ", ".join(map(unicode_path, paths)) or "no path"
            raise SourceError(expected, f"none in {where}", "give a file or folder to index")
        first, more = self.skipped[0], len(self.skipped) - 1
        found = f"nothing readable: {first.path}: {first.reason}"
        raise SourceError(expected, found, f"and {more} more skipped" if more else "give another path")

    def _finish(self) -> None:
        with self.store.transaction() as db:
            changes.set_meta(db, "splitter", self.splitter.name)
            changes.drop_orphan_vectors(db)

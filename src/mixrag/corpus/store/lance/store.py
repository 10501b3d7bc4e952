"""The store in LanceDB: what changes it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mixrag.corpus.store.lance.base import Transaction
from mixrag.corpus.store.lance.changes import Writing
from mixrag.corpus.store.lance.contents import ContentReads
from mixrag.corpus.store.lance.schema import passage_rows, vector_rows
from mixrag.corpus.store.lance.tables import PASSAGES, RETENTION, needless, pyarrow
from mixrag.corpus.store.lance.vectors import VectorReads, noted_norm
from mixrag.corpus.store.norms import grown_norm
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import EncoderRecord, Removed
from mixrag.corpus.store.sources import composed, is_there
from mixrag.corpus.walk import absolute
from mixrag.errors import EncoderMismatchError
from mixrag.utils.arrays import Vectors

Result = TypeVar("Result")


class LanceStore(VectorReads, ContentReads):
    """Passages and vectors in tables of LanceDB, all else in a log of commits; see ``Store`` and ``catalogue``."""

    # --- Passages ----------------------------------------------------------------------------------

    @contextmanager
    def _passages_changed(self) -> Iterator[Writing]:
        """Changes of documents; their passages are written to the table, then all is committed."""
        with self.transaction() as change:
            writing = Writing(change)
            yield writing
            self._check()
            if writing.terms:
                change.do("terms", list(writing.terms))
            rows = [row for each in writing.added.values() for row in each]
            gone = [id_ for id_ in writing.removed if change.now.documents[id_].passages]
            if rows or gone:
                table = self.tables.writable(PASSAGES, change.now.settings["passages"])
                if gone:
                    self.tables.delete(table, "document", gone)
                if rows:
                    self.tables.add(table, passage_rows(rows))
                self._tidy(change, table, PASSAGES, change.now.settings["passages"])
                change.pin(PASSAGES, table.version)
                change.bump()
            if rows:
                self._pin_vectors(change)

    def _pin_vectors(self, change: Transaction) -> None:
        """Let readers see the vectors that were added."""
        if found := change.draft.table(change.draft.settings["encoder"]):
            change.pin(found.table, self.tables.latest(found.table).version)

    def _tidy(self, change: Transaction, table: Any, name: str, pinned: int) -> None:
        settings = change.draft.settings
        rewritten, marks = settings["rewritten"], settings.get("marks", {})
        if self.tables.is_untidy(table, rewritten.get(name, 0)):
            needed, left = needless([tuple(each) for each in marks.get(name, ())], pinned, self.place.now())
            self.tables.tidy(table, needed)
            change.set(
                rewritten=rewritten | {name: table.version}, marks=marks | {name: [list(each) for each in left]}
            )

    def put(self, sources: Iterable[ParsedFile | SplitDocument]) -> tuple[int, int]:
        """See ``Store.put``."""
        added = removed = 0
        with self._passages_changed() as writing:
            for source in sources:
                if isinstance(source, ParsedFile):
                    new, old = writing.put_file(source)
                else:
                    new, old = writing.put_in_memory(source)
                added, removed = added + new, removed + old
        return added, removed

    def remove_files(self, paths: Collection[str]) -> Removed:
        """See ``Store.remove_files``."""
        with self._passages_changed() as writing:
            return writing.remove_files(paths)

    def forget_moved(self, paths: Collection[str]) -> list[str]:
        """See ``Store.forget_moved``."""
        now, here = self.latest(), set(paths)
        documents = {document for path in here for document in now.records.get(path, {}).values()}
        hashes = {now.files[path].sha256 for path in here if path in now.files} - {""}
        others = {path for id_ in documents for path, _ in now.sources_of[id_]} - here
        equal = {path for path, file in now.files.items() if file.sha256 in hashes} - here
        shared, renamed = ({path for path in each if not is_there(path)} for each in (others, equal))
        if shared or renamed:
            with self._passages_changed() as writing:
                writing.drop_shared(sorted(shared), documents)
                writing.remove_files(sorted(renamed))
        return sorted(shared | renamed)

    # --- Removal -----------------------------------------------------------------------------------

    def remove(self, path: Path) -> Removed:
        """See ``Store.remove``."""
        where = str(absolute(Path(path)))
        return self._removed(
            lambda writing: writing.remove_files(self.files_below(where) or self._files_spelled_as(where))
        )

    def delete(self, ids: Iterable[str]) -> Removed:
        """See ``Store.delete``."""
        return self._removed(lambda writing: writing.remove_from_memory(ids))

    def remove_document(self, path: str) -> tuple[Removed, list[str]] | None:
        """See ``Store.remove_document``."""

        def removed(writing: Writing) -> tuple[Removed, list[str]] | None:
            document = self.document_row(path)
            return None if document is None else writing.remove_document(document)

        return self._removed(removed)

    def _removed(self, remove: Callable[[Writing], Result]) -> Result:
        """A removal; the vectors that no passage uses any more go after it has been committed."""
        with self.writing():
            with self._passages_changed() as writing:
                found = remove(writing)
            if writing.removed:
                with self.transaction() as change:
                    self._drop_orphans(change)
        return found

    def _files_spelled_as(self, path: str) -> list[str]:
        """``files_below`` with accents composed or decomposed alike."""
        wanted = f"{composed(path)}/".replace("//", "/")
        return sorted(stored for stored in self.now.files if f"{composed(stored)}/".startswith(wanted))

    # --- Vectors and encoders ------------------------------------------------------------------------

    def claim_part(self, part: str) -> None:
        """See ``Store.claim_part``."""
        with self.transaction() as change:
            change.set(part=part)

    def finish(self, splitter: str) -> None:
        """See ``Store.finish``."""
        with self.transaction() as change:
            change.set(splitter=splitter)
            self._drop_orphans(change)
            self._drop_tables(change)

    def add_vectors(self, encoder: EncoderRecord, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """See ``Store.add_vectors``."""
        self._check()
        found = self.latest().table(encoder.fingerprint)
        if found is None:
            self._add_table(encoder, hashes, vectors)
            return
        if found.dimension != encoder.dimension:
            expected = f"vectors of {found.dimension} dimensions"
            remedy = "give the changed encoder a new fingerprint"
            raise EncoderMismatchError(expected, f"{encoder.dimension} dimensions", remedy)
        with self.transaction() as change:  # before they are there: no kill leaves a longer one that was not noted
            self._note_norm(change, encoder.fingerprint, vectors, first=False)
        known, self._known_hashes = self._known_hashes, None  # where it fails, nobody knows what was added
        self.tables.add(self.tables.latest(found.table), vector_rows(hashes, vectors))
        if known is not None and known.table == found.table:
            known.add(hashes)
            self._known_hashes = known

    def _add_table(self, encoder: EncoderRecord, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """A table for the vectors of an encoder, with the first of them."""
        with self.transaction() as change:
            number, encoders = change.draft.settings["next_table"], change.draft.settings["encoders"]
            # A writer that lost the lock may make one at the same time.
            name = f"vectors-{number}-{secrets.token_hex(8)}"
            version = self.tables.create(name, vector_rows(hashes, vectors))
            found = [encoder.name, encoder.dimension, name, version]
            self._note_norm(change, encoder.fingerprint, vectors, first=True)
            change.set(next_table=number + 1, encoders=encoders | {encoder.fingerprint: found})

    def _note_norm(self, change: Transaction, fingerprint: str, vectors: Vectors, *, first: bool) -> None:
        norm = grown_norm(noted_norm(change.draft, fingerprint), vectors, first=first)
        if norm is not None:
            change.set(norms=change.draft.settings.get("norms", {}) | {fingerprint: norm})

    def claim_encoder(self, fingerprint: str) -> None:
        """See ``Store.claim_encoder``."""
        with self.transaction() as change:
            self._take_encoder(change, fingerprint)

    def _take_encoder(self, change: Transaction, fingerprint: str) -> None:
        """Make the store one of this encoder; tables of others can be read for ``RETENTION``, then go."""
        encoders = change.draft.settings["encoders"]
        self._forget_encoders(change, set(encoders) - {fingerprint})
        change.set(encoder=fingerprint)

    def _forget_encoders(self, change: Transaction, fingerprints: Collection[str]) -> None:
        settings = change.draft.settings
        since = int(self.place.now()) if fingerprints else 0
        gone = {settings["encoders"][each][2]: since for each in fingerprints}
        left = {key: each for key, each in settings["encoders"].items() if key not in fingerprints}
        change.set(encoders=left, dropped=settings["dropped"] | gone)

    def replace_encoder(self, fingerprint: str, hashes: Mapping[int, bytes], *, changed: bool) -> None:
        """See ``Store.replace_encoder``."""
        with self.transaction() as change:
            if hashes or changed or change.now.settings["encoder"] != fingerprint:
                change.bump()
            if hashes:
                self._check()
                change.pin(PASSAGES, self._rehashed(change.now.settings["passages"], hashes))
            self._take_encoder(change, fingerprint)
            self._pin_vectors(change)
        with self.transaction() as change:
            self._drop_orphans(change)

    def _rehashed(self, version: int, hashes: Mapping[int, bytes]) -> int:
        """Write all passages once more, in their order, with these hashes; the version."""
        pa, table = pyarrow(), self.tables.writable(PASSAGES, version)
        names = table.schema.names

        def batches() -> Iterator[Any]:
            for batch in self.tables.scan(self.tables.at(PASSAGES, version), names):
                old = zip(batch["row"].to_pylist(), batch["text_hash"].to_pylist(), strict=True)
                new = pa.array([hashes.get(row, each) for row, each in old], pa.binary(32))
                columns = [new if name == "text_hash" else batch[name] for name in names]
                yield pa.RecordBatch.from_arrays(columns, schema=table.schema)

        return self.tables.create(PASSAGES, pa.RecordBatchReader.from_batches(table.schema, batches()))

    def drop_damaged_vectors(self, fingerprint: str) -> int:
        """See ``Store.drop_damaged_vectors``; a table has vectors of one size alone."""
        found = self.latest().table(fingerprint)
        if found is None:
            return 0
        table, damaged, stored = self.tables.latest(found.table), list[int](), 0
        for batch in self.tables.scan(table, ["vector"], ids=True):
            vectors = np.asarray(batch["vector"].flatten(), np.float32).reshape(-1, found.dimension)
            with np.errstate(over="ignore", invalid="ignore"):
                wrong = ~np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
            damaged += np.asarray(batch["_rowid"], np.uint64)[wrong].tolist()
            stored += len(vectors)
        if damaged:
            self._check()
            self._known_hashes = None
            self.tables.delete(table, "_rowid", damaged)
            if len(damaged) == stored:
                with self.transaction() as change:
                    self._forget_encoders(change, {fingerprint})
        return len(damaged)

    def _drop_orphans(self, change: Transaction) -> None:
        """Delete the encoder's vectors that no passage uses, and bring its table in order."""
        found = change.draft.table(change.draft.settings["encoder"])
        if found is None:
            return
        pa, table = pyarrow(), self.tables.latest(found.table)
        stored = self.tables.column(table, "text_hash", ids=True)
        used = pa.compute.is_in(stored["text_hash"], value_set=self.hashes(change.now))
        orphans = np.asarray(stored["_rowid"], np.uint64)[~np.asarray(used, bool)]
        if len(orphans):
            self._check()
            self._known_hashes = None
            self.tables.delete(table, "_rowid", orphans.tolist())
        self._tidy(change, table, found.table, found.version)
        trained_on = self.tables.index(table, change.draft.settings.get("trained", {}).get(found.table, 0))
        change.set(trained={found.table: trained_on} if trained_on else {})
        change.pin(found.table, table.version)

    def _drop_tables(self, change: Transaction) -> None:
        """Delete the tables of encoders that no snapshot can still need."""
        dropped = change.draft.settings["dropped"]
        now = self.place.now() if dropped else 0.0
        old = [name for name, since in dropped.items() if now - since >= RETENTION.total_seconds()]
        for name in old:
            self.tables.drop(name)
        if old:
            change.set(dropped={name: since for name, since in dropped.items() if name not in old})

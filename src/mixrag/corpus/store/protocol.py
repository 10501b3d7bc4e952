"""The contract of a store: what every backend promises to ingest, retrieval, answers, evaluation and server.

**Row ids** of passages are int64, ascending in the order in which passages were stored, and never given twice in
one store, not even after everything was removed. Row ids of documents mean a document within one snapshot.

**Transactions.** Each method that writes is atomic: all of it is there, or on any exception nothing. ``put``,
``remove_files``, ``forget_moved``, ``finish`` and the methods that change vectors or the encoder are called while
``writing``, the lock of the store that one process or thread has at a time; it is free again when its holder
dies. ``remove``, ``delete`` and ``remove_document`` take it themselves. Reading needs no lock and never waits for
a writer.

**Killed at any instant** a store can be opened again and is as it was after the last method that returned:
nothing that was reported done is lost. Vectors are committed before the passages that need them, so a passage
without its vector is never seen; what a killed run has embedded is found by the next one (``missing_vectors``).

**Snapshots.** In ``snapshot`` all reads of a thread see one state, whatever others commit meanwhile. Without one,
each method sees one state.

**What readers watch.** ``generation`` grows with every change of passages or encoder, ``state`` identifies the
content that is searched, ``digest`` all that is read.

**Errors** are StoreErrors, one line each, and name the store by ``name``, never by its credentials:
StoreMissingError (none there), StoreVersionError (a newer mixrag wrote it), StoreCorruptError (not a store, or
damaged), StoreBusyError (another writer for longer than ``timeout``), StoreFullError (no space),
EncoderMismatchError (vectors of another encoder), and StoreError itself for all else (network, permissions,
closed).

All methods may be called from several threads.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from mixrag.config.filters import Condition, conditions, filter_texts
from mixrag.corpus.parsers.result import Notice
from mixrag.corpus.passage import Passage
from mixrag.corpus.store.backends import backend_of
from mixrag.corpus.store.location import parse_location
from mixrag.corpus.store.prepared import ParsedFile, SplitDocument
from mixrag.corpus.store.records import Counts, DocumentRecord, EncoderRecord, Extent, Removed, Stretch
from mixrag.utils.arrays import Rows, Vectors

TermIds = npt.NDArray[np.uint32]
"""(N,) numbers of words."""


class Store(ABC):
    """Documents, passages, their vectors and their words; the module says what every backend promises.

    >>> with Store.open("store") as store:  # doctest: +SKIP
    ...     rows, vectors = store.vectors()
    """

    location: str
    """What opens it again; it may contain a password, and is never shown."""
    name: str
    """What messages show and a command line takes as --store: the location without its password."""
    timeout: float
    """Seconds to wait for a lock."""
    cache_directory: Path
    """Local folder for what is derived from the store and can be built again: index, postings, precomputed
    passages. A store in a folder has it in there, another one below the user's cache folder
    (``location.cache_of``). A server has the files that it received there too."""

    own_search: str | None = None
    """How the backend itself finds the passages near a question (``nearest``), in a few words; None: it does not,
    and index files in ``cache_directory`` serve large stores."""

    @staticmethod
    def open(location: str | os.PathLike[str], *, create: bool = False, timeout: float = 30.0) -> Store:
        """Open the store of a location; locks are waited for ``timeout`` seconds.

        Args:
            location: a folder, "lance:PATH", "s3://BUCKET/PREFIX" or "postgresql://…"; a path object is a folder.
            create: make one where there is none.
            timeout: seconds to wait for a lock.

        Raises:
            SettingError: a scheme that no backend has.
            StoreMissingError: there is none, and ``create`` is false.
            StoreVersionError: a newer mixrag wrote it.
            StoreCorruptError: what is there is not a mixrag store, or is damaged.
            StoreBusyError: another process has locked the store for too long.
            StoreError: it cannot be reached.
        """
        parsed = parse_location(location)
        return cast(Store, backend_of(parsed).open_store(parsed, create=create, timeout=timeout))

    @abstractmethod
    def close(self) -> None:
        """Close the store; a second call does nothing. Any other method then raises StoreError."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Let several reads of this thread see one and the same state, whatever others commit meanwhile.

        Inside another snapshot it is that one. Other threads are not affected.
        """

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """Have the lock that lets one process or thread at a time change the store; reading needs no lock.

        It guards what spans transactions (vectors are committed before their passages), and is freed when the
        process dies.

        Raises:
            StoreBusyError: another one did not release it for ``timeout`` seconds.
            StoreError: the store cannot be written to.
        """

    # --- What is in it ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def generation(self) -> int:
        """Number that grows with every change of the passages or of the encoder, and with nothing else."""

    @property
    @abstractmethod
    def state(self) -> str:
        """Hexadecimal; another one after every change of passages or encoder, and in another store."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of all that is read from it: passages in order of rows, titles, sources.

        Equal digests of one backend mean equal contents in equal rows.
        """

    @abstractmethod
    def documents_digest(self) -> str:
        """SHA-256 (hexadecimal) of the documents, wherever their files are and in whatever order they came.

        Of the hashes of all documents (``SplitDocument.hash``), sorted, each with a line end after it: it is the
        same in every backend. Equal digests have equal passages.
        """

    @property
    @abstractmethod
    def splitter(self) -> str | None:
        """Name of the splitter of the last indexing run; None before the first."""

    @property
    @abstractmethod
    def part(self) -> str | None:
        """The part "i/n" of a corpus that files are indexed as; None where it is not one."""

    @abstractmethod
    def counts(self) -> Counts:
        """Numbers of documents, passages and sources."""

    # --- Passages --------------------------------------------------------------------------------

    @abstractmethod
    def passages(self, row_ids: Sequence[int] | Rows) -> list[Passage]:
        """Passages of the row ids, in their order.

        Raises:
            StoreError: a row id that is not (or no longer) in the store.
        """

    @abstractmethod
    def text_hashes(self, row_ids: Sequence[int] | Rows) -> list[bytes]:
        """Of each passage (N,), the SHA-256 of the text that was embedded for it. Raises as ``passages`` does."""

    @abstractmethod
    def marks(self) -> tuple[Rows, npt.NDArray[np.uint64]]:
        """Row ids (M,) of all passages, ascending, and of each the first eight bytes of its text's hash, as a
        little-endian number.
        """

    def rows_where(self, where: Mapping[str, Any]) -> Rows:
        """Row ids (N,), ascending, of passages that meet all conditions (``config.filters``).

        ``document`` and ``file`` mean the source: its path, its last parts, a pattern with ``*`` and ``?``, with
        '#record' after it if wanted, or the id of a document from memory. ``title`` is the title, ``page`` the
        page where a passage starts. Other keys, and metadata of these names, are the document's metadata.

        Raises:
            SettingError: no condition.
        """
        return self.rows_meeting({key: conditions(key, text) for key, text in filter_texts(where).items()})

    @abstractmethod
    def rows_meeting(self, filter_: Mapping[str, Sequence[Condition]]) -> Rows:
        """Row ids (N,), ascending, of passages that meet one of the conditions of every key; of all for no key.

        What they mean is defined by ``matching``, in Python; a backend may ask its database instead.
        """

    @abstractmethod
    def by_document(self) -> Iterator[list[Stretch]]:
        """The passages of each document in turn, in the order of its text; not all are in memory at once."""

    # --- Documents -------------------------------------------------------------------------------

    @abstractmethod
    def documents(self) -> list[DocumentRecord]:
        """All documents, sorted by path."""

    @abstractmethod
    def document_row(self, path: str) -> int | None:
        """Row id of the document with this source, written as ``DocumentRecord.path`` is; None where none has it.

        Nothing in it is a pattern, and no part of a path is enough.
        """

    @abstractmethod
    def files_of(self, document: int) -> list[str]:
        """The paths, sorted, of all files that have the document of a row id; none for one from memory alone."""

    @abstractmethod
    def extent(self, document: int) -> Extent:
        """How long the document of a row id is."""

    @abstractmethod
    def passages_of(
        self, document: int, *, offset: int = 0, page: int | None = None, limit: int = 20
    ) -> list[Passage]:
        """The passages of a document in the order of its text, from the one at this offset on.

        Args:
            document: row id.
            offset: of a character in the extracted text; those that end before it are left out.
            page: only passages that start on it.
            limit: at most so many.
        """

    @abstractmethod
    def offset_before(self, document: int, offset: int, passages: int) -> int:
        """Where the text begins that is so many passages before an offset, or the document's own beginning."""

    # --- Vectors ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def encoder(self) -> EncoderRecord | None:
        """Encoder of the vectors, or None while there are none."""

    @property
    @abstractmethod
    def encoder_fingerprint(self) -> str | None:
        """Fingerprint of the encoder that claimed the store, which may have no vectors yet; None before any."""

    @property
    @abstractmethod
    def largest_norm(self) -> float | None:
        """At least the length of every vector of the encoder; None without vectors, or where it was never noted.

        ``add_vectors`` lets it grow (``norms.grown_norm``), and nothing lets it shrink: after the longest vector
        was deleted it is still a bound, which a new encoder (``replace_encoder``) starts anew.
        """

    @abstractmethod
    def vectors(self, after: int = -1) -> tuple[Rows, Vectors]:
        """Row ids (M,) in ascending order and vectors (M, D) of all passages with a row id above ``after``.

        Without an encoder, arrays of shapes (0,) and (0, 0).

        Raises:
            StoreCorruptError: a vector that is missing, of another size, or has a NaN or an infinity.
        """

    @abstractmethod
    def vectors_of(self, row_ids: Sequence[int] | Rows) -> Vectors:
        """(K, D) vectors of the passages with these row ids (K,), in their order. Raises as ``vectors`` does."""

    def nearest(self, question: Vectors, k: int, allowed: Rows | None = None) -> Rows:
        """Row ids of the k passages or more that the backend finds nearest to a question (D,), by inner product.

        Approximate, in any order, without duplicates; fewer only where fewer are allowed or there. Give some more
        than k: the caller computes the inner products from the vectors, and takes the best. Only where there is
        ``own_search``, and after ``vectors`` would have been too many to read.
        """
        raise NotImplementedError

    @abstractmethod
    def missing_vectors(self, fingerprint: str, hashes: Collection[bytes]) -> set[bytes]:
        """Those of the hashes of texts that have no vector of this encoder, whatever else it has."""

    # --- Words -----------------------------------------------------------------------------------

    @abstractmethod
    def words(self, after: int = -1) -> Iterator[tuple[Rows, npt.NDArray[np.int64], TermIds]]:
        """The words of all passages with a row id above ``after``, ascending, in blocks.

        Each block is the row ids (B,), how many words each passage has (B,), and the numbers of all their words,
        one passage after the other: ``corpus.words.words`` of ``searched_text(front_title, context, text)``.
        Numbers are positive, never given twice, and the same for a word in every passage.

        Raises:
            StoreCorruptError: words that are no numbers of words.
        """

    @abstractmethod
    def term_ids(self, terms: Collection[str]) -> dict[str, int]:
        """Numbers of those words that passages have, or had."""

    @abstractmethod
    def term(self, id_: int) -> str:
        """The word with this number; empty where there is none."""

    @abstractmethod
    def terms(self) -> list[tuple[str, int]]:
        """Every word with its number, by number."""

    # --- Files and documents from memory ---------------------------------------------------------

    @abstractmethod
    def has_file(self, path: str, sha256: str, splitter: str) -> bool:
        """True where this file is stored with this content, split by the splitter of this name."""

    @abstractmethod
    def files_below(self, path: str) -> list[str]:
        """The stored files at an absolute path or below it, sorted; nothing in it is a pattern."""

    @abstractmethod
    def notices(self, paths: Collection[str]) -> list[tuple[str, Notice]]:
        """What was left out or guessed when these files were read, each with its path, by path and kind."""

    @abstractmethod
    def memory_hash(self, id_: str) -> str | None:
        """Hash of the content that is stored of a document from memory; None where there is no such document."""

    # --- Changes: to be called while ``writing`` -------------------------------------------------

    @abstractmethod
    def put(self, sources: Iterable[ParsedFile | SplitDocument]) -> tuple[int, int]:
        """Put files and documents from memory in the place of what was stored of them, all in one transaction.

        Documents with equal hashes are stored once, with several sources. A document that no source has any more
        goes, with its passages. Row ids of documents that stay do not change. ``generation`` grows once if
        passages came or went. Vectors of the passages have been added before.

        Returns:
            Passages added and removed.
        """

    @abstractmethod
    def remove_files(self, paths: Collection[str]) -> Removed:
        """Remove files by their stored paths; others are ignored. Documents without another source go too."""

    @abstractmethod
    def forget_moved(self, paths: Collection[str]) -> list[str]:
        """Drop what is stored of paths that no longer exist where these files have it: they were moved.

        A stored path that is gone from the disk (``sources.is_there``) loses the documents that the files at
        ``paths`` have as well; it goes altogether when nothing is left of it, or when its bytes are equal to those
        of one of these files. Documents that both have stay, with their passages, row ids and vectors.

        Returns:
            The paths that are gone, sorted.
        """

    @abstractmethod
    def claim_part(self, part: str) -> None:
        """Make the store one of this part "i/n" of a corpus."""

    @abstractmethod
    def finish(self, splitter: str) -> None:
        """Note the splitter of an indexing run, and delete the current encoder's vectors that no passage uses.

        Vectors of another encoder, which a re-embedding that was interrupted has left, stay.
        """

    @abstractmethod
    def add_vectors(self, encoder: EncoderRecord, hashes: Sequence[bytes], vectors: Vectors) -> None:
        """Add vectors (B, D) of texts (B,) that have none of this encoder, which becomes known with the first.

        They are there for readers and for the next run as soon as this returns; the store's encoder, and what it
        answers with, stays.

        Raises:
            EncoderMismatchError: the encoder of this fingerprint is known with another D.
        """

    @abstractmethod
    def claim_encoder(self, fingerprint: str) -> None:
        """Make the store one of this encoder; vectors of all others are deleted.

        For stores that have no passages, or are of this encoder already.
        """

    @abstractmethod
    def drop_damaged_vectors(self, fingerprint: str) -> int:
        """Delete vectors that cannot be this encoder's: of another size, with a NaN or an infinity; how many.

        With the last of its vectors goes what is known of its dimension.
        """

    @abstractmethod
    def replace_encoder(self, fingerprint: str, hashes: Mapping[int, bytes], *, changed: bool) -> None:
        """Switch to an encoder whose vectors are all there, in one transaction.

        Args:
            fingerprint: of the encoder.
            hashes: hash of the text that it embeds, of those row ids where it is another one.
            changed: vectors were computed. ``generation`` grows if so, or if any hash or the encoder changes.
        """

    # --- Removal: these take the lock themselves -------------------------------------------------

    @abstractmethod
    def remove(self, path: Path) -> Removed:
        """Remove a file, or every file below a folder, from the store (the disk is left alone).

        Where no stored path is spelled so, those that differ only in composed and decomposed accents are meant.

        Raises:
            StoreBusyError: another process is writing to the store.
        """

    @abstractmethod
    def delete(self, ids: Iterable[str]) -> Removed:
        """Remove documents that were added from memory, by their ids; an id that is not there is ignored.

        Raises:
            StoreBusyError: another process is writing to the store.
        """

    @abstractmethod
    def remove_document(self, path: str) -> tuple[Removed, list[str]] | None:
        """Remove a document by its ``DocumentRecord.path``, with all of its sources; on disk nothing changes.

        Returns:
            What went, and the paths of the files of which nothing is left in the store; None where there is no
            such document.

        Raises:
            StoreBusyError: another process is writing to the store.
        """

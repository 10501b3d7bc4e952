"""Documents go into a store that is open, and out of it: files, documents from memory, deletions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from mixrag.config.command_settings import IndexingSettings
from mixrag.corpus import (
    DEFAULT_LIMITS,
    Document,
    IndexReport,
    ParseLimits,
    Parser,
    ParserRegistry,
    Part,
    Removed,
    Splitter,
    Store,
    StructureSplitter,
    Tokens,
    add_documents,
    documents_in,
    documents_of_texts,
    ingest,
    splitter_stored,
)
from mixrag.corpus.workers import HERE, Workers
from mixrag.errors import EncoderMismatchError, SourceError
from mixrag.retrieval.encoders import CompleteEncoder, reference_of
from mixrag.retrieval.encoders.shipping import portable_encoder, portable_splitting
from mixrag.retrieval.shards.store import as_sharded
from mixrag.utils.arguments import bytes_given, list_given, path_given
from mixrag.utils.arrays import Vectors
from mixrag.utils.plugins import check_plugin
from mixrag.utils.progress import Progress
from mixrag.utils.text import is_unicode
from mixrag.utils.turns import turn


class StoreContents(ABC):
    """What changes the documents of a store; ``OpenStore`` loads the encoder."""

    store: Store
    model: Path | None
    _parsers: tuple[Parser, ...]
    _splitter: Splitter
    _own_splitter: bool

    @property
    @abstractmethod
    def encoder(self) -> CompleteEncoder:
        """The encoder, loaded at first use."""

    def index(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        splitter: Splitter | None = None,
        parsers: Sequence[Parser] = (),
        reembed: bool = False,
        max_bytes: int = 25 * 2**20,
        limits: ParseLimits = DEFAULT_LIMITS,
        shard: str | None = None,
        ray: str | None = None,
        ray_encoders: int | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring the store up to date with files and folders; what has not changed is not read again.

        Args:
            paths: files and folders. A file that is no longer in a folder named here is deleted from the store.
            splitter: how documents become passages, in the place of the pipeline's.
            parsers: come before those of the pipeline.
            reembed: compute all vectors again, with another encoder than the store has.
            max_bytes: larger files are skipped.
            limits: time and memory that parsing one file may take. The built-in parsers run in a process of their
                own, and a file that exceeds the limits, or crashes its parser, is skipped. Parsers of yours run in
                this process, without limits.
            shard: "i/n": index only part i of n of the files, by a hash of their paths below the folders named.
            ray: a Ray cluster whose workers read the files and compute the vectors, while this process writes:
                "local" starts one on this machine; "auto", "HOST:PORT" or "ray://HOST:PORT" is one that runs. A
                process that is connected to a cluster already uses that one.
            ray_encoders: encoders on the cluster; default: one for each GPU, or processor where there is none.
            progress: called with stages "reading files" and "embedding".

        Raises:
            SourceError: nothing could be indexed.
            SettingError: a ``shard`` that is none, or another one than the store has, or none where it has one.
            EncoderMismatchError: the store's vectors come from another encoder.
            PluginError: a parser or splitter that lacks a method, or a splitter with invalid spans.
            StoreBusyError: another process or thread is writing.
            ClusterError: the Ray cluster cannot be reached, or its workers cannot do this.
        """
        self.check_one_store()
        part = None if shard is None else Part.parse(shard)
        with naming_the_bundle(self.model), self._workers(ray, ray_encoders) as workers:
            return ingest(
                self.store,
                _listed(paths),
                parsers=ParserRegistry((*list_given(parsers, "parsers"), *self._parsers)),
                embed=self._embed,
                encoder_fingerprint=self.encoder.fingerprint,
                encoder_name=self.encoder.name,
                embedding_text=self.encoder.passage_text,
                tokens=self._tokens,
                splitter=self._measuring(checked_splitter(splitter, self._splitter)),
                reembed=reembed,
                part=part,
                max_bytes=bytes_given(max_bytes, "max_bytes"),
                limits=limits,
                workers=workers,
                progress=progress,
            )

    def _workers(self, ray: str | None, encoders: int | None) -> AbstractContextManager[Workers]:
        if ray is None:
            return nullcontext(HERE)
        from mixrag.corpus.distributed.workers import on_cluster

        made = IndexingSettings(ray=ray, ray_encoders=encoders)  # refuses other types
        return on_cluster(
            ray,
            made.ray_encoders,
            partial(portable_encoder, reference_of(self.encoder)),
            partial(portable_splitting, reference_of(self.encoder)),
        )

    def add(
        self,
        documents: Iterable[Document | Mapping[str, Any]] | Any,
        *,
        splitter: Splitter | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Add documents from memory, or update the documents with the same ids.

        A document without an id gets one of its content, so that the same text twice is one document. Documents
        that have not changed are not embedded again, and a run that was interrupted continues where it stopped.
        ``Passage.document`` is the id, and so is the filter: ``where={"document": "fees-7"}``.

        >>> rag.add([Document("A licence costs nine crowns.", id="fees-7")])  # doctest: +SKIP
        >>> rag.add([{"text": "A licence costs ten crowns.", "id": "fees-7", "year": 2025}])  # doctest: +SKIP

        Args:
            documents: any iterable, which is read one by one, of ``Document`` and rows; or a DataFrame. A row is a
                mapping with "text", and "id" and "title" if it has them; its other keys are metadata.
            splitter: how documents become passages, in the place of the pipeline's.
            progress: called with what happens.

        Raises:
            SourceError: a document that cannot be used (its text blank or no string, a lone surrogate, a NUL
                character, metadata that are not scalars). The message names it; of the documents before it, those
                are in the store that had been written, some hundred at a time.
            EncoderMismatchError: the store's vectors come from another encoder.
            PluginError: a splitter that lacks a method or has invalid spans.
            StoreBusyError: another process or thread is writing.
        """
        self.check_one_store()
        with naming_the_bundle(self.model):
            return add_documents(
                self.store,
                documents_in(documents),
                embed=self._embed,
                encoder_fingerprint=self.encoder.fingerprint,
                encoder_name=self.encoder.name,
                embedding_text=self.encoder.passage_text,
                tokens=self._tokens,
                splitter=self._measuring(checked_splitter(splitter, self._splitter)),
                progress=progress,
            )

    def add_texts(
        self,
        texts: Iterable[str],
        *,
        ids: Iterable[str] | None = None,
        titles: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
    ) -> IndexReport:
        """Add texts from memory as ``add`` does, with as many ids, titles and metadata where those are given.

        Raises:
            SourceError: a text that cannot be used, or more or fewer of something than texts; else as ``add``.
        """
        return self.add(documents_of_texts(texts, ids, titles, metadata))

    def delete(self, ids: str | Iterable[str]) -> Removed:
        """Delete documents that were added from memory, by their ids; an id that is not there is ignored.

        Raises:
            SourceError: an id that is not a string.
            SettingError: ``ids`` is not a list.
            StoreBusyError: another process or thread is writing.
        """
        wanted = [ids] if isinstance(ids, str) else list_given(ids, "ids")
        for each in wanted:
            if not isinstance(each, str) or not is_unicode(each):
                raise SourceError(
                    "ids of documents as strings", f"{each!r}"[:60], "give the ids they were added with"
                )
        return self.store.delete(wanted)

    def remove(self, paths: str | Path | Sequence[str | Path]) -> Removed:
        """Delete files, or all files below folders, from the store; the files themselves stay.

        Documents from memory are not files: ``delete`` takes their ids.
        """
        removed = [self.store.remove(path) for path in _listed(paths)]
        return Removed(*(sum(getattr(each, field.name) for each in removed) for field in fields(Removed)))

    def check_one_store(self) -> None:
        """Before any model is loaded."""
        if (sharded := as_sharded(self.store)) is not None:
            sharded.refuse()

    @property
    def splitter(self) -> Splitter:
        """The pipeline's own; where none was given, that of the last indexing run, if its name says which."""
        stored = None if self._own_splitter else self.store.splitter
        return (splitter_stored(stored) if stored else None) or self._splitter

    @property
    def _tokens(self) -> Tokens | None:
        return getattr(self.encoder, "tokens", None)

    def _measuring(self, splitter: Splitter) -> Splitter:
        """The splitter, which measures in tokens of the encoder if it was given none."""
        if isinstance(splitter, StructureSplitter) and splitter.tokens is None:
            return replace(splitter, tokens=self._tokens)
        return splitter

    def _embed(self, texts: Sequence[str]) -> Vectors:
        encoder = reference_of(self.encoder)
        with turn(encoder):
            return encoder.encode_passages(texts)


@contextmanager
def naming_the_bundle(model: Path | None) -> Iterator[None]:
    """Name the trained folder in the command that would re-embed the store."""
    try:
        yield
    except EncoderMismatchError as error:
        if model is None:
            raise
        remedy = error.remedy.replace("--re-embed", f"--re-embed --model {model}")
        raise EncoderMismatchError(error.expected, error.found, remedy) from error


def checked_splitter(given: Splitter | None, default: Splitter) -> Splitter:
    """The one that is given, else the default. Raises PluginError where it lacks a method."""
    return default if given is None else check_plugin(given, Splitter, "splitter")


def _listed(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path is a list of one: the letters of a string are not paths."""
    alone = isinstance(paths, str | PathLike)
    return [path_given(path, "path") for path in ([paths] if alone else list_given(paths, "paths"))]

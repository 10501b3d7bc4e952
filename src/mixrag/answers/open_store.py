"""A store that is open, with the models that embed and read it: documents go in, models are loaded when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mixrag.answers.applied_calibration import guarantee_for
from mixrag.answers.confidence import ConfidenceMap, calibrated_engine, calibrations_for
from mixrag.answers.guarantee import Guarantee
from mixrag.answers.own_retriever import opened_store, own_retriever
from mixrag.answers.store_contents import checked_splitter, naming_the_bundle
from mixrag.answers.store_models import StoreModels
from mixrag.config.command_settings import StoreConfig
from mixrag.config.engine_choice import engine_in_words
from mixrag.config.model_config import ModelConfig, bundle_for, completed, defaults
from mixrag.config.schema import made
from mixrag.config.settings import Settings
from mixrag.corpus import (
    Counts,
    DocumentRecord,
    EncoderRecord,
    Parser,
    ParserRegistry,
    Splitter,
    Store,
    StructureSplitter,
)
from mixrag.errors import SettingError
from mixrag.generator import Generator
from mixrag.generator.devices import one_dtype
from mixrag.generator.mixed import language_model_of
from mixrag.generator.precompute import FOLDER as PRECOMPUTED
from mixrag.generator.precompute import Precomputed, files_and_bytes, precompute
from mixrag.retrieval.encoders import CompleteEncoder
from mixrag.retrieval.index import IndexChoice, check_index_choice, describe_index
from mixrag.retrieval.index_files import update_index_files
from mixrag.retrieval.retriever import Retriever
from mixrag.retrieval.sharded_retriever import ShardedRetriever
from mixrag.retrieval.shards.exchange import MOST_PASSAGES, Share
from mixrag.retrieval.shards.local import LocalShard, Reader
from mixrag.retrieval.shards.store import as_sharded
from mixrag.retrieval.snapshot_retriever import SnapshotRetriever
from mixrag.utils.arguments import bytes_given, list_given
from mixrag.utils.plugins import check_plugin
from mixrag.utils.progress import Progress


@dataclass(frozen=True, slots=True)
class Info:
    """What a store holds."""

    store: str
    """Its name: the folder, or the location without a password."""
    counts: Counts
    encoder: EncoderRecord | None
    """The encoder that made its vectors; None while it has none."""
    splitter: str | None
    """How the last indexing run made passages."""
    index: str
    """The kind of index that questions will use, and why."""
    documents: tuple[DocumentRecord, ...]
    model: Path | None = None
    """The folder of a trained RAG that is in use; None: none was given."""
    engine: str = ""
    """What runs the language model here, and the number format of its weights."""
    precomputed: tuple[int, int] = (0, 0)
    """Files of passages that language models have read ahead, and their bytes."""


class OpenStore(StoreModels):
    """A store of passages, an encoder and a language model; ``Pipeline`` adds the questions."""

    def __init__(
        self,
        store: Store,
        *,
        encoder: CompleteEncoder | None = None,
        generator: Generator | None = None,
        models: ModelConfig | None = None,
        index: IndexChoice = "auto",
        settings: Settings | None = None,
        model: Path | None = None,
        retriever: Retriever | None = None,
        calibration: ConfidenceMap | Sequence[ConfidenceMap] | None = None,
        guarantee: Guarantee | None = None,
        parsers: Sequence[Parser] = (),
        splitter: Splitter | None = None,
        sharing: OpenStore | None = None,
    ) -> None:
        super().__init__(
            store, models, settings, encoder=encoder, generator=generator, calibration=calibration, sharing=sharing
        )
        self.model = model
        self.index_kind = check_index_choice(index)
        self.guarantee = guarantee
        self._documents: tuple[int, str] | None = None
        self._copying: tuple[Generator, Generator] | None = None
        self._given_retriever = None if retriever is None else check_plugin(retriever, Retriever, "retriever")
        self._snapshots = own_retriever(store, lambda: self.encoder, lambda: self.index_kind)
        self._parsers = tuple(list_given(parsers, "parsers"))
        ParserRegistry(self._parsers)
        self._own_splitter = splitter is not None
        self._splitter = checked_splitter(splitter, StructureSplitter())

    @classmethod
    def open(
        cls,
        directory: str | Path,
        *,
        create: bool = False,
        model: str | Path | None = None,
        generator: Any = None,
        encoder: Any = None,
        question_encoder: Any = None,
        tokenizer: Any = None,
        revision: str | None = None,
        token: str | bool | None = None,
        device: Any = None,
        device_map: Any = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        engine: str | None = None,
        models: ModelConfig | Mapping[str, Any] | None = None,
        index: IndexChoice = "auto",
        retriever: Retriever | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        confidence: str | Path | None = None,
        parsers: Sequence[Parser] = (),
        splitter: Splitter | None = None,
        sharing: OpenStore | None = None,
        shard_seconds: float = 10.0,
        shard_key_env: str | None = None,
    ) -> Self:
        """Open the store of a location.

        Args:
            directory: where the store is: a folder, "lance:PATH", "s3://BUCKET/PREFIX" or "postgresql://…"; a path
                object is a folder. To be asked alone, a store in parts: the address of a ``mixrag serve``, a
                manifest "*.shards.json", or several of all these with commas between them.
            create: make one where there is none.
            model: folder of a trained RAG (``mixrag train``); without one, the trained reader that ships with
                mixrag serves the packaged language model.
            generator: language model: a name, a path, a model object of transformers, or an object with the
                members of ``Generator``; see ``load_generator``. A model object is not changed.
            encoder: encoder of passages and questions: a name, a path, or an object; see ``load_encoder``.
            question_encoder: encoder of the questions, where they have their own.
            tokenizer: of the language model: an object, a path or a name; default: the model's own.
            revision: branch, tag or commit of models on the hub.
            token: access token of the hub.
            device: of all models; default: cuda, mps or cpu, the first that there is.
            device_map: devices of the language model's parts, as ``from_pretrained`` takes it.
            dtype: of the language model: a name or a ``torch.dtype``; default "auto".
            torch_dtype: older name of ``dtype`` in transformers.
            engine: what runs a causal model: "auto" (default), "torch", "openvino", "llamacpp" or "vllm".
            models: the same as one object or mapping; keywords given as well take precedence. Models given
                either way take the place of those in ``model``.
            index: how to search: "auto", "exact", "faiss", or a function (rows, vectors) -> Index.
            retriever: an object that takes the place of encoder and index, for instance a remote search engine.
            settings: the defaults of every question. A mapping changes only what it names of the defaults of
                ``model``; of ``Settings`` all counts, but a temperature of None is that of ``model``.
            confidence: file of a calibration (``mixrag eval`` writes it), "none" for none; default: that of
                ``model``, where the models are its own.
            parsers: read files of their suffixes, in the place of the built-in parsers where those read them too.
            splitter: how documents become passages; default ``StructureSplitter(200)``.
            sharing: another open store, whose models are used where its model settings are equal to those of this
                one: several stores in one process then load each model once, whichever of them needs it first.
                Stores whose vectors come from different encoders, or number formats, each have their own encoder.
            shard_seconds: how long a question waits for a shard; one that is late is named, and missing.
            shard_key_env: the environment variable with the key of all servers in ``directory``.

        Raises:
            StoreMissingError: there is none, and ``create`` is false.
            StoreError: it cannot be used (version, corruption, network); of a store in parts, none of them can.
            ModelError: ``model`` is not a folder of a trained RAG, or ``confidence`` not a calibration.
            SettingError: a setting outside its range.
            PluginError: a parser, splitter, encoder, index or retriever that lacks what is needed.
        """
        checked = StoreConfig(  # refuses other types
            store=directory,
            model=model,
            index=index,
            confidence=confidence,
            shard_seconds=shard_seconds,
            shard_key_env=shard_key_env,
        )
        named: dict[str, Any] = {
            "generator": generator,
            "encoder": encoder,
            "question_encoder": question_encoder,
            "tokenizer": tokenizer,
            "revision": revision,
            "token": token,
            "device": device,
            "device_map": device_map,
            "dtype": one_dtype(dtype, torch_dtype),
            "engine": engine,
        }
        present = {name: value for name, value in named.items() if value is not None}
        given = replace(made(ModelConfig, models, "models"), **present)
        trained = bundle_for(given, model)
        chosen, default = completed(given, trained), defaults(given, trained, settings)
        calibrations = calibrations_for(given, trained, confidence)
        guarantee = guarantee_for(given, trained, confidence)
        store = opened_store(checked, create=create)
        folder = None if model is None else Path(model)
        return cls(
            store,
            models=calibrated_engine(chosen, calibrations),
            index=index,
            settings=default,
            model=folder,
            retriever=retriever,
            calibration=calibrations,
            guarantee=guarantee,
            parsers=parsers,
            splitter=splitter,
            sharing=sharing,
        )

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Self:
        """For ``with RAG.open(...) as rag``."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    @property
    def is_loaded(self) -> bool:
        """Whether the models that a question needs are in memory."""
        return self._generator is not None and (self._encoder is not None or self._given_retriever is not None)

    @property
    def retriever(self) -> Retriever:
        """The one that was given, else one over the store, whose index is opened here if it is not up to date."""
        if self._given_retriever is not None:
            return self._given_retriever
        with naming_the_bundle(self.model):
            self._snapshots.open()
        return self._snapshots

    @property
    def is_ready(self) -> bool:
        """Whether a question has to wait neither for models nor for an index of the store or of shards here."""
        return self.is_loaded and (self._given_retriever is not None or self._snapshots.is_open)

    def make_ready(self) -> None:
        """Load the models and open the indexes now, which the first questions would do.

        Without files next to a store of many passages this builds them: half an hour for ten million.

        Raises:
            ModelError: a model cannot be loaded.
            StoreError: an index cannot be opened; EncoderMismatchError where its vectors are of another encoder.
        """
        _ = self.generator, self.encoder
        if self._given_retriever is None:
            self._snapshots.open_all()

    def update_index_files(self) -> bool:
        """``retrieval.index_files.update_index_files`` of this store.

        Raises:
            SettingError: a store in shards.
            StoreError: the files cannot be written, and there is too little memory to do without.
        """
        self.check_one_store()
        return update_index_files(self.store, self.index_kind)

    def precompute(self, max_bytes: int = 4 * 2**30, progress: Progress | None = None) -> Precomputed:
        """Let the language model read the passages ahead of any question, into files next to the store.

        A question then starts directly after its passages, also in a new process, where every prompt holds one
        passage (``group`` 1). What has been read is not read again.

        Args:
            max_bytes: of the files of this model; 23 kB a token for the packaged model in bfloat16.
            progress: called with stage "reading passages".

        Raises:
            ModelError: the model keeps no passages (seq2seq, or ``prefix_cache`` 0).
            OutputError: a file cannot be written.
        """
        self.check_one_store()
        limit, generator = bytes_given(max_bytes, "max_bytes"), language_model_of(self.generator)
        with self.store.snapshot():
            return precompute(self.store, generator, limit, progress)

    def info(self) -> Info:
        """What the store holds; no model is loaded."""
        with self.store.snapshot():
            counts = self.store.counts()
            return Info(
                store=self.store.name,
                counts=counts,
                encoder=self.store.encoder,
                splitter=self.store.splitter,
                index=self._described_index(counts.passages),
                documents=tuple(self.store.documents()),
                model=self.model,
                engine=engine_in_words(replace(self.models, generator=self.given("generator"))),
                precomputed=files_and_bytes(self.store.cache_directory / PRECOMPUTED),
            )

    def _described_index(self, passages: int) -> str:
        if (sharded := as_sharded(self.store)) is not None:
            return f"{len(sharded.shards)} shards: {', '.join(shard.name for shard in sharded.shards)}"
        return describe_index(passages, self.index_kind, self.store)

    def shard(self, name: str, share: Share = "documents", reader: Reader | None = None) -> LocalShard:
        """This store as a shard of a larger one, which answers others for its own passages, within limits.

        Args:
            name: how messages call it.
            share: "likelihoods": no text of a document leaves it.
            reader: scores answers after its passages.

        Raises:
            SettingError: a store in shards, or a retriever of the caller's own.
        """
        if not isinstance(self._snapshots, SnapshotRetriever) or self._given_retriever is not None:
            raise SettingError(
                "a store of its own, as a shard", "shards, or a retriever", "ask each of them itself"
            )
        return LocalShard(name, self.store, self._snapshots.snapshots, share, reader, MOST_PASSAGES)

    def shards_known(self) -> list[dict[str, Any]]:
        """Of a store in shards: name, passages, and why it did not answer last, of each; else nothing."""
        return self._snapshots.states() if isinstance(self._snapshots, ShardedRetriever) else []

    def every_shard(self) -> AbstractContextManager[None]:
        """While it lasts, questions to a store in shards are refused where one is missing, or shares no documents.

        Raises:
            ShardMissingError, SettingError: as ``ShardedRetriever.complete``, when it is entered.
        """
        found = self._snapshots
        return found.complete() if isinstance(found, ShardedRetriever) else nullcontext()

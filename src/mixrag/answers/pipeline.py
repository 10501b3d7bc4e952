"""RAG: the facade. Open a store, index documents, ask questions, score answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from mixrag.answers.answer import Answer, build_answer
from mixrag.answers.confidence import ConfidenceMap, Judge, calibration_for, judge
from mixrag.answers.explanation import Explanation, explain
from mixrag.answers.explanation_html import explanation_page
from mixrag.answers.stream import Stream
from mixrag.config.model_config import ModelConfig, bundle_for, completed, defaults, models_digest
from mixrag.config.settings import Settings
from mixrag.corpus import (
    Counts,
    DocumentRecord,
    EncoderRecord,
    IndexReport,
    Progress,
    Removed,
    Splitter,
    Store,
    WordSplitter,
    check_encoder,
    ingest,
)
from mixrag.errors import EncoderMismatchError, QuestionError
from mixrag.generator import Generator, load_generator
from mixrag.generator.precompute import FOLDER as PRECOMPUTED
from mixrag.generator.precompute import Precomputed, attach, files_and_bytes, precompute
from mixrag.inference.batch import greedy_in_batches
from mixrag.inference.mixture import Mixture, condition
from mixrag.retrieval.encoders import CompleteEncoder, load_encoder
from mixrag.retrieval.index import IndexChoice, check_index_choice, describe_index, open_index
from mixrag.retrieval.retriever import Retrieval, Retriever, StoreRetriever, checked_retrieval
from mixrag.utils.plugins import check_plugin


@dataclass(frozen=True, slots=True)
class Info:
    """What a store holds."""

    directory: Path
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
    precomputed: tuple[int, int] = (0, 0)
    """Files of passages that language models have read ahead, and their bytes."""


class Pipeline:
    """A store of passages, an encoder and a language model, as one conditional distribution p(answer | question).

    Models are loaded when they are first needed. ``settings`` are the defaults of every question; each method
    takes changes to them as keyword arguments (``k=10, switch=1.0``).

    Example:
        >>> rag = RAG.open("store", create=True)  # doctest: +SKIP
        >>> rag.index(["documents"])  # doctest: +SKIP
        >>> answer = rag.ask("Who issues the fishing licence?")  # doctest: +SKIP
        >>> answer.text, answer.probability, answer.passages[0].posterior  # doctest: +SKIP
    """

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
        calibration: ConfidenceMap | None = None,
    ) -> None:
        self.store = store
        self.models = models or ModelConfig()
        self.settings = settings or Settings()
        self.model = model
        self.index_kind = check_index_choice(index)
        self.calibration = calibration
        self._known: tuple[ModelConfig, str] | None = None
        self._encoder = encoder
        self._generator = generator
        self._given_retriever = None if retriever is None else check_plugin(retriever, Retriever, "retriever")
        self._retriever: tuple[int, StoreRetriever] | None = None

    @classmethod
    def open(
        cls,
        directory: str | Path,
        *,
        create: bool = False,
        model: str | Path | None = None,
        encoder: Any = None,
        models: ModelConfig | None = None,
        index: IndexChoice = "auto",
        retriever: Retriever | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        confidence: str | Path | None = None,
    ) -> Self:
        """Open the store in a directory.

        Args:
            directory: where the store is.
            create: make one where there is none.
            model: folder of a trained RAG (``mixrag train``); without one, the trained reader that ships with
                mixrag serves the packaged language model.
            encoder: encoder of passages and questions: a name, a path, or an object; see ``load_encoder``.
            models: models that take the place of those in ``model``.
            index: how to search: "auto", "exact", "faiss", or a function (rows, vectors) -> Index.
            retriever: an object that takes the place of encoder and index, for instance a remote search engine.
            settings: the defaults of every question. A mapping changes only what it names of the defaults of
                ``model``; of ``Settings`` all counts, but a temperature of None is that of ``model``.
            confidence: file of a calibration (``mixrag eval`` writes it), "none" for none; default: that of
                ``model``, where the models are its own.

        Raises:
            StoreMissingError: there is none, and ``create`` is false.
            StoreError: it cannot be used (version, corruption).
            ModelError: ``model`` is no folder of a trained RAG, or ``confidence`` no calibration.
            SettingError: a setting outside its range.
            PluginError: an index or retriever that lacks what is needed.
        """
        given = models or ModelConfig()
        given = given if encoder is None else replace(given, encoder=encoder)
        trained = bundle_for(given, model)
        chosen, default = completed(given, trained), defaults(given, trained, settings)
        calibration = calibration_for(given, trained, confidence)
        store = Store.open(Path(directory), create=create)
        folder = None if model is None else Path(model)
        return cls(
            store,
            models=chosen,
            index=index,
            settings=default,
            model=folder,
            retriever=retriever,
            calibration=calibration,
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
    def encoder(self) -> CompleteEncoder:
        """The encoder, loaded at first use."""
        if self._encoder is None:
            models, stored = self.models, self.store.encoder
            self._encoder = load_encoder(
                models.encoder,
                question=models.question_encoder,
                titles=models.titles,
                device=models.device,
                dtype=models.encoder_dtype,
                stored=stored.fingerprint if stored else None,
                revision=models.revision,
                token=models.token,
            )
        return self._encoder

    @property
    def generator(self) -> Generator:
        """The language model, loaded at first use."""
        if self._generator is None:
            models = self.models
            self._generator = load_generator(
                models.generator,
                template=models.prompt,
                dtype=models.dtype,
                device=models.device,
                adapter=models.adapter,
                prefix_cache=models.prefix_cache,
            )
            attach(self._generator, self.store.directory)
        return self._generator

    @property
    def retriever(self) -> Retriever:
        """The one that was given, else one over the store as it is now."""
        if self._given_retriever is not None:
            return self._given_retriever
        generation = self.store.generation
        if self._retriever is None or self._retriever[0] != generation:
            with _mismatch_named(self.model):
                check_encoder(self.store, self.encoder.name, self.encoder.fingerprint)
            index = open_index(self.store, self.index_kind)
            self._retriever = generation, StoreRetriever(self.store, self.encoder, index)
        return self._retriever[1]

    def index(
        self,
        paths: Sequence[str | Path],
        *,
        splitter: Splitter | None = None,
        reembed: bool = False,
        max_bytes: int = 25 * 2**20,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring the store up to date with files and folders; what has not changed is not read again.

        Args:
            paths: files and folders. A file gone from a folder named here is deleted from the store.
            splitter: how documents become passages; default 100 words each, disjoint.
            reembed: compute all vectors anew, with another encoder than the store has.
            max_bytes: larger files are skipped.
            progress: told what happens.

        Raises:
            SourceError: nothing could be indexed.
            EncoderMismatchError: the store's vectors come from another encoder.
            StoreBusyError: another process is writing.
        """
        with _mismatch_named(self.model):
            return ingest(
                self.store,
                [Path(path) for path in paths],
                embed=self.encoder.encode_passages,
                encoder_fingerprint=self.encoder.fingerprint,
                encoder_name=self.encoder.name,
                embedding_text=self.encoder.passage_text,
                splitter=splitter or WordSplitter(),
                reembed=reembed,
                max_bytes=max_bytes,
                progress=progress,
            )

    def passages(self, question: str, **changes: Any) -> Retrieval:
        """The passages for a question and their prior p(z | x); no language model runs.

        Raises:
            QuestionError: the question is empty.
            SettingError: a setting outside its range.
            StoreEmptyError: nothing to retrieve.
            EncoderMismatchError: the store's vectors come from another encoder.
        """
        return self._retrieve(question, self._settings(changes))

    def condition(self, question: str, **changes: Any) -> Mixture:
        """The mixture p(answer | question) itself, for further computation. Raises as ``passages`` does."""
        settings = self._settings(changes)
        return self._condition(question, self._retrieve(question, settings), settings)

    def ask(self, question: str, **changes: Any) -> Answer:
        """Answer a question.

        Raises:
            QuestionError: the question is empty or does not fit into the model's context.
            SettingError: a setting outside its range.
            StoreEmptyError: nothing to retrieve.
            EncoderMismatchError: the store's vectors come from another encoder.
            ModelError: a model cannot be loaded.
        """
        return self.stream(question, **changes).answer

    def stream(self, question: str, **changes: Any) -> Stream:
        """As ``ask``, token by token: iterate for the tokens, then read ``answer``."""
        settings = self._settings(changes)
        found = self._judge(settings)
        retrieval = self._retrieve(question, settings)
        return Stream(self._condition(question, retrieval, settings), retrieval, settings, found)

    def ask_many(self, questions: Sequence[str], **changes: Any) -> list[Answer]:
        """Answer several questions, in their order, in less time than one by one.

        With the greedy decoder the passages of several questions are one batch of the language model; other
        decoders, and ``samples``, go question by question. Raises as ``ask`` does.
        """
        settings = self._settings(changes)
        if settings.decoder != "greedy" or settings.samples:
            return [self.ask(question, **changes) for question in questions]
        found = self._judge(settings)
        retrievals = [self._retrieve(question, settings) for question in questions]
        mixtures = [
            self._condition(question, retrieval, settings)
            for question, retrieval in zip(questions, retrievals, strict=True)
        ]
        written = greedy_in_batches(mixtures, settings.max_tokens, settings.prune)
        return [
            build_answer(scored, retrieval, settings, judge=found, pruned=spent)
            for (scored, spent), retrieval in zip(written, retrievals, strict=True)
        ]

    def score(self, question: str, answer: str, **changes: Any) -> Answer:
        """The probability of a given answer, and what it says about the passages. Raises as ``ask`` does."""
        settings = self._settings(changes)
        tokens = self.generator.answer_tokens(answer)
        # The answer is given: the prompt must leave room for all of it.
        settings = replace(settings, max_tokens=max(settings.max_tokens, len(tokens)))
        retrieval = self._retrieve(question, settings)
        scored = self._condition(question, retrieval, settings).score_tokens(tokens)
        # No confidence: it is fitted on answers that the system itself gave.
        return build_answer(scored, retrieval, settings)

    def explain(self, answer: Answer) -> Explanation:
        """Take an answer apart: exact prompts, scores, what each passage alone would answer, leave-one-out."""
        return explain(answer)

    def explanation_page(self, answer: Answer) -> str:
        """``explain`` as one self-contained HTML page, its words coloured by passage (docs/explanation.md)."""
        return explanation_page(self.explain(answer))

    def remove(self, paths: Sequence[str | Path]) -> Removed:
        """Delete files, or all files below folders, from the store; the files themselves stay."""
        gone = [self.store.remove(Path(path)) for path in paths]
        return Removed(*(sum(counts) for counts in zip(*(astuple(each) for each in gone), strict=True)))

    def precompute(
        self, max_bytes: int = 4 * 2**30, progress: Callable[[int, int], None] | None = None
    ) -> Precomputed:
        """Let the language model read the passages ahead of any question, into files beside the store.

        A question then begins behind its passages at once, also in a new process, where every prompt holds one
        passage (``group`` 1). What has been read is not read again.

        Args:
            max_bytes: of the files of this model; 23 kB a token for the packaged model in bfloat16.
            progress: called with passages done and all.

        Raises:
            ModelError: the model keeps no passages (seq2seq, or ``prefix_cache`` 0).
            OutputError: a file cannot be written.
        """
        return precompute(self.store, self.generator, max_bytes, progress or (lambda done, total: None))

    def info(self) -> Info:
        """What the store holds; no model is loaded."""
        counts = self.store.counts()
        return Info(
            directory=self.store.directory,
            counts=counts,
            encoder=self.store.encoder,
            splitter=self.store.splitter,
            index=describe_index(counts.passages, self.index_kind, self.store),
            documents=tuple(self.store.documents()),
            model=self.model,
            precomputed=files_and_bytes(self.store.directory / PRECOMPUTED),
        )

    def _judge(self, settings: Settings) -> Judge | None:
        if self.calibration is None:
            return judge(None, settings, "")
        if self._known is None or self._known[0] is not self.models:
            self._known = self.models, models_digest(self.models)  # which reads files: once, not at every question
        return judge(self.calibration, settings, self._known[1])

    def _settings(self, changes: dict[str, Any]) -> Settings:
        return replace(self.settings, **changes)

    def _retrieve(self, question: str, settings: Settings) -> Retrieval:
        if not question.strip():
            raise QuestionError("a question", "an empty one", "ask something")
        if not _is_text(question):
            raise QuestionError("a question in UTF-8", "other bytes", "write it in a UTF-8 terminal")
        if settings.k == 0:
            nothing = torch.empty(0, dtype=torch.float64)
            return Retrieval((), nothing, nothing, log_null=0.0, outside=None, temperature=1.0)
        found = self.retriever.retrieve(question, settings)
        return found if self._given_retriever is None else checked_retrieval(found, self._given_retriever)

    def _condition(self, question: str, retrieval: Retrieval, settings: Settings) -> Mixture:
        return condition(
            self.generator,
            question,
            retrieval.passages,
            retrieval.log_prior,
            log_null=retrieval.log_null,
            outside=retrieval.outside,
            group=None if settings.group == "all" else settings.group,
            switch=settings.switch,
            reserve=settings.max_tokens,
        )


@contextmanager
def _mismatch_named(model: Path | None) -> Iterator[None]:
    """Name the trained folder in the command that would re-embed the store."""
    try:
        yield
    except EncoderMismatchError as error:
        if model is None:
            raise
        remedy = error.remedy.replace("--re-embed", f"--re-embed --model {model}")
        raise EncoderMismatchError(error.expected, error.found, remedy) from error


def _is_text(question: str) -> bool:
    try:
        question.encode()
    except UnicodeEncodeError:  # what a shell passes on that is no UTF-8 arrives as lone surrogates
        return False
    return True

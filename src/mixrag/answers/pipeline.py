"""From a question to an answer: retrieve, condition, decode."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from mixrag.answers.answer import Answer, answer_of, build_answer
from mixrag.answers.applied_calibration import AppliedCalibration, apply_calibration
from mixrag.answers.async_stream import AsyncStream
from mixrag.answers.bounded import IntervalAnswer
from mixrag.answers.decision import PREDICATE, Decision, checked_labels, decision, label_tokens
from mixrag.answers.extract import Extract, extract, extract_of, has_sentences, settings_of_sentences
from mixrag.answers.federated import FederatedCandidates, Federation, likelihoods_of, settings_of
from mixrag.answers.in_kind import BATCHED, Reader, asked_kind, extract_answer, in_kind, settings_of_kind
from mixrag.answers.inexact import bounded_or_written, checked_inexact
from mixrag.answers.kinds import Kind
from mixrag.answers.open_store import OpenStore
from mixrag.answers.question import check_text
from mixrag.answers.read_sentences import Scores
from mixrag.answers.sentence_scores import sentence_scores
from mixrag.answers.store_contents import naming_the_bundle
from mixrag.answers.stream import Stream
from mixrag.answers.written import WrittenAnswer, written_answer
from mixrag.config.server_address import is_remote
from mixrag.config.settings import Settings
from mixrag.errors import QuestionError, SettingError
from mixrag.generator import Generator
from mixrag.generator.mixed import MixedGenerator, copying
from mixrag.generator.protocol import QUESTIONS_AT_A_TIME
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.inference.answer_distribution import AnswerDistribution, answer_distribution
from mixrag.inference.candidates import decoder_on
from mixrag.inference.decoders import decode_all, decoder_for
from mixrag.inference.length import leaving_room, reserved
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.protocol import Decoder
from mixrag.retrieval.left_out import leave_out
from mixrag.retrieval.retriever import Retrieval, checked_retrieval
from mixrag.retrieval.shards.exchange import Likelihoods, LikelihoodsRequest
from mixrag.retrieval.shards.protocol import ShardChangedError
from mixrag.utils.arguments import list_given
from mixrag.utils.cancellation import in_thread
from mixrag.utils.concurrently import concurrently


class Pipeline(OpenStore):
    """A store of passages, an encoder and a language model, as one conditional distribution p(answer | question).

    Models are loaded when they are first needed. ``settings`` are the defaults of every question; each method
    takes changes to them as keyword arguments (``k=10, switch=1.0``).

    Threads: all methods may be called from several threads at once. Each model is loaded once. A question sees one
    state of the store, from the search to the text of its passages, whatever other threads and processes write
    meanwhile; ``ask_many`` takes one state for each question. Searches run side by side. The encoder does one call
    at a time, and so does each language model that mixrag loaded, token by token: answers of several threads take
    turns. A ``Stream`` may be read by one thread at a time; between its tokens it holds no lock and no snapshot:
    one that is never finished blocks no other. A generator, retriever or index of the caller's own must allow
    calls from several threads where the pipeline is asked from several. One thread or process writes at a time.

    Example:
        >>> rag = RAG.open("store", create=True)  # doctest: +SKIP
        >>> rag.index(["documents"])  # doctest: +SKIP
        >>> answer = rag.ask("Who issues the fishing licence?")  # doctest: +SKIP
        >>> answer.text, answer.probability, answer.passages[0].posterior  # doctest: +SKIP
    """

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

    def ask(self, question: str, *, without: Collection[str] = (), **changes: Any) -> Answer:
        """Answer a question.

        Args:
            question: its text.
            without: ids of passages that would be found; the answer is what it would be had they not been, with
                the prior of the others divided by what is left of it.
            **changes: of ``Settings``, for this question.

        Raises:
            QuestionError: the question is empty or does not fit into the model's context; ``without`` names a
                passage that is not found, or leaves nothing.
            SettingError: a setting outside its range.
            StoreEmptyError: nothing to retrieve.
            EncoderMismatchError: the store's vectors come from another encoder.
            ModelError: a model cannot be loaded.
            PluginError: ``decoder`` is an object that lacks what ``Decoder`` asks for.
        """
        return self.stream(question, without=without, **changes).answer

    def stream(self, question: str, *, without: Collection[str] = (), **changes: Any) -> Stream:
        """As ``ask``, token by token: iterate for the tokens, then read ``answer``."""
        settings = asked = self._settings(changes)
        decoder = decoder_for(settings)
        calibration = self._applied_calibration(asked)
        retrieval = leave_out(self._retrieve(question, settings), without)
        if any(retrieval.withheld):
            return self._federated_stream(question, retrieval, settings, decoder)
        kind = self._kind(question, settings)
        if kind == "extract" and has_sentences(retrieval):
            extracted = extract(question, retrieval, self._sentence_scores(question, settings))
            chosen = in_kind(kind, decoder, extracted, self._reader(question, extracted, settings))
            mixture, retrieval, settings = extracted.mixture, extracted.retrieval, settings_of_sentences(settings)
        else:
            settings = settings_of_kind(kind, settings)
            mixture = self._condition(question, retrieval, settings)
            chosen = in_kind(kind, decoder_on(mixture, decoder, settings.decoder))
            calibration = self._applied_calibration(asked)  # now that it is certain what runs the model
        applied = calibration and calibration.of_kind(kind, chosen.calibrated)
        return Stream(mixture, retrieval, settings, chosen.decoder, applied, chosen.complete)

    async def aask(self, question: str, **changes: Any) -> Answer:
        """As ``ask``, in a worker thread: ``await rag.aask(question)``.

        Where the task is cancelled, work stops after the token that is being computed, and requests to a server of
        language models are ended.
        """
        return await self.astream(question, **changes).result()

    def astream(self, question: str, **changes: Any) -> AsyncStream:
        """As ``stream``, in a worker thread: ``async for token in rag.astream(question)``, then ``answer``."""
        return AsyncStream(lambda: self.stream(question, **changes))

    def ask_many(self, questions: Sequence[str], **changes: Any) -> list[Answer]:
        """Answer several questions, in their order, in less time than one by one.

        Where the decoder batches (greedy and beam, without ``samples``) the passages of several questions are one
        batch of the language model. Decisions between yes and no, extracts, and answers of any length go question
        by question, of a model behind a server several at a time; those of other decoders one after the other.
        Probabilities are those of ``ask`` up to the order of additions, in bfloat16 up to ``Answer.rounding``.
        Raises as ``ask`` does.
        """
        settings, questions = self._settings(changes), list_given(questions, "questions")
        decoder = decoder_for(settings)
        if not decoder.batches:
            return [self.ask(question, **changes) for question in questions]
        kinds = [self._kind(check_text(question, "a question"), settings) for question in questions]
        asked = [*zip(questions, kinds, strict=True)]
        batched = frozenset[Kind]() if settings.max_tokens == "all" else BATCHED
        batch = iter(self._ask_batch([each for each in asked if each[1] in batched], settings, decoder))
        singly = (partial(self.ask, question, **changes) for question, kind in asked if kind not in batched)
        alone = concurrently(singly, 1 if self.server is None else QUESTIONS_AT_A_TIME)
        return [next(batch if kind in batched else alone) for kind in kinds]

    def _ask_batch(self, asked: Sequence[tuple[str, Kind]], settings: Settings, decoder: Decoder) -> list[Answer]:
        """Answers that the language model writes side by side."""
        if not asked:
            return []
        self._applied_calibration(settings)  # raises where answers cannot be withheld as asked
        retrievals = [self._retrieve(question, settings) for question, _ in asked]
        mixtures = [
            self._condition(question, retrieval, settings)
            for (question, _), retrieval in zip(asked, retrievals, strict=True)
        ]
        calibration = self._applied_calibration(settings)  # now that it is certain what runs the model
        decoder = decoder_on(mixtures[0], decoder, settings.decoder)
        assert settings.max_tokens != "all"
        results = decode_all(decoder, mixtures, settings.max_tokens)
        found = []
        for (_, kind), result, retrieval in zip(asked, results, retrievals, strict=True):
            chosen = in_kind(kind, decoder)
            applied = calibration and calibration.of_kind(kind, chosen.calibrated)
            found.append(chosen.complete(answer_of(result, retrieval, settings, applied), result))
        return found

    @property
    def server(self) -> Capabilities | None:
        """What the server of a remote language model can return; None for a model in this process."""
        if not is_remote(self.models.generator) and self._generator is None:
            return None  # without loading it
        found = getattr(self.generator, "capabilities", None)
        return found if isinstance(found, Capabilities) else None

    def write(self, question: str, **changes: Any) -> WrittenAnswer | IntervalAnswer:
        """What a model behind a server writes that gives no exact probabilities.

        Where it lists next tokens, one answer of the mixture with its probability in an interval; else its text
        for each component, with the prior of its passages.

        Raises:
            ModelError: the language model gives probabilities: ``ask`` it.
            QuestionError, SettingError, StoreEmptyError, ServerError: as ``ask``.
        """
        settings = self._settings(changes)
        generator = checked_inexact(self.generator, settings)
        retrieval = self._retrieve(question, settings)
        if isinstance(generator, TextWriter):
            return written_answer(generator, question, retrieval, settings)
        mixture = self._condition(question, retrieval, settings)
        return bounded_or_written(generator, mixture, retrieval, settings)

    def likelihoods(self, request: LikelihoodsRequest) -> Likelihoods:
        """How probable given answers are after passages of this store, for whoever asks over several stores.

        Raises:
            ShardChangedError: the passages are of another state of the store.
            SettingError: tokens of another language model.
            StoreError: a passage that is not in the store.
        """
        with self.store.snapshot():
            if self.store.state != request.state:
                raise ShardChangedError(self.store.name)
            passages = tuple(self.store.passages(request.rows))
        settings = settings_of(request, self.settings)
        nothing = torch.zeros(len(passages), dtype=torch.float64)
        retrieval = Retrieval(passages, nothing, nothing)
        generator, mixture = self._generator_for(settings), self._condition(request.question, retrieval, settings)
        return likelihoods_of(generator, self.generator_fingerprint, mixture, request)

    def answer_distribution(self, question: str, **changes: Any) -> AnswerDistribution:
        """The whole distribution p(answer | question), enumerated; of an extractive generator at switch 0.

        Raises:
            ModelError: a language model, whose answers cannot be enumerated.
            SettingError: another switch; else as ``condition`` does.
        """
        return answer_distribution(self.condition(question, **changes).unconditioned())

    def score(self, question: str, answer: str, **changes: Any) -> Answer:
        """The probability of a given answer, and the posterior of the passages. Raises as ``ask`` does.

        It is that under the distribution from which ``ask`` takes its answer: where an extract is asked for
        (``Settings.kind``), of sentences of the passages. With ``empty_answer`` that of the empty text is the
        probability that none is stated, p(∅ | question).

        Raises:
            QuestionError: where an extract is asked for, a text that is no sentences of the passages.
        """
        settings = self._settings(changes)
        check_text(question, "a question")
        check_text(answer, "an answer", empty=True)
        retrieval = self._retrieve(question, settings)
        kind: Kind = "span" if any(retrieval.withheld) else self._kind(question, settings)
        # No confidence: it is fitted on answers that the system itself gave.
        if kind == "extract" and has_sentences(retrieval):
            return self._score_extract(question, answer, retrieval, settings)
        tokens = self.generator.answer_tokens(answer)
        # The answer is given: the prompt must leave room for all of it.
        longest = leaving_room(settings.max_tokens, len(tokens), self.generator)
        settings = replace(settings_of_kind(kind, settings), max_tokens=longest)
        if any(retrieval.withheld):
            (scored,) = self._federation(question, retrieval, settings).scored([tokens])
        else:
            scored = self._condition(question, retrieval, settings).score_tokens(tokens)
        return build_answer(scored, retrieval, settings, given=True)

    def decide(self, question: str, labels: Sequence[str] = PREDICATE, **changes: Any) -> Decision:
        """Decide between given labels: p(label | question) of each as a full answer, exact, in one reading.

        The prompt does not name the labels: a question may. They need not be words of a passage, so ``copy`` does
        not apply, and neither do ``kind`` and the settings of decoders.

        >>> rag.decide("Is the licence free?").probability  # doctest: +SKIP
        >>> rag.decide("How strict is the rule, from 1 to 3?", ["1", "2", "3"]).expected  # doctest: +SKIP

        Raises:
            QuestionError: fewer than two labels, or two that are one answer; else as ``ask``.
        """
        labels, settings = checked_labels(labels), replace(self._settings(changes), copy=False)
        check_text(question, "a question")
        retrieval = self._retrieve(question, settings)
        longest = max(map(len, label_tokens(self.generator, labels)))
        settings = replace(settings, max_tokens=leaving_room(settings.max_tokens, longest, self.generator))
        return decision(self._condition(question, retrieval, settings), retrieval, settings, labels)

    async def adecide(self, question: str, labels: Sequence[str] = PREDICATE, **changes: Any) -> Decision:
        """As ``decide``, in a worker thread; where the task is cancelled, requests to other machines end."""
        return await in_thread(self.decide, question, labels, **changes)

    def _score_extract(self, question: str, answer: str, retrieval: Retrieval, settings: Settings) -> Answer:
        found = extract_of(answer, question, retrieval, self._sentence_scores(question, settings))
        if found is None:
            expected = "sentences of the passages, since the question asks for an extract"
            shown = repr(answer if len(answer) <= 60 else f"{answer[:59]}…")
            raise QuestionError(expected, shown, "score it as a span (kind='span', --kind span)")
        scored = build_answer(found.scored, found.retrieval, settings_of_sentences(settings), given=True)
        return extract_answer(found, scored, self._reader(question, found, settings))

    @property
    def documents_digest(self) -> str:
        """A digest of the documents that are asked; empty where a retriever of the caller's own finds them."""
        if self._given_retriever is not None:
            return ""
        with self.store.snapshot():
            generation = self.store.generation
            if self._documents is None or self._documents[0] != generation:
                self._documents = generation, self.store.documents_digest()
            return self._documents[1]

    def kind(self, question: str, **changes: Any) -> Kind:
        """The kind of answer that a question is asked for: what ``Settings.kind`` says, "auto" decided."""
        return self._kind(check_text(question, "a question"), self._settings(changes))

    def _applied_calibration(self, settings: Settings) -> AppliedCalibration | None:
        if self.calibration is None:
            return apply_calibration(None, settings, "")
        documents = "" if self.guarantee is None else self.documents_digest
        return apply_calibration(self.calibration, settings, self.models_digest, self.guarantee, documents)

    def _sentence_scores(self, question: str, settings: Settings) -> Scores:
        """Of the pipeline's own encoder; the temperature that is set is that of a retriever that was given."""
        own = settings.temperature if self._given_retriever is None else None
        return sentence_scores(question, self.encoder, own or self.encoder.temperature, settings)

    def _reader(self, question: str, extracted: Extract, settings: Settings) -> Reader | None:
        """What reads the passages of an extract for the empty answer; None where the language model has none."""
        if not settings.empty_answer:
            return None
        settings = replace(settings, group=1, switch=0.0, copy=False)
        return partial(self._condition, question, extracted.retrieval, settings)

    def _kind(self, question: str, settings: Settings) -> Kind:
        """The kind of answer to be given: of a reader that writes no "yes", sentences that tell."""
        kind = asked_kind(question, settings)
        if kind == "yes-no" and self._extractive:
            return "span" if settings.k == 0 else "extract"
        return kind

    @property
    def _extractive(self) -> bool:
        """Whether the generator gives stretches of its passages in any case."""
        return hasattr(self.generator, "finite_answers")

    def _generator_for(self, settings: Settings) -> Generator:
        """The generator as the settings have it: whether it may only copy, and the weight of a language model."""
        generator = self.generator
        if settings.copy and not self._extractive:
            # One object, because it reads the whole vocabulary once.
            if self._copying is None or self._copying[0] is not generator:
                self._copying = generator, copying(generator)
            generator = self._copying[1]
        if isinstance(generator, MixedGenerator):
            return generator.weighted(settings.language_model_weight)
        return generator

    def _settings(self, changes: dict[str, Any]) -> Settings:
        return replace(self.settings, **changes)

    def _retrieve(self, question: str, settings: Settings) -> Retrieval:
        check_text(question, "a question")
        if settings.k == 0:
            nothing = torch.empty(0, dtype=torch.float64)
            return Retrieval((), nothing, nothing, log_null=0.0, outside=None, temperature=1.0)
        if self._given_retriever is not None:
            return checked_retrieval(self._given_retriever.retrieve(question, settings), self._given_retriever)
        with naming_the_bundle(self.model):
            return self._snapshots.retrieve(question, settings)

    def _federation(self, question: str, retrieval: Retrieval, settings: Settings) -> Federation:
        generator = self._generator_for(settings)
        return Federation(generator, self.generator_fingerprint, question, retrieval, settings)

    def _federated_stream(
        self, question: str, retrieval: Retrieval, settings: Settings, decoder: Decoder
    ) -> Stream:
        """Of passages some of which are not shared; no calibration was fitted on such answers."""
        federation = self._federation(question, retrieval, settings)
        inner = decoder_on(federation.own(), decoder, settings.decoder)
        return Stream(federation.mixture, retrieval, settings, FederatedCandidates(federation, inner))

    def _condition(self, question: str, retrieval: Retrieval, settings: Settings) -> Mixture:
        if withheld := next((each for each in retrieval.withheld if each is not None), None):
            remedy = "ask or score, which do without it"
            raise SettingError(
                "passages with their text", f"{withheld.shard.name} shares likelihoods alone", remedy
            )
        return condition(
            self._generator_for(settings),
            question,
            retrieval.passages,
            retrieval.log_prior,
            log_null=retrieval.log_null,
            outside=retrieval.outside,
            group=None if settings.group == "all" else settings.group,
            switch=settings.switch,
            switch_at=settings.switch_at,
            reserve=reserved(settings.max_tokens, self.generator),
            empty_answer=settings.empty_answer,
            question_likelihood=settings.question_likelihood,
        )

"""Answers over passages that their owners do not share: each owner's own language model scores given answers.

What an owner gives of a question are inner products, BM25 and log Z_s, and of a candidate answer the likelihoods
log p(y_t | x, z_j, y_<t). Posterior, marginal and brackets follow as if the passages were here. All owners must
have the language model of whoever asks, with its prompt: a sum over components of two models is not the mixture,
and tokens need not mean the same. Candidates are what is answered from the
passages that are shared; the mixture over all passages decides between them (thorough decoding of Lewis et al.
2020, section 2.5, with candidates of some components).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from mixrag.config.settings import Settings
from mixrag.errors import SettingError, ShardMissingError
from mixrag.generator.protocol import Generator
from mixrag.inference.empty_answer import EmptyAnswers
from mixrag.inference.length import reserved
from mixrag.inference.mixture import Mixture, ScoredAnswer, condition
from mixrag.inference.protocol import DecodedToken, Decoder, DecoderResult
from mixrag.inference.read_rows import ReadRows, joined, read_rows
from mixrag.inference.withheld import scored_from
from mixrag.probability import log_normalise
from mixrag.retrieval.retriever import Retrieval
from mixrag.retrieval.shards.exchange import (
    LIKELIHOOD_SECONDS,
    Likelihoods,
    LikelihoodsRequest,
    made,
    public_name,
    rows_at_once,
)
from mixrag.retrieval.shards.protocol import Withheld
from mixrag.retrieval.shards.side_by_side import side_by_side

MOST_CANDIDATES = 16
LOG_ZERO = -1e300
"""Stands for log 0 where numbers are finite."""


@dataclass(frozen=True)
class Federation:
    """A question over passages of which some are withheld."""

    generator: Generator
    fingerprint: str
    """Of the generator, which is that of all owners."""
    question: str
    retrieval: Retrieval
    settings: Settings

    def __post_init__(self) -> None:
        """Check what has no meaning without the text of passages.

        Raises:
            SettingError: passages in groups, or an engine that gives no likelihoods.
        """
        if self.settings.group != 1:
            owners = ", ".join(sorted({each.shard.name for each in self.retrieval.withheld if each is not None}))
            expected = "one passage in each prompt (group 1), since some are not shared"
            raise SettingError(expected, f"group {self.settings.group} over {owners}", "leave group out")

    @property
    def mixture(self) -> Mixture:
        """The mixture over all passages, whose prompts are not to be read."""
        found = self.retrieval
        return self._conditioned(found, found.log_null, found.outside)

    def own(self) -> Mixture:
        """The mixture over the passages that are here, as if there were no others.

        Raises:
            SettingError: there is none.
        """
        places = [j for j, each in enumerate(self.retrieval.withheld) if each is None]
        if not places and self.retrieval.log_null is None:
            expected = "a passage with its text, to write an answer from"
            remedy = "score given answers, or ask with a null component (--null) or a shard of your own"
            raise SettingError(expected, "only passages that their owners do not share", remedy)
        log_prior = self.retrieval.log_prior[places]
        log_null = self.retrieval.log_null
        if log_null is not None:
            both = log_normalise(torch.cat([log_prior, torch.tensor([log_null]).double()]), 0)
            log_prior, log_null = both[:-1], float(both[-1])
        else:
            log_prior = log_normalise(log_prior, 0)
        passages = tuple(self.retrieval.passages[j] for j in places)
        return self._conditioned(replace(self.retrieval, passages=passages, log_prior=log_prior), log_null, None)

    def scored(self, answers: Sequence[tuple[int, ...]]) -> list[ScoredAnswer]:
        """Answers, given as tokens with their end, scored under the mixture over all passages.

        Raises:
            SettingError: an owner has another model, or answers are too long for owners.
            ShardMissingError: an owner does not answer.
        """
        mixture, settings = self.mixture, self.settings
        question = settings.question_likelihood > 0.0 and len(mixture.components) > 1
        withheld = dict[int, Withheld | None](enumerate(self.retrieval.withheld))
        own = [j for j in range(len(mixture.components)) if withheld.get(j) is None]
        parts = list[tuple[Sequence[int], ReadRows]]()
        if own:
            prompts = [mixture.components[j].prompt for j in own]
            empty = settings.empty_answer
            parts.append((own, read_rows(self.generator, prompts, answers, empty=empty, question=question)))
        parts += self._elsewhere(withheld, answers, question=question)
        return scored_from(mixture, answers, joined(parts, len(mixture.components)))

    def _elsewhere(
        self, withheld: dict[int, Withheld | None], answers: Sequence[tuple[int, ...]], *, question: bool
    ) -> list[tuple[Sequence[int], ReadRows]]:
        places = defaultdict[str, list[int]](list)
        for j, each in withheld.items():
            if each is not None:
                places[each.shard.name].append(j)
        most = rows_at_once(answers)
        asked = [(name, own[at : at + most]) for name, own in places.items() for at in range(0, len(own), most)]
        work = []
        for _, own in asked:
            rows = [each for j in own if (each := withheld[j]) is not None]
            request = self._request(rows, answers, question=question)
            work.append(partial(rows[0].shard.likelihoods, request))
        found = list[tuple[Sequence[int], ReadRows]]()
        for (name, own), given in zip(asked, side_by_side(work, LIKELIHOOD_SECONDS), strict=True):
            if isinstance(given, SettingError):
                raise given
            if isinstance(given, Exception):
                said = str(given) or f"nothing within {LIKELIHOOD_SECONDS:g} s"
                raise ShardMissingError(f"likelihoods from {name}", said, "ask again") from given
            self._check_model(name, given)
            found.append((own, _read(given)))
        return found

    def _check_model(self, owner: str, given: Likelihoods) -> None:
        if given.fingerprint != self.fingerprint:
            expected = (
                f"the language model of whoever asks, {public_name(self.generator.name)} ({self.fingerprint})"
            )
            found = f"{given.generator} ({given.fingerprint}) at {owner}"
            remedy = "ask with that model, adapter, prompt and dtype, or agree on others with its owner"
            if given.generator == public_name(self.generator.name):
                usual = "dtype auto is int8 with OpenVINO: give --dtype bfloat16 at both"
                remedy = f"compare dtype and engine ({usual}), then adapter, prompt and files"
            raise SettingError(expected, found, remedy)

    def _request(
        self, rows: Sequence[Withheld], answers: Sequence[tuple[int, ...]], *, question: bool
    ) -> LikelihoodsRequest:
        settings = self.settings
        return made(
            LikelihoodsRequest,
            question=self.question,
            rows=[each.row for each in rows],
            answers=[[*tokens] for tokens in answers],
            texts=[self.generator.text(tokens) for tokens in answers],
            reserve=reserved(settings.max_tokens, self.generator),
            empty_answer=settings.empty_answer,
            question_likelihood=question,
            copied=settings.copy,
            language_model_weight=settings.language_model_weight,
            state=rows[0].state,
        )

    def _conditioned(self, found: Retrieval, log_null: float | None, outside: float | None) -> Mixture:
        settings = self.settings
        return condition(
            self.generator,
            self.question,
            found.passages,
            found.log_prior,
            log_null=log_null,
            outside=outside,
            switch=settings.switch,
            switch_at=settings.switch_at,
            reserve=reserved(settings.max_tokens, self.generator),
            empty_answer=settings.empty_answer,
            question_likelihood=settings.question_likelihood,
        )


@dataclass(frozen=True)
class FederatedCandidates:
    """The most probable of what a decoder finds over the passages that are here, scored over all of them."""

    federation: Federation
    decoder: Decoder
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        results = self.decoder.decode(self.federation.own(), max_tokens)
        written = next(each for each in results if isinstance(each, DecoderResult))
        candidates = [*dict.fromkeys(answer.tokens for answer in written.answers)][:MOST_CANDIDATES]
        answers = self.federation.scored(candidates)
        answers.sort(key=lambda answer: (not answer.finished, -answer.log_prob))
        yield DecoderResult(tuple(answers), pruned=written.pruned)


def settings_of(request: LikelihoodsRequest, own: Settings) -> Settings:
    """Those under which an owner reads its passages: of whoever asks, where likelihoods depend on them."""
    return replace(
        own,
        group=1,
        copy=request.copied,
        max_tokens=request.reserve,
        empty_answer=request.empty_answer,
        question_likelihood=0.0,
        language_model_weight=request.language_model_weight,
    )


def likelihoods_of(
    generator: Generator, fingerprint: str, mixture: Mixture, request: LikelihoodsRequest
) -> Likelihoods:
    """What an owner gives of its passages, which are the components of the mixture.

    Raises:
        SettingError: answers whose tokens mean another text here.
    """
    if len(request.answers) != len(request.texts):
        raise SettingError("a text for each answer", f"{len(request.texts)}", "send as many of both")
    for tokens, text in zip(request.answers, request.texts, strict=True):
        if max(tokens) >= generator.vocabulary_size or generator.text(tokens) != text:
            expected = f"tokens of the owner's language model, {public_name(generator.name)}"
            raise SettingError(expected, "tokens of another one", "ask with that model")
    prompts = [component.prompt for component in mixture.components]
    read = read_rows(
        generator, prompts, request.answers, empty=request.empty_answer, question=request.question_likelihood
    )
    return Likelihoods(
        generator=public_name(generator.name),
        fingerprint=fingerprint,
        rounding=mixture.stated_rounding,
        tables=[_finite(table).tolist() for table in read.tables],
        log_empty=None if read.empty is None else _finite(read.empty.log_empty).tolist(),
        log_answered=None if read.empty is None else _finite(read.empty.log_answered).tolist(),
        log_question=None if read.log_question is None else _finite(read.log_question).tolist(),
    )


def _finite(values: Tensor) -> Tensor:
    return values.double().clamp(min=LOG_ZERO)


def _read(found: Likelihoods) -> ReadRows:
    def tensor(values: Sequence[Sequence[float]] | Sequence[float]) -> Tensor:
        column = torch.tensor(values, dtype=torch.float64)
        return column.masked_fill(column <= LOG_ZERO, -torch.inf)

    empty = None
    if found.log_empty is not None and found.log_answered is not None:
        empty = EmptyAnswers(tensor(found.log_empty), tensor(found.log_answered))
    question = None if found.log_question is None else tensor(found.log_question)
    return ReadRows(tuple(tensor(table) for table in found.tables), empty, question, found.rounding)

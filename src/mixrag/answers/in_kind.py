"""From a question and the kind of answer it asks for to an answer of that kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from mixrag.answers.answer import Answer, unstated_by
from mixrag.answers.citation import cited_span
from mixrag.answers.enumerations import enumeration
from mixrag.answers.extract import Extract
from mixrag.answers.fields import AnswerItem, AnswerPassage
from mixrag.answers.kinds import Kind, kind_of
from mixrag.config.settings import Settings
from mixrag.generator.sentences import EXTRACT
from mixrag.inference.continuous import Writing
from mixrag.inference.decoders import begun
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import DecodedToken, Decoder, DecoderResult
from mixrag.inference.yes_no import YesNo, share_of_first
from mixrag.pairs.matching import normalise

BATCHED = frozenset[Kind]({"span", "list"})
"""What a language model writes: several questions may be one batch."""

Reader = Callable[[], Mixture]
"""The language model's mixture over the passages of an extract, with an empty answer."""

Complete = Callable[[Answer, DecoderResult], Answer]
"""What an answer becomes, given what the decoder found besides it."""


@dataclass(frozen=True, slots=True)
class InKind:
    """How an answer of one kind is decided."""

    decoder: Decoder
    complete: Complete
    calibrated: bool
    """Whether a confidence holds for it: it is fitted on what a language model writes."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A decoder whose answer is shown when it is complete."""

    decoder: Decoder
    streams: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    @property
    def certifies(self) -> bool:
        """As the decoder itself."""
        return self.decoder.certifies

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        return self.decoder.decode(mixture, max_tokens)

    def begin(self, mixture: Mixture, max_tokens: int) -> Writing | None:
        """See ``inference.decoders.begun``."""
        return begun(self.decoder, mixture, max_tokens)


@dataclass(frozen=True, slots=True)
class OneAnswer:
    """Gives the extract, which is decided already."""

    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        yield DecoderResult((mixture.score_tokens((EXTRACT,)),))


def asked_kind(question: str, settings: Settings) -> Kind:
    """The kind that the settings name, or that the question asks for. Without passages there is no extract."""
    kind = kind_of(question) if settings.kind == "auto" else settings.kind
    return "span" if kind == "extract" and settings.k == 0 else kind


def settings_of_kind(kind: Kind, settings: Settings) -> Settings:
    """The settings for a kind of answer: neither "yes" nor "no" need be a word of the passage."""
    return replace(settings, copy=False) if kind == "yes-no" else settings


def in_kind(
    kind: Kind, decoder: Decoder, extracted: Extract | None = None, reader: Reader | None = None
) -> InKind:
    """How an answer of this kind is decided, where ``decoder`` decides what a language model writes."""
    if kind == "yes-no":
        return InKind(YesNo(), _yes_no, False)
    if kind == "list":
        return InKind(Whole(decoder), _list, True)
    if extracted is not None:
        return InKind(OneAnswer(), partial(_extract, extracted, reader), False)
    return InKind(decoder, _unchanged, True)


def _unchanged(answer: Answer, result: DecoderResult) -> Answer:
    return answer


def _yes_no(answer: Answer, result: DecoderResult) -> Answer:
    share = share_of_first(*result.answers)
    items = zip(result.answers, (share, 1.0 - share), strict=True)
    return replace(answer, kind="yes-no", items=tuple(AnswerItem(each.text, p) for each, p in items))


def _list(answer: Answer, result: DecoderResult) -> Answer:
    """The items of the enumeration in the passage of highest posterior that has the answer; else the span."""
    for passage in sorted(answer.passages, key=lambda each: -each.posterior):
        span = cited_span(passage.text, answer.best_guess)
        if span is not None:
            items = enumeration(passage.text, *span)
            if not items:
                return answer
            found = _known(passage, items, result.answers)
            listed = tuple(_item(passage, start, end, found) for start, end in items)
            return replace(answer, kind="list", items=listed)
    return answer


def _known(
    passage: AnswerPassage, items: Sequence[tuple[int, int]], found: Sequence[ScoredAnswer]
) -> list[ScoredAnswer]:
    """The answers found; with a generator of finitely many answers, which has read them all, the items too."""
    mixture = found[0].mixture
    if not hasattr(mixture.generator, "finite_answers"):
        return [*found]
    return [*found, *(mixture.score(passage.text[start:end]) for start, end in items)]


def _item(passage: AnswerPassage, start: int, end: int, found: Sequence[ScoredAnswer]) -> AnswerItem:
    text = " ".join(passage.text[start:end].split())
    same = {each.tokens: each.log_prob for each in found if normalise(each.text) == normalise(text)}
    mass = min(1.0, math.exp(np.logaddexp.reduce([*same.values()]))) if same else None
    return AnswerItem(text, mass, passage.id, passage.start + start, passage.start + end)


def _extract(extracted: Extract, reader: Reader | None, answer: Answer, result: DecoderResult) -> Answer:
    return extract_answer(extracted, answer, reader)


def extract_answer(extracted: Extract, answer: Answer, reader: Reader | None) -> Answer:
    """An answer with the sentences of its extract, and with the p(∅ | x) of a language model that gives one."""
    found = replace(answer, kind="extract", sentences=extracted.sentences, written_sentences=())
    if reader is None:
        return found
    mixture = reader()
    p_empty, within, bounds = unstated_by(mixture)
    each = [] if mixture.log_empty is None else mixture.log_empty.exp().tolist()
    passages = tuple(replace(one, p_empty=empty) for one, empty in zip(found.passages, each, strict=True))
    return replace(found, passages=passages, p_empty=p_empty, p_empty_within=within, empty_bounds=bounds)

"""Answer: what a person or a program receives, and how it is made of a scored answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from mixrag.answers.applied_calibration import AppliedCalibration
from mixrag.answers.confidence import Confidence
from mixrag.answers.explanation import Explanation, explain
from mixrag.answers.explanation_html import explanation_page
from mixrag.answers.fields import AnswerFields, AnswerPassage, AnswerToken
from mixrag.answers.signals import signals_of
from mixrag.answers.without_each import without_each
from mixrag.answers.written_sentences import written_sentences
from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.generator import Generator, Shortened
from mixrag.inference.contributions import Contribution, contributions
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import DecoderResult
from mixrag.probability import effective_number, empty_bounds, log_empty_within, log_shifted
from mixrag.retrieval.retriever import Retrieval
from mixrag.utils.text import finite


@dataclass(frozen=True, repr=False)
class Answer(AnswerFields):
    """An answer, its probability, and the passages behind it.

    It can be pickled: the likelihood table and the prior travel along, the language model does not. What needs the
    model (``explain``, ``to_html``) then raises ``ModelError``.
    """

    def explain(self) -> Explanation:
        """Analyse the answer: exact prompts, scores, what each passage alone would answer, leave-one-out.

        Takes two further passes of the language model.

        Raises:
            ModelError: the answer was read from a pickle, which has no language model.
        """
        return explain(self)

    def to_html(self) -> str:
        """``explain`` as one self-contained HTML page, its words coloured by passage.

        Raises:
            ModelError: as ``explain``.
        """
        return explanation_page(self.explain())

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag ask --json`` (docs/reference/json.md).

        The logarithm of zero is None, since JSON has no infinity.
        """
        null = {
            "prior": self.null_prior,
            "posterior": self.null_posterior,
            "reweighted_prior": self.null_reweighted_prior,
        }
        names = ("log_prob", "probability", "log_mass", "support")
        document = {
            "question": self.question,
            "answer": self.text,
            "kind": self.kind,
            "items": [asdict(item) for item in self.items],
            "sentences": [asdict(sentence) for sentence in self.sentences],
            "best_guess": self.best_guess,
            **{name: getattr(self, name) for name in names},
            "p_empty": self.p_empty,
            "p_empty_within": self.p_empty_within,
            "empty_bounds": self.empty_bounds and list(self.empty_bounds),
            "confidence": self.confidence and confidence_to_dict(self.confidence),
            "uncalibrated": self.uncalibrated,
            "guarantee": self.guarantee and asdict(self.guarantee),
            "not_covered": self.not_covered,
            "normaliser": self.normaliser,
            "temperature": self.temperature,
            "switch": self.switch,
            "switch_at": self.switch_at,
            "question_likelihood": self.question_likelihood,
            "passages": [
                {**asdict(passage), "p_without": p_without, "p_empty_without": p_empty_without}
                for passage, p_without, p_empty_without in zip(self.passages, *without_each(self), strict=True)
            ],
            "null": None if self.null_prior is None else null,
            "tokens": [{**asdict(token), "responsibility": list(token.responsibility)} for token in self.tokens],
            "written_sentences": [
                {**asdict(each), "posterior": list(each.posterior)} for each in self.written_sentences
            ],
            "outside": self.outside,
            "outside_bounds": self.outside_bounds and list(self.outside_bounds),
            "log_bounds": self.log_bounds and list(self.log_bounds),
            "rounding": self.rounding,
            "log_interval": self.log_interval and list(self.log_interval),
            "effective_passages": {"prior": self.effective_prior, "posterior": self.effective_posterior},
            "finished": self.finished,
            "certified": self.certified,
            "pruned": self.pruned,
            "log_drawn": self.log_drawn,
            "shortened": shortened_to_dict(self.shortened),
            "notices": list(self.notices),
            **({} if self.generators is None else {"generators": _generators_to_dict(self.generators)}),
        }
        found: dict[str, Any] = finite(document)
        return found


def _generators_to_dict(generators: Mapping[str, Contribution]) -> dict[str, Any]:
    return {
        name: {"probability": each.probability, "share": each.share, "p_empty": each.p_empty}
        for name, each in generators.items()
    }


def shortened_to_dict(shortened: Sequence[Shortened]) -> list[dict[str, Any]]:
    """Passages that the model could not read to their end, as in the JSON contract."""
    return [{"passage": each.passage, "kept_tokens": each.kept, "tokens": each.total} for each in shortened]


def confidence_to_dict(confidence: Confidence) -> dict[str, Any]:
    """A confidence, as in the JSON contract."""
    return {**asdict(confidence), "words": confidence.words, "abstains": confidence.abstains}


def passage_to_dict(passage: Passage) -> dict[str, Any]:
    """A passage without weights, as in the JSON contract."""
    weighted = asdict(answer_passage(passage, prior=0.0, posterior=0.0, inner_product=0.0))
    weights = (
        "prior",
        "posterior",
        "inner_product",
        "p_empty",
        "reweighted_prior",
        "log_question_likelihood",
    )
    return {name: value for name, value in weighted.items() if name not in weights}


def retrieval_to_dict(question: str, found: Retrieval, settings: Settings) -> dict[str, Any]:
    """Passages and their prior: the JSON contract of ``mixrag passages --json``."""
    prior, products = found.log_prior.exp().tolist(), found.inner_products.tolist()
    return {
        "question": question,
        "normaliser": settings.normaliser,
        "temperature": found.temperature,
        "outside": found.outside,
        "outside_bounds": found.outside_bounds and list(found.outside_bounds),
        "notices": list(found.notices),
        "null": None if found.log_null is None else {"prior": math.exp(found.log_null)},
        "passages": [
            {**passage_to_dict(passage), "prior": p, "inner_product": s}
            for passage, p, s in zip(found.passages, prior, products, strict=True)
        ],
    }


def answer_passage(
    passage: Passage,
    *,
    prior: float,
    posterior: float,
    inner_product: float,
    p_empty: float | None = None,
    reweighted_prior: float | None = None,
    log_question_likelihood: float | None = None,
) -> AnswerPassage:
    """A passage with its weights."""
    return AnswerPassage(
        id=passage.id,
        document=passage.document,
        page=passage.page,
        place=passage.place,
        context=passage.context,
        title=passage.title,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        metadata=dict(passage.metadata),
        prior=prior,
        posterior=posterior,
        inner_product=inner_product,
        p_empty=p_empty,
        reweighted_prior=reweighted_prior,
        log_question_likelihood=log_question_likelihood,
    )


EMPTY_THRESHOLD = 0.5
"""Without a calibration, an answer is withheld where the passages read as probably state none."""


def empty_threshold(settings: Settings) -> float | None:
    """The ``p_empty_within`` from which answers without a confidence are withheld; None where none is."""
    return EMPTY_THRESHOLD if settings.empty_answer and settings.abstain_below != 0.0 else None


def build_answer(
    scored: ScoredAnswer,
    retrieval: Retrieval,
    settings: Settings,
    *,
    certified: bool | None = None,
    found: Sequence[ScoredAnswer] = (),
    calibration: AppliedCalibration | None = None,
    pruned: float = 0.0,
    log_drawn: float | None = None,
    given: bool = False,
) -> Answer:
    """All fields of a scored answer.

    ``found`` are the further answers that were found, ``calibration`` makes a confidence of their probability,
    ``pruned`` is what was spent of the budget of total variation, ``log_drawn`` with which probability it was
    drawn. An answer that was ``given`` is not withheld.
    """
    mixture, calibration = scored.mixture, calibration and calibration.over(retrieval.missing)
    support = max(retrieval.inner_products.tolist(), default=0.0)
    p_empty, p_empty_within, unstated = unstated_by(mixture)
    generators = contributions(scored)
    parts = list((generators or {}).values())
    by_generator, empty = [each.log_prob for each in parts], [each.p_empty for each in parts]
    signals = signals_of(scored, found, support, p_empty or 0.0, by_generator, empty)
    null, second = mixture.null_component, mixture.log_question_likelihood is not None
    prior = mixture.unconditioned_log_prior.exp()
    passages = weighted_passages(retrieval, mixture, scored.posterior)
    tokens = _tokens(scored, null)
    source = max(passages, key=lambda each: each.posterior).metadata if passages else {}
    confidence = calibration.confidence(signals, source) if calibration and scored.finished else None
    return Answer(
        question=mixture.question,
        best_guess=scored.text,
        log_prob=scored.log_prob,
        normaliser=settings.normaliser,
        temperature=retrieval.temperature,
        switch=mixture.switch,
        passages=passages,
        tokens=tokens,
        written_sentences=written_sentences(scored, tokens),
        switch_at=mixture.switch_at,
        null_prior=None if null is None else float(prior[null]),
        null_posterior=None if null is None else float(scored.posterior[null]),
        outside=retrieval.outside,
        log_bounds=scored.log_bracket,
        finished=scored.finished,
        signals=signals,
        confidence=confidence,
        uncalibrated=calibration.uncalibrated if calibration else None,
        certified=certified,
        pruned=pruned,
        log_drawn=log_drawn,
        shortened=tuple(s for component in mixture.components for s in component.prompt.shortened),
        effective_prior=float(effective_number(mixture.unconditioned_log_prior)),
        effective_posterior=float(effective_number(scored.posterior.log())),
        scored=scored,
        outside_bounds=retrieval.outside_bounds,
        guarantee=calibration.coverage(confidence, source) if calibration else None,
        not_covered=calibration.not_covered(confidence, source) if calibration else None,
        p_empty=p_empty,
        question_likelihood=mixture.question_likelihood,
        null_reweighted_prior=float(mixture.reweighted_log_prior[null].exp())
        if second and null is not None
        else None,
        p_empty_within=p_empty_within,
        empty_bounds=unstated,
        generators=generators,
        empty_threshold=None if given else empty_threshold(settings),
        guaranteed_only=settings.guaranteed_only and not given,
        rounding=mixture.stated_rounding,
        log_interval=scored.log_interval if mixture.rounding else None,
        notices=retrieval.notices,
    )


def answer_of(
    result: DecoderResult, retrieval: Retrieval, settings: Settings, calibration: AppliedCalibration | None
) -> Answer:
    """The answer that a decoder found first; the others that it found count in its confidence."""
    return build_answer(
        result.answers[0],
        retrieval,
        settings,
        certified=result.certified,
        found=result.answers[1:],
        calibration=calibration,
        pruned=result.pruned,
        log_drawn=result.log_drawn,
    )


def unstated_by(mixture: Mixture) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """``p_empty``, ``p_empty_within`` and ``empty_bounds`` of an answer."""
    log_empty, log_p_empty = mixture.log_empty, mixture.log_p_empty
    if log_empty is None or log_p_empty is None:
        return None, None, None
    log_prior, outside = mixture.reweighted_log_prior, mixture.unconditioned_outside
    within = min(1.0, float(log_empty_within(log_prior, log_empty).exp()))
    if outside is None:
        return math.exp(log_p_empty), within, None
    least, most = (log_shifted(log_empty, h) for h in (-mixture.rounding, mixture.rounding))
    bounds = empty_bounds(log_prior, least, outside)[0], empty_bounds(log_prior, most, outside)[1]
    return math.exp(log_p_empty), within, (float(bounds[0]), float(bounds[1]))


RECENT_TOKENS = 128
"""So many tokens before a new one tell what text it adds."""


class TextPieces:
    """The text that each token of an answer adds; the pieces join to the whole text.

    Only the last tokens are looked at, so that the time for a long answer grows with its length.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._tokens: list[int] = []
        self._shown = ""

    def add(self, token: int, *, last: bool) -> str:
        """The text that appears with this token; a character of several tokens comes with its last one."""
        self._tokens.append(token)
        text = self._generator.text(self._tokens)
        if not text.startswith(self._shown) or (text.endswith("\ufffd") and not last):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        if len(self._tokens) >= 2 * RECENT_TOKENS:
            self._tokens = self._tokens[-RECENT_TOKENS:]
            self._shown = self._generator.text(self._tokens)
        return piece


def weighted_passages(retrieval: Retrieval, mixture: Mixture, posterior: Tensor) -> tuple[AnswerPassage, ...]:
    """The passages retrieved, with their prior and the posterior (K,) of their components."""
    prior, products = retrieval.log_prior.exp().tolist(), retrieval.inner_products.tolist()
    empty: list[float] | None = None if mixture.log_empty is None else mixture.log_empty.exp().tolist()
    question = mixture.log_question_likelihood
    log_question: list[float] | None = None if question is None else question.tolist()
    # Passages of one component share its factor.
    factor = (mixture.reweighted_log_prior - mixture.unconditioned_log_prior).nan_to_num(nan=0.0).exp().tolist()
    return tuple(
        answer_passage(
            passage,
            prior=prior[i],
            posterior=float(posterior[j]),
            inner_product=products[i],
            p_empty=None if empty is None else empty[j],
            reweighted_prior=None if log_question is None else prior[i] * factor[j],
            log_question_likelihood=None if log_question is None else log_question[j],
        )
        for i, (passage, j) in enumerate(zip(retrieval.passages, mixture.component_of_passage, strict=True))
    )


def _tokens(scored: ScoredAnswer, null: int | None) -> tuple[AnswerToken, ...]:
    shares = scored.responsibilities  # (K, T)
    components = scored.mixture.component_of_passage
    pieces = TextPieces(scored.mixture.generator)
    return tuple(
        AnswerToken(
            text=pieces.add(token, last=t == len(scored.tokens) - 1),
            log_prob=float(scored.token_log_probs[t]),
            responsibility=tuple(float(shares[j, t]) for j in components),
            null=0.0 if null is None else float(shares[null, t]),
        )
        for t, token in enumerate(scored.tokens)
    )

"""What the records of several systems say: scores, gains, confidence, weights, adaptive k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixrag.answers.confidence import ConfidenceMap
from mixrag.answers.pipeline import Pipeline
from mixrag.config.command_settings import CalibrationMethod
from mixrag.errors import PairsError
from mixrag.evaluation.bootstrap import Interval, paired_difference
from mixrag.evaluation.calibration import Outcome, Target, confidences_of, rights
from mixrag.evaluation.scoring import Record
from mixrag.evaluation.selection import Selection, select
from mixrag.evaluation.summary import Summary, summarise
from mixrag.evaluation.systems import GAINS, Gain
from mixrag.evaluation.trust import InUse, Trust, trust_of_measured
from mixrag.evaluation.trust_measures import auroc, expected_calibration_error
from mixrag.pairs.pairs import Pair
from mixrag.probability import smallest_k

SMALL_MASSES = (0.1, 0.01, 0.001)
"""Prior mass that adaptive k may leave outside, from a coarse to a fine choice."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One system compared with another, question by question, with 95 % bootstrap intervals."""

    exact_match: Interval
    f1: Interval
    nll: Interval
    """Of -log p(gold answer): below zero the first is better."""


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How probabilities of being right compare with the outcomes."""

    ece: float
    """Expected calibration error."""
    auroc: float | None
    """P(a right answer has the larger one), ties ½; None where all answers are right, or all wrong."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that the report shows."""

    records: Mapping[str, Sequence[Record]]
    summaries: Mapping[str, Summary]
    raw: Mapping[str, Discrimination]
    """ECE and AUROC of the probability itself, by system."""
    calibrated: Mapping[str, Discrimination]
    """Those of the confidence, cross-fitted, by system; missing where pairs are too few."""
    gains: tuple[tuple[Gain, Difference], ...]
    differences: Mapping[str, Difference]
    """Every further system compared with the first."""
    trusted: str
    """The system whose confidence is analysed."""
    methods: Mapping[CalibrationMethod, Trust]
    """By calibration method; empty where the pairs are too few."""
    method: CalibrationMethod | None
    """The one that was asked for, else the one that ``select`` chose; None where the pairs are too few."""
    selection: Selection | None
    """What was compared to choose it."""
    off_corpus: Sequence[Record]
    notices: tuple[str, ...]
    sources: tuple[str, ...] = ()
    distractors: Mapping[str, Mapping[str, Mapping[int, Sequence[Record]]]] = field(default_factory=dict)
    """By kind, system, number of distractors."""
    adaptive_k: Mapping[float, Sequence[int]] = field(default_factory=dict)
    """The k of every question, by the mass left outside."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the system whose confidence is analysed."""
    calibration: ConfidenceMap | None = None
    """Fitted on all the pairs."""
    in_use: InUse | None = None
    """The confidence that the system has already, judged on these pairs; None where it has none, or pairs are too
    few."""
    command: str = ""

    @property
    def retrieval(self) -> Summary | None:
        """Recall and MRR, which are the same for all systems that retrieve."""
        return next((each for each in self.summaries.values() if each.mrr is not None), None)


def measured(
    records: Mapping[str, Sequence[Record]],
    off_corpus: Sequence[Record],
    trusted: str,
    target: Target | None = None,
    seed: int = 0,
    method: CalibrationMethod | None = None,
) -> Evaluation:
    """Everything that follows from the records alone; ``method`` is the calibration asked for."""
    first, *others = records
    inside, outside = outcomes(records[trusted]), outcomes(off_corpus, right=0.0)
    selection, notices = _selected(inside, outside, target, seed, method)
    methods: dict[CalibrationMethod, Trust] = {}
    calibrated: dict[str, Discrimination | None] = {}
    if selection is not None:
        methods = {name: trust_of_measured(each, rights(inside)) for name, each in selection.methods.items()}
        chosen = methods[selection.chosen]
        for name, some in records.items():
            own = Discrimination(chosen.ece, chosen.auroc) if name == trusted else None
            calibrated[name] = own or _calibrated(outcomes(some), seed, selection.chosen)
    return Evaluation(
        records=records,
        summaries={name: summarise(some) for name, some in records.items()},
        raw={name: _raw(outcomes(some)) for name, some in records.items()},
        calibrated={name: each for name, each in calibrated.items() if each is not None},
        gains=tuple(
            (gain, difference(records[gain.better], records[gain.worse]))
            for gain in GAINS
            if gain.worse in records and gain.better in records
        ),
        differences={name: difference(records[name], records[first]) for name in others},
        trusted=trusted,
        methods=methods,
        method=None if selection is None else selection.chosen,
        selection=selection,
        off_corpus=off_corpus,
        notices=notices,
    )


def outcomes(records: Sequence[Record], right: float | None = None, group: str = "") -> list[Outcome]:
    """What a calibration is fitted on; ``right`` says what the answers are, where the records do not know."""
    return [
        Outcome(record.signals, record.exact if right is None else right, group, record.question)
        for record in records
    ]


def difference(records: Sequence[Record], others: Sequence[Record]) -> Difference:
    """The first system minus the second, on the same questions."""
    pairs = list(zip(records, others, strict=True))
    return Difference(
        exact_match=paired_difference([a.exact for a, _ in pairs], [b.exact for _, b in pairs]),
        f1=paired_difference([a.f1 for a, _ in pairs], [b.f1 for _, b in pairs]),
        nll=paired_difference([a.nll for a, _ in pairs], [b.nll for _, b in pairs]),
    )


def adaptive_k(rag: Pipeline, pairs: Sequence[Pair]) -> dict[float, list[int]]:
    """The smallest k of every question that leaves at most each of ``SMALL_MASSES`` outside; no language model.

    Empty where the system retrieves nothing.

    Raises:
        SettingError: the search is not exact, or a shard behind a server has more passages than it gives.
    """
    if rag.settings.k == 0:
        return {}
    ks: dict[float, list[int]] = {mass: [] for mass in SMALL_MASSES}
    for pair in pairs:
        where = {**rag.settings.where, **pair.where}
        changes = {
            "k": "all",
            "max_outside": min(SMALL_MASSES),
            "normaliser": "full",
            "where": where,
            "null": None,
            "weights": "retriever",
        }
        log_prior = rag.passages(pair.question, **changes).log_prior
        for mass, found in ks.items():
            found.append(smallest_k(log_prior, mass, 0.0))
    return ks


def _selected(
    inside: Sequence[Outcome],
    outside: Sequence[Outcome],
    target: Target | None,
    seed: int,
    method: CalibrationMethod | None,
) -> tuple[Selection | None, tuple[str, ...]]:
    try:
        found = select(inside, outside, target, seed, method)
    except PairsError as error:
        return None, (f"no calibrated confidence: {error}",)
    refused = ", ".join(found.refused)
    worse = f"{refused}: smaller cross-validated loss, but worse than plain p(answer) in AUROC or ECE: not chosen"
    return found, (worse,) if refused and method is None else ()


def _raw(found: Sequence[Outcome]) -> Discrimination:
    """Of the probability itself."""
    probabilities = confidences_of(ConfidenceMap(), found)
    return Discrimination(
        expected_calibration_error(probabilities, rights(found)), auroc(probabilities, rights(found))
    )


def _calibrated(found: Sequence[Outcome], seed: int, method: CalibrationMethod) -> Discrimination | None:
    """Of a cross-fitted confidence; None where these answers are too few of a kind."""
    # Only the trusted system has been asked what the documents do not answer.
    own: CalibrationMethod = "logistic" if method == "two-part" else method
    try:
        measured = select(found, seed=seed, method=own, compared=(own,)).methods[own]
    except PairsError:
        return None
    return Discrimination(
        expected_calibration_error(measured.confidences, rights(found)),
        auroc(measured.confidences, rights(found), measured.folds),
    )

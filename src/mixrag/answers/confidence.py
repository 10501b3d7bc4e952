"""Confidence: the probability that an answer is right, fitted on pairs of which the right answers are known.

The probability of an answer is not that: it is split between wordings of one answer, falls with length, and a
language model can be sure of what it invents. So wordings that are equal once normalised are added up, and the
sum is mapped to a confidence by a function with few parameters:

    confidence = knots(sigmoid(scale · logit(mass) + slope · support + offset))

``mass`` is Σ p(y | x) over the answers found that say the same, ``support`` the largest inner product of the
question with a passage (how near it is to anything in the store), ``knots`` a monotone piecewise linear function.
``mixrag eval`` fits it (``evaluation/calibration.py``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.answers.guarantee import FILE as GUARANTEE_FILE
from mixrag.answers.guarantee import Coverage, Guarantee, calibration_digest, read_guarantee
from mixrag.config.bundle import Bundle
from mixrag.config.command_settings import CalibrationMethod
from mixrag.config.model_config import ModelConfig, same_encoders
from mixrag.config.schema import Share, schema, unknown
from mixrag.config.settings import CALIBRATED, Settings
from mixrag.errors import ModelError, SettingError
from mixrag.inference.decoders import decoder_for, decoder_name
from mixrag.inference.mixture import ScoredAnswer
from mixrag.pairs.matching import normalise
from mixrag.utils.atomic import write_atomically

FILE = "confidence.json"
"""Its name in a trained folder."""
FORMAT = 1
ABOVE_ALL = math.nextafter(1.0, 2.0)
"""A threshold that no confidence reaches."""
LARGEST_LOG_ODDS = 30.0
"""Probabilities nearer to 0 or 1 than e^-30 count as that."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What a confidence is computed from."""

    log_mass: float
    """log Σ p(y | x) over the answers found that are equal once normalised, in nats."""
    support: float
    """Largest inner product of the question with a retrieved passage; 0 where none was retrieved."""
    p_empty: float = 0.0
    """p(∅ | x): that the passages state no answer; 0 without an empty answer."""


@schema
class ConfidenceMap:
    """The fitted map from signals to the probability that the answer is an exact match."""

    method: CalibrationMethod = "none"
    scale: float = 1.0
    slope: float = 0.0
    offset: float = 0.0
    knots: tuple[tuple[Share, Share], ...] = ()
    """(x, y) of the monotone function, x rising; none: the identity."""
    threshold: Share = 0.0
    """An answer of less confidence is withheld."""
    fitted_on: str = ""
    """Which pairs, in words."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of ``CALIBRATED`` in force when it was fitted; empty: any."""
    models: str = ""
    """Digest of the models whose answers it was fitted on; empty: any."""

    def confidence(self, signals: Signals) -> float:
        """The probability, estimated from the pairs, that an answer with these signals is an exact match."""
        inner = self.scale * log_odds(signals.log_mass) + self.slope * signals.support + self.offset
        return self.through_knots(sigmoid(inner))

    def through_knots(self, probability: float) -> float:
        """The last step of the map."""
        if not self.knots:
            return probability
        xs, ys = zip(*self.knots, strict=True)
        return float(np.interp(probability, xs, ys))

    def mismatch(self, settings: Settings, models: str) -> str | None:
        """What is not as it was when this was fitted: "models", or the first such setting; None where all is."""
        if self.models not in ("", models):
            return "models"
        own = conditions(settings)
        # A file without these settings was fitted where there was no empty answer, and none was copied.
        fitted = {"empty_answer": False, "copy": False, **self.settings} if self.settings else {}
        return next((name for name, value in fitted.items() if own.get(name) != value), None)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure an answer is, and whether that is enough."""

    value: float
    """Calibrated probability that the answer is an exact match of a right one."""
    threshold: float
    """Below it the answer is withheld."""
    fitted_on: str
    """The pairs that it was calibrated on."""

    @property
    def abstains(self) -> bool:
        """True where the confidence is too low to answer."""
        return self.value < self.threshold


def log_mass(answer: ScoredAnswer, found: Sequence[ScoredAnswer]) -> float:
    """log Σ p(y | x) over ``answer`` and the distinct answers found that are equal to it once normalised."""
    text = normalise(answer.text)
    same = {each.tokens: each.log_prob for each in found if normalise(each.text) == text}
    logs = [*{**same, answer.tokens: answer.log_prob}.values()]
    return min(0.0, float(np.logaddexp.reduce(logs)))


@dataclass(frozen=True, slots=True)
class AppliedCalibration:
    """A calibration, and whether it applies to the settings and models in use."""

    calibration: ConfidenceMap
    mismatch: str | None = None
    """What has changed since it was fitted: "models", or a setting; None: nothing."""
    abstain_below: float | None = None
    """The threshold; None: the calibration's own."""
    guarantee: Guarantee | None = None
    """The guarantee that applies."""
    guaranteed_only: bool = False
    """Whether answers that it does not cover are withheld."""

    @property
    def threshold(self) -> float:
        """Confidence below which an answer is withheld."""
        return self.calibration.threshold if self.abstain_below is None else self.abstain_below

    @property
    def may_abstain(self) -> bool:
        """Whether an answer may be withheld."""
        return self.mismatch is None and (self.threshold > 0 or self.guaranteed_only)

    def confidence(self, signals: Signals, metadata: Mapping[str, Any] | None = None) -> Confidence | None:
        """The confidence of a finished answer; None where the calibration does not apply.

        ``metadata`` are those of the document that most probably wrote the answer.
        """
        if self.mismatch:
            return None
        threshold = self.threshold
        if self.guaranteed_only and self.guarantee is not None:
            least = self.guarantee.threshold(metadata or {})
            threshold = max(threshold, ABOVE_ALL if least is None else least)
        return Confidence(self.calibration.confidence(signals), threshold, self.calibration.fitted_on)

    def coverage(self, confidence: Confidence | None, metadata: Mapping[str, Any]) -> Coverage | None:
        """What the guarantee says of an answer; None where it does not cover it."""
        if confidence is None or self.guarantee is None:
            return None
        return self.guarantee.covering(confidence.value, metadata)


def apply_calibration(
    calibration: ConfidenceMap | None, settings: Settings, models: str, guarantee: Guarantee | None = None
) -> AppliedCalibration | None:
    """The calibration for answers under these settings and models (their digest); None where there is none.

    Raises:
        SettingError: answers are to be withheld (``abstain_below``, ``guaranteed_only``), and no calibration, or
            no guarantee, applies.
    """
    mismatch = None if calibration is None else calibration.mismatch(settings, models)
    if settings.abstain_below and (calibration is None or mismatch):
        found = "none" if calibration is None else f"one made with another {mismatch}"
        remedy = "make one with mixrag eval, and name its confidence.json as --confidence"
        raise SettingError("a calibration that applies, to withhold answers (abstain_below)", found, remedy)
    if calibration is None or mismatch or guarantee is None:
        applied = None
    else:
        applies = guarantee.applies(conditions(settings), models, calibration_digest(calibration))
        applied = guarantee if applies else None
    if settings.guaranteed_only and applied is None:
        found = "none" if guarantee is None else "one made with other settings, models or confidence"
        remedy = "make one with mixrag guarantee, and name the confidence.json beside it as --confidence"
        raise SettingError("a guarantee that applies, to withhold all else (guaranteed_only)", found, remedy)
    if calibration is None:
        return None
    return AppliedCalibration(calibration, mismatch, settings.abstain_below, applied, settings.guaranteed_only)


def conditions(settings: Settings) -> dict[str, Any]:
    """The settings that a confidence depends on; the width of a search or the samples only where there are any."""
    own = {name: getattr(settings, name) for name in CALIBRATED}
    del own["beams" if decoder_for(settings).streams else "samples"]
    return {**own, "decoder": decoder_name(settings.decoder)}


def log_odds(log_probability: float) -> float:
    """log p / (1 - p), from log p; within ±``LARGEST_LOG_ODDS``."""
    if log_probability >= 0.0:
        return LARGEST_LOG_ODDS
    odds = log_probability - math.log(-math.expm1(log_probability))
    return max(-LARGEST_LOG_ODDS, min(LARGEST_LOG_ODDS, odds))


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def write_calibration(calibration: ConfidenceMap, path: Path) -> None:
    """Write it as JSON; the file appears complete or not at all.

    Raises:
        ModelError: it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **asdict(calibration)}, indent=1, allow_nan=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise ModelError(
            f"room to write {path}", error.strerror or str(error), "free it, or choose another"
        ) from error


def read_calibration(path: Path) -> ConfidenceMap:
    """Read what ``write_calibration`` wrote. The file is data, and may come from strangers.

    Raises:
        ModelError: it cannot be read, or is not a calibration of this format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _calibration(document)
    except OSError as error:
        found = error.strerror or str(error)
        raise ModelError(
            f"a confidence file at {path}", found, "check the path, or write it: mixrag eval"
        ) from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, SettingError) as error:
        found = str(error) or type(error).__name__
        raise ModelError(
            f"a confidence file, format {FORMAT}, in {path}", found, "write it again: mixrag eval"
        ) from error


def _calibration(document: Any) -> ConfidenceMap:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("another format")
    content = {each.name: document[each.name] for each in fields(ConfidenceMap)}
    found = ConfidenceMap(**{**content, "knots": tuple(map(tuple, content["knots"]))})
    for axis in zip(*found.knots, strict=True):
        if list(axis) != sorted(axis):
            raise ValueError("knots that do not rise from 0 to 1")
    for name in found.settings:
        if name not in CALIBRATED:
            raise unknown(name, CALIBRATED)
    own = dict(found.settings)
    if _names_an_object(own.get("decoder")):
        del own["decoder"]
    Settings(**own)
    return found


def _names_an_object(decoder: Any) -> bool:
    """Whether it is what ``decoder_name`` makes of an object: a class, with parameters if it has any."""
    return isinstance(decoder, str) and re.fullmatch(r"[^\W\d]\w*(\(.*\))?", decoder, re.DOTALL) is not None


def calibration_for(
    given: ModelConfig, trained: Bundle | None, confidence: str | Path | None
) -> ConfidenceMap | None:
    """The calibration asked for ("none": none); else that of the trained folder, where its models are in use.

    Raises:
        ModelError: the file cannot be used.
    """
    if confidence is not None:
        return None if str(confidence) == "none" else read_calibration(Path(confidence))
    replaced = given.generator is not None or given.adapter is not None or given.prompt is not None
    if trained is None or replaced or not same_encoders(given, trained):
        return None
    path = trained.folder / FILE
    return read_calibration(path) if path.is_file() else None


def guarantee_for(given: ModelConfig, trained: Bundle | None, confidence: str | Path | None) -> Guarantee | None:
    """The guarantee beside the calibration that ``calibration_for`` reads; None where there is none.

    Raises:
        ModelError: the file cannot be used.
    """
    if calibration_for(given, trained, confidence) is None:
        return None
    folder = Path(confidence).parent if confidence is not None else None if trained is None else trained.folder
    path = None if folder is None else folder / GUARANTEE_FILE
    return read_guarantee(path) if path is not None and path.is_file() else None

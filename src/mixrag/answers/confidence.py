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

    @property
    def threshold(self) -> float:
        """Confidence below which an answer is withheld."""
        return self.calibration.threshold if self.abstain_below is None else self.abstain_below

    def confidence(self, signals: Signals) -> Confidence | None:
        """The confidence of a finished answer; None where the calibration does not apply."""
        if self.mismatch:
            return None
        return Confidence(self.calibration.confidence(signals), self.threshold, self.calibration.fitted_on)


def apply_calibration(
    calibration: ConfidenceMap | None, settings: Settings, models: str
) -> AppliedCalibration | None:
    """The calibration for answers under these settings and models (their digest); None where there is none.

    Raises:
        SettingError: answers are to be withheld (``abstain_below``), and no calibration applies.
    """
    mismatch = None if calibration is None else calibration.mismatch(settings, models)
    if settings.abstain_below and (calibration is None or mismatch):
        found = "none" if calibration is None else f"one made with another {mismatch}"
        remedy = "make one with mixrag eval, and name its confidence.json as --confidence"
        raise SettingError("a calibration that applies, to withhold answers (abstain_below)", found, remedy)
    return None if calibration is None else AppliedCalibration(calibration, mismatch, settings.abstain_below)


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

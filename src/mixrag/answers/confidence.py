"""Confidence: the probability that an answer is right, fitted on pairs of which the right answers are known.

The probability of an answer is not that: it is split between wordings of one answer, falls with length, and a
language model can be sure of what it invents. So wordings that are equal once normalised are added up, and a
function with few parameters maps that sum and other signals (``signals.py``) to a confidence of two parts:

    p(right) = knots(p(right | answerable) · p(answerable))
    p(right | answerable) = sigmoid(right · features + right_offset)
    p(answerable)         = sigmoid(answerable · features + answerable_offset), or 1

The first part goes by mass and form of the answer, the second by the empty answer, by the support of the passages,
and by the words that question and passage share. ``mixrag eval`` and ``mixrag calibrate`` fit it
(``evaluation/calibration.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.answers.signals import FEATURES, Signals, features, sigmoid
from mixrag.config.bundle import Bundle
from mixrag.config.command_settings import CalibrationMethod
from mixrag.config.default_models import names_parts
from mixrag.config.engine_choice import AUTO, TORCH, engine_of, named_engine
from mixrag.config.model_config import ModelConfig, models_digest, same_encoders
from mixrag.config.schema import CountOrNone, Share, schema, unknown
from mixrag.config.settings import CALIBRATED, Settings
from mixrag.errors import ModelError, SettingError
from mixrag.inference.decoders import decoder_for, decoder_name
from mixrag.utils.atomic import write_atomically

FILE = "confidence.json"
"""Its name in a trained folder."""
EIGHT_BITS = "confidence-int8.json"
"""Of the one beside it that is for another engine: of answers with weights in eight bits."""
FORMAT = 2
RANGED = ("k", "switch")
"""Settings of which a calibration may hold for a range: [5, 10] in the file means all from 5 to 10."""
FIRST_CALIBRATED = frozenset(
    (
        *("k", "group", "switch", "null", "temperature", "normaliser", "weights", "max_outside"),
        *("lexical", "lexical_temperature", "decoder", "beams", "samples"),
    )
)
"""Settings of ``CALIBRATED`` that a calibration of version 0.1 names."""
LEVELS = (("very likely", 0.85), ("likely", 0.6), ("unsure", 0.3), ("unlikely", 0.0))
"""Confidence in words, and the least value of each."""
LARGEST_WEIGHT = 1e6
"""Of a feature, and of an offset, in a file."""
MANY = 30
"""Answers of a level from which their share is given, not their number."""


@schema
class ConfidenceMap:
    """The fitted map from signals to the probability that the answer is an exact match."""

    method: CalibrationMethod = "none"
    right: Mapping[str, float] = field(default_factory=lambda: {"plain": 1.0})
    """Weights of p(right | answerable), by feature."""
    right_offset: float = 0.0
    answerable: Mapping[str, float] | None = None
    """Weights of p(answerable), by feature; None: the factor is 1."""
    answerable_offset: float = 0.0
    knots: tuple[tuple[Share, Share], ...] = ()
    """(x, y) of a monotone function, x rising; none: the identity."""
    levels: Mapping[str, tuple[CountOrNone, CountOrNone]] = field(default_factory=dict)
    """By level in words: answers of it among those that it was fitted on, and how many of them were right. Each
    had a confidence of a fit that had not seen it."""
    threshold: Share = 0.0
    """An answer of less confidence is withheld."""
    precision: Share | None = None
    """The share of right answers that the threshold is for; at threshold 0, where nothing is withheld, the share
    that was right. None: it is for a share of answered questions."""
    fitted_on: str = ""
    """Which pairs, in words."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of ``CALIBRATED`` in force when it was fitted, [least, most] of ``RANGED`` ones; empty: any."""
    models: str = ""
    """Digest of the models whose answers it was fitted on; empty: any."""
    fitted_on_questions: tuple[str, ...] = ()
    """``question_digest`` of each question that it was fitted on, sorted; empty: not known."""

    def confidence(self, signals: Signals) -> float:
        """The probability, estimated from the pairs, that an answer with these signals is an exact match.

        Raises:
            ModelError: a signal that has a weight is not known.
        """
        return self.of_features(features(signals))

    def of_features(self, found: Mapping[str, float]) -> float:
        """``confidence`` of an answer with these features."""
        probability = _logistic(found, self.right, self.right_offset)
        return self.through_knots(probability * self.answerable_of(found))

    def answerable_of(self, found: Mapping[str, float]) -> float:
        """p(answerable) of these features; 1 where the map has no such part."""
        if self.answerable is None:
            return 1.0
        return _logistic(found, self.answerable, self.answerable_offset)

    def through_knots(self, probability: float) -> float:
        """The last step of the map."""
        if not self.knots:
            return probability
        xs, ys = zip(*self.knots, strict=True)
        return float(np.interp(probability, xs, ys))

    def can_judge(self, signals: Signals) -> bool:
        """Whether every signal that has a weight is known."""
        return {*self.right, *(self.answerable or {})} <= features(signals).keys()

    def mismatch(self, settings: Settings, models: str) -> str | None:
        """What is not as it was when this was fitted: "models", or the first such setting; None where all is."""
        if self.models not in ("", models):
            return "models"
        own = conditions(settings)
        fitted = with_later_settings(self.settings) if self.settings else {}
        return next((name for name, value in fitted.items() if not _within(own.get(name), value)), None)


def _logistic(found: Mapping[str, float], weights: Mapping[str, float], offset: float) -> float:
    missing = next((name for name in weights if name not in found), None)
    if missing is not None:
        raise ModelError(f"the signal {missing!r}", "an answer without it", "ask the question again")
    return sigmoid(sum(weight * found[name] for name, weight in weights.items()) + offset)


def _within(value: Any, fitted: Any) -> bool:
    if not isinstance(fitted, (list, tuple)):
        return bool(value == fitted)
    numbers = [each for each in fitted if not isinstance(each, str)]
    between = bool(numbers) and not isinstance(value, str) and min(numbers) <= value <= max(numbers)
    return value in fitted or between


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure an answer is, and whether that is enough."""

    value: float
    """Calibrated probability that the answer is an exact match of a right one."""
    threshold: float
    """Below it the answer is withheld."""
    fitted_on: str
    """The pairs that it was calibrated on."""
    answerable: float | None = None
    """Its second factor, the probability that the documents answer the question; None where it has none."""
    level_n: int = 0
    """Answers in the calibration's pairs whose confidence has the same ``words``."""
    level_right: float | None = None
    """Share of them that was right; None where there were none."""

    @property
    def words(self) -> str:
        """The level of ``value``: "very likely", "likely", "unsure" or "unlikely" (to be right)."""
        return level_of(self.value)

    @property
    def sentence(self) -> str:
        """The level, with how often answers of it were right where that is known.

        "likely: of answers this sure, about 8 in 10 were right"
        """
        if self.level_right is None:
            return self.words
        if self.level_n >= MANY:
            return f"{self.words}: of answers this sure, about {in_words(self.level_right)} were right"
        right = round(self.level_right * self.level_n)
        return f"{self.words}: of {self.level_n} answers this sure, {right} were right"

    @property
    def abstains(self) -> bool:
        """True where the confidence is too low to answer."""
        return self.value < self.threshold


def in_words(share: float) -> str:
    """A share in tenths, but for those that are nearly all or nothing.

    >>> [in_words(share) for share in (0.81, 0.97, 0.004)]
    ['8 in 10', '97 in 100', 'less than 1 in 100']
    """
    if 0.05 <= share < 0.95:
        return f"{max(1, min(9, round(10 * share)))} in 10"
    if share < 0.005:
        return "less than 1 in 100"
    return "more than 99 in 100" if share >= 0.995 else f"{round(100 * share)} in 100"


def level_of(confidence: float) -> str:
    """A confidence in words.

    >>> level_of(0.9), level_of(0.4)
    ('very likely', 'unsure')
    """
    return next(words for words, least in LEVELS if confidence >= least)


def conditions(settings: Settings) -> dict[str, Any]:
    """The settings that a confidence depends on; those of a search, samples or switch only where there is one."""
    own = {name: getattr(settings, name) for name in CALIBRATED}
    if not settings.switch:
        own["switch_at"] = Settings().switch_at
    if decoder_for(settings).streams:
        del own["beams"]
    elif settings.samples == 0:
        del own["samples"]
    return {**own, "decoder": decoder_name(settings.decoder)}


def with_later_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions with those that were no settings yet when they were recorded, at their defaults."""
    later = {name: getattr(Settings(), name) for name in CALIBRATED if name not in FIRST_CALIBRATED}
    return {**later, **settings}


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
            f"a confidence file at {path}", found, "check the path, or write it: mixrag eval, mixrag calibrate"
        ) from error
    except (AttributeError, ValueError, TypeError, KeyError, RecursionError, OverflowError, SettingError) as error:
        found = str(error) or type(error).__name__
        raise ModelError(
            f"a confidence file, format {FORMAT}, in {path}",
            found,
            "write it again: mixrag eval, mixrag calibrate",
        ) from error


def _calibration(document: Any) -> ConfidenceMap:
    if not isinstance(document, dict) or document.get("format") not in (1, FORMAT):
        raise ValueError("another format")
    content = _of_format_1(document) if document["format"] == 1 else document
    content = {"fitted_on_questions": [], **content}
    content = {each.name: content[each.name] for each in fields(ConfidenceMap)}
    content["fitted_on_questions"] = tuple(content["fitted_on_questions"])
    levels = {name: tuple(counts) for name, counts in content["levels"].items()}
    found = ConfidenceMap(**{**content, "knots": tuple(map(tuple, content["knots"])), "levels": levels})
    for axis in zip(*found.knots, strict=True):
        if list(axis) != sorted(axis):
            raise ValueError("knots that do not rise from 0 to 1")
    _check_names(found)
    _check_settings(found.settings)
    if not all(re.fullmatch("[0-9a-f]{16}", each) for each in found.fitted_on_questions):
        raise ValueError("fitted_on_questions that are no digests")
    return found


def _of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of version 0.1: one logistic function of log-odds and support."""
    weights = {"plain": document["scale"], "support": document["slope"]}
    made = {"right": weights, "right_offset": document["offset"], "answerable": None, "answerable_offset": 0.0}
    return {**document, **made, "levels": {}, "precision": None}


def _check_names(found: ConfidenceMap) -> None:
    weights = [*found.right.items(), *(found.answerable or {}).items()]
    for name, weight in (*weights, ("offset", found.right_offset), ("offset", found.answerable_offset)):
        if name not in (*FEATURES, "offset"):
            raise unknown(name, FEATURES)
        if not abs(weight) <= LARGEST_WEIGHT:  # of larger ones, which may cancel, a confidence can be no number
            raise ValueError(f"weights within ±{LARGEST_WEIGHT:g}; {name} is {weight}")
    for name, (n, right) in found.levels.items():
        if name not in dict(LEVELS) or right > n:
            raise ValueError(f"level {name}: {right} right of {n}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in settings:
        if name not in CALIBRATED:
            raise unknown(name, CALIBRATED)
    own = dict(settings)
    if _names_an_object(own.get("decoder")):
        del own["decoder"]
    ranged = {name: own.pop(name) for name in RANGED if isinstance(own.get(name), list)}
    Settings(**own)
    for name, values in ranged.items():
        if not values:
            raise ValueError(f"an empty range of {name}")
        for value in values:
            Settings(**{name: value})


def _names_an_object(decoder: Any) -> bool:
    """Whether it is what ``decoder_name`` makes of an object: a class, with parameters if it has any."""
    return isinstance(decoder, str) and re.fullmatch(r"[^\W\d]\w*(\(.*\))?", decoder, re.DOTALL) is not None


def calibrations_for(
    given: ModelConfig, trained: Bundle | None, confidence: str | Path | None
) -> tuple[ConfidenceMap, ...]:
    """The calibration asked for ("none": none); else those of the trained folder, where its models are in use.

    A trained folder may have two: which of them holds is a matter of the engine that runs the models.

    Raises:
        ModelError: a file cannot be used.
    """
    if confidence is not None:
        return () if str(confidence) == "none" else (read_calibration(Path(confidence)),)
    other = given.generator is not None and not names_parts(given.generator)
    replaced = other or given.adapter is not None or given.prompt is not None
    if trained is None or replaced or not same_encoders(given, trained):
        return ()
    paths = (trained.folder / name for name in (FILE, EIGHT_BITS))
    return tuple(read_calibration(path) for path in paths if path.is_file())


def calibrated_engine(models: ModelConfig, calibrations: Sequence[ConfidenceMap]) -> ModelConfig:
    """The models with torch as engine where auto would choose another one, whose answers have no confidence.

    A confidence is of one engine; without this a folder that was trained, or a file that was fitted, with torch
    would lose its confidence where OpenVINO is installed. An engine that is named stays.
    """
    if not calibrations or named_engine(models) != AUTO or engine_of(models) == TORCH:
        return models
    torch, own = replace(models, engine=TORCH), {each.models for each in calibrations}
    if own & {"", models_digest(models)} or models_digest(torch) not in own:
        return models
    return torch

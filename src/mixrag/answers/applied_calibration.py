"""A calibration in use: whether it, and the guarantee beside it, hold for the settings and models of a question.

``confidence.py`` is the map itself and its file, ``guarantee.py`` what a guarantee says.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixrag.answers.confidence import Confidence, ConfidenceMap, calibrations_for, conditions, level_of
from mixrag.answers.guarantee import KIND, Coverage, Guarantee, calibration_digest, other
from mixrag.answers.guarantee_file import ALSO, read_guarantee
from mixrag.answers.guarantee_file import FILE as GUARANTEE_FILE
from mixrag.answers.signals import Signals, features
from mixrag.config.bundle import Bundle
from mixrag.config.model_config import ModelConfig
from mixrag.config.settings import Settings
from mixrag.errors import ModelError, SettingError

ABOVE_ALL = math.nextafter(1.0, 2.0)
"""A threshold that no confidence reaches."""
_logger = logging.getLogger("mixrag.answers")


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
    unapplied: str | None = None
    """Why the guarantee that there is does not apply, in words; None where it does, or there is none."""
    kind: str = KIND
    """The kind of answer that the question is asked for."""
    judges: bool = True
    """Whether an answer of this kind has a confidence."""

    @property
    def threshold(self) -> float:
        """Confidence below which an answer is withheld."""
        return self.calibration.threshold if self.abstain_below is None else self.abstain_below

    @property
    def may_abstain(self) -> bool:
        """Whether an answer may be withheld."""
        return self.guaranteed_only or (self.judges and self.mismatch is None and self.threshold > 0)

    @property
    def uncalibrated(self) -> str | None:
        """``mismatch``, of an answer that would have a confidence without it."""
        return self.mismatch if self.judges else None

    def confidence(self, signals: Signals, metadata: Mapping[str, Any] | None = None) -> Confidence | None:
        """The confidence of a finished answer; None where the calibration does not apply.

        ``metadata`` are those of the document that most probably wrote the answer.
        """
        own = self.calibration
        if self.mismatch or not self.judges:
            return None
        threshold = self.threshold
        if self.guaranteed_only and self.guarantee is not None:
            least = self.guarantee.threshold(metadata or {})
            threshold = max(threshold, ABOVE_ALL if least is None else least)
        value = own.confidence(signals)
        n, right = own.levels.get(level_of(value), (0, 0))
        return Confidence(
            value,
            threshold,
            own.fitted_on,
            answerable=None if own.answerable is None else own.answerable_of(features(signals)),
            level_n=n,
            level_right=right / n if n else None,
        )

    def of_kind(self, kind: str, judges: bool) -> AppliedCalibration:
        """The same for a question that is asked for this kind of answer; ``judges``: it has a confidence."""
        return replace(self, kind=kind, judges=judges)

    def over(self, missing: Sequence[str]) -> AppliedCalibration:
        """The same for an answer without these shards: the guarantee was tested with all of them."""
        if not missing or self.guarantee is None:
            return self
        return replace(self, guarantee=None, unapplied="a shard is missing")

    def coverage(self, confidence: Confidence | None, metadata: Mapping[str, Any]) -> Coverage | None:
        """What the guarantee says of an answer; None where it does not cover it."""
        value = None if confidence is None else confidence.value
        return None if self.guarantee is None else self.guarantee.covering(value, metadata, self.kind)

    def not_covered(self, confidence: Confidence | None, metadata: Mapping[str, Any]) -> str | None:
        """Why the guarantee that there is does not cover an answer; None where it does, or there is none."""
        value = None if confidence is None else confidence.value
        return self.guarantee.uncovered(value, metadata, self.kind) if self.guarantee else self.unapplied


def apply_calibration(
    calibration: ConfidenceMap | None,
    settings: Settings,
    models: str,
    guarantee: Guarantee | None = None,
    documents: str = "",
) -> AppliedCalibration | None:
    """The calibration for answers under these settings and models (their digest); None where there is none.

    ``documents`` is their digest, which a guarantee holds for.

    Raises:
        SettingError: answers are to be withheld (``abstain_below``, ``guaranteed_only``), and no calibration, or
            no guarantee, applies.
    """
    mismatch = None if calibration is None else calibration.mismatch(settings, models)
    if settings.abstain_below and (calibration is None or mismatch):
        found = "none" if calibration is None else f"one made with another {mismatch}"
        remedy = "make one with mixrag eval or mixrag calibrate, and name it as --confidence"
        raise SettingError("a calibration that applies, to withhold answers (abstain_below)", found, remedy)
    changed = None
    if calibration is not None and guarantee is not None:
        own = guaranteed_conditions(settings)
        changed = guarantee.mismatch(own, models, calibration_digest(calibration), documents) or mismatch
    applied = None if calibration is None or changed else guarantee
    if settings.guaranteed_only and applied is None:
        found = f"one tested with {other(changed)}" if changed else "none"
        remedy = "make one with mixrag guarantee, and name the confidence.json beside it as --confidence"
        raise SettingError("a guarantee that applies, to withhold all else (guaranteed_only)", found, remedy)
    if calibration is None:
        return None
    return AppliedCalibration(
        calibration,
        mismatch,
        settings.abstain_below,
        applied,
        settings.guaranteed_only,
        f"it was tested with {other(changed)}" if changed else None,
    )


def guaranteed_conditions(settings: Settings) -> dict[str, Any]:
    """The settings that a guarantee holds for: those of its confidence, and those that decide what is covered."""
    return {**conditions(settings), **{name: getattr(settings, name) for name in ALSO}}


def guarantee_for(given: ModelConfig, trained: Bundle | None, confidence: str | Path | None) -> Guarantee | None:
    """The guarantee beside the calibration that ``calibrations_for`` reads; None where there is none.

    A file that cannot be used is none, and a warning says so.

    Raises:
        ModelError: the calibration cannot be used.
    """
    if not calibrations_for(given, trained, confidence):
        return None
    folder = Path(confidence).parent if confidence is not None else None if trained is None else trained.folder
    path = None if folder is None else folder / GUARANTEE_FILE
    if path is None or not path.is_file():
        return None
    try:
        return read_guarantee(path)
    except ModelError as error:
        _logger.warning(f"no answer is covered: {error}")
        return None

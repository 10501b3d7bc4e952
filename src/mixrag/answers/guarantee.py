"""A guarantee: a threshold on the confidence above which, in all probability, most answers are right.

``mixrag guarantee`` finds it on pairs (``evaluation/guarantee.py``) and writes ``guarantee.json`` beside the
``confidence.json`` whose confidence it is about. It covers an answer of the same models, settings and calibration
whose confidence reaches the threshold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, Lt

from mixrag.config.schema import CountOrNone, Share, schema, unknown
from mixrag.config.settings import CALIBRATED
from mixrag.errors import ModelError, SettingError
from mixrag.utils.atomic import write_atomically

FILE = "guarantee.json"
"""Its name, beside the confidence."""
FORMAT = 1
Level = Annotated[float, Gt(0), Lt(1)]


@schema
class CertifiedGroup:
    """The outcome of the test on one kind of document, or on all."""

    value: str
    """The kind: what the metadata say; empty where there is one test for all."""
    n: CountOrNone
    """Pairs it was tested on."""
    wrong_of_all: CountOrNone
    """Those of them that were answered wrong, whatever the confidence."""
    threshold: Share | None = None
    """Least confidence that is certified; None: none is."""
    answered: CountOrNone = 0
    """Pairs whose confidence reaches the threshold."""
    wrong: CountOrNone = 0
    """Those of them that were answered wrong."""
    upper: Share = 1.0
    """Upper bound of the share wrong at this threshold alone, at the level of the test (Clopper-Pearson)."""
    control: Share | None = None
    """Least confidence at which E[answered and wrong] is at most the risk (conformal risk control); None: none."""


@schema
class Guarantee:
    """With probability 1 - delta over the pairs, at most a share ``risk`` of the answers it covers is wrong."""

    risk: Level
    delta: Level
    groups: tuple[CertifiedGroup, ...]
    by: str = ""
    """Key of the metadata that tells the kinds apart; empty: one test for all."""
    simultaneous: bool = False
    """Whether all kinds hold together with probability 1 - delta; else each does on its own."""
    pairs: str = ""
    """The pairs that it was tested on, in words."""
    fitted_on: str = ""
    """The other pairs, on which the confidence was fitted."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of ``CALIBRATED`` in force."""
    models: str = ""
    """Digest of the models whose answers were tested; empty: any."""
    calibration: str = ""
    """Digest of the calibration whose confidences were tested."""

    def group(self, metadata: Mapping[str, Any]) -> CertifiedGroup | None:
        """The test on this kind of document; None where there was none."""
        value = str(metadata.get(self.by, "")) if self.by else ""
        return next((each for each in self.groups if each.value == value), None)

    def threshold(self, metadata: Mapping[str, Any]) -> float | None:
        """Least confidence of an answer that it covers; None where it covers none of this kind."""
        found = self.group(metadata)
        return None if found is None else found.threshold

    def covering(self, confidence: float, metadata: Mapping[str, Any]) -> Coverage | None:
        """What it says of an answer with this confidence, from a document with these metadata; None: nothing."""
        found = self.group(metadata)
        if found is None or found.threshold is None or confidence < found.threshold:
            return None
        return Coverage(
            1.0 - self.risk,
            1.0 - self.delta,
            found.threshold,
            found.n,
            found.answered,
            found.wrong,
            found.value,
            self.pairs,
        )

    def applies(self, conditions: Mapping[str, Any], models: str, calibration: str) -> bool:
        """Whether settings, models and calibration are those that it was tested with."""
        same = all(conditions.get(name) == value for name, value in self.settings.items())
        return same and self.models in ("", models) and self.calibration == calibration


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a guarantee says of an answer that it covers."""

    right: float
    """Least share right of the answers that it covers: 1 - α."""
    probability: float
    """1 - δ, over the draw of the pairs that it was tested on."""
    threshold: float
    """Least confidence that it covers."""
    n: int
    """Pairs it was tested on."""
    answered: int
    """Those of them whose confidence reached the threshold."""
    wrong: int
    """Those of these that were answered wrong."""
    group: str
    """The kind of document; empty: any."""
    pairs: str
    """The pairs, in words."""

    @property
    def words(self) -> str:
        """One line for people."""
        kind = f" from {self.group}" if self.group else ""
        return (
            f"covered: of answers like this{kind} at least {100 * self.right:g} % are right, "
            f"with probability {100 * self.probability:g} % (n = {self.n} pairs)"
        )


def calibration_digest(calibration: Any) -> str:
    """Digest of what maps signals to a confidence: a dataclass, without threshold, models and pairs."""
    others = ("threshold", "models", "fitted_on", "fitted_on_questions")
    content = {k: v for k, v in asdict(calibration).items() if k not in others}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_guarantee(guarantee: Guarantee, path: Path) -> None:
    """Write it as JSON; the file appears complete or not at all.

    Raises:
        ModelError: it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **asdict(guarantee)}, indent=1, allow_nan=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        found = error.strerror or str(error)
        raise ModelError(f"room to write {path}", found, "free it, or choose another") from error


def read_guarantee(path: Path) -> Guarantee:
    """Read what ``write_guarantee`` wrote. The file is data, and may come from strangers.

    Raises:
        ModelError: it cannot be read, or is not a guarantee of this format.
    """
    remedy = "write it again: mixrag guarantee"
    try:
        return _guarantee(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"a guarantee at {path}", error.strerror or str(error), remedy) from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, SettingError) as error:
        found = str(error) or type(error).__name__
        raise ModelError(f"a guarantee, format {FORMAT}, in {path}", found, remedy) from error


def _guarantee(document: Any) -> Guarantee:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("another format")
    content = {each.name: document[each.name] for each in fields(Guarantee)}
    found = Guarantee(**{**content, "groups": tuple(CertifiedGroup(**each) for each in content["groups"])})
    for name in found.settings:
        if name not in CALIBRATED:
            raise unknown(name, CALIBRATED)
    for each in found.groups:
        if not each.wrong <= each.answered <= each.n or each.wrong_of_all > each.n:
            raise ValueError("more answers than pairs")
    values = [each.value for each in found.groups]
    if len(set(values)) < len(values) or not values or (not found.by and values != [""]):
        raise ValueError("kinds that are not told apart")
    return found

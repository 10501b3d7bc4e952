"""A guarantee: a threshold on the confidence above which, in all probability, most answers are right.

``mixrag guarantee`` finds it on pairs (``evaluation/guarantee.py``) and writes ``guarantee.json``
(``guarantee_file.py``) beside the ``confidence.json`` whose confidence it is about. It covers an answer of the
same models, settings, calibration and documents whose confidence reaches the threshold, where the question is
asked for an answer of the kind that the pairs were asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Annotated, Any

from annotated_types import Gt, Lt

from mixrag.answers.kinds import Kind
from mixrag.config.schema import CountOrNone, Share, schema

KIND: Kind = "span"
"""The only kind of answer that a guarantee covers: gold answers are compared with spans, and others either have no
confidence (yes or no, extracts) or show more than the span that it is about (lists)."""
Level = Annotated[float, Gt(0), Lt(1)]
_BELOW_ONE = math.nextafter(1.0, 0.0)


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
    """Key of the metadata that tells the kinds of document apart; empty: one test for all."""
    simultaneous: bool = False
    """Whether all kinds hold together with probability 1 - delta; else each does on its own."""
    kind: str = KIND
    """The kind of answer that the pairs were asked for."""
    pairs: str = ""
    """The pairs that it was tested on, in words."""
    sources: tuple[tuple[str, str], ...] = ()
    """Name and SHA-256 of each file that they are from; of pairs in memory, of their content."""
    overlapping: CountOrNone | None = None
    """Pairs of these that were left out, because the confidence was fitted on their questions; None: it does not
    say on which it was."""
    other_kinds: CountOrNone = 0
    """Pairs that were left out, because their questions are asked for another kind of answer."""
    fitted_on: str = ""
    """The other pairs, on which the confidence was fitted."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those in force (``guaranteed_conditions``)."""
    models: str = ""
    """Digest of the models whose answers were tested."""
    calibration: str = ""
    """Digest of the calibration whose confidences were tested."""
    documents: str = ""
    """Digest of the documents that were asked; empty: those of a retriever of the caller's own."""

    @property
    def level(self) -> float:
        """The level of the test of each kind."""
        return self.delta / len(self.groups) if self.simultaneous else self.delta

    def group(self, metadata: Mapping[str, Any]) -> CertifiedGroup | None:
        """The test on this kind of document; None where there was none."""
        value = str(metadata.get(self.by, "")) if self.by else ""
        return next((each for each in self.groups if each.value == value), None)

    def threshold(self, metadata: Mapping[str, Any]) -> float | None:
        """Least confidence of an answer that it covers; None where it covers none of this kind of document."""
        found = self.group(metadata)
        return None if found is None else found.threshold

    def uncovered(self, confidence: float | None, metadata: Mapping[str, Any], kind: str = KIND) -> str | None:
        """Why it does not cover an answer, in words; None: it does.

        Args:
            confidence: of the answer; None: it was cut off, and has none.
            metadata: of the document that most probably wrote it.
            kind: of answer that the question is asked for.
        """
        if kind != self.kind:
            return f"it was tested on answers of kind {self.kind}, and this question is asked for {_article(kind)}"
        if confidence is None:
            return "the answer was cut off at max_tokens"
        found = self.group(metadata)
        if found is None or found.threshold is None:
            value = str(metadata.get(self.by, ""))
            return f"it covers no answer from documents of {self.by} {value!r}" if self.by else "it covers none"
        if confidence < found.threshold:
            return f"the confidence is below {found.threshold:.4g}"
        return None

    def covering(self, confidence: float | None, metadata: Mapping[str, Any], kind: str = KIND) -> Coverage | None:
        """What it says of an answer; None where ``uncovered`` has a reason. Arguments are those of that."""
        found = self.group(metadata)
        if self.uncovered(confidence, metadata, kind) is not None or found is None or found.threshold is None:
            return None
        return Coverage(
            min(1.0 - self.risk, _BELOW_ONE),
            min(1.0 - self.delta, _BELOW_ONE),
            found.threshold,
            found.n,
            found.answered,
            found.wrong,
            found.value,
            self.pairs,
        )

    def mismatch(self, conditions: Mapping[str, Any], models: str, calibration: str, documents: str) -> str | None:
        """What is not as it was tested: "models", "confidence", a setting or "documents"; None: all is."""
        if self.models != models:
            return "models"
        if self.calibration != calibration:
            return "confidence"
        for name in {**self.settings, **conditions}:
            if not (name in self.settings and name in conditions and self.settings[name] == conditions[name]):
                return name
        return None if self.documents == documents else "documents"


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
            f"covered: of answers like this{kind} at least {percent(self.right)} % are right, "
            f"with probability {percent(self.probability)} % (n = {self.n} pairs)"
        )


def percent(share: float, places: int = 4) -> str:
    """A share in percent, rounded down to so many places: of less than one, never 100.

    Twelve digits of the share count, which is what 1 - α has.

    >>> percent(0.9), percent(1 - 0.07), percent(1 - 1e-9), percent(0.999, 0), percent(1.0)
    ('90', '93', '99.9999', '99', '100')
    """
    with localcontext() as context:
        context.rounding = ROUND_FLOOR
        exact = 100 * Decimal(share)
        # 1 - 0.07 is a little less than 0.93 in binary: the nearest of twelve digits is meant.
        near = 100 * Decimal(f"{share:.12g}")
        meant = near if near < 100 or share >= 1.0 else exact
        shown = meant.quantize(Decimal(1).scaleb(-places)).normalize()
    return f"{shown:f}"


def other(name: str) -> str:
    """What ``Guarantee.mismatch`` names, in words: "another k", "other documents"."""
    return f"other {name}" if name.endswith("s") else f"another {name}"


def calibration_digest(calibration: Any) -> str:
    """Digest of what maps signals to a confidence: a dataclass, without threshold, models and pairs."""
    others = ("threshold", "models", "fitted_on", "fitted_on_questions")
    content = {k: v for k, v in asdict(calibration).items() if k not in others}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _article(kind: str) -> str:
    return {"yes-no": "yes or no", "list": "a list", "extract": "an extract"}.get(kind, kind)

"""The settings of the mixture: every system that mixrag can be is a point among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mixrag.errors import SettingError

Normaliser = Literal["top-k", "full"]
Weights = Literal["retriever", "uniform"]
DecoderName = Literal["greedy", "sample", "beam", "thorough", "fast"]
DECODERS: tuple[DecoderName, ...] = ("greedy", "sample", "beam", "thorough", "fast")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a question is answered.

    RAG-Sequence is ``switch=0``, RAG-Token ``switch=1``; the concatenated prompt is ``group="all"``; the
    closed-book language model is ``k=0``; the exact mixture over the whole corpus is ``k="all"``.

    Raises:
        SettingError: a value outside its range.
    """

    k: int | Literal["all"] = 5
    """Passages retrieved; "all" takes the whole corpus as components, 0 none."""
    group: int | Literal["all"] = 1
    """Passages in one component's prompt, in order of rank; "all" puts the k into one."""
    switch: float = 0.0
    """Probability ρ that the passage is re-drawn between two tokens."""
    null: float | None = None
    """Score of the null component (no passage) on the scale of inner product / temperature; None: none such."""
    temperature: float | None = None
    """T in p(z|x) ∝ exp(d(z)·q(x) / T); None takes the encoder's own."""
    normaliser: Normaliser = "top-k"
    """p(z|x) sums to one over the passages retrieved ("top-k"), or over all M ("full"; exact search only)."""
    weights: Weights = "retriever"
    """"uniform": what is retrieved gets equal prior, so that passages inform but are not weighed."""
    max_outside: float | None = None
    """Adaptive k: no more passages than leave this prior mass to all others (exact search only); k is the most."""
    lexical: float = 0.0
    """λ: p(z|x) = (1-λ) dense + λ lexical, two distributions over passages; 0 is dense alone."""
    lexical_temperature: float = 1.0
    """Temperature of the softmax over BM25 scores."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Only passages whose document has these metadata; keys ``document`` and ``title`` are always there."""
    decoder: DecoderName | Any = "greedy"
    """greedy, sample, beam: exact and in one pass; thorough, fast: the paper's, for comparison; or an object of
    the protocol ``mixrag.Decoder``, which has its own options."""
    beams: int = 4
    """Width of the beam decoders."""
    max_tokens: int = 64
    """Longest answer, in tokens."""
    seed: int = 0
    """Seed of ``sample``."""
    samples: int = 0
    """Answers drawn from p(y|x) beside that of greedy or sample: those that say the same add to its mass."""
    prune: float = 1e-3
    """Total variation that may be spent on dropping passages while greedy or sample writes an answer; 0: none."""
    abstain_below: float | None = None
    """Confidence below which an answer is withheld; None: the threshold of the calibration, 0: never."""

    def __post_init__(self) -> None:
        _require(self.k == "all" or _whole(self.k, 0), "k to be a whole number >= 0, or 'all'", self.k)
        _require(
            self.group == "all" or _whole(self.group, 1), "group to be a whole number >= 1, or 'all'", self.group
        )
        _require(0.0 <= self.switch <= 1.0, "switch in [0, 1] (0: RAG-Sequence, 1: RAG-Token)", self.switch)
        _require(self.null is None or math.isfinite(self.null), "null to be a finite score", self.null)
        positive = self.temperature is None or 1e-6 <= self.temperature < math.inf
        _require(positive, "temperature > 0 (at least 1e-6)", self.temperature)
        _require(0.0 < self.lexical_temperature < math.inf, "lexical temperature > 0", self.lexical_temperature)
        _require(0.0 <= self.lexical <= 1.0, "lexical in [0, 1]", self.lexical)
        _require(self.normaliser in ("top-k", "full"), "normaliser 'top-k' or 'full'", self.normaliser)
        _require(self.weights in get_args(Weights), "weights 'retriever' or 'uniform'", self.weights)
        share = self.max_outside is None or 0.0 <= self.max_outside < 1.0
        _require(share, "max_outside in [0, 1)", self.max_outside)
        named = not isinstance(self.decoder, str) or self.decoder in DECODERS
        _require(named, f"decoder among {', '.join(DECODERS)}", self.decoder)
        _require(_whole(self.beams, 1), "beams to be a whole number >= 1", self.beams)
        _require(_whole(self.max_tokens, 1), "max_tokens to be a whole number >= 1", self.max_tokens)
        _require(_whole(self.samples, 0), "samples to be a whole number >= 0", self.samples)
        _require(0.0 <= self.prune < 1.0, "prune in [0, 1)", self.prune)
        certain = self.abstain_below is None or 0.0 <= self.abstain_below <= 1.0
        _require(certain, "abstain_below in [0, 1]", self.abstain_below)
        _require(_whole(self.seed, 0) and self.seed < 2**63, "seed to be a whole number in [0, 2^63)", self.seed)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise SettingError(expected, repr(found), "choose a value in this range")

"""The settings of a training run, checked where they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mixrag.errors import SettingError

Part = Literal["generator", "question-encoder", "encoder", "temperature", "null"]
PARTS: tuple[Part, ...] = get_args(Part)
WHOLE = (
    *("rank", "batch", "rows", "refresh_every", "patience", "checkpoint_every"),
    *("max_answer_tokens", "max_answers", "e_step_every"),
)
"""Fields that are whole numbers from 1."""
SCALARS: frozenset[Part] = frozenset({"temperature", "null"})
Objective = Literal["marginal", "em", "distill"]
OBJECTIVES: Mapping[Objective, str] = {
    "marginal": "the marginal likelihood of the mixture",
    "em": "the marginal likelihood of the mixture, by expectation-maximisation",
    "distill": "the retriever follows the language model's likelihoods (distillation)",
}
TuningMethod = Literal["lora", "full"]
Keep = Literal["best", "last"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What is trained, by which objective, and how long.

    Raises:
        SettingError: a value outside its range, or parts that exclude one another.
    """

    parts: tuple[Part, ...] = ("generator", "question-encoder", "temperature")
    """What is trained. "encoder" is both sides, with a new index; "question-encoder" keeps the index."""
    objective: Objective = "marginal"
    """marginal: -log p(y|x); em: its EM surrogate, of equal gradient; distill: the prior follows π^a ℓ^(1/τ)."""
    e_step_every: int = 1
    """em: epochs from one E-step of a pair to the next; between them its responsibilities are held."""
    prior_power: float = 0.0
    """a of the distillation target."""
    likelihood_temperature: float = 1.0
    """τ of the distillation target; ℓ is there the mean token log-likelihood, as in Atlas' PDist."""
    reverse: bool = False
    """distill: KL(π ‖ r), REPLUG LSR's divergence, in the place of KL(r ‖ π), Atlas'."""
    method: TuningMethod = "lora"
    """How the generator is trained: a low-rank adapter, or all of its weights."""
    rank: int = 16
    """Rank of a new adapter."""
    epochs: float = 3.0
    """Times that every pair is visited."""
    steps: int | None = None
    """Optimizer steps; overrides ``epochs``."""
    batch: int = 8
    """Questions in one optimizer step, over all processes."""
    rows: int = 4
    """Rows (component, answer) in one backward pass: bounds memory, not the result."""
    skip: float = 0.01
    """Branches with less than this share of a question's responsibility have no backward pass; 0 is exact."""
    learning_rate: float | None = None
    """Peak rate of the generator's weights; None: 5e-4 for an adapter, 4e-5 for all weights."""
    encoder_rate: float = 2e-5
    """Peak rate of the encoders' weights."""
    scalar_rate: float = 2e-2
    """Peak rate of log temperature and of the null component's score."""
    warmup: float = 0.06
    """Share of the steps in which the rates rise from zero; they then fall to a tenth along a cosine."""
    clip: float = 1.0
    """Largest norm of the gradient of each part."""
    weight_decay: float = 0.0
    """AdamW's, for the generator and the encoders."""
    max_answer_tokens: int = 64
    """Pairs whose answers are all longer are left out."""
    max_answers: int = 3
    """Gold answers of one question in one step, drawn anew at each visit where there are more."""
    refresh_every: int = 50
    """Steps between two rebuilds of the index while passages are trained."""
    evaluate_every: int | None = None
    """Steps between two looks at the dev pairs; None: four times an epoch."""
    patience: int = 4
    """Looks at the dev pairs without improvement after which training stops, unless the last weights are kept."""
    keep: Keep = "best"
    """Which weights are the result: those of the best look at the dev pairs, or those of the last step."""
    checkpoint_every: int = 25
    """Steps between two checkpoints."""
    checkpointing: bool = False
    """Gradient checkpointing: recompute activations in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile the layers of the generator (torch.compile): the same mathematics in fewer passes over memory."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products by autocast; what is trained stays float32."""
    seed: int = 0
    """Order of the pairs, and first values of a new adapter."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.parts) - set(PARTS))
        _require(
            bool(self.parts) and not unknown, f"parts among {', '.join(PARTS)}", ", ".join(self.parts) or "none"
        )
        both = {"encoder", "question-encoder"} <= set(self.parts)
        _require(not both, "encoder (both sides) or question-encoder", "both")
        _require(self.objective in get_args(Objective), "objective marginal, em or distill", self.objective)
        _require(self.method in get_args(TuningMethod), "method lora or full", self.method)
        _require(self.keep in get_args(Keep), "keep best or last", self.keep)
        _require(self.dtype in ("float32", "bfloat16"), "dtype float32 or bfloat16", self.dtype)
        _require(0 <= self.skip < 1, "skip in [0, 1)", self.skip)
        _require(0 <= self.warmup <= 1, "warmup in [0, 1]", self.warmup)
        _require(self.epochs > 0 and math.isfinite(self.epochs), "epochs > 0", self.epochs)
        _require(self.steps is None or self.steps >= 1, "steps >= 1", self.steps)
        _require(
            self.evaluate_every is None or self.evaluate_every >= 1, "evaluate-every >= 1", self.evaluate_every
        )
        for name in WHOLE:
            _require(getattr(self, name) >= 1, f"{name.replace('_', '-')} >= 1", getattr(self, name))
        for name in ("encoder_rate", "scalar_rate", "clip", "likelihood_temperature"):
            _require(0 < getattr(self, name) < math.inf, f"{name.replace('_', '-')} > 0", getattr(self, name))
        _require(
            self.learning_rate is None or 0 < self.learning_rate < 1, "learning rate in (0, 1)", self.learning_rate
        )
        held = self.e_step_every > 1 and self.objective != "em"
        _require(not held, "objective em to hold responsibilities (e-step-every > 1)", self.objective)
        _require(not self.reverse or self.objective == "distill", "objective distill for reverse", self.objective)
        _require(0 <= self.prior_power < math.inf, "prior power >= 0", self.prior_power)
        _require(0 <= self.weight_decay < 1, "weight decay in [0, 1)", self.weight_decay)

    @property
    def generator_rate(self) -> float:
        """Peak learning rate of the generator."""
        return self.learning_rate or (5e-4 if self.method == "lora" else 4e-5)

    @property
    def trains_retriever(self) -> bool:
        """True where p(z|x) changes during training."""
        return bool(set(self.parts) - {"generator"})

    @property
    def trains_passages(self) -> bool:
        """True where the vectors of passages change."""
        return "encoder" in self.parts


def _require(holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise SettingError(expected, str(found), "choose a value in this range")

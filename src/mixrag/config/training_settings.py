"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator

from mixrag.config.model_config import ModelConfig
from mixrag.config.schema import (
    LARGEST,
    Count,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareBelowOne,
    same_as,
    schema,
    setting,
)
from mixrag.config.settings import Settings
from mixrag.config.values import as_tuple
from mixrag.errors import SettingError

Part = Literal["generator", "question-encoder", "encoder", "temperature", "null"]
PARTS: tuple[Part, ...] = get_args(Part)
SCALARS: frozenset[Part] = frozenset({"temperature", "null"})
Objective = Literal["marginal", "em", "distill", "composite"]
Targets = Literal["matching", "posterior"]
OBJECTIVES: Mapping[Objective, str] = {
    "marginal": "the marginal likelihood of the mixture",
    "em": "the marginal likelihood of the mixture, by expectation-maximisation",
    "distill": "the retriever follows the language model's likelihoods (distillation)",
    "composite": "each passage's own likelihood, of the answer where it states it, else of the empty answer",
}
TuningMethod = Literal["lora", "full"]
Keep = Literal["best", "last"]
_training = partial(setting, commands=("train",), panel="More options of training")


@schema
class TrainingSettings:
    """What is trained, by which objective, and how long.

    Raises:
        SettingError: a value of another type or outside its range, or parts that exclude one another.
    """

    parts: Annotated[tuple[Part, ...], BeforeValidator(as_tuple)] = _training(
        default=("generator", "question-encoder", "temperature"),
        help="Comma-separated: generator, question-encoder, encoder, temperature, null.",
        more="`encoder` is both sides, and the index is rebuilt; `question-encoder` leaves the index valid. "
        "`temperature,null` alone is a calibration. "
        "See [what can be trained](../how-to/train.md#what-can-be-trained).",
        shown_first=True,
    )
    objective: Objective = _training(
        default="marginal",
        help="marginal, em, distill or composite.",
        more="`marginal`: -log p(y given x); `em`: its EM surrogate, of equal gradient; `distill`: "
        "the prior follows π^a ℓ^(1/τ); `composite`: the generator learns the answer of passages that state it, "
        "and the empty answer of the others. See [objectives](../background/training.md#objectives).",
        shown_first=True,
    )
    empty_weight: NotNegative = _training(
        default=0.5,
        help="composite: weight of the empty answer.",
        more="λ in Π_j p(y given x, z_j)^c_j · p(∅ given x, z_j)^(λ(1-c_j)); 0: the empty answer is not learnt.",
    )
    targets: Targets = _training(
        default="matching",
        help="composite: what says whether a passage states the answer, matching or posterior.",
        more="`matching`: an answer occurs in it, and it is from the pair's `doc`; `posterior`: p(z given x, y) "
        "of the models that training starts from.",
    )
    row_tokens: Annotated[int, Ge(64), Le(LARGEST)] = _training(
        default=640,
        help="composite: tokens of a row, in which passages are read once for all their questions.",
    )
    e_step_every: Count = _training(
        default=1,
        help="em: epochs between two E-steps of a pair.",
        more="Between them its responsibilities are reused. 3 takes about half the time of 1.",
    )
    prior_power: NotNegative = _training(default=0.0, help="distill: a in r ∝ prior^a · likelihood^(1/τ).")
    likelihood_temperature: Positive = _training(
        default=1.0, help="distill: τ.", more="ℓ is the mean log-likelihood of a token, as in Atlas' PDist."
    )
    reverse: bool = _training(
        default=False,
        help="distill: KL(prior ‖ target), not KL(target ‖ prior).",
        more="REPLUG LSR's divergence in the place of Atlas'.",
    )
    method: TuningMethod = _training(
        default="lora", help="Generator: lora (a low-rank adapter) or full (all weights)."
    )
    rank: Count = _training(default=16, help="Rank of a new adapter.")
    epochs: Positive = _training(
        default=3.0, help="Times that every pair is visited.", more="May be a fraction.", shown_first=True
    )
    steps: Count | None = _training(default=None, help="Optimizer steps, in place of epochs.", absent="by epochs")
    batch: Count = _training(
        default=8,
        help="Questions in one step, over all processes.",
        more="composite: questions of passages, at least so many; a step ends with a row.",
    )
    rows: Count = _training(
        default=4, help="Rows in one backward pass.", more="Pairs (component, answer): memory, not the result."
    )
    skip: ShareBelowOne = _training(
        default=0.01,
        help="Responsibility that need not go backward.",
        more="Components with less than this share of a question's responsibility have no backward "
        "pass; 0 is exact.",
    )
    learning_rate: Annotated[float, Gt(0), Lt(1)] | None = _training(
        default=None, help="Peak rate of the generator.", absent="5e-4 for lora, 4e-5 for full"
    )
    encoder_rate: Positive = _training(default=2e-5, help="Peak rate of the encoders.")
    scalar_rate: Positive = _training(default=2e-2, help="Peak rate of log temperature and null score.")
    warmup: Share = _training(
        default=0.06,
        help="Share of the steps in which the rates rise.",
        more="They then fall to a tenth along a cosine.",
    )
    clip: Positive = _training(default=1.0, help="Largest gradient norm of each part.")
    weight_decay: ShareBelowOne = _training(default=0.0, help="AdamW's, for generator and encoders.")
    max_answer_tokens: Count = _training(
        default=64, help="Longer gold answers are left out.", more="Prompts leave room for as many tokens."
    )
    max_answers: Count = _training(
        default=3,
        help="Gold answers of one question in one step.",
        more="Where there are more, they are drawn again at each visit.",
    )
    refresh_every: Count = _training(
        default=50, help="Steps between rebuilds of the index.", more="Only where `encoder` is trained."
    )
    evaluate_every: Count | None = _training(
        default=None, help="Steps between evaluations on the dev pairs.", absent="4 an epoch"
    )
    patience: Count = _training(
        default=4,
        help="Evaluations without improvement before the end.",
        more="Not with `keep` last.",
    )
    keep: Keep = _training(
        default="best",
        help="Result: weights of the best evaluation, or the last.",
        more="`last` has no early stop.",
    )
    checkpoint_every: Count = _training(default=25, help="Steps between two checkpoints.")
    checkpointing: bool = _training(default=False, help="Gradient checkpointing: less memory, more time.")
    compile: bool = _training(
        default=False, help="Compile the generator's layers: faster steps.", more="By torch.compile."
    )
    dtype: Literal["float32", "bfloat16"] = same_as(ModelConfig, default="float32")
    """bfloat16: matrix products by autocast; what is trained stays float32."""
    seed: Seed = same_as(Settings, default=0)
    """Order of the pairs, and first values of a new adapter."""

    def __post_init__(self) -> None:
        _require(bool(self.parts), f"parts among {', '.join(PARTS)}", "none")
        both = {"encoder", "question-encoder"} <= set(self.parts)
        _require(not both, "encoder (both sides) or question-encoder", "both")
        reused = self.e_step_every > 1 and self.objective != "em"
        _require(not reused, "objective em to reuse responsibilities (e_step_every > 1)", self.objective)
        composite = self.objective == "composite"
        _require(not composite or "generator" in self.parts, "generator among the parts for composite", "none")
        _require(not self.reverse or self.objective == "distill", "objective distill for reverse", self.objective)

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


def _require(holds: bool, expected: str, found: str) -> None:
    if not holds:
        raise SettingError(expected, found, "change one of the settings")

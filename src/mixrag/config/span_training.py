"""The settings of training an extractive reader."""

from __future__ import annotations

from mixrag.config.schema import (
    Count,
    CountOrNone,
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
from mixrag.config.training_settings import TrainingSettings


@schema
class SpanTrainingSettings:
    """How an extractive reader is trained, and how long.

    Raises:
        SettingError: a value of another type or outside its range.
    """

    rank: CountOrNone = same_as(TrainingSettings, default=32)
    """Of the LoRA adapter; 0: all weights."""
    epochs: Positive = same_as(TrainingSettings, default=2.0)
    steps: Count | None = same_as(TrainingSettings, default=None)
    batch: Count = same_as(TrainingSettings, default=24)
    """Examples in one step."""
    learning_rate: Positive | None = same_as(TrainingSettings, default=None)
    """Peak rate; None: 1e-3 for an adapter, 1.5e-4 for all weights."""
    warmup: Share = same_as(TrainingSettings, default=0.06)
    weight_decay: ShareBelowOne = same_as(TrainingSettings, default=0.01)
    clip: Positive = same_as(TrainingSettings, default=1.0)
    empty_weight: NotNegative = same_as(TrainingSettings, default=0.5)
    """λ, of examples whose text does not state the answer."""
    checkpoint_every: Count = same_as(TrainingSettings, default=200)
    seed: Seed = same_as(Settings, default=0)
    dropout: ShareBelowOne = setting(default=0.1, help="Dropout of the encoder.")
    longest: Count = setting(default=30, help="Tokens of the encoder in the longest answer.")
    window: Count = setting(default=320, help="Tokens that the encoder reads at once in training.")
    whole_words: bool = setting(
        default=True,
        help="No answer starts or ends inside a word.",
        more="Between two letters or two digits; not so in scripts without spaces.",
    )

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        return self.learning_rate or (1e-3 if self.rank else 1.5e-4)

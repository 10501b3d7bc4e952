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


@schema
class SpanTrainingSettings:
    """How an extractive reader is trained, and how long.

    Raises:
        SettingError: a value of another type or outside its range.
    """

    rank: CountOrNone = setting(
        default=32,
        help="Rank of the LoRA adapter; 0 = all weights.",
        more="An adapter of rank 32 of the packaged encoder has 2.7 MB.",
    )
    epochs: Positive = setting(default=2.0, help="Passes over the examples.")
    steps: Count | None = setting(default=None, help="Steps in all.", absent="by epochs")
    batch: Count = setting(default=24, help="Examples in one step.")
    learning_rate: Positive | None = setting(
        default=None, help="Peak rate.", absent="1e-3 for an adapter, 1.5e-4 for all weights"
    )
    warmup: Share = setting(
        default=0.06,
        help="Share of the steps in which the rate rises.",
        more="It then falls to a tenth along a cosine.",
    )
    weight_decay: ShareBelowOne = setting(default=0.01, help="AdamW's.")
    clip: Positive = setting(default=1.0, help="Largest gradient norm.")
    dropout: ShareBelowOne = setting(default=0.1, help="Dropout of the encoder.")
    empty_weight: NotNegative = setting(
        default=0.5,
        help="Weight of examples whose text does not state the answer.",
        more="λ of the composite likelihood.",
    )
    longest: Count = setting(default=30, help="Tokens of the encoder in the longest answer.")
    window: Count = setting(default=320, help="Tokens that the encoder reads at once in training.")
    whole_words: bool = setting(
        default=True,
        help="No answer starts or ends inside a word.",
        more="Between two letters or two digits; not so in scripts without spaces.",
    )
    checkpoint_every: Count = setting(default=200, help="Steps between two checkpoints.")
    seed: Seed = same_as(Settings, default=0)

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        return self.learning_rate or (1e-3 if self.rank else 1.5e-4)

"""Decoder: what chooses an answer under a mixture, and what it hands over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mixrag.errors import PluginError
from mixrag.inference.mixture import Mixture, ScoredAnswer


@dataclass(frozen=True, slots=True)
class DecodedToken:
    """One token of an answer, as it is decided."""

    token: int
    log_prob: float
    """log p(token | x, answer so far)."""
    log_likelihood: Tensor
    """(K,) the same under each component; NaN for dropped components (``Pruning``)."""
    posterior: Tensor
    """(K,) p(z = j | x, answer so far with this token): the live posterior; 0 for dropped components."""
    log_drawn: float | None = None
    """log-probability with which it was drawn; None where it was not drawn."""


@dataclass(frozen=True, slots=True)
class DecoderResult:
    """What a decoder found."""

    answers: tuple[ScoredAnswer, ...]
    """The answer first, then the others that were found: equal ones add to its confidence.
    Never empty."""
    certified: bool | None = None
    """True where no answer is more probable than the first, False where that is not known; None where the
    decoder has no certificate."""
    pruned: float = 0.0
    """Total variation spent on components dropped while the answer was written."""
    log_drawn: float | None = None
    """log-probability with which the first answer was drawn; None where it was not drawn by chance."""

    def __post_init__(self) -> None:
        """Check that there is an answer.

        Raises:
            PluginError: there is none.
        """
        if not self.answers:
            raise PluginError("at least one answer in a DecoderResult", "none", "put the best one first")


class Decoder(Protocol):
    """Chooses an answer to a question under p(y | x)."""

    @property
    def streams(self) -> bool:
        """True where each token is decided before the next one is looked at, so that it can be shown at once."""
        ...

    @property
    def certifies(self) -> bool:
        """True where the decoder can determine that no answer is more probable than the one it found."""
        ...

    @property
    def batches(self) -> bool:
        """True where several questions can be decoded side by side: the object is a ``BatchDecoder``."""
        ...

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """Decode one answer of at most ``max_tokens`` tokens.

        Yields its tokens as they are decided, where the decoder streams, and last of all one ``DecoderResult``.
        """
        ...


class BatchDecoder(Decoder, Protocol):
    """A decoder of several questions at once."""

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """What ``decode`` finds for each of several mixtures (B,) of one generator, in their order."""
        ...

"""Yes or no: both answers scored under the mixture, exactly, and the more probable one given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import DecodedToken, DecoderResult

YES, NO = "yes", "no"


@dataclass(frozen=True, slots=True)
class YesNo:
    """Gives "yes" or "no", whichever has the larger p(y | x), and the other one as a further answer."""

    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        yes, no = mixture.score(YES), mixture.score(NO)
        yield DecoderResult((yes, no) if yes.log_prob >= no.log_prob else (no, yes))


def share_of_first(answer: ScoredAnswer, other: ScoredAnswer) -> float:
    """p(answer | x, one of the two) = p(answer | x) / (p(answer | x) + p(other | x)); 1/2 where both are 0."""
    total = float(np.logaddexp(answer.log_prob, other.log_prob))
    return math.exp(answer.log_prob - total) if total > -math.inf else 0.5

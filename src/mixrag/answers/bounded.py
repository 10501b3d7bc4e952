"""What a model that lists next tokens answers: a text whose probability lies in an interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from mixrag.inference.token_mixing import BoundedAnswer
from mixrag.utils.text import finite

IN_INTERVALS = "the server lists only the most probable next tokens: probabilities lie within intervals"


@dataclass(frozen=True, slots=True)
class IntervalComponent:
    """The passages of one component, and what is known of their part in the answer."""

    passages: tuple[str, ...]
    """Ids; none: no passage was read."""
    titles: tuple[str, ...]
    prior: float
    """p(passages | question), of the retriever."""
    posterior: tuple[float, float] | None
    """Between what p(passages | question, answer) lies, at switch 0; None elsewhere."""


@dataclass(frozen=True, slots=True)
class IntervalAnswer:
    """An answer of which the probability is known within an interval; there is no confidence."""

    question: str
    text: str
    log_interval: tuple[float, float]
    """Between what log p(answer | question) lies, in nats; both ends are equal where it is known."""
    finished: bool
    """False where the answer was cut off."""
    greedy: bool
    """Whether each token is certainly the most probable next one of the mixture."""
    certified: bool
    """Whether certainly no other answer is more probable, by the numbers that the server returned."""
    components: tuple[IntervalComponent, ...]
    tokens: tuple[int, ...]
    """Ids of the answer's tokens; of a server that names them by text, numbers of its own."""
    model: str
    reason: str = IN_INTERVALS

    @property
    def log_prob(self) -> float | None:
        """log p(answer | question), where it is known exactly."""
        return self.log_interval[0] if self.log_interval[0] == self.log_interval[1] else None

    @property
    def interval(self) -> tuple[float, float]:
        """Between what p(answer | question) lies."""
        return math.exp(self.log_interval[0]), math.exp(self.log_interval[1])

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag ask --json`` with intervals (docs/reference/json.md)."""
        document = {
            "question": self.question,
            "answer": self.text,
            "log_prob": self.log_prob,
            "probability": None if self.log_prob is None else math.exp(self.log_prob),
            "confidence": None,
            "log_interval": [*self.log_interval],
            "greedy": self.greedy,
            "certified": self.certified,
            "rounding": None,
            "finished": self.finished,
            "no_probability": None if self.log_prob is not None else self.reason,
            "model": self.model,
            "components": [asdict(each) for each in self.components],
            "tokens": [*self.tokens],
        }
        found: dict[str, Any] = finite(document)
        return found


def interval_answer(found: BoundedAnswer) -> IntervalAnswer:
    """All fields of an answer that was decided token by token."""
    mixture = found.mixture
    posterior = found.posterior_interval
    ends = None if posterior is None else [*zip(*(end.tolist() for end in posterior), strict=True)]
    components = tuple(
        IntervalComponent(
            tuple(each.id for each in component.passages),
            tuple(each.title for each in component.passages),
            prior,
            None if ends is None else ends[j],
        )
        for j, (component, prior) in enumerate(
            zip(mixture.components, mixture.unconditioned_log_prior.exp().tolist(), strict=True)
        )
    )
    return IntervalAnswer(
        question=mixture.question,
        text=found.text.strip(),
        log_interval=found.log_interval,
        finished=found.finished,
        greedy=found.greedy,
        certified=found.certified,
        components=components,
        tokens=found.tokens,
        model=mixture.generator.name,
    )

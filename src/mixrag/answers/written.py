"""What a model without probabilities writes: one text for each component, and nothing that looks like more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mixrag.config.settings import Settings
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.inference.mixture import component_log_prior
from mixrag.retrieval.retriever import Retrieval
from mixrag.utils.text import finite

NO_PROBABILITY = "the server returns no log-probabilities: nothing is known of how probable these answers are"
NOT_CONTINUED = "an answer begun ends inside of a character, and is not continued: there are no probabilities"


@dataclass(frozen=True, slots=True)
class WrittenComponent:
    """What the model wrote after reading one component."""

    passages: tuple[str, ...]
    """Ids; none: it read no passage."""
    titles: tuple[str, ...]
    prior: float
    """p(passages | question), of the retriever: how well they fit the question, not whether the text is right."""
    text: str
    finished: bool
    """False where the text was cut off at ``max_tokens``."""


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """The texts that a model wrote for a question; there is no probability, posterior or confidence."""

    question: str
    text: str
    """That of the components that have the largest prior together, where those with equal texts are added."""
    components: tuple[WrittenComponent, ...]
    model: str
    reason: str = NO_PROBABILITY

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag ask --json`` where there are no probabilities (docs/reference/json.md)."""
        document = {
            "question": self.question,
            "answer": self.text,
            "log_prob": None,
            "probability": None,
            "confidence": None,
            "no_probability": self.reason,
            "model": self.model,
            "components": [asdict(each) for each in self.components],
        }
        found: dict[str, Any] = finite(document)
        return found


def written_answer(
    writer: TextWriter, question: str, retrieval: Retrieval, settings: Settings, reason: str = NO_PROBABILITY
) -> WrittenAnswer:
    """What a server writes for each component of the passages that were retrieved."""
    size = max(1, len(retrieval.passages)) if settings.group == "all" else settings.group
    groups = [retrieval.passages[i : i + size] for i in range(0, len(retrieval.passages), size)]
    if retrieval.log_null is not None or not groups:
        groups.append(())
    log_prior = component_log_prior(retrieval.log_prior, retrieval.log_null, size)
    texts = writer.texts(question, groups, settings.max_tokens)
    components = tuple(
        WrittenComponent(
            tuple(each.id for each in passages),
            tuple(each.title for each in passages),
            prior,
            written.text,
            written.finished,
        )
        for passages, prior, written in zip(groups, log_prior.exp().tolist(), texts, strict=True)
    )
    return WrittenAnswer(question, most_supported(components), components, writer.name, reason)


def most_supported(components: tuple[WrittenComponent, ...]) -> str:
    """The text whose components have the largest prior together; white space and case make no difference."""
    total: dict[str, float] = {}
    for each in components:
        total[_same(each.text)] = total.get(_same(each.text), 0.0) + each.prior
    best = max(total, key=total.__getitem__)
    return next(each.text for each in components if _same(each.text) == best)


def _same(text: str) -> str:
    return " ".join(text.split()).casefold()

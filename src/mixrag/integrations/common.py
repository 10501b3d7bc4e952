"""What the integrations share: a passage and an answer as the plain fields that frameworks pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

from mixrag.answers.answer import Answer
from mixrag.answers.fields import AnswerPassage
from mixrag.corpus import Passage
from mixrag.errors import QuestionError
from mixrag.retrieval.retriever import Retrieval
from mixrag.utils.plugins import check_plugin


class Asked(Protocol):
    """The part of ``RAG`` that the integrations call."""

    def passages(self, question: str, **settings: Any) -> Retrieval:
        """See ``RAG.passages``."""
        ...

    def ask(self, question: str, **settings: Any) -> Answer:
        """See ``RAG.ask``."""
        ...


def checked(rag: Any) -> Any:
    """The RAG itself.

    Raises:
        PluginError: it lacks ``passages`` or ``ask``; one line says which.
    """
    return check_plugin(rag, Asked, "rag")


def retrieved(retrieval: Retrieval) -> list[tuple[str, dict[str, Any]]]:
    """Text and metadata of each passage, best first; ``prior`` is its p(z | x)."""
    priors = retrieval.log_prior.exp().tolist()
    return [
        (passage.text, {**_origin(passage), "prior": prior})
        for passage, prior in zip(retrieval.passages, priors, strict=True)
    ]


def cited(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    """Text and metadata of each passage of an answer, best first; ``posterior`` is its weight given the answer."""
    return [
        (passage.text, {**_origin(passage), "prior": passage.prior, "posterior": passage.posterior})
        for passage in answer.passages
    ]


def described(answer: Answer) -> dict[str, Any]:
    """What is known of an answer besides its text, as values that JSON can hold.

    ``best_guess`` is the text even where the answer is withheld: its confidence is below the threshold, or there
    is none and the documents do not seem to state it. ``items`` are those of a list, or yes and no with the
    probability of each; ``sentences`` those of an extract.
    """
    confidence = answer.confidence
    return {
        "probability": answer.probability,
        "log_prob": answer.log_prob,
        "confidence": None if confidence is None else confidence.value,
        "withheld": answer.abstains,
        "best_guess": answer.best_guess,
        "finished": answer.finished,
        "p_empty": answer.p_empty,
        "kind": answer.kind,
        "items": [asdict(item) for item in answer.items],
        "sentences": [asdict(sentence) for sentence in answer.sentences],
    }


def stated(answer: Answer) -> str:
    """The text of an answer, of a list all items; where it is withheld, a sentence that says so.

    For frameworks that need a string.
    """
    confidence = answer.confidence
    if answer.text is not None:
        return answer.text
    if answer.guaranteed_only and (confidence is None or not confidence.abstains):
        return "No answer: no guarantee covers it."
    if confidence is None:
        return f"No answer: the documents do not seem to state it (probability {answer.p_empty_within:.2f})."
    return f"No answer: the confidence {confidence.value:.2f} is below the threshold {confidence.threshold:.2f}."


def question_of(given: Any) -> str:
    """The question in a string, or under ``question`` in a mapping.

    Raises:
        QuestionError: there is none.
    """
    found = given.get("question") if isinstance(given, Mapping) else given
    if not isinstance(found, str):
        shown = f"keys {', '.join(map(str, given))}" if isinstance(given, Mapping) else type(given).__name__
        raise QuestionError('a question as a string or under "question"', shown, "pass one of the two")
    return found


def _origin(passage: Passage | AnswerPassage) -> dict[str, Any]:
    """The position of a passage; its document's own metadata comes first and does not replace these keys."""
    own = {
        key: getattr(passage, key)
        for key in ("id", "document", "title", "start", "end", "page", "place", "context")
    }
    return {**passage.metadata, **own}

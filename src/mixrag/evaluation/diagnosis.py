"""Diagnosis of a wrong answer: the first stage that failed, with its remedy.

The stages are those of the formula Σ_j p(z_j | x) p(y | x, z_j): is z in the store (indexed), among the k
(retrieved), with which prior (weighted), with which likelihood (used), and did decoding find the best y (decoded).
Let a be the expected answer, and b the more probable of what was written and, if a beats that, of what beam search
finds. Where a passage that holds a was retrieved and the answer is wrong, exactly one of the last three fails:

    decoded     p(a | x) > p(b | x), or what was written is the cut off beginning of a
    weighted    else, where the passage alone answers right: with all the weight, the answer would be right
    used        else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from mixrag.answers.answer import Answer
from mixrag.answers.pipeline import Pipeline
from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.errors import PairsError, StoreEmptyError
from mixrag.evaluation.answer_comparison import AnswerComparison, decoded, used, weighted
from mixrag.evaluation.answer_location import AnswerLocation, locate_answer
from mixrag.evaluation.ranking import find_rank
from mixrag.evaluation.scoring import with_room
from mixrag.evaluation.stages import STAGES, Decoded, Indexed, Retrieved, Stage, StageName, Used, Weighted
from mixrag.inference.length import reserved
from mixrag.inference.mixture import Mixture, condition
from mixrag.pairs.matching import exact_match
from mixrag.pairs.pairs import Pair
from mixrag.utils.text import is_unicode


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A question, what was expected, what was answered, and what happened at each stage."""

    question: str
    expected: tuple[str, ...]
    """The answers that are right."""
    document: str | None
    """The document that should have given the answer, where it was named."""
    answer: Answer | None
    """What the mixture answered; None where there was nothing to retrieve."""
    right: bool
    """The answer is one of those expected, normalised (``exact_match``)."""
    indexed: Indexed
    retrieved: Retrieved | None
    """None where no passage that may be retrieved holds the answer."""
    weighted: Weighted | None
    """None where no such passage was retrieved."""
    used: Used | None
    """None where the store has no such passage; measured also where it was not retrieved."""
    decoded: Decoded | None
    """None where there was nothing to retrieve."""

    def stage(self, name: StageName) -> Stage | None:
        """What was measured at one stage."""
        found: Stage | None = getattr(self, name)
        return found

    @property
    def failed(self) -> StageName | None:
        """The first stage that failed; None where the answer is right, or where it cannot be decided."""
        if self.right:
            return None
        return next((n for n in STAGES if (stage := self.stage(n)) is not None and stage.passed is False), None)

    @property
    def finding(self) -> str:
        """What was found, in one sentence."""
        if self.right:
            missed = [name for name in STAGES if (stage := self.stage(name)) and stage.passed is False]
            return f"the answer is right{', though without passing ' if missed else ''}{', '.join(missed)}"
        stage = None if self.failed is None else self.stage(self.failed)
        return (stage or self.indexed).finding

    @property
    def remedy(self) -> str:
        """The remedy; empty where the answer is right."""
        if self.right:
            return ""
        stage = None if self.failed is None else self.stage(self.failed)
        return (stage or self.indexed).remedy

    def as_dict(self) -> dict[str, Any]:
        """The JSON contract of ``mixrag diagnose --json`` (docs/reference/json.md)."""
        stages = {name: self.stage(name) for name in STAGES}
        return {
            "question": self.question,
            "expected": list(self.expected),
            "document": self.document,
            "answer": None if self.answer is None else self.answer.best_guess,
            "right": self.right,
            "failed": self.failed,
            "finding": self.finding,
            "remedy": self.remedy,
            "stages": {
                name: None
                if stage is None
                else {
                    "passed": stage.passed,
                    "finding": stage.finding,
                    "remedy": stage.remedy,
                    **stage.measurements(),
                }
                for name, stage in stages.items()
            },
        }


def diagnose(
    rag: Pipeline, question: str, expected: Sequence[str], *, document: str | None = None, **changes: Any
) -> Diagnosis:
    """Ask a question, and say at which stage a right answer was lost.

    Args:
        rag: the system, with its settings.
        question: what to ask.
        expected: the answers that are right, at least one.
        document: the file or record that should give the answer: its path, or the end of it.
        changes: to the settings, as in ``Pipeline.ask``.

    Raises:
        PairsError: no expected answer, or one that is empty or no UTF-8.
        QuestionError: the question is empty, or does not fit into the model's context with an expected answer.
        SettingError: a store in shards, whose documents are not all listed here.
        MixragError: as ``Pipeline.ask``; but that there is nothing to retrieve is a finding.

    Example:
        >>> found = diagnose(rag, "What was the name of Quill's boat?", ["Patient Grace"])  # doctest: +SKIP
        >>> found.failed, found.finding, found.remedy  # doctest: +SKIP
    """
    rag.check_one_store()
    pair = _pair(question, expected, document)
    settings = replace(rag.settings, **changes)
    changes = {**changes, "kind": "span" if settings.kind == "auto" else settings.kind}
    try:
        answer = rag.ask(question, **changes)
    except StoreEmptyError:
        answer = None
    location = locate_answer(rag.store, pair, settings.where)
    retrieved = None
    if location.is_let_through and answer is not None:
        found = list(answer.scored.mixture.passages)
        retrieved = find_rank(rag, question, changes, location, found)
    case = _Case(rag, pair, settings, changes, answer, location, retrieved)
    main, alone = case.main, case.alone
    return Diagnosis(
        question=question,
        expected=pair.answers,
        document=document,
        answer=answer,
        right=answer is not None and exact_match(answer.best_guess, pair.answers) == 1.0,
        indexed=Indexed(location, document),
        retrieved=retrieved,
        weighted=None if main is None else weighted(main),
        used=None if alone is None else used(alone),
        decoded=None if main is None else decoded(main),
    )


def _pair(question: str, expected: Sequence[str], document: str | None) -> Pair:
    answers = tuple(dict.fromkeys(expected))
    if not answers or not all(answer.strip() for answer in answers):
        found = "an empty one" if answers else "none"
        raise PairsError("an expected answer", found, "say what the answer should have been (--expected)")
    if not all(map(is_unicode, (*answers, document or ""))):
        wanted = "expected answers and document in UTF-8"
        raise PairsError(wanted, "other bytes", "write them in a UTF-8 terminal")
    return Pair(question, answers, document)


@dataclass(frozen=True)
class _Case:
    """What is known before the language model is asked about the expected answers."""

    rag: Pipeline
    pair: Pair
    settings: Settings
    changes: Mapping[str, Any]
    answer: Answer | None
    location: AnswerLocation
    retrieved: Retrieved | None

    @cached_property
    def main(self) -> AnswerComparison | None:
        """The comparison under the mixture that answered."""
        if self.answer is None:
            return None
        ids = self.location.passages if self.location.is_let_through else ()
        mixture = with_room(self.rag, self.answer.scored.mixture, self._room, self.changes)
        return self._comparison(mixture, ids)

    @cached_property
    def alone(self) -> AnswerComparison | None:
        """The same; where no passage that holds the answer was retrieved, under one that should have been."""
        if self.main is not None and self.main.holders:
            return self.main
        if self.retrieved is not None:
            passage = self.retrieved.passage
        elif self.location.place == "filtered":
            passage = self.location.passages[0]
        else:
            return None
        reserve = max(reserved(self.settings.max_tokens, self.rag.generator), self._room)
        only = torch.zeros(1, dtype=torch.float64)
        mixture = condition(self.rag.generator, self.pair.question, (passage,), only, reserve=reserve)
        return self._comparison(mixture, (passage,))

    @cached_property
    def _room(self) -> int:
        """Tokens of the longest expected answer."""
        return max(len(self.rag.generator.answer_tokens(answer)) for answer in self.pair.answers)

    def _comparison(self, mixture: Mixture, holding: Sequence[Passage]) -> AnswerComparison:
        written = None if self.answer is None else self.answer.scored
        if written is not None and written.mixture is not mixture:
            written = mixture.score_tokens(written.tokens)
        ids = frozenset(passage.id for passage in holding)
        return AnswerComparison(mixture, self.settings, self.pair.answers, ids, written)

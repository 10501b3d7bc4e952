"""Does an attribution name the passage that holds the answer? Methods compared on question-answer pairs.

Measured on questions for which a relevant passage was retrieved (``scoring.py`` says which is). Passages with
equal scores are taken to be in random order, and what is reported is the expectation: a method that gives
all passages the same score is not helped by the retriever's order.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from mixrag.answers.pipeline import Pipeline
from mixrag.evaluation.attribution import AttributionMethod
from mixrag.evaluation.bootstrap import Interval, bootstrap, paired_difference
from mixrag.evaluation.records import each_pair, with_filter
from mixrag.evaluation.relevance import relevant
from mixrag.pairs.matching import exact_match
from mixrag.pairs.pairs import Pair
from mixrag.utils.progress import Progress


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one method did on one question."""

    top: float
    """Share of relevant passages among those with the highest score: 1 or 0, where no scores are equal."""
    reciprocal_rank: float
    """1/rank of the first relevant passage in the order of the scores."""
    calls: int
    """LM calls beyond answering."""
    seconds: float


@dataclass(frozen=True, slots=True)
class AttributedQuestion:
    """A question, what was answered, and how each method did."""

    question: str
    answer: str
    exact: float
    """1.0 where the answer is a gold answer, normalised; else 0.0."""
    relevant: tuple[bool, ...]
    """(K,) which of the passages retrieved are relevant, in order of rank."""
    methods: dict[str, Agreement]
    """Empty where no passage is relevant."""


def top_share(scores: Tensor, flags: Sequence[bool]) -> float:
    """Share of relevant passages among those with the highest of scores (K,); flags (K,) say which are."""
    values = scores.tolist()
    tied = [flag for value, flag in zip(values, flags, strict=True) if value == max(values)]
    return sum(tied) / len(tied)


def reciprocal_rank(scores: Tensor, flags: Sequence[bool]) -> float:
    """Expected 1/rank of the first relevant passage in the order of scores (K,), equal ones in random order.

    Zero where none is relevant.

    Example:
        >>> from torch import tensor
        >>> reciprocal_rank(tensor([3.0, 1.0, 1.0]), [False, False, True])  # second or third
        0.41666666666666663
    """
    if not any(flags):
        return 0.0
    values: list[float] = scores.tolist()
    first = max(value for value, flag in zip(values, flags, strict=True) if flag)
    before = len([value for value in values if value > first])
    tied = [flag for value, flag in zip(values, flags, strict=True) if value == first]
    size, good = len(tied), sum(tied)
    # In random order the first good one is at place i with probability C(size-i, good-1) / C(size, good).
    return sum(math.comb(size - i, good - 1) / (before + i) for i in range(1, size + 1)) / math.comb(size, good)


def attribute_pair(
    rag: Pipeline, pair: Pair, changes: Mapping[str, Any], methods: Mapping[str, AttributionMethod]
) -> AttributedQuestion:
    """Answer a pair's question and attribute this answer by every method.

    Args:
        rag: the system, with its settings.
        pair: its ``where`` is added to the filter of the settings.
        changes: to the settings, as in ``Pipeline.ask``.
        methods: by name.

    Raises:
        MixragError: as ``Pipeline.ask``.
    """
    answer = rag.ask(pair.question, **with_filter(rag, pair, changes))
    flags = relevant(rag.store, pair, answer.scored.mixture.passages)
    agreements = {}
    if any(flags):
        for name, method in methods.items():
            start = time.perf_counter()
            found = method(answer)
            seconds = time.perf_counter() - start
            top, rank = top_share(found.scores, flags), reciprocal_rank(found.scores, flags)
            agreements[name] = Agreement(top, rank, found.calls, seconds)
    return AttributedQuestion(
        pair.question, answer.best_guess, exact_match(answer.best_guess, pair.answers), flags, agreements
    )


def attribute_pairs(
    rag: Pipeline,
    pairs: Sequence[Pair],
    changes: Mapping[str, Any],
    methods: Mapping[str, AttributionMethod],
    *,
    out: Path | None = None,
    system: str = "",
    progress: Progress | None = None,
) -> list[AttributedQuestion]:
    """``attribute_pair`` of every pair, in order; ``out``, ``system`` and ``progress`` as in ``score_pairs``.

    Raises:
        MixragError: ``out`` is another kind of file, or as ``attribute_pair``.
    """
    return each_pair(
        rag,
        pairs,
        changes,
        lambda some: [attribute_pair(rag, pair, changes, methods) for pair in some],
        _attributed,
        out,
        system,
        progress,
    )


def _attributed(row: dict[str, Any]) -> AttributedQuestion:
    values = {field.name: row[field.name] for field in fields(AttributedQuestion)}
    methods = {name: Agreement(**found) for name, found in row["methods"].items()}
    return AttributedQuestion(**{**values, "relevant": tuple(row["relevant"]), "methods": methods})


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """One method over questions, with 95 % bootstrap intervals."""

    top: Interval
    """Share of questions whose highest-scored passage is relevant (attribution@1)."""
    mrr: Interval
    top_right: Interval | None
    """``top`` of the questions answered right; None where there is none."""
    mrr_right: Interval | None
    calls: float
    """Mean LM calls beyond answering."""
    seconds: float
    """Median."""


def summarise_methods(records: Sequence[AttributedQuestion]) -> dict[str, MethodSummary]:
    """Means of every method over the questions with a relevant passage retrieved; empty where there is none."""
    counted = [record for record in records if record.methods]
    names = counted[0].methods if counted else {}
    return {name: _summary(name, counted) for name in names}


def _summary(name: str, counted: Sequence[AttributedQuestion]) -> MethodSummary:
    every = [record.methods[name] for record in counted]
    right = [record.methods[name] for record in counted if record.exact == 1.0]
    return MethodSummary(
        top=bootstrap([found.top for found in every]),
        mrr=bootstrap([found.reciprocal_rank for found in every]),
        top_right=bootstrap([found.top for found in right]) if right else None,
        mrr_right=bootstrap([found.reciprocal_rank for found in right]) if right else None,
        calls=statistics.fmean(found.calls for found in every),
        seconds=statistics.median(found.seconds for found in every),
    )


def method_table(summaries: Mapping[str, MethodSummary]) -> str:
    """A Markdown table: a line a method, means with their 95 % intervals in brackets."""
    head = ("method", "attribution@1", "MRR", "attribution@1, right", "MRR, right", "LM calls", "seconds")
    rows: list[tuple[str, ...]] = [head]
    for name, summary in summaries.items():
        intervals = (summary.top, summary.mrr, summary.top_right, summary.mrr_right)
        shown = ("–" if interval is None else f"{interval:.3f}" for interval in intervals)
        rows.append((name, *shown, f"{summary.calls:.1f}", f"{summary.seconds:.3f}"))
    return _markdown(rows)


def difference_table(records: Sequence[AttributedQuestion], beside: str) -> str:
    """A Markdown table: every other method's attribution@1 and MRR less those of one, question by question."""
    counted = [record for record in records if record.methods]
    names = [name for name in (counted[0].methods if counted else {}) if name != beside]
    rows = []
    for name in names:
        pairs = [(record.methods[name], record.methods[beside]) for record in counted]
        top = paired_difference([a.top for a, _ in pairs], [b.top for _, b in pairs])
        rank = paired_difference([a.reciprocal_rank for a, _ in pairs], [b.reciprocal_rank for _, b in pairs])
        rows.append((name, f"{top:+.3f}", f"{rank:+.3f}"))
    return _markdown([(f"less {beside}", "attribution@1", "MRR"), *rows])


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *others))

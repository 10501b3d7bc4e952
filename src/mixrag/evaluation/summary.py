"""Means over the records of a system, with their intervals, and the table that sets systems side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixrag.evaluation.bootstrap import Interval, bootstrap
from mixrag.evaluation.proportions import share
from mixrag.evaluation.scoring import Record
from mixrag.utils.text import markdown_cell

RECALL_AT = (1, 5, 20)


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over questions, with 95 % intervals: Wilson's of shares, the bootstrap of other means."""

    n: int
    """Questions."""
    exact_match: Interval
    f1: Interval
    contained: Interval
    nll: Interval
    """Nats per answer."""
    nll_per_token: Interval
    """Nats per token of the most probable gold answer."""
    recall_at: dict[int, Interval | None]
    """Share of questions with a relevant passage among the first 1, 5, 20; None where not measured."""
    mrr: Interval | None
    """Mean of 1/rank, 0 where no relevant passage is found; None where not measured."""
    seconds: float
    """Median per answer; questions asked together share their time equally."""
    tokens_per_second: float
    """Tokens written, of all answers, over the seconds that all took."""


def summarise(records: Sequence[Record]) -> Summary:
    """Means over the records of one system.

    Raises:
        ValueError: there is none.
    """
    ranked = [record for record in records if record.recall_k]
    return Summary(
        n=len(records),
        exact_match=share([record.exact for record in records]),
        f1=bootstrap([record.f1 for record in records]),
        contained=share([record.contained for record in records]),
        nll=bootstrap([record.nll for record in records]),
        nll_per_token=bootstrap([record.nll / record.nll_tokens for record in records]),
        recall_at={k: _recall(records, k) for k in RECALL_AT},
        mrr=bootstrap([1 / record.rank if record.rank else 0.0 for record in ranked]) if ranked else None,
        seconds=statistics.median(record.seconds for record in records),
        tokens_per_second=sum(r.tokens for r in records) / max(1e-9, sum(r.seconds for r in records)),
    )


def markdown_table(rows: Mapping[str, Summary]) -> str:
    """A Markdown table: a line a system, means with their 95 % intervals in brackets."""
    head = ("system", "EM", "F1", "recall@5", "NLL/answer")
    lines: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for name, summary in rows.items():
        scores = (summary.exact_match, summary.f1, summary.recall_at.get(5))
        shown = ("–" if score is None else f"{score:.3f}" for score in scores)
        lines.append((markdown_cell(name), *shown, f"{summary.nll:.2f}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _recall(records: Sequence[Record], k: int) -> Interval | None:
    measured = [record.rank is not None and record.rank <= k for record in records if record.recall_k >= k]
    return share(measured) if measured else None

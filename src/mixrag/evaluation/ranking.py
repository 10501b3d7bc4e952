"""The rank of a passage that holds an expected answer, beyond the k that were retrieved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from mixrag.answers.pipeline import Pipeline
from mixrag.corpus import Passage
from mixrag.errors import SettingError
from mixrag.evaluation.answer_location import AnswerLocation
from mixrag.evaluation.stages import Retrieved

RANKED = 1000
"""Passages among which it is looked for where the index is approximate and has no rank for all."""
HYBRID = 0.5
"""The weight of the BM25 part that is tried where the prior has none."""


def find_rank(
    rag: Pipeline,
    question: str,
    changes: Mapping[str, Any],
    location: AnswerLocation,
    retrieved: Collection[Passage],
) -> Retrieved:
    """Look for the passages that hold the answer among those retrieved, best first, and then among all.

    Args:
        rag: its retriever ranks.
        question: the question.
        changes: to the settings, as in ``Pipeline.ask``.
        location: the passages looked for, at least one.
        retrieved: the k passages of the answer.

    Raises:
        MixragError: as ``Pipeline.passages``.
    """
    wanted = frozenset(passage.id for passage in location.passages)
    rank = _rank(retrieved, wanted)
    ranking, is_exact = _ranking(rag, question, changes)
    found = Retrieved(
        passage=location.passages[0],
        rank=_rank(ranking, wanted) if rank is None else rank,
        k=len(retrieved),
        passed=rank is not None,
        ranked=len(ranking),
        is_exact=is_exact,
        other_lexical=None,
        other_rank=None,
        is_adaptive=changes.get("max_outside", rag.settings.max_outside) is not None,
    )
    if found.rank is not None:
        best = next(passage for passage in (*retrieved, *ranking) if passage.id in wanted)
        found = replace(found, passage=best)
    if found.passed:
        return found
    other = HYBRID if changes.get("lexical", rag.settings.lexical) == 0.0 else 0.0
    again, _ = _ranking(rag, question, {**changes, "lexical": other})
    return replace(found, other_lexical=other, other_rank=_rank(again, wanted))


def _ranking(rag: Pipeline, question: str, changes: Mapping[str, Any]) -> tuple[tuple[Passage, ...], bool]:
    """All passages that the filter lets through, best first, and True; of an approximate index its first ones."""
    asked = {**changes, "normaliser": "top-k", "max_outside": None}
    try:
        return rag.passages(question, **{**asked, "k": "all"}).passages, True
    except SettingError:
        return rag.passages(question, **{**asked, "k": RANKED}).passages, False


def _rank(passages: Collection[Passage], wanted: frozenset[str]) -> int | None:
    return next((rank for rank, passage in enumerate(passages, 1) if passage.id in wanted), None)

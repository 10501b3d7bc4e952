"""Scores of answers and of retrieval on question-answer pairs, with bootstrap intervals."""

from mixrag.evaluation.bootstrap import Interval, bootstrap, paired_difference
from mixrag.evaluation.scoring import (
    Record,
    first_relevant,
    in_document,
    score_pair,
    score_pairs,
)
from mixrag.evaluation.summary import Summary, markdown_table, summarise
from mixrag.matching import contains, exact_match, f1, normalise, passage_holds

__all__ = [
    "Interval",
    "Record",
    "Summary",
    "bootstrap",
    "contains",
    "exact_match",
    "f1",
    "first_relevant",
    "in_document",
    "markdown_table",
    "normalise",
    "paired_difference",
    "passage_holds",
    "score_pair",
    "score_pairs",
    "summarise",
]

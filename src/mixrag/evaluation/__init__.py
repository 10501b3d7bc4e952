"""Scores on question-answer pairs with bootstrap intervals, and the diagnosis of a wrong answer."""

from mixrag.evaluation.bootstrap import Interval, bootstrap, paired_difference
from mixrag.evaluation.diagnosis import Diagnosis, diagnose
from mixrag.evaluation.matching import contains, exact_match, f1, holding_test, normalise, passage_holds
from mixrag.evaluation.scoring import (
    Record,
    first_relevant,
    in_document,
    score_pair,
    score_pairs,
)
from mixrag.evaluation.stages import STAGES, Decoded, Indexed, Retrieved, Stage, StageName, Used, Weighted
from mixrag.evaluation.summary import Summary, markdown_table, summarise

__all__ = [
    "STAGES",
    "Decoded",
    "Diagnosis",
    "Indexed",
    "Interval",
    "Record",
    "Retrieved",
    "Stage",
    "StageName",
    "Summary",
    "Used",
    "Weighted",
    "bootstrap",
    "contains",
    "diagnose",
    "exact_match",
    "f1",
    "first_relevant",
    "holding_test",
    "in_document",
    "markdown_table",
    "normalise",
    "paired_difference",
    "passage_holds",
    "score_pair",
    "score_pairs",
    "summarise",
]

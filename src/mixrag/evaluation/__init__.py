"""Scores on question-answer pairs, attribution compared, the diagnosis of a wrong answer."""

from mixrag.evaluation.attribution import (
    Attribution,
    AttributionMethod,
)
from mixrag.evaluation.attribution_benchmark import (
    Agreement,
    AttributedQuestion,
    MethodSummary,
    attribute_pair,
    attribute_pairs,
    difference_table,
    method_table,
    summarise_methods,
)
from mixrag.evaluation.bootstrap import Interval, bootstrap, paired_difference
from mixrag.evaluation.diagnosis import Diagnosis, diagnose
from mixrag.evaluation.relevance import first_relevant, in_document, relevant
from mixrag.evaluation.scoring import Record, score_pair, score_pairs
from mixrag.evaluation.stages import STAGES, Decoded, Indexed, Retrieved, Stage, StageName, Used, Weighted
from mixrag.evaluation.summary import Summary, markdown_table, summarise
from mixrag.pairs.matching import contains, exact_match, f1, holding_test, normalise, passage_holds

__all__ = [
    "STAGES",
    "Agreement",
    "AttributedQuestion",
    "Attribution",
    "AttributionMethod",
    "Decoded",
    "Diagnosis",
    "Indexed",
    "Interval",
    "MethodSummary",
    "Record",
    "Retrieved",
    "Stage",
    "StageName",
    "Summary",
    "Used",
    "Weighted",
    "attribute_pair",
    "attribute_pairs",
    "bootstrap",
    "contains",
    "diagnose",
    "difference_table",
    "exact_match",
    "f1",
    "first_relevant",
    "holding_test",
    "in_document",
    "markdown_table",
    "method_table",
    "normalise",
    "paired_difference",
    "passage_holds",
    "relevant",
    "score_pair",
    "score_pairs",
    "summarise",
    "summarise_methods",
]

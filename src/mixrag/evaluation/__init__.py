"""Scores of answers, of retrieval and of attribution on question-answer pairs, with bootstrap intervals."""

from mixrag.evaluation.agreement import (
    Agreement,
    AttributedQuestion,
    MethodSummary,
    attribute_pair,
    attribute_pairs,
    difference_table,
    method_table,
    summarise_methods,
)
from mixrag.evaluation.attribution import (
    Attribution,
    Method,
    chance,
    concatenation_leave_one_out,
    context_cite,
    leave_one_out,
    leave_one_out_rerun,
    posterior,
    prior,
)
from mixrag.evaluation.bootstrap import Interval, bootstrap, paired_difference
from mixrag.evaluation.scoring import (
    Record,
    first_relevant,
    in_document,
    relevant,
    score_pair,
    score_pairs,
)
from mixrag.evaluation.summary import Summary, markdown_table, summarise
from mixrag.matching import contains, exact_match, f1, normalise, passage_holds

__all__ = [
    "Agreement",
    "AttributedQuestion",
    "Attribution",
    "Interval",
    "Method",
    "MethodSummary",
    "Record",
    "Summary",
    "attribute_pair",
    "attribute_pairs",
    "bootstrap",
    "chance",
    "concatenation_leave_one_out",
    "contains",
    "context_cite",
    "difference_table",
    "exact_match",
    "f1",
    "first_relevant",
    "in_document",
    "leave_one_out",
    "leave_one_out_rerun",
    "markdown_table",
    "method_table",
    "normalise",
    "paired_difference",
    "passage_holds",
    "posterior",
    "prior",
    "relevant",
    "score_pair",
    "score_pairs",
    "summarise",
    "summarise_methods",
]

"""How sure an answer is, in words: one line for people who want no numbers of a model."""

from __future__ import annotations

from mixrag.answers.confidence import in_words
from mixrag.answers.fields import AnswerFields
from mixrag.inference.yes_no import NO, YES

UNSTATED = "the documents do not seem to state it"
_UNKNOWN = "how often such answers are right is not known"


def how_sure(answer: AnswerFields) -> str:
    """How sure an answer is; of one that is withheld, why it is.

    "likely: of answers this sure, about 8 in 10 were right" where a confidence holds (``Confidence.sentence``),
    which counts answers to questions of which the right answer was known. Where none does, it is said why.
    """
    if answer.abstains:
        return why_withheld(answer)
    if answer.confidence is not None:
        return answer.confidence.sentence
    if answer.kind == "extract":
        return "the documents' own sentences nearest to the question, which need not answer it"
    if not answer.finished:
        return f"cut off before its end: {_UNKNOWN}"
    if answer.kind == "yes-no" and answer.items:
        share = answer.items[0].probability or 0.0
        return f"of {YES} and {NO}, the documents give {answer.items[0].text} {in_words(share)}; {_UNKNOWN}"
    if answer.uncalibrated:
        return f"{_UNKNOWN}: the confidence was fitted with other {answer.uncalibrated}"
    return f"{_UNKNOWN}: no confidence is fitted for this model"


def why_withheld(answer: AnswerFields) -> str:
    """Why an answer is withheld (``AnswerFields.abstains``)."""
    sure = answer.confidence
    if answer.guaranteed_only and answer.guarantee is None and (sure is None or not sure.abstains):
        return "no guarantee covers it" + (f": {answer.not_covered}" if answer.not_covered else "")
    return UNSTATED if sure is None else f"the best guess is {sure.sentence}"

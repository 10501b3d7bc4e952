"""Where the words of an answer stand in its passages."""

from __future__ import annotations

from typing import Any

from mixrag.answers.citation import citation
from mixrag.answers.fields import AnswerFields


def citations_of(answer: AnswerFields) -> list[dict[str, Any]]:
    """The spans of passages that have the words of ``best_guess``, the most probable passage first.

    ``start`` and ``end`` are offsets into the document's text, as those of the passage. Answers of yes or no have
    none, and the sentences of an extract are its citations.
    """
    if answer.kind not in ("span", "list"):
        return []
    found = []
    for passage in sorted(answer.passages, key=lambda each: -each.posterior):
        cited = citation(passage.text, answer.best_guess)
        if cited is not None:
            found.append(
                {
                    "passage": passage.id,
                    "document": passage.document,
                    "title": passage.title,
                    "page": passage.page,
                    "place": passage.place,
                    "start": passage.start + cited.start,
                    "end": passage.start + cited.end,
                    "text": passage.text[cited.start : cited.end],
                    "f1": cited.f1,
                    "posterior": passage.posterior,
                }
            )
    return found

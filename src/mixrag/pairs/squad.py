"""SQuAD's JSON: articles, paragraphs, questions with their answers.

    {"data": [{"paragraphs": [{"qas": [{"question", "answers": [{"text"}]}]}]}]}

Rajpurkar et al. 2016 and 2018 (version 2 has questions without an answer). XQuAD, COVID-QA and PolicyQA share it.
"""

from __future__ import annotations

from typing import Any

from mixrag.errors import PairsError

_FORM = "SQuAD's JSON (data, paragraphs, qas, question, answers, text)"


def squad_rows(data: Any, source: str) -> list[tuple[str, dict[str, Any]]]:
    """Question and answers of each entry as a row of pairs, with its place; some have no answer.

    No row names a document: the titles of SQuAD are not paths, so a passage is relevant where it holds an answer.

    Raises:
        PairsError: something else in the place of a list or an object.
    """
    rows = []
    for a, article in enumerate(_listed(data, f"{source}: data")):
        for p, paragraph in enumerate(
            _listed(_of(article, "paragraphs", source), f"{source}: data[{a}].paragraphs")
        ):
            place = f"{source}: data[{a}].paragraphs[{p}]"
            for q, entry in enumerate(_listed(_of(paragraph, "qas", place), f"{place}.qas")):
                where = f"{place}.qas[{q}]"
                answers = [_of(answer, "text", where) for answer in _listed(_of(entry, "answers", where), where)]
                rows.append((where, {"question": _of(entry, "question", where), "answers": answers}))
    return rows


def _listed(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise PairsError(f"a list as in {_FORM}", f"{place}: something else", "correct it, or write JSONL")
    return value


def _of(value: Any, key: str, place: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise PairsError(f'"{key}" as in {_FORM}', f"{place}: none", "correct it, or write JSONL")
    return value[key]

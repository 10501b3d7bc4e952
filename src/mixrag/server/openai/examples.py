"""Examples of requests and responses in OpenAI's dialect, abridged, which /openapi.json and /docs show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixrag.server.described import EVENT

Responses = dict[int | str, dict[str, Any]]

QUESTION = "What does a licence for cod cost?"
ANSWER = "nine crowns"
_URL = "http://127.0.0.1:8080/#store=demo&document=%2Fsrv%2Ffees%2Fcod.txt&offset=0"
_USAGE = {"prompt_tokens": 412, "completion_tokens": 3, "total_tokens": 415}
_EXTENSION = {
    "question": QUESTION,
    "written": QUESTION,
    "rewritten": False,
    "kind": "span",
    "withheld": False,
    "probability": 0.87,
    "confidence": None,
    "passages": [{"id": "5f3c8e0d2a91b746:0", "title": "cod", "page": None, "prior": 0.91, "posterior": 0.97}],
}
_TOKENS = [
    {"token": "nine", "bytes": [110, 105, 110, 101], "logprob": -0.13, "top_logprobs": []},
    {"token": " crowns", "bytes": [32, 99, 114, 111, 119, 110, 115], "logprob": -0.009, "top_logprobs": []},
]
_CITATION = {"start_index": 0, "end_index": 11, "url": _URL, "title": "cod"}
_HEAD = {"id": "chatcmpl-1f", "created": 1767225600, "model": "demo"}
_FILE = {"file_id": "/srv/fees/cod.txt", "filename": "cod.txt"}


def body(examples: Mapping[str, Any]) -> dict[str, Any]:
    """Named examples of a request's JSON."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}


def _json(description: str, example: Any) -> Responses:
    return {200: {"description": description, "content": {"application/json": {"example": example}}}}


def _or_events(description: str, example: Any, events: str) -> Responses:
    found = _json(description, example)
    found[200]["content"]["text/event-stream"] = {"itemSchema": EVENT, "example": events}
    return found


_ASKED = [{"role": "user", "content": QUESTION}]
CHAT_REQUESTS = {
    "a question": {"model": "demo", "messages": _ASKED, "logprobs": True},
    "a follow-up, streamed": {
        "model": "demo",
        "messages": [
            *_ASKED,
            {"role": "assistant", "content": ANSWER},
            {"role": "user", "content": "And for eel?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "other settings": {"messages": _ASKED, "settings": {"k": 10}, "mixrag": {"best_guess": True}},
}
CHATS = _or_events(
    "The answer, or its chunks.",
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": ANSWER,
                    "annotations": [{"type": "url_citation", "url_citation": _CITATION}],
                },
                "logprobs": {"content": _TOKENS},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "mixrag": _EXTENSION,
    },
    'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "nine"}}]}\n\n'
    "data: [DONE]\n\n",
)
RESPONSES_REQUESTS = {
    "a question": {"model": "demo", "input": QUESTION, "include": ["file_search_call.results"]},
    "a stream": {"model": "demo", "input": QUESTION, "stream": True},
}
RESPONSES = _or_events(
    "The response, or its events.",
    {
        "id": "resp_1f",
        "object": "response",
        "status": "completed",
        "model": "demo",
        "output": [
            {
                "id": "fs_1f",
                "type": "file_search_call",
                "status": "completed",
                "queries": [QUESTION],
                "results": [{**_FILE, "score": 0.97, "text": "A licence to fish cod costs nine crowns a year."}],
            },
            {
                "id": "msg_1f",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {
                        "type": "output_text",
                        "text": ANSWER,
                        "annotations": [{"type": "file_citation", "index": 11, **_FILE, "url": _URL}],
                    }
                ],
            },
        ],
        "mixrag": _EXTENSION,
    },
    'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "nine"}\n\n'
    "data: [DONE]\n\n",
)
COMPLETION_REQUESTS = {
    "a question": {"model": "demo", "prompt": QUESTION},
    "the score of an answer": {
        "model": "demo",
        "prompt": f"{QUESTION}\n{ANSWER}",
        "echo": True,
        "logprobs": 0,
        "max_tokens": 0,
    },
}
COMPLETIONS = _or_events(
    "The answers, or the prompts with their log-probabilities.",
    {
        **_HEAD,
        "id": "cmpl-1f",
        "object": "text_completion",
        "choices": [
            {
                "index": 0,
                "text": f"{QUESTION}\n{ANSWER}",
                "logprobs": {
                    "tokens": [f"{QUESTION}\n", "nine", " crowns", ""],
                    "token_logprobs": [None, -0.13, -0.009, -0.001],
                    "top_logprobs": None,
                    "text_offset": [0, 34, 38, 45],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    },
    'data: {"object": "text_completion", "choices": [{"index": 0, "text": "nine"}]}\n\ndata: [DONE]\n\n',
)
EMBEDDING_REQUESTS = {
    "passages": {"model": "demo", "input": ["A licence to fish cod costs nine crowns a year."]},
    "a question": {"model": "demo", "input": QUESTION, "input_type": "query"},
}
EMBEDDINGS = _json(
    "A vector for each text.",
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.03, -0.11]}],
        "model": "demo",
        "usage": {"prompt_tokens": 11, "total_tokens": 11},
    },
)
RERANK_REQUESTS = {
    "two documents": {
        "model": "demo",
        "query": QUESTION,
        "documents": ["Hens lay fewer eggs during winter.", "A licence to fish cod costs nine crowns a year."],
        "top_n": 1,
    }
}
RERANKED = _json(
    "The documents, most relevant first.",
    {
        "id": "rerank-1f",
        "object": "list",
        "model": "demo",
        "results": [{"index": 1, "relevance_score": 0.998}],
        "usage": {"prompt_tokens": 29, "total_tokens": 29},
    },
)

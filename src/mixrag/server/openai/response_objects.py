"""The objects of a response of ``/v1/responses``: the search, and the message with its citations."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from fastapi import Request

from mixrag.server.conversation import Question
from mixrag.server.openai.client_tasks import ClientTask
from mixrag.server.openai.replies import Reply, Weighed, extension_of
from mixrag.server.openai.responses_request import ResponsesRequest
from mixrag.server.stores import Choice
from mixrag.utils.text import printable_name

RESULTS, LOG_PROBS = "file_search_call.results", "message.output_text.logprobs"


@dataclass(frozen=True)
class Job:
    """One request under way."""

    request: Request
    body: ResponsesRequest
    choice: Choice
    question: Question
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    search_id: str = field(default_factory=lambda: f"fs_{uuid.uuid4().hex}")
    message_id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def includes(self, what: str) -> bool:
        """Whether the request asks for this addition."""
        return what in (self.body.include or ())

    def response(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The response object, with all of its fields."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if status in ("completed", "incomplete") else None,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": self.body.instructions,
            "max_output_tokens": self.body.max_output_tokens,
            "max_tool_calls": None,
            "model": self.choice.id,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "background": False,
            "reasoning": None,
            "store": False,
            "service_tier": "default",
            "temperature": None,
            "top_p": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "top_logprobs": 0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": self.body.tools or [],
            "truncation": "disabled",
            "usage": None,
            "user": self.body.user,
            "safety_identifier": None,
            "prompt_cache_key": None,
            "metadata": self.body.metadata or {},
            **more,
        }

    def finished(self, reply: Reply) -> dict[str, Any]:
        """The whole response."""
        status = "completed" if reply.finished else "incomplete"
        output = [self.search(reply.passages), self.message(reply, status)]
        extension = extension_of(self.request, self.choice.store.name, self.question, reply)
        return self.response(status, output, usage=_usage(reply.read, reply.written), mixrag=extension)

    def task(self, task: ClientTask) -> dict[str, Any]:
        """The whole response to what a chat page asks for itself: no search."""
        part = {**self.part(None), "text": task.text}
        output = [{**self.message(None, "completed"), "content": [part]}]
        extension = {"task": task.name, "passages": []}
        return self.response("completed", output, usage=_usage(0, 0), mixrag=extension)

    def search(self, passages: tuple[Weighed, ...] | None) -> dict[str, Any]:
        """The search; without passages, under way."""
        found = None
        if passages is not None and self.includes(RESULTS):
            found = [self._result(each) for each in passages]
        status = "in_progress" if passages is None else "completed"
        queries = [self.question.text]
        return {
            "id": self.search_id,
            "type": "file_search_call",
            "status": status,
            "queries": queries,
            "results": found,
        }

    def message(self, reply: Reply | None, status: str) -> dict[str, Any]:
        """The message; without a reply, empty."""
        content = [] if reply is None else [self.part(reply)]
        head = {"id": self.message_id, "type": "message", "role": "assistant", "status": status}
        return {**head, "content": content}

    def part(self, reply: Reply | None) -> dict[str, Any]:
        """The text with its citations; without a reply, empty."""
        if reply is None:
            return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return {
            "type": "output_text",
            "text": reply.text,
            "annotations": self.citations(reply),
            "logprobs": reply.token_log_probs if self.includes(LOG_PROBS) else [],
        }

    def citations(self, reply: Reply) -> list[dict[str, Any]]:
        """``file_citation``: where it belongs in the text, and the file."""
        return [
            {
                "type": "file_citation",
                "index": each.end,
                "file_id": each.source.passage.document,
                "filename": _filename(each.source),
                "url": each.source.link(self.request, self.choice.store.name),
            }
            for each in reply.cited
        ]

    def _result(self, source: Weighed) -> dict[str, Any]:
        passage = source.passage
        attributes: dict[str, Any] = {"passage": passage.id, "prior": source.prior}
        if passage.page is not None:
            attributes["page"] = passage.page
        attributes["url"] = source.link(self.request, self.choice.store.name)
        return {
            "file_id": passage.document,
            "filename": _filename(source),
            "score": source.score,
            "text": passage.text,
            "attributes": attributes,
        }


def _usage(read: int, written: int) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def _filename(source: Weighed) -> str:
    document = source.passage.document
    return printable_name(PurePath(document).name or document)

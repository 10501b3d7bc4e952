"""Requests of ``/v1/responses``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mixrag.server.conversation import Turn
from mixrag.server.openai.requests import (
    MOST_MESSAGES,
    Message,
    OpenAIRequest,
    Part,
    Text,
    Tokens,
    refuse_unless,
    turns_of,
)

_STATE = "send the earlier messages in input: nothing is remembered between requests"


class InputItem(BaseModel):
    """A message, or an item of an earlier response, which is not read."""

    model_config = ConfigDict(extra="ignore", strict=True)
    type: Annotated[str, Field(max_length=100)] = "message"
    role: Annotated[str, Field(max_length=100)] = ""
    content: Text | Annotated[list[Part], Field(max_length=MOST_MESSAGES)] | None = None


class ResponsesRequest(OpenAIRequest):
    """A question, or a conversation."""

    input: Text | Annotated[list[InputItem], Field(min_length=1, max_length=MOST_MESSAGES)]
    instructions: Text | None = None
    include: Annotated[list[str], Field(max_length=100)] | None = None
    max_output_tokens: Tokens | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    previous_response_id: Annotated[str, Field(max_length=1000)] | None = None
    conversation: Any = None
    background: bool | None = None
    prompt: Any = None
    text: dict[str, Any] | None = None

    def refuse_what_is_not_done(self) -> None:
        """As the base, and state, formats, and tools that do not search as well."""
        super().refuse_what_is_not_done()
        for name in ("previous_response_id", "conversation", "prompt"):
            refuse_unless(getattr(self, name) is None, f"no {name}", "one", _STATE, name)
        refuse_unless(not self.background, "background false", "true", "wait for the answer", "background")
        form = (self.text or {}).get("format")
        kind = form.get("type", "text") if isinstance(form, dict) else "text"
        refuse_unless(kind == "text", "the format text", repr(kind)[:80], "leave it out", "text.format")

    def searching(self, store: str) -> dict[str, Any]:
        """The settings that ``file_search`` tools ask for.

        Raises:
            RequestError: another tool, another store, or a filter.
        """
        changes: dict[str, Any] = {}
        for tool in self.tools or ():
            kind = tool.get("type")
            remedy = "leave it out: only the documents are read"
            refuse_unless(kind == "file_search", "tools of type file_search", repr(kind)[:80], remedy, "tools")
            stores = tool.get("vector_store_ids") or [store]
            named = f"vector_store_ids [{store!r}], the store of the model"
            refuse_unless(stores == [store], named, repr(stores)[:80], "choose the store by model", "tools")
            remedy = "give settings.where"
            refuse_unless(not tool.get("filters"), "no filters of a tool", "some", remedy, "tools")
            if (most := tool.get("max_num_results")) is not None:
                fits = isinstance(most, int) and 1 <= most <= 50
                refuse_unless(fits, "max_num_results from 1 to 50", repr(most)[:80], "change it", "tools")
                changes["k"] = most
        return changes

    def turns(self) -> list[Turn]:
        """The messages.

        Raises:
            RequestError: an item that would have to be looked up, or a message that is not text.
        """
        if isinstance(self.input, str):
            return [Turn("user", self.input)]
        messages = []
        for place, item in enumerate(self.input):
            known = not item.type.endswith(("_output", "reference"))
            remedy = "send its text as a message"
            refuse_unless(known, "messages", repr(item.type), remedy, f"input.{place}.type")
            if item.type == "message":
                messages.append(Message(role=item.role, content=item.content))
        return turns_of(messages, "input")

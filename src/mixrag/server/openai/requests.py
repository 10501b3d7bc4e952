"""What the requests of OpenAI's dialect share: messages, our own fields, and refusals.

Fields that no one here knows are ignored, since clients send many. What would change the meaning of the response
and is not done is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mixrag.server.conversation import Turn
from mixrag.server.errors import RequestError
from mixrag.server.service import checked_changes
from mixrag.server.stores import Choice

Text = Annotated[str, Field(max_length=1_000_000)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Tokens = Annotated[int, Field(ge=1, le=10**9)]
MOST_MESSAGES = 1000


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="ignore", strict=True)
    type: Annotated[str, Field(max_length=100)]
    text: Text | None = None


class Message(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="ignore", strict=True)
    role: Annotated[str, Field(max_length=100)]
    content: Text | Annotated[list[Part], Field(max_length=MOST_MESSAGES)] | None = None


class Extension(BaseModel):
    """Our own part of a request, which an openai client sends by ``extra_body={"mixrag": {...}}``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    question: Text | None = None
    """The question as it is to be asked, instead of what is made of the conversation."""
    best_guess: bool = False
    """Say the best guess also where the answer is withheld."""
    sources: bool = False
    """Stream the passages cited as Open WebUI's source events."""


class StreamOptions(BaseModel):
    """What a stream has besides its text."""

    model_config = ConfigDict(extra="ignore", strict=True)
    include_usage: bool | None = None


class OpenAIRequest(BaseModel):
    """The fields that every request for an answer may have."""

    model_config = ConfigDict(extra="ignore", strict=True)
    model: Annotated[str, Field(max_length=1000)] | None = None
    stream: bool | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """Of drawn answers; a negative one is another seed than its absolute value."""
    temperature: Number | None = None
    """Ignored, as ``top_p`` is: how an answer is decided is a setting (``decoder``)."""
    top_p: Number | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MOST_MESSAGES)] | None = None
    logit_bias: dict[str, Number] | None = None
    settings: dict[str, Any] | None = None
    """Changes to the settings of the store and its preset, for this request."""
    mixrag: Extension = Extension()

    def refuse_what_is_not_done(self) -> None:
        """Refuse what would change the answer.

        Raises:
            RequestError: more than one answer, stop texts, weights of tokens.
        """
        refuse_unless(self.n in (None, 1), "one answer (n = 1)", f"{self.n}", "ask again for another one", "n")
        refuse_unless(not self.stop, "no stop texts", "some", "leave stop out: an answer ends by itself", "stop")
        refuse_unless(not self.logit_bias, "no logit_bias", "one", "leave it out", "logit_bias")


def refuse_unless(condition: bool, expected: str, found: str, remedy: str, param: str) -> None:
    """Raise a RequestError where the condition does not hold."""
    if not condition:
        raise RequestError(expected, found, remedy, param)


def turns_of(messages: Sequence[Message], param: str = "messages") -> list[Turn]:
    """The texts of messages.

    Raises:
        RequestError: a message of the user with a part that is no text, such as an image.
    """
    return [Turn(each.role, _text(each, f"{param}.{place}.content")) for place, each in enumerate(messages)]


def _text(message: Message, param: str) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        is_text = part.type in ("text", "input_text", "output_text")
        if not is_text and message.role == "user":
            raise RequestError("text", repr(part.type), "index documents first (/v1/documents)", param)
    return "\n".join(part.text or "" for part in message.content)


def changes_of(request: OpenAIRequest, choice: Choice, longest: int | None) -> dict[str, Any]:
    """The settings of one request: those of the preset, of the request, and at most so many tokens.

    A client's limit of tokens shortens an answer and never lengthens it, since it is an upper bound.

    Raises:
        RequestError: a setting that does not exist.
    """
    changes: dict[str, Any] = {**choice.changes, **checked_changes(request.settings)}
    if request.seed is not None and "seed" not in changes:
        changes["seed"] = request.seed % 2**63
    if longest is not None:
        own = changes.get("max_tokens", choice.rag.settings.max_tokens)
        changes["max_tokens"] = min(own, longest) if isinstance(own, int) else longest
    return changes


def refuse_tools(tools: Sequence[Mapping[str, Any]] | None) -> None:
    """Refuse tools: the readers call none.

    Raises:
        RequestError: there are some.
    """
    refuse_unless(not tools, "no tools", "some", "leave them out: only the documents are read", "tools")

"""What chat pages ask a model for themselves, not for their user: a title, tags, follow-up questions.

Such a request is a template around the conversation. It asks nothing of the documents, so no passage is read and
no model runs: the title is made of the user's first question, and lists are empty, in the form that the template
asks for. Recognised by how they begin are Open WebUI's default templates (``backend/open_webui/config.py`` and
``utils/context_compaction.py``) and LibreChat's (``src/utils/title.ts`` of ``@librechat/agents``); a template of
one's own is a question like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mixrag.server.conversation import Turn

TITLE_WORDS, TITLE_CHARACTERS = 7, 60


@dataclass(frozen=True)
class ClientTask:
    """A recognised request, answered."""

    name: str
    """title, tags, follow-ups, queries, autocomplete, image prompt, emoji, summary or tool choice."""
    text: str
    """The answer."""


def client_task(turns: Sequence[Turn]) -> ClientTask | None:
    """The task that a conversation's last message is; None where a person asks.

    >>> client_task([Turn("user", "Please generate a concise title for my thesis on eels")]) is None
    True
    """
    asked = next((turn.text for turn in reversed(turns) if turn.role == "user"), "").lstrip()
    for name, begins, reply in _TEMPLATES:
        if begins.match(asked):
            return ClientTask(name, reply(asked))
    if any(turn.role == "system" and _TOOL_CHOICE.match(turn.text.lstrip()) for turn in turns):
        return ClientTask("tool choice", json.dumps({"tool_calls": []}))
    return None


def title_of(question: str) -> str:
    """The first words of a question, as a title.

    >>> title_of("what does a licence for cod cost?")
    'What does a licence for cod cost'
    """
    words = question.split()
    title = " ".join(words[:TITLE_WORDS])
    shown = title if len(title) <= TITLE_CHARACTERS else title[: TITLE_CHARACTERS - 1].rstrip() + "…"
    shown = shown.rstrip("?!.,;: ") + ("…" if len(words) > TITLE_WORDS and not shown.endswith("…") else "")
    return shown[:1].upper() + shown[1:] or "Conversation"


def _title(template: str) -> str:
    title = title_of(_first_question(template))
    return json.dumps({"title": title}, ensure_ascii=False) if '{ "title"' in template else title


def _queries(template: str) -> str:
    return json.dumps({"queries": [each for each in [_last_question(template)] if each]}, ensure_ascii=False)


def _prompt(template: str) -> str:
    return json.dumps({"prompt": _last_question(template)}, ensure_ascii=False)


def _first_question(template: str) -> str:
    return next(iter(_questions(template)), "")


def _last_question(template: str) -> str:
    return next(reversed(_questions(template)), "")


def _questions(template: str) -> list[str]:
    """What the user said in the history that a template quotes."""
    start, end = template.find(_HISTORY), template.rfind(_HISTORY_ENDS)
    quoted = template[start + len(_HISTORY) : end] if 0 <= start < end else template
    return [" ".join(each.split()) for each in _USER.findall(quoted)]


_HISTORY, _HISTORY_ENDS = "<chat_history>", "</chat_history>"
_USER = re.compile(
    r"^[ \t]*User:[ \t]*(.*?)(?=^[ \t]*(?:User|Assistant|AI|Title)[ \t]*:|\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_TASK = r"### Task:\s*"
_TEMPLATES: tuple[tuple[str, re.Pattern[str], Callable[[str], str]], ...] = (
    ("title", re.compile(rf"{_TASK}Generate a concise(?:, 3-5 word)? title\b.*<chat_history>", re.DOTALL), _title),
    ("tags", re.compile(rf"{_TASK}Generate 1-3 broad tags categorizing\b"), lambda _: json.dumps({"tags": []})),
    (
        "follow-ups",
        re.compile(rf"{_TASK}Suggest 3-5 relevant follow-up questions\b"),
        lambda _: json.dumps({"follow_ups": []}),
    ),
    (
        "queries",
        re.compile(rf"{_TASK}Analyze the chat history to determine the necessity of generating search queries\b"),
        _queries,
    ),
    (
        "autocomplete",
        re.compile(rf"{_TASK}You are an autocompletion system\."),
        lambda _: json.dumps({"text": ""}),
    ),
    ("image prompt", re.compile(rf"{_TASK}Generate a detailed prompt for an?m? image generation task\b"), _prompt),
    (
        "emoji",
        re.compile(r"Your task is to reflect the speaker's likely facial expression through a fitting emoji\b"),
        lambda _: "",
    ),
    (
        "summary",  # of a long chat; where it is empty, Open WebUI takes the messages themselves
        re.compile(rf"{_TASK}Summarize the conversation history that will be compacted\b"),
        lambda _: "",
    ),
    (
        "title",
        re.compile(r"Provide a concise, 5-word-or-less title for the conversation\b.*^User:", re.DOTALL | re.M),
        _title,
    ),
    (
        "title",
        re.compile(
            r"Please generate a concise title \(max 40 characters\) for a conversation that starts with:\s*^User:",
            re.M | re.DOTALL,
        ),
        _title,
    ),
    (
        "title",
        re.compile(r"Analyze this conversation and provide:.*title in the detected language\b", re.DOTALL),
        _title,
    ),
)
_TOOL_CHOICE = re.compile(r"Available Tools:.*^Your task is to choose and return the correct tool", re.S | re.M)

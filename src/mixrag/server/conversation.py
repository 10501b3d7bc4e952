"""From a conversation to the one question that is asked of the documents.

Readers see one question and no history, so earlier turns count only through the rule of ``answers.standalone``: a
follow-up that refers back gets words of the question before it. Nothing else of the history is read:
neither the answers, which a client may have changed, nor system messages. The rewritten question is part of every
response, and a client that wants another one sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mixrag.answers.standalone import standalone
from mixrag.server.errors import RequestError

LONGEST_QUESTION = 20_000
"""Characters."""
EARLIER, EARLIER_CHARACTERS = 20, 1000
"""So many questions before the last one are looked at, and so much of each."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    """"user", "assistant", or another one, which is not read."""
    text: str


@dataclass(frozen=True)
class Question:
    """What is asked, and what the client wrote."""

    text: str
    """What is asked of the documents."""
    written: str
    """The last message of the user."""

    @property
    def rewritten(self) -> bool:
        """Whether both differ."""
        return self.text != self.written


def question_of(turns: Sequence[Turn], given: str | None = None, param: str = "messages") -> Question:
    """The question that a conversation asks.

    >>> turns = [Turn("user", "What does a licence for cod cost?"), Turn("assistant", "Nine crowns.")]
    >>> question_of([*turns, Turn("user", "And for eel?")]).text
    'What does a licence for eel cost?'

    Args:
        turns: all messages, oldest first.
        given: the question as it is to be asked, instead of the rewritten one.
        param: where the messages are in the request, for errors.

    Raises:
        RequestError: no question at the end, or one that is too long.
    """
    asked = [turn.text.strip() for turn in turns if turn.role == "user"]
    if not asked or not asked[-1]:
        raise RequestError("a question in the last message of the user", "none", "ask something", param)
    earlier = [each for each, after in pairwise(asked) if each and each != after][-EARLIER:]
    for text in (asked[-1], given or ""):
        if len(text) > LONGEST_QUESTION:
            expected = f"a question of at most {LONGEST_QUESTION} characters"
            raise RequestError(expected, f"{len(text)}", "documents are indexed, not sent with a question", param)
    if given is None:
        given = standalone(asked[-1], [each[:EARLIER_CHARACTERS] for each in earlier])
    return Question(given, asked[-1])

"""What is accepted as a question, or as an answer to be scored."""

from __future__ import annotations

from mixrag.errors import QuestionError
from mixrag.utils.text import is_unicode


def check_text(text: str, name: str, *, empty: bool = False) -> str:
    """The text itself.

    Args:
        text: what was given.
        name: what the error calls it.
        empty: also accept a text of white space alone.

    Raises:
        QuestionError: it is none.
    """
    if not isinstance(text, str):
        raise QuestionError(f"{name} as a text", type(text).__name__, "give a str")
    if not empty and not text.strip():
        raise QuestionError(name, "an empty one", "ask something")
    if not is_unicode(text):
        raise QuestionError(f"{name} in UTF-8", "other bytes", "write it in a UTF-8 terminal")
    return text

"""The prompt as text: header, passages, question. Visible, and overridable from a TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from mixrag.config.schema import schema, setting, settings_of, unknown
from mixrag.errors import SettingError

_LARGEST_FILE = 2**14
_FIELD = re.compile(r"\{(title|text|question)\}")


@schema
class PromptTemplate:
    """Texts with the fields ``{title}``, ``{text}`` (in ``passage``) and ``{question}`` (in ``question``).

    In a model's chat format the whole of it is the user's message; elsewhere it is the text itself.
    """

    header: str = setting(
        default="Use the text to answer the question in a few words.\n\nText:\n",
        help="Text before the passages.",
    )
    passage: str = setting(default="{title}. {text}\n\n", help="One passage.")
    question: str = setting(default="Question: {question}", help="The question, after the passages.")
    header_without_passage: str = setting(
        default="Answer the question in a few words.\n\n",
        help="The header of the null component, which reads no passage.",
    )
    chat: bool = setting(default=True, help="Put the prompt into the model's chat format, where it has one.")

    def __post_init__(self) -> None:
        for part, needed in (("passage", "{text}"), ("question", "{question}")):
            if needed not in getattr(self, part):
                raise SettingError(
                    f"a prompt template whose {part!r} contains {needed}",
                    repr(getattr(self, part)),
                    f"add {needed} to it",
                )

    @classmethod
    def from_file(cls, path: Path) -> PromptTemplate:
        """Read a TOML file; what it leaves out keeps its default.

        Raises:
            SettingError: the file cannot be read, is not TOML, or has an unknown or ill-typed key.
        """
        try:
            # The parser's time grows with the square of a dotted name's length.
            if (size := path.stat().st_size) > _LARGEST_FILE:
                raise ValueError(f"{size} bytes, more than {_LARGEST_FILE}")
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SettingError(f"a TOML file at {path}", str(error), "correct or remove --prompt") from error
        for key, value in table.items():
            if key not in settings_of(cls):
                raise unknown(key, settings_of(cls), f"keys of {path}")
            settings_of(cls)[key].checked(value, f"{key} in {path}")
        return cls(**table)

    def passage_text(self, title: str, text: str) -> tuple[str, str]:
        """A passage as the model reads it, and the ending that stays when the passage is shortened."""
        body, ending = self.passage.rsplit("{text}", 1)
        fields = {"title": title, "text": text}
        return _fill(body + "{text}", fields), _fill(ending, fields)

    def question_text(self, question: str) -> str:
        """The question part, before any chat format is put around it."""
        return _fill(self.question, {"question": question})


def _fill(text: str, values: dict[str, str]) -> str:
    # One pass, so that a field's name inside a passage stays the passage's text.
    return _FIELD.sub(lambda match: values.get(match[1], match[0]), text)

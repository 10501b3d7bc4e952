"""The prompt as text: header, passages, question. Visible, and overridable from a TOML file."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from mixrag.config.schema import ASKING, schema, setting, settings_of, unknown
from mixrag.config.values import shown
from mixrag.errors import SettingError

_LARGEST_FILE = 2**14
_FIELD = re.compile(r"\{(title|context|text|question)\}")


_OWN = ("messages", "add_generation_prompt", "tokenize", "tools", "documents", "chat_template", "strftime_now")
Argument = bool | int | float | str


def _checked_arguments(given: Any) -> Any:
    if isinstance(given, Mapping):
        for name in given:
            if not isinstance(name, str) or not name.isidentifier() or name in _OWN:
                expected = f"template_args to be names of a chat template, none of {', '.join(_OWN)}"
                raise SettingError(expected, shown(name), "rename or leave out this one of template_args")
    return given


def arguments_of_options(texts: Sequence[str]) -> dict[str, Argument]:
    """Arguments of a chat template from texts, as ``values_of_options``.

    Raises:
        SettingError: as there, or a name that is none of a chat template.
    """
    found = values_of_options(texts, "--template-arg")
    _checked_arguments(found)
    return found


def values_of_options(texts: Sequence[str], option: str) -> dict[str, Argument]:
    """Values by name from texts KEY=VALUE: true, false and numbers as such, all else as text.

    Raises:
        SettingError: another form, or a key that is given twice.
    """
    found: dict[str, Argument] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or name in found:
            expected = f"{option} to be KEY=VALUE, each key once"
            raise SettingError(expected, shown(text), f"give {option} so")
        try:
            read = json.loads(value.lower() if value.lower() in ("true", "false") else value)
        except (ValueError, RecursionError):
            read = value
        number = isinstance(read, (bool, int)) or (isinstance(read, float) and math.isfinite(read))
        found[name] = read if number else value
    return found


@schema
class PromptTemplate:
    """Texts with fields: ``{title}``, ``{context}``, ``{text}`` in ``passage``, ``{question}`` in ``question``.

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

    template_args: Annotated[Mapping[str, Argument], BeforeValidator(_checked_arguments)] = setting(
        default={},
        help="Argument of the chat template; repeatable.",
        repeat=True,
        read=arguments_of_options,
        more="Such as `--template-arg reasoning_effort=low`; a table of this name in the file. A name that the "
        "template does not read is refused. `enable_thinking` and `thinking` are false where they are read and "
        "neither is given.",
        absent="none",
        commands=ASKING,
        metavar="K=V",
        option="--template-arg",
    )

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

    def with_arguments(self, given: Mapping[str, Argument]) -> PromptTemplate:
        """The same prompt with these arguments of the chat template beside its own, or in their place."""
        return replace(self, template_args={**self.template_args, **given}) if given else self

    def fields(self) -> dict[str, Any]:
        """Its fields, for files and digests; without arguments of the chat template where there are none."""
        found = {name: getattr(self, name) for name in settings_of(type(self))}
        found["template_args"] = dict(self.template_args)
        return {name: value for name, value in found.items() if name != "template_args" or value}

    def passage_text(self, title: str, text: str, context: str = "") -> tuple[str, str]:
        """A passage as the model reads it, and the ending that stays when the passage is shortened.

        Without a field ``{context}`` in the template the context stands on lines of its own before the text.
        """
        body, ending = self.passage.rsplit("{text}", 1)
        inside = "{context}" in self.passage
        fields = {
            "title": title,
            "text": text if inside or not context else f"{context}\n{text}",
            "context": context,
        }
        return _fill(body + "{text}", fields), _fill(ending, fields)

    def question_text(self, question: str) -> str:
        """The question part, before any chat format is put around it."""
        return _fill(self.question, {"question": question})

    def around_question(self, question: str) -> tuple[str, str]:
        """Of the question part, what is before and after the place where the question stands first."""
        before, _, after = self.question.partition("{question}")
        return before, _fill(after, {"question": question})


def _fill(text: str, values: dict[str, str]) -> str:
    # One pass, so that a field's name inside a passage stays the passage's text.
    return _FIELD.sub(lambda match: values.get(match[1], match[0]), text)

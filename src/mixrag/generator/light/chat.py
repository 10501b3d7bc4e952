"""Chat templates with jinja2 alone, as transformers renders them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


def rendered(
    template: str, messages: Sequence[Mapping[str, Any]], special: Mapping[str, str], **options: Any
) -> str:
    """The text of messages.

    Args:
        template: source of the template; it is data, and runs in a sandbox.
        messages: each with role and content.
        special: special tokens by name, which templates may write.
        **options: further variables of the template.

    Raises:
        jinja2.TemplateError: the template fails, or refuses the messages.
    """
    given = {"tools": None, "documents": None, "add_generation_prompt": False, **special, **options}
    return str(_compiled(template).render(messages=messages, **given))


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(template)


def _as_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

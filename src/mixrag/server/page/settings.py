"""``/v1/settings``: the settings of a question, as their declarations have them, for a form."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from fastapi import APIRouter, Query

from mixrag.config.schema import LARGEST, Setting, settings_of
from mixrag.config.settings import DECODERS, AnyDecoder, Settings
from mixrag.inference.decoders import decoder_name
from mixrag.server.service import WithService

router = APIRouter(prefix="/v1/settings", tags=["mixrag"])

FIRST = ("k", "kind", "where", "abstain_below", "max_tokens")
"""Those that a form shows first, in this order."""
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
Model = Annotated[
    str | None, Query(max_length=300, description="STORE or STORE:PRESET; without it the first store.")
]
EXAMPLE = {
    "model": "store",
    "settings": [
        {
            "name": "k",
            "help": "Passages to retrieve; all = every one, 0 = none.",
            "more": "",
            "absent": "",
            "first": True,
            "value": 5,
            "type": "whole",
            "choices": ["all"],
            "optional": False,
            "least": 0,
            "most": None,
        }
    ],
    "presets": {"thorough": {"k": 20}},
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The settings.", "content": {"application/json": {"example": EXAMPLE}}}
}


@router.get("", responses=_RESPONSES)
def list_settings(service: WithService, model: Model = None) -> dict[str, Any]:
    """The settings that a request may change, with their values for a model; and the model's presets.

    Each has ``name``, ``help`` (one line), ``more`` (what the documentation adds), ``value`` (in force), ``first``
    (to be shown first), ``type`` ("whole", "number", "truth", "choice", "text" or "mapping"), ``choices`` (values
    that are words), ``optional`` (null is a value), ``least`` and ``most``.
    """
    choice = service.stores.choice(model)
    in_force = replace(choice.rag.settings, **choice.changes)
    declared = sorted(settings_of(Settings).values(), key=_rank)
    return {
        "model": choice.id,
        "settings": [_described(each, getattr(in_force, each.name)) for each in declared],
        "presets": {name: dict(changes) for name, changes in choice.store.presets.items()},
    }


def _rank(setting: Setting) -> int:
    return FIRST.index(setting.name) if setting.name in FIRST else len(FIRST)


def _described(setting: Setting, value: Any) -> dict[str, Any]:
    declared = setting.declared
    return {
        "name": setting.name,
        "help": _plain(declared.help),
        "more": _plain(declared.more),
        "absent": _plain(declared.absent),
        "first": setting.name in FIRST,
        "value": decoder_name(value) if setting.name == "decoder" else _json(value),
        **form_of(setting.kind),
    }


def _plain(text: str) -> str:
    """Text without the marks of Markdown."""
    return _LINK.sub(r"\1", text).replace("`", "")


def _json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def form_of(kind: Any) -> dict[str, Any]:
    """What a form needs to know of a type: ``type``, ``choices``, ``optional``, ``least`` and ``most``.

    >>> form_of(int | Literal["all"])["type"], form_of(int | Literal["all"])["choices"]
    ('whole', ['all'])
    """
    if kind is AnyDecoder:
        kind = Literal[DECODERS]
    parts, choices, optional = list[Any](), list[str](), False
    for each in _alternatives(kind):
        if each is type(None):
            optional = True
        elif get_origin(_bare(each)) is Literal:
            choices += get_args(_bare(each))
        else:
            parts.append(each)
    least, most = _range(parts[0]) if parts else (None, None)
    name = _type_name(_bare(parts[0])) if parts else "choice"
    return {"type": name, "choices": choices, "optional": optional, "least": least, "most": most}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is not None and issubclass(origin, Mapping):
        return "mapping"
    return {int: "whole", float: "number", bool: "truth"}.get(kind, "text")


def _range(kind: Any) -> tuple[float | None, float | None]:
    """The ends of a range, where they are no mere limits against mistakes."""
    least = most = None
    for each in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
        least = each.ge if isinstance(each, Ge) else each.gt if isinstance(each, Gt) else least
        most = each.le if isinstance(each, Le) else each.lt if isinstance(each, Lt) else most
    return _shown(least), _shown(most)


def _shown(end: Any) -> float | None:
    return end if isinstance(end, int | float) and abs(end) < LARGEST else None

"""One declaration for each setting: its type, range, default and help, and where it is shown.

A schema is a frozen dataclass whose fields are made by ``setting``; pydantic checks every value, and one that does
not fit is a ``SettingError`` of one line. From the same declarations come the options of the command line
(``mixrag.cli.options``), the keys of ``mixrag.json`` and ``confidence.json``, and the tables of the documentation
(``mixrag.config.tables``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field
from difflib import get_close_matches
from inspect import get_annotations
from typing import Annotated, Any, TypeVar, dataclass_transform, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mixrag.config.values import described, from_text, shown
from mixrag.errors import SettingError

LARGEST = 10**9
"""No count and no scale is larger: a larger one is a mistake."""
Count = Annotated[int, Ge(1), Le(LARGEST)]
CountOrNone = Annotated[int, Ge(0), Le(LARGEST)]
"""A number of things that may be zero."""
Seed = Annotated[int, Ge(0), Lt(2**63)]
Share = Annotated[float, Ge(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
InnerShare = Annotated[float, Gt(0), Lt(1)]
Score = Annotated[float, Ge(-LARGEST), Le(LARGEST)]
Positive = Annotated[float, Gt(0), Le(LARGEST)]
NotNegative = Annotated[float, Ge(0), Le(LARGEST)]
Temperature = Annotated[float, Ge(1e-6), Le(LARGEST)]
"""A smaller one would overflow the exponent of a softmax."""

INDEXING = ("index", "info", "remove", "clozes")
WRITING = ("ask", "serve", "mcp", "chat", "diagnose", "train", "eval", "guarantee")
"""Commands that let the language model write answers."""
ASKING = (*WRITING, "score", "decide", "passages", "precompute")
ALL = (*INDEXING, *ASKING)

MORE = "More options"
"""Panel of ``--help`` for all options that are not shown first."""

_STRICT = ConfigDict(
    strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, hide_input_in_errors=True
)
_DECLARED = "mixrag"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What ``setting`` states of a field besides its type and default."""

    help: str = ""
    """One line, for ``--help`` and the documentation."""
    more: str = ""
    """What the documentation says beyond it."""
    absent: str = ""
    """What decides where the default is None, in words."""
    commands: tuple[str, ...] = ()
    """The commands that have it as an option."""
    shown_first: bool = False
    """Shown among the first options in ``--help``, not in ``panel``."""
    panel: str = MORE
    rare: bool = False
    """Left out of ``--help``, which fits on a screen; the documentation has it."""
    short: str = ""
    """A second option, of one letter."""
    option: str = ""
    """Its name on the command line; empty: that of the field."""
    metavar: str = ""
    """What ``--help`` shows for a value; empty: the type."""
    env: str = ""
    """Environment variable that is read where the option is not given."""
    none: str = ""
    """The word that means None on the command line."""
    repeat: bool = False
    """The option may be given several times, each with one value."""
    read: Callable[[Any], Any] | None = None
    """What makes a value of the text of the command line (of the texts, where the option is repeated), where the
    type does not say it."""
    calibrated: bool = False
    """A calibration of the confidence is valid for one value of it only."""
    trained: bool = False
    """``mixrag.json`` may hold it: it was fitted in training, or in force."""
    also: str = ""
    """Another name that the constructor accepts for it."""
    secret: bool = False
    """Its value appears in no message."""
    same_as: type | None = None
    """The schema that declares the setting of this name, where it is not this one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A declared setting, as the command line, the files and the documentation read it."""

    schema: type
    name: str
    kind: Any
    """Its type, with the range as ``Annotated``."""
    default: Any
    declared: Declared

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return self.declared.option or f"--{self.name.replace('_', '-')}"

    @property
    def default_words(self) -> str:
        """The default as it would be given on the command line; empty where none is."""
        if self.default in (MISSING, None, (), {}) or self.default is False:
            return ""
        if self.default is True:
            return "on"
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def words(self, none: str = "None") -> str:
        """What a value must be; ``none`` is how None is written there."""
        return described(self.kind, none)

    def parsed(self, text: str | tuple[str, ...]) -> Any:
        """The value that text on the command line means; a tuple where the option was repeated.

        Raises:
            SettingError: it means none, or one outside the range.
        """
        if self.declared.read is not None:
            return self.declared.read(text)
        found = from_text(self.kind, text, self.declared.none)
        try:
            return _adapter(self.schema, self.name).validate_python(found)
        except ValidationError as error:
            if (own := _own(error)) is not None:
                raise own from None
            raise self._refusal(text, self.option, described(self.kind, self.declared.none, typed=True)) from error

    def checked(self, value: Any, name: str | None = None, *, required: bool = False) -> Any:
        """The value itself where it is one that the setting can have.

        Args:
            value: of any type.
            name: what messages call the setting.
            required: refuse None.

        Raises:
            SettingError: of another type, or outside the range.
        """
        if value is None and required:
            raise self._refusal(value, name or self.name, self.words(""))
        try:
            return _adapter(self.schema, self.name).validate_python(value)
        except ValidationError as error:
            if (own := _own(error)) is not None:
                raise own from None
            raise self.refusal(value, name) from error

    def refusal(self, value: Any, name: str | None = None) -> SettingError:
        """The error that says what was expected of this setting and what it was given."""
        return self._refusal(value, name or self.name, self.words())

    def _refusal(self, found: Any, name: str, words: str) -> SettingError:
        hidden = "a value of another type" if self.declared.secret else shown(found)
        return SettingError(f"{name} to be {words}", hidden, f"give {name} such a value")


def setting(*, default: Any = MISSING, **declaration: Any) -> Any:
    """Declare a setting: its default and the fields of ``Declared``.

    An empty mapping as default is made again for every object.
    """
    return _field(default, Declared(**declaration))


def same_as(schema: type, *, default: Any) -> Any:
    """A field of the same name and meaning as one that another schema declares."""
    return _field(default, Declared(same_as=schema))


def _field(default: Any, declared: Declared) -> Any:
    extra: dict[str, Any] = {_DECLARED: declared}
    if default is MISSING:
        return Field(json_schema_extra=extra, repr=not declared.secret)
    if isinstance(default, Mapping):
        return Field(default_factory=lambda: dict(default), json_schema_extra=extra)
    return Field(default, json_schema_extra=extra, repr=not declared.secret)


@dataclass_transform(frozen_default=True, field_specifiers=(setting, same_as, field))
def schema(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose constructor checks every value.

    Types are strict: text is not a number, True is not a whole number, and no number is NaN or infinite.
    """
    made = pydantic_dataclass(cls, frozen=True, slots=True, config=_STRICT)
    init = made.__init__

    @functools.wraps(init)
    def checked_init(self: Any, *values: Any, **given: Any) -> None:
        with _one_line(made, values, given):
            init(self, *values, **_without_aliases(made, given))

    made.__init__ = checked_init  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def settings_of(cls: Any) -> Mapping[str, Setting]:
    """The declared settings of a schema by name, in their order."""
    found: Mapping[str, Setting] = _settings_of(cls)
    return found


@functools.cache
def _settings_of(cls: Any) -> Mapping[str, Setting]:
    hints = get_type_hints(cls, include_extras=True)
    found: dict[str, Setting] = {}
    for name, info in cls.__pydantic_fields__.items():
        declared: Declared = (info.json_schema_extra or {}).get(_DECLARED, Declared())
        default = MISSING if info.is_required() else info.get_default(call_default_factory=True)
        found[name] = Setting(cls, name, hints[name], default, declared)
    return found


def declared(cls: type) -> Mapping[str, Setting]:
    """The settings that are declared in this schema: without those of another with the same meaning."""
    own = get_annotations(cls)
    return {name: each for name, each in settings_of(cls).items() if each.declared.help and name in own}


def unknown(name: Any, allowed: Iterable[str], place: str = "settings", prefix: str = "") -> SettingError:
    """The error for a name that is not allowed; the nearest of them is its remedy."""
    names = [*allowed]
    near = get_close_matches(str(name), names, 1)
    remedy = f"did you mean {prefix}{near[0]}?" if near else "remove it, or choose one of these"
    return SettingError(f"{place} among {', '.join(names)}", shown(f"{prefix}{name}"), remedy)


def from_mapping(cls: type[T], given: Any, what: str = "settings") -> T:
    """A schema's object from a mapping of names to values.

    Raises:
        SettingError: no mapping, a name that is unknown, or a value of another type or range.
    """
    if not isinstance(given, Mapping):
        raise SettingError(
            f"{what} as {cls.__name__} or a mapping of names to values", shown(given), "give a dict"
        )
    for name in given:
        if not isinstance(name, str):
            raise unknown(name, settings_of(cls))
    return cls(**given)


def made(cls: type[T], given: Any, what: str = "settings") -> T:
    """A schema's object as it is given, from a mapping, or with all defaults for None.

    Raises:
        SettingError: none of these, or as ``from_mapping``.
    """
    if isinstance(given, cls):
        return given
    return from_mapping(cls, {} if given is None else given, what)


@contextmanager
def _one_line(cls: type, values: tuple[Any, ...], given: Mapping[str, Any]) -> Iterator[None]:
    """Say in one line what pydantic refuses."""
    try:
        yield
    except ValidationError as error:
        if (own := _own(error)) is not None:
            raise own from None
        first = error.errors(include_url=False)[0]
        (name, *_), settings = first["loc"], settings_of(cls)
        if name not in settings:
            raise unknown(name, settings) from None
        found = {**dict(zip(settings, values, strict=False)), **given}
        raise settings[str(name)].refusal(found.get(str(name), MISSING)) from None


def _own(error: ValidationError) -> SettingError | None:
    """The error of a check of ours, where it is one: of ``__post_init__``, or of a validator that says more."""
    found = error.errors(include_url=False)[0].get("ctx", {}).get("error")
    return found if isinstance(found, SettingError) else None


def _without_aliases(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    names = {each.declared.also: each.name for each in settings_of(cls).values() if each.declared.also}
    both = [alias for alias, name in names.items() if alias in given and name in given]
    if both:
        raise SettingError(f"{names[both[0]]} once", f"also {both[0]}", "give one of the two")
    return {names.get(name, name): value for name, value in given.items()}


@functools.cache
def _adapter(cls: type, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(settings_of(cls)[name].kind, config=_STRICT)


def names_where(cls: type, holds: Callable[[Declared], bool]) -> tuple[str, ...]:
    """The names of the settings of which something holds, in their order."""
    return tuple(name for name, each in settings_of(cls).items() if holds(each.declared))

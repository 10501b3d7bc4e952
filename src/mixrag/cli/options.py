"""The options of the commands, made of the declared settings (``mixrag.config``)."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mixrag.cli.show import error_line
from mixrag.config.all_settings import options_of
from mixrag.config.command_settings import StoreConfig
from mixrag.config.engine_choice import AUTO
from mixrag.config.engine_choice import VARIABLE as ENGINE_VARIABLE
from mixrag.config.model_config import ModelConfig
from mixrag.config.schema import Setting, settings_of
from mixrag.config.settings import Settings
from mixrag.config.values import placeholder

if TYPE_CHECKING:
    from mixrag.rag import RAG

T = TypeVar("T")
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@dataclass(frozen=True)
class Options:
    """The settings given on the command line, by name; the others are left to a trained folder or default."""

    given: Mapping[str, Any]

    def of(self, schema: type) -> dict[str, Any]:
        """What was given of the settings of one schema."""
        return {name: self.given[name] for name in settings_of(schema) if name in self.given}

    def made(self, schema: type[T]) -> T:
        """One schema with what was given.

        Raises:
            SettingError: values that exclude one another.
        """
        return schema(**self.of(schema))

    def open(self, *, create: bool = False, store: str | Path | None = None, sharing: RAG | None = None) -> RAG:
        """The store, models and settings that these options name.

        Args:
            create: make a store where there is none.
            store: in the place of ``--store``.
            sharing: an open store whose models are used where they are the same.

        Raises:
            StoreMissingError: there is no store, and ``create`` is false.
            MixragError: as ``RAG.open``.
        """
        chosen = self.made(StoreConfig)
        location = chosen.store if store is None else store
        if not create:
            _check_store(location)
        from mixrag import RAG

        return RAG.open(
            location,
            create=create,
            model=chosen.model,
            models=self.made(ModelConfig),
            settings=self.of(Settings),
            index=chosen.index,
            confidence=chosen.confidence,
            sharing=sharing,
            shard_seconds=chosen.shard_seconds,
            shard_key_env=chosen.shard_key_env,
        )


def takes(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of its settings; it receives them as ``Options``, its first argument."""
    shared = options_of(command)

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(run, eval_str=True).parameters.values())[1:]

        def wrapper(**values: Any) -> None:
            given = {name: values.pop(name) for name in shared}
            if "engine" in given and given["engine"] is None and os.environ.get(ENGINE_VARIABLE):
                # In the place of auto the variable names one, where an engine runs the model.
                given["engine"] = AUTO
            options = Options(
                {name: _parsed(shared[name], v) for name, v in given.items() if _is_given(shared[name], v)}
            )
            try:
                run(options, **values)
            except KeyboardInterrupt:
                error_line("interrupted; what was stored stays, and the same command resumes")
                raise typer.Exit(INTERRUPTED) from None

        required = [p for p in own if p.default is inspect.Parameter.empty]
        optional = [p for p in own if p.default is not inspect.Parameter.empty]
        first = [_parameter(each) for each in shared.values() if each.declared.shown_first]
        rest = [_parameter(each) for each in shared.values() if not each.declared.shown_first]
        parameters = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*required, *first, *optional, *rest)
        ]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__doc__, wrapper.__name__ = run.__doc__, run.__name__
        return wrapper

    return decorate


def shown_command(arguments: Sequence[str]) -> str:
    """A command line as it is written into reports: without passwords of stores."""
    from mixrag.corpus.store.location import without_password

    return shlex.join(["mixrag", *map(without_password, arguments[1:])])


def _check_store(location: str | Path) -> None:
    """Refuse a store that is missing before any model library is imported, which takes seconds."""
    from mixrag.corpus.store.opening import has_store, open_store
    from mixrag.retrieval.shards.naming import is_sharded

    if is_sharded(location):
        return
    if not has_store(location):
        open_store(location, timeout=0.0).close()


def _is_given(setting: Setting, value: Any) -> bool:
    absent: tuple[Any, ...] = (None, [], ()) if _has_two_ways(setting) else (None, False, [], ())
    return value not in absent


def _has_two_ways(setting: Setting) -> bool:
    """True for a flag that a trained folder may set: the command line can also take it back."""
    return setting.kind is bool and setting.declared.trained


def _parsed(setting: Setting, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return setting.parsed(tuple(value) if setting.declared.repeat else value)


def _parameter(setting: Setting) -> inspect.Parameter:
    """One option for typer: text, which the schema reads and checks."""
    declared, flag, two_ways = setting.declared, setting.kind is bool, _has_two_ways(setting)
    name = f"{setting.option}/--no-{setting.option.removeprefix('--')}" if two_ways else setting.option
    option = typer.Option(
        *[each for each in (name, declared.short) if each],
        help=f"{declared.help} ({setting.default_words})" if setting.default_words else declared.help,
        metavar=None if flag else declared.metavar or placeholder(setting.kind, declared.none),
        envvar=declared.env if declared.env and declared.env != ENGINE_VARIABLE else None,
        show_default=False,
        show_envvar=False,
        hidden=declared.rare,
        rich_help_panel=None if declared.shown_first else declared.panel,
    )
    single: Any = bool | None if two_ways else bool if flag else str | None
    annotation = list[str] | None if declared.repeat else single
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if flag and not two_ways else None,
        annotation=Annotated[annotation, option],
    )

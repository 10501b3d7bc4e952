"""What ``mixrag COMMAND --help`` prints: one line for an option, on 80 columns."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

OPTION_WIDTH = 24
"""Columns for an option and its value; the help of a longer one begins on the next line."""

FRONT = "Arguments and options"
_SWITCH = re.compile(r"(--[\w-]+) / --no-[\w-]+")


class Command(TyperCommand):
    """A command whose options are listed by panel, without frames: those would wrap most lines on 80 columns."""

    def __init__(self, *values: Any, **given: Any) -> None:
        super().__init__(*values, **{**given, "rich_markup_mode": None})

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments with the options shown up front, and the others."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = getattr(parameter, "rich_help_panel", None) or FRONT
                panels.setdefault(title, []).append((_SWITCH.sub(r"\1/--no-…", record[0]), record[1]))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows, col_max=OPTION_WIDTH)

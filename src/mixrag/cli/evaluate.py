"""mixrag eval: its options, and what is shown while it runs and after."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, shown_command, takes
from mixrag.cli.progress import reporting
from mixrag.cli.show import print_json
from mixrag.config.command_settings import EvaluationSettings
from mixrag.utils.text import printable

if TYPE_CHECKING:
    from mixrag.evaluation.analysis import Evaluation


@app.command(name="eval", cls=Command, epilog=ENVIRONMENT)
@takes("eval")
def evaluate(
    options: Options,
    pairs: Annotated[
        list[Path],
        typer.Argument(
            help='Question-answer pairs: JSONL ({"question", "answers", "doc"} or NQ-open), or SQuAD JSON.',
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("mixrag-eval"),
    json: Json = False,
) -> None:
    """Score several systems on the same questions, and see how far their confidence can be trusted.

    Writes report.html, report.md, report.json, pictures, and confidence.json, which ask takes with --confidence.
    The same command continues where a killed run stopped.
    """
    from mixrag.evaluation.run import EvaluationRequest
    from mixrag.evaluation.run import evaluate as run

    command = shown_command(sys.argv)
    request = EvaluationRequest(pairs, out, options.made(EvaluationSettings), command=command)
    with options.open() as rag, reporting(quiet=json) as progress:
        found = run(rag, request, progress)
    _show(found, out, as_json=json)


def _show(found: Evaluation, out: Path, *, as_json: bool) -> None:
    from mixrag.evaluation.report import as_dict, tables

    if as_json:
        return print_json(as_dict(found))
    console = Console(highlight=False)
    for title, head, rows, note in tables(found):
        table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        console.print(table)
        console.print(Text(note, style="dim"))
        console.print()
    console.print(Text(printable(f"report: {out / 'report.html'}")), soft_wrap=True)

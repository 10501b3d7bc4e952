"""mixrag eval: its options, and what is shown while it runs and after."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.options import Options, takes
from mixrag.cli.progress import telling
from mixrag.cli.show import plain, print_json
from mixrag.config.command_settings import EvaluationSettings
from mixrag.config.schema import settings_of

if TYPE_CHECKING:
    from mixrag.evaluation.analysis import Evaluation


@app.command(name="eval", epilog=ENVIRONMENT)
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
    The same command goes on where a killed run stopped.
    """
    chosen = options.made(EvaluationSettings)
    with options.open() as rag, telling("questions", quiet=json) as (told, noticed):
        from mixrag.evaluation.command import EvaluationRequest
        from mixrag.evaluation.command import evaluate as run

        own = {name: getattr(chosen, name) for name in settings_of(EvaluationSettings)}
        request = EvaluationRequest(
            **own, pairs=tuple(pairs), out=out, command=shlex.join(["mixrag", *sys.argv[1:]])
        )
        found = run(rag, request, told, noticed)
    _show(found, out, as_json=json)


def _show(found: Evaluation, out: Path, *, as_json: bool) -> None:
    from mixrag.evaluation.report import as_dict, tables

    if as_json:
        return print_json(as_dict(found))
    console = Console(highlight=False)
    for title, head, rows, note in tables(found):
        table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(plain(cell)) for cell in row))
        console.print(table)
        console.print(Text(note, style="dim"))
        console.print()
    console.print(Text(plain(f"report: {out / 'report.html'}")), soft_wrap=True)

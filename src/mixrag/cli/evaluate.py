"""mixrag eval: its options, and what is shown while it runs and after."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixrag.cli.app import Json, app
from mixrag.cli.options import AskingOptions, StoreOptions, takes
from mixrag.cli.progress import reporting
from mixrag.cli.show import print_json
from mixrag.errors import SettingError
from mixrag.utils.text import printable

if TYPE_CHECKING:
    from mixrag.evaluation.analysis import Evaluation
    from mixrag.evaluation.run import EvaluationRequest

COMPARISON, TRUST = "What is compared", "Confidence"


@dataclass(frozen=True)
class EvaluationOptions:
    """The options that become a ``EvaluationRequest``."""

    systems: Annotated[
        str,
        typer.Option(
            help="Comma-separated, all on the same language model: closed-book, best-passage, concat, uniform, "
            "token, sequence; mixture = the settings as they are.",
            rich_help_panel=COMPARISON,
        ),
    ] = "closed-book,concat,uniform,token,sequence"
    questions: Annotated[
        int | None,
        typer.Option(help="At most so many of the pairs, drawn by --seed.", rich_help_panel=COMPARISON),
    ] = None
    distractors: Annotated[
        str,
        typer.Option(
            help="Comma-separated numbers of irrelevant passages to add to every question: 5,20.",
            rich_help_panel=COMPARISON,
        ),
    ] = ""
    off_corpus: Annotated[
        list[Path] | None,
        typer.Option(
            help="Pairs that these documents cannot answer, to see them withheld.", rich_help_panel=TRUST
        ),
    ] = None
    calibration: Annotated[
        Literal["best", "none", "temperature", "logistic", "isotonic"],
        typer.Option(help="How probability becomes confidence.", rich_help_panel=TRUST),
    ] = "best"
    coverage: Annotated[
        float,
        typer.Option(help="Share of the questions that the threshold leaves answered.", rich_help_panel=TRUST),
    ] = 0.8

    def request(self, pairs: list[Path], out: Path, seed: int) -> EvaluationRequest:
        """What is asked for.

        Raises:
            SettingError: a number of distractors that is none.
        """
        from mixrag.evaluation.run import EvaluationRequest

        try:
            distractors = tuple(int(each) for each in self.distractors.split(",") if each.strip())
        except ValueError:
            expected = "--distractors as whole numbers, 5,20"
            raise SettingError(expected, self.distractors, "separate them by commas") from None
        return EvaluationRequest(
            pairs=tuple(pairs),
            out=out,
            systems=tuple(name.strip() for name in self.systems.split(",") if name.strip()),
            questions=self.questions,
            off_corpus=self.off_corpus or None,
            distractors=distractors,
            calibration=None if self.calibration == "best" else self.calibration,
            coverage=self.coverage,
            seed=seed,
            command=shlex.join(["mixrag", *sys.argv[1:]]),
        )


@app.command(name="eval")
@takes(StoreOptions, AskingOptions, EvaluationOptions)
def evaluate(
    stores: StoreOptions,
    asking: AskingOptions,
    chosen: EvaluationOptions,
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
    request = chosen.request(pairs, out, asking.seed)
    with stores.open(asking=asking) as rag, reporting(quiet=json) as progress:
        from mixrag.evaluation.run import evaluate as run

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

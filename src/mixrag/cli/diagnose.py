"""mixrag diagnose: its options, and how a diagnosis is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from mixrag.cli.app import ENVIRONMENT, Json, Question, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.show import error_line, print_json
from mixrag.utils.text import printable, printable_name

if TYPE_CHECKING:
    from mixrag.evaluation import Diagnosis

MARKS = {True: ("✓", "passed", "green"), False: ("✗", "failed", "red"), None: ("–", "unknown", "dim")}
"""Sign, word and colour of what a stage's ``passed`` is."""


Expected = Annotated[list[str], typer.Option(help="The right answer; repeatable: any of them is right.")]
Document = Annotated[
    str | None, typer.Option(help="Where the answer should be: a path, its end, or a record.", show_default=False)
]


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("diagnose")
def diagnose(
    options: Options, question: Question, expected: Expected, document: Document = None, json: Json = False
) -> None:
    """Why an answer is wrong: not indexed, not retrieved, weighted too low, not used, or not decoded.

    Names the first stage that failed, with the remedy. It is a report: the exit code is 0 whatever it says.
    """
    _diagnose(options, question, expected, document, json=json)


@app.command(cls=Command, hidden=True)
@takes("diagnose")
def why(
    options: Options, question: Question, expected: Expected, document: Document = None, json: Json = False
) -> None:
    """The former name of mixrag diagnose."""
    error_line("mixrag why is now called mixrag diagnose")
    _diagnose(options, question, expected, document, json=json)


def _diagnose(options: Options, question: str, expected: list[str], document: str | None, *, json: bool) -> None:
    with options.open() as rag:
        from mixrag.evaluation import diagnose as run

        found = run(rag, question, expected, document=document)
    if json:
        print_json(found.as_dict())
    else:
        show_diagnosis(found)


def show_diagnosis(found: Diagnosis) -> None:
    """The answer, a line for each stage, and the first that failed."""
    from mixrag.evaluation import STAGES

    console = Console(highlight=False)
    answer = "no answer: there was nothing to retrieve"
    if found.answer is not None:
        verdict = "right" if found.right else "wrong"
        answer = f"answer: {found.answer.best_guess}   p(answer) = {found.answer.probability:.4g}, {verdict}"
    console.print(Text(printable(answer)), soft_wrap=True)
    for name in STAGES:
        stage = found.stage(name)
        mark, word, colour = MARKS[None if stage is None else stage.passed]
        line = Text(f"{mark} {name:<10}{word:<9} ", style=colour)
        line.append(printable_name("not reached" if stage is None else stage.finding), style="default")
        console.print(line, soft_wrap=True)
    outcome = found.finding if found.failed is None else f"the first stage that failed: {found.failed}"
    console.print(Text(printable_name(outcome), style="bold"), soft_wrap=True)
    if found.remedy:
        console.print(Text(printable_name(f"remedy: {found.remedy}")), soft_wrap=True)

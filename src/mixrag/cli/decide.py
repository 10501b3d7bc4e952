"""mixrag decide: its options, and how a decision is shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mixrag.cli.app import ENVIRONMENT, Json, Question, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.show import error_line, passage_table, print_json, terminal
from mixrag.utils.text import printable

if TYPE_CHECKING:
    from mixrag.answers.decision import Decision

LITTLE_MASS = 0.01
"""Labels that are together less probable than this were hardly thought of."""
Labels = Annotated[
    list[str] | None, typer.Argument(help="All that the answer may be. Without any: yes no.", show_default=False)
]


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("decide")
def decide(options: Options, question: Question, labels: Labels = None, json: Json = False) -> None:
    """Decide between given labels: the exact probability of each, under the mixture of the passages.

    Nothing is written: every label is scored as a full answer. The question may name the labels. After -- a label
    may begin with a hyphen.
    """
    with options.open() as rag:
        if (server := rag.server) and server.returns_probabilities and not json:
            error_line(server.describe())
        found = rag.decide(question, labels) if labels else rag.decide(question)
    if json:
        print_json(found.to_dict())
    else:
        show_decision(found)


def show_decision(found: Decision) -> None:
    """The label, what each is worth, and the passages."""
    console = terminal()
    if found.label is None:
        line = "No decision: the model gives none of these labels any probability."
        console.print(Text(line, style="bold"), soft_wrap=True)
    else:
        console.print(Text(printable(found.label), style="bold"), soft_wrap=True)
    if found.seems_unstated:
        line = f"The documents do not seem to state it, with probability {found.p_empty_within:.3f}."
        console.print(Text(line, style="bold"), soft_wrap=True)
    table = Table("label", "of these labels", "p(label)", "passage", box=None, pad_edge=False)
    for each in found.labels:
        best = max(range(len(each.posterior)), key=lambda rank: each.posterior[rank], default=None)
        source = "" if best is None or each.posterior[best] == 0.0 else f"{best + 1} ({each.posterior[best]:.3f})"
        share = "" if each.probability is None else f"{each.probability:.3f}"
        numbers = share, f"{math.exp(each.log_prob):.3g}"
        table.add_row(Text(printable(each.label)), *numbers, source)
    console.print(table)
    if found.expected is not None:
        console.print(f"expected value = {found.expected:.4g}")
    given = "" if found.p_empty is None else ", if an answer is stated"
    console.print(f"p(one of these labels) = {found.mass:.3g}{given}")
    if 0.0 < found.mass < LITTLE_MASS:
        line = "The model would answer with something else: the shares above are of very little."
        console.print(Text(line, style="bold"), soft_wrap=True)
    for line in _remarks(found):
        console.print(Text(line, style="dim"), soft_wrap=True)
    if found.passages:
        console.print(passage_table(found.passages, (found.null_prior, None, found.null_posterior)))


def _remarks(found: Decision) -> list[str]:
    remarks = []
    if found.passages and found.outside != 0.0 and found.certified:
        remarks.append("certified: no passage that is not listed can change which label is most probable")
    if found.passages and found.outside == 0.0:
        remarks.append("exact: no passage was left out")
    remarks += found.notices
    remarks += [f"passage {s.passage} shortened to {s.kept} of {s.total} tokens" for s in found.shortened]
    return remarks

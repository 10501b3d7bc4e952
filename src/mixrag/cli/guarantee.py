"""mixrag guarantee: its options, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.progress import reporting
from mixrag.cli.show import print_json
from mixrag.config.command_settings import GuaranteeSettings, StoreConfig
from mixrag.utils.text import printable

if TYPE_CHECKING:
    from mixrag.answers.guarantee import CertifiedGroup, Guarantee

FOLDER = Path("mixrag-guarantee")


@app.command(name="guarantee", cls=Command, epilog=ENVIRONMENT)
@takes("guarantee")
def guarantee(
    options: Options,
    pairs: Annotated[
        list[Path],
        typer.Argument(help="Question-answer pairs that the confidence was not fitted on.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for guarantee.json and its confidence.json.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Find the confidence above which, with probability 1 - delta, a share of at most risk is wrong.

    Writes guarantee.json into the trained folder (--model) or into --out, next to the confidence.json that it is
    about. Answers that it covers say so.
    """
    from mixrag.evaluation.guarantee import GuaranteeRequest
    from mixrag.evaluation.guarantee import guarantee as run

    chosen, store = options.made(GuaranteeSettings), options.made(StoreConfig)
    own = store.model is not None and store.confidence is None and not chosen.split
    target = out or (Path(store.model) if own and store.model is not None else FOLDER)
    with options.open() as rag, reporting(quiet=json) as progress:
        found = run(rag, GuaranteeRequest(pairs, target, chosen), progress)
    if json:
        return print_json({**asdict(found), "folder": str(target)})
    console = Console(highlight=False)
    for line in (*(_line(group, found) for group in found.groups), *_left_out(found), f"written: {target}"):
        console.print(Text(printable(line)), soft_wrap=True)


def _line(group: CertifiedGroup, found: Guarantee) -> str:
    """What was found for one kind of document."""
    from mixrag.answers.guarantee import percent

    kind = f"{found.by} {group.value}: " if group.value else ""
    sure = f"with probability {percent(1 - found.delta)} %"
    together = ", of all kinds together" if found.simultaneous else ""
    if group.threshold is None:
        return f"{kind}no confidence is certified on {group.n} pairs, {group.wrong_of_all} of them answered wrong"
    control = (
        f"; from {_shown(group.control)} on at most {100 * found.risk:g} % of all questions are expected to be "
        "answered and wrong"
        if group.control is not None
        else ""
    )
    return (
        f"{kind}from a confidence of {_shown(group.threshold)} on at least {percent(1 - found.risk)} % of the "
        f"answers are right, {sure}{together} ({group.answered} of {group.n} pairs answered, "
        f"{group.wrong} of them wrong, share wrong at most {group.upper:.3g}){control}"
    )


def _left_out(found: Guarantee) -> Iterator[str]:
    """Which pairs were not tested on, and why."""
    if found.overlapping:
        yield f"left out: {found.overlapping} pairs whose questions the confidence was fitted on"
    if found.overlapping is None:
        yield (
            "the confidence does not say on which questions it was fitted: the guarantee holds if they are not "
            "those of these pairs"
        )
    if found.other_kinds:
        yield f"left out: {found.other_kinds} pairs that ask for another kind of answer; such are not covered"


def _shown(threshold: float) -> str:
    """Three decimals, and more where these would make 1 of a smaller number."""
    short = f"{threshold:.3f}"
    return short if threshold == 1.0 or float(short) < 1.0 else repr(threshold)

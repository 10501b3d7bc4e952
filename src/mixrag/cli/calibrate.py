"""mixrag calibrate: its options, and the table that it shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixrag.cli.app import Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.show import error_line, print_json
from mixrag.config.command_settings import CalibrationSettings, StoreConfig
from mixrag.utils.text import printable

if TYPE_CHECKING:
    from mixrag.evaluation.refit import Refit
    from mixrag.evaluation.scoring import Record


@app.command(cls=Command)
@takes("calibrate")
def calibrate(
    options: Options,
    answers: Annotated[
        list[str],
        typer.Argument(
            help="answers.jsonl of mixrag eval, or the folder it is in; NAME=PATH names the kind of documents.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the confidence.")] = Path("confidence.json"),
    unanswerable: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Answers to questions that the documents do not answer; repeatable."),
    ] = None,
    described: Annotated[str, typer.Option(help="The pairs in words, for those who are shown a confidence.")] = "",
    json: Json = False,
) -> None:
    """Fit the confidence again on answers that mixrag eval has stored; no model runs.

    Writes confidence.json, which ask takes with --confidence. With --model FOLDER it is valid for the models of
    this trained folder, and belongs there as FOLDER/confidence.json.
    """
    from mixrag.answers.confidence import write_calibration
    from mixrag.evaluation.refit import read_answers, refit

    chosen = options.made(CalibrationSettings)
    groups = [read_answers(each, chosen.system) for each in answers]
    others = [read_answers(each, chosen.system, unanswerable=True) for each in unanswerable or []]
    folder = options.of(StoreConfig).get("model")
    models = None if folder is None else digest_of(folder, (each for group in groups for each in group.records))
    found = refit(groups, chosen, unanswerable=others, models=models, fitted_on=described)
    write_calibration(found.calibration, out)
    if json:
        return print_json(as_dict(found, out))
    _show(found)
    Console().print(Text(printable(f"written: {out}")), soft_wrap=True)


def digest_of(folder: str | Path, records: Iterable[Record]) -> str:
    """The digest of the models of a trained folder, which are not loaded, run by the engine that answered."""
    from mixrag.config.bundle import read_bundle
    from mixrag.config.engine_choice import OPENVINO, TORCH
    from mixrag.config.model_config import ModelConfig, completed, models_digest

    models = completed(ModelConfig(), read_bundle(folder))
    own = {record.models for record in records}
    torch = replace(models, engine=TORCH)
    by_engine = (models, torch, replace(torch, dtype="int8"), replace(models, engine=OPENVINO))
    known = [*map(models_digest, by_engine)]
    return next((digest for digest in known if digest in own), known[0])


def as_dict(found: Refit, out: Path) -> dict[str, Any]:
    """The JSON contract of ``mixrag calibrate --json`` (docs/reference/json.md)."""
    own, threshold = found.calibration, found.threshold
    return {
        "file": str(out),
        "method": own.method,
        "groups": [asdict(each) for each in found.groups],
        "threshold": own.threshold,
        "precision": threshold.precision and asdict(threshold.precision),
        "reached": threshold.reached,
        "coverage": found.coverage,
        "unanswerable": found.unanswerable,
        "unanswerable_withheld": found.unanswerable_withheld and asdict(found.unanswerable_withheld),
        "levels": {words: {"n": n, "right": right / n if n else None} for words, (n, right) in own.levels.items()},
        "settings": dict(own.settings),
        "models": own.models,
        "notices": list(found.notices),
    }


def _show(found: Refit) -> None:
    console, own = Console(highlight=False), found.calibration
    table = Table("answers of", "n", "right", "AUROC", "→", "ECE", "→", box=None, pad_edge=False)
    for each in found.groups:
        ordered = [("–" if value is None else f"{value:.3f}") for value in (each.auroc_before, each.auroc_after)]
        errors = (f"{each.ece_before:.3f}", f"{each.ece_after:.3f}")
        cells = [each.group, str(each.n), f"{each.right:.3f}", *ordered, *errors]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    console.print(
        Text("From p(answer) to the confidence, each answer by a fit that has not seen its question.", style="dim")
    )
    for words, (n, right) in own.levels.items():
        if n:
            console.print(f"{words:<12} {right} of {n} right")
    precision = "" if found.threshold.precision is None else f", {found.threshold.precision:.3f} of them right"
    console.print(f"method {own.method}; threshold {own.threshold:.3f}: {found.coverage:.3f} answered{precision}")
    if found.unanswerable_withheld is not None:
        console.print(f"of the questions without an answer {found.unanswerable_withheld:.3f} are withheld")
    for name in ("k", "switch"):
        if name in own.settings:
            console.print(f"valid for {name} = {own.settings[name]}")
    for notice in found.notices:
        error_line(notice)

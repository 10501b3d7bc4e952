"""mixrag clozes: its options, and what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixrag.cli import output
from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.show import print_json
from mixrag.config.command_settings import ClozeSettings
from mixrag.config.settings import Settings
from mixrag.errors import OutputError, StoreEmptyError
from mixrag.utils.text import printable

ENOUGH = 10
"""Passages for each pair wanted: more of a large store are not read."""


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("clozes")
def clozes(
    options: Options,
    out: Annotated[Path, typer.Option("--out", "-o", help="File of pairs to write: a new one.")],
    json: Json = False,
) -> None:
    """Make question-answer pairs of the stored documents (in English): sentences with a span left out.

    For training where there are few pairs or none: the language model learns on them to find and copy an answer.
    """
    from mixrag.pairs.pairs import as_lines, sample
    from mixrag.training.clozes import clozes as made

    chosen, where = options.made(ClozeSettings), options.made(Settings).where
    target = output.target(out, "clozes.jsonl")
    if target.exists():
        raise OutputError("a new file for the pairs", f"{out}, which exists", "name another, or remove it")
    with options.open() as rag:
        rows = rag.store.rows_where(where).tolist()
        if not rows:
            found_instead = f"none with {' '.join('='.join(each) for each in where.items())}" if where else "none"
            raise StoreEmptyError("passages in the store", found_instead, "index documents, or loosen --where")
        found = made(
            rag.store.passages(sample(rows, ENOUGH * chosen.number, chosen.seed)), chosen.number, chosen.seed
        )
    output.write_text(target, as_lines(found), "the pairs")
    if json:
        return print_json({"file": str(target), "pairs": len(found)})
    typer.echo(printable(f"{len(found)} pairs in {out}"))

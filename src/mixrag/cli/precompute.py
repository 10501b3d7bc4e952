"""mixrag precompute: its options, and its output."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mixrag.cli.app import ENVIRONMENT, Json, app
from mixrag.cli.help import Command
from mixrag.cli.options import Options, takes
from mixrag.cli.progress import reporting
from mixrag.cli.show import print_json
from mixrag.config.command_settings import PrecomputeSettings
from mixrag.utils.text import printable

GIB = 2**30


@app.command(cls=Command, epilog=ENVIRONMENT)
@takes("precompute")
def precompute(options: Options, json: Json = False) -> None:
    """Let the language model read all passages ahead, into files next to the store: questions are answered sooner.

    Files are valid for one model, adapter and dtype. The same command continues where it stopped.
    """
    chosen = options.made(PrecomputeSettings)
    with options.open() as rag:
        if chosen.forget:
            from mixrag.generator.precompute import forget as forgotten

            count = forgotten(rag.store.cache_directory)
            return print_json({"deleted": count}) if json else typer.echo(f"{count} files deleted")
        with reporting(quiet=json) as progress:
            found = rag.precompute(int(chosen.gib * GIB), progress)
    if json:
        return print_json(asdict(found))
    rest = "" if found.passages == found.of else f"; room for the others: --gib above {chosen.gib:g}"
    size = f"{found.bytes / 2**20:.0f} MiB"
    typer.echo(printable(f"{found.passages} of {found.of} passages in files, {found.read} read now, {size}{rest}"))

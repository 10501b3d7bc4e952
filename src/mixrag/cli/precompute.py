"""mixrag precompute: its options, and what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mixrag.cli.app import Json, app
from mixrag.cli.options import AskingOptions, StoreOptions, takes
from mixrag.cli.progress import reporting
from mixrag.cli.show import print_json
from mixrag.errors import SettingError
from mixrag.utils.text import printable

GIB = 2**30


@app.command()
@takes(StoreOptions, AskingOptions)
def precompute(
    stores: StoreOptions,
    asking: AskingOptions,
    gib: Annotated[float, typer.Option(help="GiB that the files of this model may take.")] = 4.0,
    forget: Annotated[bool, typer.Option("--forget", help="Delete the files of all models instead.")] = False,
    json: Json = False,
) -> None:
    """Let the language model read all passages ahead, into files beside the store: questions are answered sooner.

    Files hold for one model, adapter and dtype. The same command goes on where it stopped.
    """
    from mixrag.generator.precompute import forget as forgotten

    if gib <= 0:
        raise SettingError("--gib above 0", str(gib), "choose how much room there is")
    with stores.open(asking=asking) as rag:
        if forget:
            count = forgotten(rag.store.directory)
            return print_json({"deleted": count}) if json else typer.echo(f"{count} files deleted")
        with reporting(quiet=json) as progress:
            found = rag.precompute(int(gib * GIB), progress)
    if json:
        return print_json(asdict(found))
    rest = "" if found.passages == found.of else f"; room for the others: --gib above {gib:g}"
    size = f"{found.bytes / 2**20:.0f} MiB"
    typer.echo(printable(f"{found.passages} of {found.of} passages in files, {found.read} read now, {size}{rest}"))

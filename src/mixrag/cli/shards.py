"""mixrag shards: join the shards of a corpus to one manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixrag.cli.app import Json, app
from mixrag.cli.help import Command
from mixrag.cli.show import print_json

shards = typer.Typer(name="shards", no_args_is_help=True, help="A corpus in several stores, asked as one.")
app.add_typer(shards)


@shards.callback()
def _group() -> None:
    """A corpus in several stores, asked as one."""


@shards.command(cls=Command)
def manifest(
    out: Annotated[Path, typer.Argument(help="File to write: NAME.shards.json.", show_default=False)],
    stores: Annotated[list[str], typer.Argument(help="Stores, or addresses of servers.", show_default=False)],
    key_env: Annotated[
        str | None,
        typer.Option("--key-env", metavar="NAME", help="Environment variable with the servers' key."),
    ] = None,
    json: Json = False,
) -> None:
    """Join shards, after a check that none is missing and that all have one encoder and splitter.

    The file has where each shard is and what it is now; `--store NAME.shards.json` asks all of them.
    """
    from mixrag.generator.remote.client import Key
    from mixrag.retrieval.shards.joining import join

    found = join(out, stores, Key.of_environment(key_env, "--key-env"))
    passages = sum(entry.shard.passages for entry in found.shards)
    if json:
        return print_json({"manifest": str(out), "shards": len(found.shards), "passages": passages})
    typer.echo(f"{out}: {len(found.shards)} shards, {passages} passages")

"""mixrag keys: the API keys of mixrag serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixrag.cli.app import Json, app
from mixrag.cli.help import Command
from mixrag.cli.show import error_line, print_json

keys = typer.Typer(name="keys", no_args_is_help=True, help="API keys of mixrag serve: add, list, remove.")
app.add_typer(keys)

Name = Annotated[str, typer.Argument(help="Whose key it is; shown in the log.", show_default=False)]
File = Annotated[Path, typer.Option("--file", help="File of the keys' names and hashes.", show_default=False)]


@keys.command(cls=Command)
def add(name: Name, file: File, json: Json = False) -> None:
    """Make a new key and print it; it is stored nowhere, and cannot be shown again."""
    from mixrag.server.security.keys import KeyFile

    key = KeyFile(file).add(name)
    if json:
        return print_json({"name": name, "key": key})
    typer.echo(key)
    error_line(f"the key of {name}, shown this once; serve with --keys {file}")


@keys.command(name="list", cls=Command)
def list_keys(file: File, json: Json = False) -> None:
    """The names of all keys, and when they were added."""
    from mixrag.server.security.keys import KeyFile

    found = [{"name": each.name, "created": each.created} for each in KeyFile(file).stored()]
    if json:
        return print_json({"keys": found})
    for each in found:
        typer.echo(f"{each['name']}\t{each['created']}")


@keys.command(cls=Command)
def remove(name: Name, file: File) -> None:
    """Delete a key; a server that is running refuses it from then on."""
    from mixrag.server.security.keys import KeyFile

    KeyFile(file).remove(name)

"""Command lines in the documentation: the command and its options exist."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from doc_pages import PAGES, ROOT, blocks, named

import mixrag.cli
from mixrag.cli.app import app

for _module in pkgutil.iter_modules(mixrag.cli.__path__):  # each declares its commands when it is imported
    importlib.import_module(f"mixrag.cli.{_module.name}")
COMMANDS = typer.main.get_command(app)


def command_lines(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of every ``mixrag`` command line in a page's blocks, with its line."""
    for block in blocks(page):
        shell = block.info in ("sh", "console")
        joined = block.text.replace("\\\n", " ")
        for number, line in enumerate(joined.splitlines()):
            found = re.match(r"(?:\$ )?(?:.* -m )?(mixrag .*)" if shell else r"\$ (mixrag .*)", line)
            if found:
                yield block.line + number, _words(found[1])


def _words(line: str) -> list[str]:
    """As a shell splits it, up to a pipe or redirection; typographic ellipses of a shortened line are left out."""
    words = [word for word in shlex.split(line, comments=True) if word != "…"]
    ends = [index for index, word in enumerate(words) if word in ("|", "||", "&&", ">", ";")]
    return words[: min(ends, default=len(words))]


def problem(words: list[str]) -> str | None:
    """Why the command line parser refuses a line; None where it takes it."""
    _, *rest = words
    if not rest or rest[0].startswith("-"):
        return None
    name, *arguments = rest
    command = COMMANDS.commands.get(name)  # type: ignore[attr-defined]
    if command is None:
        return f"no command {name}"
    try:
        command.make_context(name, arguments)
    except click.exceptions.Exit:  # --help
        return None
    except Exception as error:
        return getattr(error, "message", "") or repr(error)  # a missing argument has no message of its own
    return None


ALL = [(page, line, words) for page in PAGES for line, words in command_lines(page)]


@pytest.mark.parametrize(("page", "line", "words"), ALL, ids=[f"{named(page)}:{line}" for page, line, _ in ALL])
def test_command_lines_are_understood(page: Path, line: int, words: list[str]) -> None:
    assert problem(words) is None


def test_wrong_command_lines_are_found() -> None:
    assert problem(["mixrag", "asked", "x"])
    assert problem(["mixrag", "ask", "x", "--no-such-option"])
    assert problem(["mixrag", "ask"])
    assert problem(["mixrag", "ask", "x", "--switch", "1"]) is None


def test_each_command_is_described() -> None:
    text = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS.commands if f"mixrag {name}" not in text] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_scripts_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    scripts = set(re.findall(r"(?:python|sh) ((?:benchmarks|demo)/[\w./-]+)", text))
    assert [script for script in sorted(scripts) if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_this_repository_exist(page: Path) -> None:
    """What is named in code font as a file below src, tests, benchmarks, docs or demo."""
    text = page.read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:src|tests|benchmarks|docs)/[\w./-]+)`", text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []

"""What starts quickly loads little: heavy libraries wait until a model is loaded or a page written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
{statement}
print("LOADED", *sorted({{name.split(".")[0] for name in sys.modules}}))
"""
COMMAND = """
import atexit
from mixrag.cli import main
atexit.register(lambda: print("LOADED", *sorted({{name.split(".")[0] for name in sys.modules}})))
sys.argv = ["mixrag", *{arguments}]
main()
"""
MODELS = {"transformers", "sentence_transformers", "peft", "accelerate", "sklearn", "scipy", "faiss", "gguf"}
EXTRAS = {
    "fastapi",
    "uvicorn",
    "starlette",
    "mcp",
    "prometheus_client",
    "matplotlib",
    "tensorboardX",
    "kreuzberg",
    "pypdfium2",
    "lxml",
    "selectolax",
    "chardet",
    "pandas",
    "datasets",
}


def loaded(statement: str) -> tuple[set[str], str]:
    """Top-level modules of a new process after a statement, and its standard error."""
    script = RUN.format(statement=statement)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    line = next(each for each in ended.stdout.splitlines()[::-1] if each.startswith("LOADED"))
    return set(line.split()[1:]), ended.stderr


def after(*arguments: str) -> tuple[set[str], str]:
    """The same after a command."""
    return loaded(COMMAND.format(arguments=list(arguments)))


def test_importing_mixrag_loads_nothing_else() -> None:
    found, _ = loaded("import mixrag; mixrag.MixragError")
    assert "mixrag" in found
    assert not found & {"torch", "numpy", "pydantic", "typer", "rich", *MODELS, *EXTRAS}


def test_the_facade_loads_torch_and_no_model_library() -> None:
    found, _ = loaded("from mixrag import RAG")
    assert {"torch", "numpy"} <= found and not found & (MODELS | EXTRAS)


@pytest.mark.parametrize("command", ["ask", "passages", "eval", "train", "index"])
def test_help_waits_for_no_library(command: str) -> None:
    found, errors = after(command, "--help")
    assert errors == "" and not found & {"torch", "numpy", *MODELS, *EXTRAS}


@pytest.mark.parametrize("command", ["ask", "passages", "info"])
def test_a_store_that_is_not_there_is_told_without_torch(command: str, tmp_path: Path) -> None:
    question = [] if command == "info" else ["x"]
    found, errors = after(command, *question, "--store", str(tmp_path / "nowhere"))
    assert errors.startswith("mixrag: expected a store in") and errors.count("\n") == 1
    assert not found & {"torch", *MODELS, *EXTRAS}


def test_an_interrupt_before_a_command_runs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mixrag.cli

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mixrag.cli, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        mixrag.cli.main()
    assert ended.value.code == 130 and capsys.readouterr().err == "mixrag: interrupted\n"

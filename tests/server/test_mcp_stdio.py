"""``mixrag mcp``, started by the official client as a process: standard output is the protocol alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters

from mixrag import RAG
from tiny_encoder import save_encoder

SCRIPT = "import sys; from mixrag.cli import main; sys.argv[0] = 'mixrag'; main()"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> list[str]:
    """``mixrag mcp`` over a store of two files, with tiny models."""
    folder = tmp_path_factory.mktemp("mcp")
    encoder, generator = save_encoder(folder / "encoder"), tiny_folder("llama-chat")
    files = folder / "files"
    files.mkdir()
    (files / "cod.txt").write_text("A licence to fish cod costs nine crowns a year.")
    (files / "hen.txt").write_text("Hens lay fewer eggs during winter.")
    with RAG.open(folder / "store", create=True, encoder=str(encoder)) as rag:
        rag.index(files)
    models = ["--encoder", str(encoder), "--generator", str(generator), "--max-tokens", "4"]
    return ["-c", SCRIPT, "mcp", "--store", str(folder / "store"), *models]


def test_the_official_client_starts_it_and_asks(arguments: list[str], tmp_path: Path) -> None:
    started = StdioServerParameters(command=sys.executable, args=arguments, env={**os.environ}, cwd=str(tmp_path))

    async def use() -> None:
        async with Client(started) as client:
            assert client.server_info is not None and client.server_info.name == "mixrag"
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["ask", "passages", "score", "decide", "diagnose"]
            asked = await client.call_tool("ask", {"question": "What does cod cost?"})
            assert not asked.is_error and asked.structured_content["answer"] is not None
            decided = await client.call_tool("decide", {"question": "Is it free?"})
            labels = decided.structured_content["labels"]
            assert [each["label"] for each in labels] == ["yes", "no"]
            assert sum(each["probability"] for each in labels) == pytest.approx(1.0)
            wrong = await client.call_tool("ask", {"question": ""})
            assert wrong.is_error and "\n" not in wrong.content[0].text
            (cod, _) = (await client.list_resources()).resources
            read = await client.read_resource(cod.uri)
            assert read.contents[0].text == "A licence to fish cod costs nine crowns a year."

    anyio.run(use)


def test_it_ends_with_its_input_and_prints_nothing_of_its_own(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, *arguments], input="no JSON\n", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0 and "Traceback" not in ended.stderr
    assert all(line.startswith("{") for line in ended.stdout.splitlines())


def test_a_missing_store_is_one_line_on_standard_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, "mcp", "--store", str(tmp_path / "none")]
    ended = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.strip().splitlines()) == 1 and ended.stderr.startswith("mixrag: expected ")

"""The examples of the how-to on clients, as they are printed, against a server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from served import QUESTION, listening

from mixrag import RAG
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/serve-clients.md"
README_QUESTION = "Who is the medical director of Brackwater Hospital?"
PRINTED = "http://127.0.0.1:8080"


@pytest.fixture
def store_address(rag: RAG) -> Iterator[str]:
    with listening(make_app(Service(Stores([Served("store", rag)])))) as found:
        yield found


def blocks(kind: str, page: Path = PAGE) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_examples_in_python(store_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block.replace(PRINTED, store_address), str(PAGE), "exec"), names)
    assert names["response"].output_text == "nine crowns"
    assert names["answer"].choices[0].message.content == "four crowns"
    assert names["answer"].mixrag["question"] == "What does a licence for eel cost?"
    printed = capsys.readouterr().out
    assert "nine crowns\ncod" in printed and f"{store_address}/#store=" in printed
    names["client"].close()


def test_the_example_with_curl(store_address: str) -> None:
    (command,) = (block for block in blocks("sh") if block.startswith("curl"))
    command = command.replace(PRINTED, store_address)
    found = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(found)["choices"][0]["message"]["content"] == "nine crowns"


def test_the_lines_of_the_readme(store_address: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "README.md"
    (lines,) = (block for block in blocks("python", page) if "OpenAI" in block)
    (command,) = (block for block in blocks("sh", page) if block.startswith("curl"))
    assert README_QUESTION in lines and README_QUESTION in command
    named = [each.replace(PRINTED, store_address).replace(README_QUESTION, QUESTION) for each in (lines, command)]
    names: dict[str, Any] = {}
    exec(compile(named[0], str(page), "exec"), names)
    names["client"].close()
    assert capsys.readouterr().out == "nine crowns\n"
    found = subprocess.run(["bash", "-c", named[1]], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(found)["choices"][0]["message"]["content"] == "nine crowns"


def test_a_cited_address_is_the_page_and_names_what_to_read(store_address: str) -> None:
    import httpx2

    body = {"messages": [{"role": "user", "content": "What does a licence for cod cost?"}]}
    message = httpx2.post(f"{store_address}/v1/chat/completions", json=body).json()["choices"][0]["message"]
    url = message["annotations"][0]["url_citation"]["url"]
    assert httpx2.get(url).headers["content-type"].startswith("text/html")
    place = dict(parse_qsl(urlsplit(url).fragment))
    found = httpx2.get(f"{store_address}/v1/documents/content", params=place).json()
    assert "nine crowns" in found["text"]

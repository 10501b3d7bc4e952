"""The Python examples of README and documentation run, page by page, each page in one namespace.

Where an example names no models, tiny random ones take the place of the packaged ones: what they answer is
nonsense, but every call is made. An example that cannot run here is marked in the page, by a comment before it:

    <!-- no-run: needs a GPU -->
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doc_pages import PAGES, ROOT, Block, blocks, named

import tiny_gguf
from mixrag.answers.pipeline import Pipeline
from tiny_encoder import save_encoder

NO_RUN = {
    "README.md": 1,  # it runs in tests/server/test_documented_clients.py
    "docs/how-to/gpu.md": 2,
    "docs/how-to/index-with-ray.md": 1,
    "docs/how-to/long-answers.md": 2,
    "docs/how-to/own-language-model.md": 3,
    "docs/how-to/serve-mcp.md": 1,
    "docs/how-to/serve-clients.md": 4,  # they run in tests/server/test_documented_clients.py
    "docs/how-to/share-a-bundle.md": 2,
    "docs/how-to/train.md": 1,
    "docs/how-to/vllm.md": 1,
}
"""How many examples of each page do not run."""

DOCUMENTS = {
    "licence.md": "# Licences\n\nThe harbour office issues the fishing licence. It costs nine crowns a year.\n",
    "ferry.txt": "The ferry to the mainland leaves at nine in the morning, and at ten on Sundays.\n",
    "market.txt": "The market opens at six. Fish is sold until noon, wool until three.\n",
    "school.jsonl": '{"id": "1", "text": "School begins at eight.", "topic": "school"}\n'
    '{"id": "2", "text": "The school library lends four books at a time.", "topic": "school"}\n',
}
PAIRS = [
    {"question": f"{asked} the fishing licence?", "answers": [answer], "doc": "licence.md"}
    for asked in ("Who issues", "Which office issues", "What is the price of", "How much is", "What costs")
    for answer in ("the harbour office", "nine crowns")
] + [
    {"question": f"When does the {place}?", "answers": [hour], "doc": "ferry.txt"}
    for place, hour in (
        ("ferry leave", "nine"),
        ("market open", "six"),
        ("school begin", "eight"),
        ("shop close", "ten"),
    )
]

DEMO_PAIRS = 24
"""Of the demonstration's: the tutorial evaluates 20 of them, and to train on all takes long."""


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.info.startswith("python")]


def runs(block: Block) -> bool:
    return block.info == "python" and block.no_run is None


RUNNABLE = [page for page in PAGES if any(map(runs, python_blocks(page)))]
SLOW = {"docs/tutorial.md"}
"""It trains, and evaluates 20 questions under five systems."""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]) -> Path:
    """A folder with what the examples name, as the working directory; tiny models are the default ones."""
    (tmp_path / "documents").mkdir()
    for name, text in DOCUMENTS.items():
        (tmp_path / "documents" / name).write_text(text, encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), encoding="utf-8")
    shutil.copytree(ROOT / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns("store"))
    pairs = tmp_path / "demo" / "pairs.jsonl"
    pairs.write_text("".join(pairs.read_text(encoding="utf-8").splitlines(True)[:DEMO_PAIRS]), encoding="utf-8")
    generator = tiny_folder("llama")
    shutil.copytree(generator, tmp_path / "language-model")
    tiny_gguf.save(tmp_path / "model.gguf", "llama")
    encoder = save_encoder(tmp_path / "encoder")
    open_given = Pipeline.open.__func__  # type: ignore[attr-defined]

    def open_tiny(cls: type[Pipeline], directory: str | Path, **given: Any) -> Pipeline:
        if given.get("model") is None and given.get("models") is None:
            given = {"encoder": encoder, "generator": generator, **given}
        opened: Pipeline = open_given(cls, directory, **given)
        return opened

    monkeypatch.setattr(Pipeline, "open", classmethod(open_tiny))
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if named(page) in SLOW else []) for page in RUNNABLE],
    ids=map(named, RUNNABLE),
)
def test_examples_run(page: Path, workplace: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in filter(runs, python_blocks(page)):
        source = "\n" * (block.line - 1) + block.text  # so that an error names the line of the page
        exec(compile(source, named(page), "exec", dont_inherit=True), namespace)


def test_examples_that_do_not_run_are_counted() -> None:
    marked = [(named(page), block) for page in PAGES for block in python_blocks(page) if not runs(block)]
    assert all(block.info == "python" and block.no_run for _, block in marked)
    assert Counter(page for page, _ in marked) == NO_RUN


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_are_python_that_compiles(page: Path) -> None:
    for block in python_blocks(page):
        compile(block.text, f"{named(page)}:{block.line}", "exec", dont_inherit=True)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_json_and_toml_are_well_formed(page: Path) -> None:
    for block in blocks(page):
        if block.info == "toml":
            tomllib.loads(block.text)
        elif block.info == "json":
            _objects(block.text)


def _objects(text: str) -> None:
    """One JSON document, or one a line."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)

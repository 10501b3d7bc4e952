"""The commands where an extra is not installed: one line with the command that installs it, before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.test_commands import QUESTION, Shell
from corpus.test_parsers import pdf
from mixrag.corpus.parsers import isolation, worker_process
from mixrag.utils.extras import EXTRAS
from tiny_encoder import save_encoder

Hide = Callable[..., None]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def shell(tmp_path: Path, encoder: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    return with_all_models(tmp_path, encoder, tiny_folder)


def with_all_models(folder: Path, encoder: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    found = Shell(folder, encoder, tiny_folder("llama-chat"))
    found.models |= dict.fromkeys(("train", "eval"), found.models["ask"])
    found.models["clozes"] = found.models["index"]
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, encoder: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    """With a store and pairs, for commands that are refused before they do anything."""
    found = with_all_models(tmp_path_factory.mktemp("stored"), encoder, tiny_folder)
    found("index", found.files)
    pairs = found.folder / "pairs.jsonl"
    pairs.write_text(json.dumps({"question": QUESTION, "answers": ["nine crowns"]}))
    return found


def boot_without(packages: Iterable[str]) -> str:
    """What the process that parses runs first, without these packages."""
    return f"import sys; sys.modules.update(dict.fromkeys({sorted(packages)}));{worker_process._BOOT}"


@pytest.fixture
def parses_without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hide]:
    def hidden(*packages: str) -> None:
        isolation.close_idle_workers()
        monkeypatch.setattr(worker_process, "_BOOT", boot_without(packages))

    yield hidden
    isolation.close_idle_workers()


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    def hidden(*packages: str) -> None:
        for package in packages:
            for name in [package, *(each for each in sys.modules if each.startswith(f"{package}."))]:
                monkeypatch.setitem(sys.modules, name, None)

    return hidden


@pytest.mark.parametrize("package", EXTRAS["eval"])
def test_eval_asks_for_its_extra_before_any_question(stored: Shell, hide: Hide, package: str) -> None:
    hide(package)
    told = stored.refused("eval", stored.folder / "pairs.jsonl", "--out", stored.folder / "report")
    assert f"the package {package} for an evaluation" in told and 'run: pip install "mixrag[eval]"' in told
    assert not (stored.folder / "report").exists()


@pytest.mark.parametrize("package", EXTRAS["train"])
def test_train_asks_for_its_extra_before_the_first_step(stored: Shell, hide: Hide, package: str) -> None:
    hide(package)
    assert (
        stored("train", stored.folder / "pairs.jsonl", "--out", stored.folder / "trained", "--steps", "1", code=1)
        == ""
    )
    line = stored.errors.strip().split("\n")[-1]  # after what is being loaded
    assert line.startswith("mixrag: expected ")
    assert f"the package {package} for training" in line and 'run: pip install "mixrag[train]"' in line
    assert not (stored.folder / "trained").exists()


def test_clozes_ask_for_the_list_of_words(stored: Shell, hide: Hide) -> None:
    from mixrag.training import clozes

    hide("sklearn")
    clozes._function_words.cache_clear()
    told = stored.refused("clozes", "--out", stored.folder / "clozes.jsonl")
    assert 'run: pip install "mixrag[train]"' in told


@pytest.mark.parametrize("package", ["pypdfium2", "selectolax"])
def test_a_file_that_needs_an_extra_is_skipped_and_the_run_goes_on(
    shell: Shell, parses_without: Hide, package: str
) -> None:
    (shell.files / "hake.pdf").write_bytes(pdf(b"A licence to fish hake costs two crowns."))
    parses_without(package)
    found = shell.json("index", shell.files, code=3)
    (skipped,) = found["skipped"]
    assert Path(skipped["path"]).name == ("hake.pdf" if package == "pypdfium2" else "hen.html")
    assert skipped["reason"].endswith('it is not installed; run: pip install "mixrag[files]"')
    assert found["documents"] == 3


SCRIPT = """
import sys

sys.modules.update(dict.fromkeys({packages}))
from mixrag.corpus.parsers import worker_process
worker_process._BOOT = {boot!r}
from mixrag.cli import main
sys.argv = ["mixrag", *{arguments}]
main()
"""
# sentence-transformers, a part of the core, brings sklearn and scipy itself; boto3 is there for tests alone, and
# accelerate imports it where it finds it.
HIDDEN = {module.split(".")[0] for modules in EXTRAS.values() for module in modules} - {"sklearn", "scipy"} | {
    "boto3"
}


def core_alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(packages=sorted(HIDDEN), boot=boot_without(HIDDEN), arguments=[*map(str, arguments)])
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_the_core_alone_indexes_text_and_asks(shell: Shell) -> None:
    (shell.files / "hen.html").unlink()
    (shell.files / "rows.csv").write_text("id,text\n1,A licence to fish seal costs ten crowns.\n")
    (shell.files / "lines.jsonl").write_text('{"id": "a", "text": "A licence to fish crab costs one crown."}\n')
    (shell.files / "hake.pdf").write_bytes(pdf(b"A licence to fish hake costs two crowns."))
    at = "--store", shell.store
    indexed = core_alone("index", shell.files, *shell.models["index"], *at, "--json")
    report: dict[str, Any] = json.loads(indexed.stdout)
    assert indexed.returncode == 3, indexed.stderr
    assert report["documents"] == 4
    assert [Path(each["path"]).name for each in report["skipped"]] == ["hake.pdf"]
    asked = core_alone("ask", QUESTION, *shell.models["ask"], *at, "--json")
    assert asked.returncode == 0, asked.stderr
    assert 0 < json.loads(asked.stdout)["probability"] <= 1

"""mixrag diagnose as a person or a script meets it: a line for each stage, a JSON contract, one line of error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.test_commands import QUESTION, Shell
from tiny_encoder import save_encoder


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Shell:
    """A store that tests only read."""
    encoder = save_encoder(tmp_path_factory.mktemp("why-encoder"))
    shell = Shell(tmp_path_factory.mktemp("why"), encoder, tiny_folder("llama-chat"))
    shell.models["diagnose"] = shell.models["ask"]
    (shell.files / "evil.txt").write_text("The \x1b[31mred\u202e [bold]licence[/bold] costs zwölf crowns.")
    shell("index", shell.files)
    return shell


def test_the_contract_of_diagnose(shell: Shell) -> None:
    found = shell.json("diagnose", QUESTION, "--expected", "nine crowns", "--expected", "9 crowns", "-k", "all")
    assert set(found) == {
        *("question", "expected", "document", "answer", "right", "failed", "finding", "remedy", "stages")
    }
    assert found["expected"] == ["nine crowns", "9 crowns"] and found["right"] is False
    assert list(found["stages"]) == ["indexed", "retrieved", "weighted", "used", "decoded"]
    for stage in found["stages"].values():
        assert {"passed", "finding", "remedy"} <= set(stage)
    assert found["failed"] in ("weighted", "used", "decoded")
    failed = found["stages"][found["failed"]]
    assert failed["passed"] is False and (failed["finding"], failed["remedy"]) == (
        found["finding"],
        found["remedy"],
    )
    ranked = shell.json("passages", QUESTION, "-k", "all")["passages"]
    rank = found["stages"]["retrieved"]["rank"]
    assert "nine crowns" in ranked[rank - 1]["text"]
    assert found["stages"]["weighted"]["prior"] == pytest.approx(ranked[rank - 1]["prior"])
    scores = [shell.json("score", QUESTION, text, "-k", "all")["log_prob"] for text in ("nine crowns", "9 crowns")]
    assert found["stages"]["decoded"]["expected_log_prob"] == pytest.approx(max(scores), abs=1e-3)


def test_stages_that_were_not_reached_are_null(shell: Shell) -> None:
    found = shell.json("diagnose", QUESTION, "--expected", "ninety", "--where", "document=cod.txt")
    assert found["failed"] == "indexed" and found["stages"]["indexed"]["place"] == "absent"
    assert [found["stages"][name] for name in ("retrieved", "weighted", "used")] == [None] * 3
    assert found["stages"]["decoded"]["expected"] == "ninety"
    nothing = shell.json("diagnose", QUESTION, "--expected", "nine crowns", "--where", "document=none")
    assert nothing["answer"] is None and nothing["stages"]["indexed"]["place"] == "filtered"


def test_what_a_person_reads(shell: Shell) -> None:
    text = shell("diagnose", QUESTION, "--expected", "ninety crowns")
    assert "✗ indexed   failed    no passage of the store holds it" in text
    assert "– used      unknown   not reached" in text
    assert "the first stage that failed: indexed" in text and "remedy: index the document" in text
    text = shell("diagnose", QUESTION, "--expected", "nine crowns", "--document", "cod.txt", "-k", "1")
    assert "✓ indexed   passed    1 passage that may be retrieved holds it: " in text and "cod.txt [0:47]" in text
    answer = shell.json("ask", QUESTION, "-k", "1")["answer"]
    if answer.strip():
        right = shell("diagnose", QUESTION, "--expected", answer, "-k", "1", "--document", "cod.txt")
        assert "the answer is right" in right and "remedy" not in right


def test_documents_cannot_steer_the_terminal(shell: Shell) -> None:
    (shell.folder / "out").mkdir(exist_ok=True)
    text = shell(
        "diagnose", QUESTION, "--expected", "zwölf \x1b[31mcrowns", "--document", "[bold]\u202eevil", "-k", "all"
    )
    assert "\x1b" not in text and "\u202e" not in text and "[bold]" in text


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--expected", " "], "an expected answer; found an empty one"),
        (["--expected", "x\udcff"], "in UTF-8"),
        (["--expected", "x", "--document", "\udcff"], "in UTF-8"),
        (["--expected", "x", "-k", "-1"], "k to be a whole number"),
        (["--expected", "x", "--store", "/no/such/store"], "mixrag index"),
    ],
)
def test_errors_are_one_line(shell: Shell, arguments: list[str], part: str) -> None:
    assert part in shell.refused("diagnose", QUESTION, *arguments)


def test_it_explains_itself_and_needs_an_expected_answer() -> None:
    line = [sys.executable, "-m", "mixrag", "diagnose"]
    options = {"capture_output": True, "text": True, "timeout": 60, "env": {**os.environ, "COLUMNS": "120"}}
    done = subprocess.run([*line, "--help"], **options)
    assert done.returncode == 0 and "--expected" in done.stdout and "--document" in done.stdout
    assert subprocess.run([*line, QUESTION], **options).returncode == 2


def test_the_document_is_one_line_of_valid_json(shell: Shell) -> None:
    text = shell("diagnose", QUESTION, "--expected", "zwölf crowns", "--json")
    assert text.count("\n") == 1 and json.loads(text)["stages"]["indexed"]["count"] == 1


def test_the_former_name_still_works_and_says_the_new_one(shell: Shell) -> None:
    shell.models["why"] = shell.models["diagnose"]
    assert shell.json("why", QUESTION, "--expected", "nine crowns") == shell.json(
        "diagnose", QUESTION, "--expected", "nine crowns"
    )
    shell("why", QUESTION, "--expected", "nine crowns")
    assert "mixrag why is now called mixrag diagnose" in shell.errors

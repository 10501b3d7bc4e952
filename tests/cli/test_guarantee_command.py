"""mixrag guarantee, and what ask says of an answer that it covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.test_commands import QUESTION, Shell, encoder, indexed  # noqa: F401 - fixtures
from cli.test_eval import calibrated
from evaluation.test_guarantee_run import record
from mixrag.answers.confidence import read_calibration
from mixrag.answers.guarantee import CertifiedGroup, Guarantee, calibration_digest, write_guarantee
from mixrag.evaluation import guarantee as module


@pytest.fixture
def shell(indexed: Shell, tmp_path: Path) -> Shell:  # noqa: F811
    indexed.models["guarantee"] = indexed.models["ask"]
    return indexed


def test_few_pairs_and_no_confidence_are_refused_in_one_line(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"question": "Why?", "answers": ["so"]}\n')
    assert "29 pairs or more" in shell.refused("guarantee", tmp_path / "p.jsonl")
    lines = "".join(json.dumps({"question": f"Why {i}?", "answers": ["so"]}) + "\n" for i in range(60))
    (tmp_path / "p.jsonl").write_text(lines)
    assert "--split" in shell.refused("guarantee", tmp_path / "p.jsonl")
    assert "--risk to be a number" in shell.refused("guarantee", tmp_path / "p.jsonl", "--risk", "0")


def guaranteed(folder: Path, threshold: float) -> Path:
    """A confidence with a guarantee beside it."""
    folder.mkdir()
    path = calibrated(folder / "confidence.json", threshold=0.0)
    group = CertifiedGroup("", 212, 90, threshold, 100, 4, 0.09)
    write_guarantee(
        Guarantee(0.1, 0.05, (group,), calibration=calibration_digest(read_calibration(path))),
        folder / "guarantee.json",
    )
    return path


def test_ask_says_what_is_covered(shell: Shell, tmp_path: Path) -> None:
    path = guaranteed(tmp_path / "all", 0.0)
    shown = " ".join(shell("ask", QUESTION, "--confidence", path).split())
    words = "covered: of answers like this at least 90 % are right, with probability 95 % (n = 212 pairs)"
    assert words in shown
    found = shell.json("ask", QUESTION, "--confidence", path)
    assert found["guarantee"]["n"] == 212 and found["guarantee"]["right"] == pytest.approx(0.9)
    assert shell.json("ask", QUESTION)["guarantee"] is None


def test_what_is_not_covered_is_withheld_where_that_is_asked_for(shell: Shell, tmp_path: Path) -> None:
    path = guaranteed(tmp_path / "none", 1.0)
    assert shell.json("ask", QUESTION, "--confidence", path)["guarantee"] is None
    assert shell.json("ask", QUESTION, "--confidence", path)["answer"] is not None
    withheld = shell.json("ask", QUESTION, "--confidence", path, "--guaranteed-only")
    assert withheld["answer"] is None and withheld["confidence"]["threshold"] == 1.0
    assert "No answer" in shell("ask", QUESTION, "--confidence", path, "--guaranteed-only")
    assert "a guarantee that applies" in shell.refused("ask", QUESTION, "--guaranteed-only")


def test_from_pairs_to_a_covered_answer(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers are given, since a tiny model is never right."""
    monkeypatch.setattr(
        module, "answered", lambda rag, pairs, *_: [record(i, -0.1, 1.0) for i in range(len(pairs))]
    )
    lines = "".join(json.dumps({"question": f"Why {i}?", "answers": ["so"]}) + "\n" for i in range(40))
    (tmp_path / "p.jsonl").write_text(lines)
    options = ("--confidence", calibrated(tmp_path / "c.json", threshold=0.0), "--out", tmp_path / "out")
    shown = " ".join(shell("guarantee", tmp_path / "p.jsonl", *options).split())
    assert "at least 90 % of the answers are right, with probability 95 % (40 of 40 pairs answered" in shown
    found = shell.json("guarantee", tmp_path / "p.jsonl", *options, "--delta", "0.1")
    assert found["delta"] == 0.1 and found["groups"][0]["n"] == 40 and found["folder"] == str(tmp_path / "out")
    only = shell.json("ask", QUESTION, "--confidence", tmp_path / "out" / "confidence.json", "--guaranteed-only")
    assert only["confidence"]["threshold"] == found["groups"][0]["threshold"]

"""mixrag guarantee, and what ask says of an answer that it covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.test_commands import QUESTION, Shell, encoder, indexed  # noqa: F401 - fixtures
from cli.test_eval import calibrated
from evaluation.test_guarantee_run import record
from mixrag import RAG
from mixrag.answers.applied_calibration import guaranteed_conditions
from mixrag.answers.confidence import read_calibration
from mixrag.answers.guarantee import CertifiedGroup, Guarantee, calibration_digest
from mixrag.answers.guarantee_file import write_guarantee
from mixrag.cli.guarantee import _shown
from mixrag.evaluation import guarantee as module
from mixrag.probability import upper_risk

EXPLAIN = "Explain the licence to fish cod."
AUTO = ("--kind", "auto", "--confidence")


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


def guaranteed(shell: Shell, folder: Path, threshold: float) -> Path:
    """A confidence with a guarantee beside it."""
    folder.mkdir()
    path = calibrated(folder / "confidence.json", threshold=0.0)
    named = dict(zip(shell.models["ask"][::2], shell.models["ask"][1::2], strict=True))
    models = {"encoder": named["--encoder"], "generator": named["--generator"]}
    with RAG.open(
        shell.store, **models, settings={"max_tokens": int(named["--max-tokens"]), "kind": "auto"}
    ) as rag:
        found = Guarantee(
            0.1,
            0.05,
            (CertifiedGroup("", 212, 90, threshold, 100, 4, upper_risk(100, 4, 0.05)),),
            sources=(("p.jsonl", "5" * 64),),
            settings=guaranteed_conditions(rag.settings),
            models=rag.models_digest,
            calibration=calibration_digest(read_calibration(path)),
            documents=rag.documents_digest,
        )
    write_guarantee(found, folder / "guarantee.json")
    return path


def test_ask_says_what_is_covered(shell: Shell, tmp_path: Path) -> None:
    path = guaranteed(shell, tmp_path / "all", 0.0)
    shown = " ".join(shell("ask", QUESTION, *AUTO, path).split())
    words = "covered: of answers like this at least 90 % are right, with probability 95 % (n = 212 pairs)"
    assert words in shown
    found = shell.json("ask", QUESTION, *AUTO, path)
    assert found["guarantee"]["n"] == 212 and found["guarantee"]["right"] == pytest.approx(0.9)
    assert shell.json("ask", QUESTION)["guarantee"] is None and shell.json("ask", QUESTION)["not_covered"] is None
    told = "not covered by the guarantee: it was tested with other max_tokens"
    assert told in " ".join(shell("ask", QUESTION, *AUTO, path, "--max-tokens", "5").split())
    told = "answers of kind span, and this question is asked for an extract"
    assert told in " ".join(shell("ask", EXPLAIN, *AUTO, path).split())


def test_a_damaged_guarantee_is_one_line_and_covers_nothing(shell: Shell, tmp_path: Path) -> None:
    path = guaranteed(shell, tmp_path / "all", 0.0)
    file = path.with_name("guarantee.json")
    file.write_text(file.read_text().replace('"answered": 100', '"answered": 10'))
    found = shell.json("ask", QUESTION, *AUTO, path)
    assert found["guarantee"] is None and found["confidence"] is not None
    (line,) = shell.errors.strip().split("\n")
    assert "4 wrong of 10, which do not pass the test" in line and "mixrag guarantee" in line
    assert shell("ask", QUESTION, *AUTO, path, "--guaranteed-only", code=1) == ""
    assert "a guarantee that applies" in shell.errors


def test_thresholds_that_round_to_one_are_shown_in_full() -> None:
    assert [_shown(each) for each in (0.25, 0.9994, 0.99951, 1.0)] == ["0.250", "0.999", "0.99951", "1.000"]


def test_what_is_not_covered_is_withheld_where_that_is_asked_for(shell: Shell, tmp_path: Path) -> None:
    path = guaranteed(shell, tmp_path / "none", 1.0)
    assert shell.json("ask", QUESTION, *AUTO, path)["guarantee"] is None
    assert shell.json("ask", QUESTION, *AUTO, path)["answer"] is not None
    withheld = shell.json("ask", QUESTION, *AUTO, path, "--guaranteed-only", code=4)
    assert withheld["answer"] is None and withheld["confidence"]["threshold"] == 1.0
    assert "No answer" in shell("ask", QUESTION, *AUTO, path, "--guaranteed-only", code=4)
    shown = shell("ask", EXPLAIN, *AUTO, path, "--guaranteed-only", code=4)
    assert "No answer: no guarantee covers it: it was tested on answers of kind span" in " ".join(shown.split())
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
    assert "does not say on which questions it was fitted" in shown
    found = shell.json("guarantee", tmp_path / "p.jsonl", *options, "--delta", "0.1")
    assert found["delta"] == 0.1 and found["groups"][0]["n"] == 40 and found["folder"] == str(tmp_path / "out")
    only = shell.json("ask", QUESTION, "--confidence", tmp_path / "out" / "confidence.json", "--guaranteed-only")
    assert "kind auto or span" in shell.refused("guarantee", tmp_path / "p.jsonl", *options, "--kind", "extract")
    assert only["confidence"]["threshold"] == found["groups"][0]["threshold"]

"""mixrag eval, and what ask says once it has a confidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.test_commands import QUESTION, TEXTS, Shell, encoder, indexed  # noqa: F401 - fixtures
from mixrag.answers.confidence import LEVELS, ConfidenceMap, level_of, write_calibration


@pytest.fixture
def shell(indexed: Shell, tmp_path: Path) -> Shell:  # noqa: F811
    indexed.models["eval"] = indexed.models["ask"]
    lines = [{"question": f"What about {name}?", "answers": [text], "doc": name} for name, text in TEXTS.items()]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return indexed


def calibrated(path: Path, **changes: Any) -> Path:
    write_calibration(
        replace(
            ConfidenceMap(
                "temperature",
                right={"plain": 0.5},
                levels={words: (60, 15) for words, _ in LEVELS},
                threshold=0.9,
                fitted_on="sixty pairs",
            ),
            **changes,
        ),
        path,
    )
    return path


def test_the_contract_of_eval(shell: Shell, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--systems", "closed-book,sequence", "-k", "2")
    found = shell.json("eval", tmp_path / "pairs.jsonl", *options)
    assert set(found["systems"]) == {"closed-book", "sequence"}
    for system in found["systems"].values():
        assert {"exact_match", "f1", "contained", "nll", "ece", "auroc", "n"} <= set(system) and system["n"] == 3
    assert "recall@1" in found["retrieval"] and found["pairs"] == ["pairs.jsonl"]
    assert any("40 pairs or more" in notice for notice in found["notices"])
    assert shell.errors == "" and found == json.loads((tmp_path / "out" / "report.json").read_text())


def test_a_person_reads_tables_and_progress(shell: Shell, tmp_path: Path) -> None:
    shown = shell("eval", tmp_path / "pairs.jsonl", "--out", tmp_path / "out", "--systems", "sequence")
    assert (
        "EM" in shown and "recall@5" in shown and str(tmp_path / "out" / "report.html") in shown.replace("\n", "")
    )
    assert "sequence: 3 of 3 questions" in shell.errors and "40 pairs or more" in shell.errors
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    "options, told",
    [
        (("--systems", "rag"), "found rag"),
        (("--distractors", "many"), "found 'many'"),
        (("--questions", "0"), "--questions to be a whole number"),
        (("--coverage", "2"), "--coverage to be a number in (0, 1]"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    shell: Shell, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    assert told in shell.refused("eval", tmp_path / "pairs.jsonl", "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_an_answer_that_is_not_sure_enough_is_withheld(shell: Shell, tmp_path: Path) -> None:
    path = calibrated(tmp_path / "c.json")
    shown = shell("ask", QUESTION, "--confidence", path, code=4)
    assert shown.startswith("No answer: the best guess is ")
    assert ": of answers this sure, about 2 in 10 were right.\nNearest passages:\n" in shown
    assert "The best guess would be: " not in shown and "prior" not in shown
    why = shell("ask", QUESTION, "--confidence", path, "--why", code=4)
    assert "The best guess would be: " in why and "prior" in why and "0.900 is asked for" in why
    assert "calibrated on sixty pairs" in " ".join(why.split())
    assert shell("ask", QUESTION, "--confidence", path, "--quiet", code=4) == ""
    found = shell.json("ask", QUESTION, "--confidence", path, code=4)
    assert found["confidence"]["words"] == level_of(found["confidence"]["value"])
    assert (found["confidence"]["level_right"], found["confidence"]["level_n"]) == (0.25, 60)
    assert found["confidence"]["abstains"] is True and found["answer"] is None and found["best_guess"]
    assert 0 <= found["confidence"]["value"] < found["confidence"]["threshold"] == 0.9


def test_the_threshold_can_be_set_or_left_out(shell: Shell, tmp_path: Path) -> None:
    path = calibrated(tmp_path / "c.json")
    sure = shell("ask", QUESTION, "--confidence", path, "--abstain-below", "0", "--why")
    assert "No answer" not in sure
    assert sure.index("of answers this sure, about 2 in 10 were right") < sure.index("confidence = ")
    found = shell.json("ask", QUESTION, "--confidence", path, "--abstain-below", "0")
    assert found["confidence"]["abstains"] is False and found["confidence"]["threshold"] == 0.0
    assert shell.json("ask", QUESTION)["confidence"] is None
    assert "a calibration that applies" in shell.refused("ask", QUESTION, "--abstain-below", "0.5")
    assert "to be a number in [0, 1]" in shell.refused("ask", QUESTION, "--abstain-below", "2")


def test_a_confidence_of_other_settings_is_not_shown(shell: Shell, tmp_path: Path) -> None:
    path = calibrated(tmp_path / "c.json", settings={"k": 4})
    shown = shell("ask", QUESTION, "--confidence", path)
    assert "not known: the confidence was fitted with other k" in " ".join(shown.split())
    assert "mixrag calibrate fits one" in shown and "confidence = " not in shown
    why = " ".join(shell("ask", QUESTION, "--confidence", path, "--why").split())
    assert "p(answer) is that of this k, and says nothing of how often such answers are right" in why
    assert shell.json("ask", QUESTION, "--confidence", path)["confidence"] is None
    assert shell.json("ask", QUESTION, "--confidence", path, "-k", "4", code=4)["confidence"] is not None


def test_samples_that_say_the_same_add_to_the_mass(shell: Shell) -> None:
    alone, with_others = (shell.json("ask", QUESTION, "--samples", n, "--max-tokens", "1") for n in ("0", "40"))
    assert alone["log_mass"] == alone["log_prob"] == with_others["log_prob"] <= with_others["log_mass"] <= 0.0


def test_files_that_are_no_calibration_are_named(shell: Shell, tmp_path: Path) -> None:
    assert "no.json" in shell.refused("ask", QUESTION, "--confidence", tmp_path / "no.json")
    (tmp_path / "c.json").write_text("{}")
    assert "mixrag eval" in shell.refused("ask", QUESTION, "--confidence", tmp_path / "c.json")


def test_weights_and_adaptive_k_are_options(shell: Shell) -> None:
    flat = shell.json("passages", QUESTION, "-k", "3", "--weights", "uniform")
    assert [passage["prior"] for passage in flat["passages"]] == pytest.approx([1 / 3] * 3)
    few = shell.json("passages", QUESTION, "-k", "3", "--max-outside", "0.99")
    assert len(few["passages"]) == 1

"""A confidence fitted on stored answers: groups, ranges of settings, what is refused; and the command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixrag import Settings
from mixrag.answers.confidence import conditions, read_calibration, write_calibration
from mixrag.answers.signals import sigmoid
from mixrag.cli import main
from mixrag.config.command_settings import CalibrationSettings
from mixrag.errors import MixragError, PairsError
from mixrag.evaluation.refit import StoredAnswers, read_answers, refit
from mixrag.evaluation.scoring import Record
from mixrag.pairs.pairs import question_digest

SETTINGS = conditions(Settings(k=5))


def records(n: int, seed: int, scale: float = 0.3, **changes: Any) -> list[Record]:
    """Answers right with probability sigmoid(scale · logit(p))."""
    source = np.random.default_rng(seed)
    found = []
    for i, odds in enumerate(source.normal(0.0, 2.0, n)):
        log_p = math.log(sigmoid(odds))
        record = Record(
            question=f"q{i}",
            document=None,
            answer="four crowns",
            exact=float(source.random() < sigmoid(scale * odds)),
            f1=0.5,
            contained=False,
            log_prob=log_p,
            nll=1.0,
            nll_tokens=2,
            rank=1,
            recall_k=20,
            log_mass=log_p,
            support=0.7,
            tokens=3,
            priors=(0.6, 0.4),
            posteriors=(0.9, 0.1),
            relevant=(True, False),
            seconds=0.1,
            p_empty=0.1,
            entropy=0.3,
            best_prior=0.6,
            overlap=0.9,
            sentence=0.5,
            best_sentence=0.75,
            labels=1.0,
            settings=SETTINGS,
            models="m",
        )
        found.append(replace(record, **changes))
    return found


def written(path: Path, by_system: dict[str, Sequence[Record]], old: bool = False) -> Path:
    """A file of answers as an evaluation writes it; ``old``: as version 0.1 did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    later = (
        "p_empty",
        "entropy",
        "best_prior",
        "overlap",
        "settings",
        "models",
        "sentence",
        "best_sentence",
        "labels",
    )
    lines = []
    for system, some in by_system.items():
        for number, record in enumerate(some):
            row = {"system": system, "pair": f"{system}{number}", **asdict(record)}
            lines.append(json.dumps({name: row[name] for name in row if not (old and name in later)}))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_file_gives_the_trusted_system_and_its_off_corpus_questions(tmp_path: Path) -> None:
    both = {"concat 1a": records(3, 1), "sequence 1a": records(4, 2), "off-corpus 1a": records(5, 3)}
    path = written(tmp_path / "report-law" / "answers.jsonl", both)
    for given, name in ((str(path), "report-law"), (str(path.parent), "report-law"), (f"law={path}", "law")):
        found = read_answers(given)
        assert (found.name, len(found.records), len(found.unanswerable)) == (name, 4, 5)
    assert len(read_answers(str(path), "concat").records) == 3
    before = path.read_bytes()
    path.write_bytes(before + b'{"system": "se')
    assert len(read_answers(str(path)).records) == 4 and path.read_bytes() == before + b'{"system": "se'
    with pytest.raises(PairsError, match="found concat, sequence"):
        read_answers(str(path), "token")
    with pytest.raises(MixragError, match="no file"):
        read_answers(str(tmp_path / "none.jsonl"))
    two = written(tmp_path / "two.jsonl", {"sequence 1a": records(2, 1), "sequence 2b": records(2, 1)})
    with pytest.raises(PairsError, match="one store and model"):
        read_answers(str(two))


def test_several_files_are_groups_and_the_table_has_each_and_all() -> None:
    groups = [StoredAnswers("a", records(120, 1)), StoredAnswers("b", records(80, 2), records(30, 3, p_empty=0.9))]
    found = refit(groups, CalibrationSettings(calibration="temperature"), fitted_on="questions")
    assert [(each.group, each.n) for each in found.groups] == [("a", 120), ("b", 80), ("all", 200)]
    for each in found.groups:
        assert each.ece_after < each.ece_before and each.auroc_after == each.auroc_before
    own = found.calibration
    assert own.fitted_on.startswith("questions (200 questions, ") and own.models == "m"
    assert own.settings == SETTINGS and own.mismatch(Settings(k=5), "m") is None
    assert found.unanswerable_withheld is not None and found.unanswerable_withheld.n == 30


def test_a_confidence_names_the_questions_that_it_was_fitted_on() -> None:
    outside = [replace(each, question=f"Off? {i}") for i, each in enumerate(records(30, 3, p_empty=0.9))]
    group = StoredAnswers("a", records(60, 1), outside[:10])
    found = refit([group], CalibrationSettings(), unanswerable=[StoredAnswers("b", outside[10:])])
    asked = {*(f"q{i}" for i in range(60)), *(f"Off? {i}" for i in range(30))}
    assert found.calibration.fitted_on_questions == tuple(sorted(map(question_digest, asked)))
    unnamed = StoredAnswers("a", [replace(each, question="") for each in records(60, 1)])
    assert refit([unnamed]).calibration.fitted_on_questions == ()


def test_unanswerable_questions_fit_the_second_part() -> None:
    outside = [StoredAnswers("planted", records(40, 3, p_empty=0.9, support=0.5))]
    chosen = CalibrationSettings(calibration="two-part")
    found = refit([StoredAnswers("a", records(150, 1))], chosen, unanswerable=outside)
    assert found.calibration.method == "two-part" and found.calibration.answerable
    assert found.unanswerable_withheld is not None and found.unanswerable_withheld.mean > 0.9
    with pytest.raises(PairsError, match="20 questions"):
        refit([StoredAnswers("a", records(150, 1))], chosen)


def test_the_range_of_k_and_switch_is_that_of_the_answers() -> None:
    other = conditions(Settings(k=8, switch=0.5))
    both = [StoredAnswers("a", records(60, 1)), StoredAnswers("b", records(60, 2, settings=other))]
    own = refit(both, CalibrationSettings(calibration="temperature")).calibration
    assert own.settings["k"] == [5, 8] and own.settings["switch"] == [0.0, 0.5]
    for settings, mismatch in (
        (Settings(k=6, switch=0.2), None),
        (Settings(k=9), "k"),
        (Settings(group=2), "group"),
    ):
        assert own.mismatch(settings, "m") == mismatch
    unlike = records(60, 2, settings=conditions(Settings(group=2)))
    with pytest.raises(PairsError, match="same group"):
        refit([both[0], StoredAnswers("b", unlike)])
    with pytest.raises(PairsError, match="same models"):
        refit([both[0], StoredAnswers("b", records(60, 2, models="n"))])


def test_answers_of_an_earlier_version_are_fitted_on_what_they_have(tmp_path: Path) -> None:
    path = written(tmp_path / "answers.jsonl", {"sequence 1a": records(100, 1)}, old=True)
    found = refit([read_answers(str(path))])
    assert any("do not say their settings" in notice for notice in found.notices)
    assert found.calibration.models == ""
    assert not {"overlap", "spread", "best_prior", "shortfall"} & set(found.calibration.right)


def test_answers_of_an_earlier_version_were_given_without_the_settings_of_later_ones(tmp_path: Path) -> None:
    """No empty answer, nothing copied, no misspelt words: a confidence of them holds for these, and any k."""
    path = written(tmp_path / "answers.jsonl", {"sequence 1a": records(100, 1)}, old=True)
    own = refit([read_answers(str(path))]).calibration
    write_calibration(own, tmp_path / "c.json")
    own = read_calibration(tmp_path / "c.json")
    assert own.settings["empty_answer"] is False and own.settings["copy"] is False and "k" not in own.settings
    for settings, mismatch in (
        (Settings(k=9, lexical=0.5), None),
        (Settings(empty_answer=True), "empty_answer"),
        (Settings(copy=True), "copy"),
        (Settings(typos=True), "typos"),
    ):
        assert own.mismatch(settings, "m") == mismatch
    known = records(60, 2, settings=conditions(Settings(k=5, empty_answer=True)))
    with pytest.raises(PairsError, match="same empty_answer"):
        refit([read_answers(str(path)), StoredAnswers("b", known)])
    both = refit([read_answers(str(path)), StoredAnswers("b", records(60, 2))])
    assert both.calibration.settings["k"] == 5 and both.calibration.models == "m"


def test_settings_that_came_later_have_their_defaults_in_a_record_without_them() -> None:
    older = {name: value for name, value in SETTINGS.items() if name != "empty_answer"}
    found = refit([StoredAnswers("a", records(60, 1, settings=older)), StoredAnswers("b", records(60, 2))])
    assert found.calibration.settings["empty_answer"] is False
    with pytest.raises(PairsError, match="same empty_answer"):
        other = records(60, 2, settings=conditions(Settings(k=5, empty_answer=True)))
        refit([StoredAnswers("a", records(60, 1, settings=older)), StoredAnswers("b", other)])


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"models": "other"}, "same models, found those of m and other"),
        ({"settings": conditions(Settings(k=5, empty_answer=True))}, "same empty_answer, found False and True"),
        ({"settings": conditions(Settings(k=5, group=3))}, "same group, found 1 and 3"),
    ],
)
def test_questions_without_an_answer_are_of_the_same_models_and_settings(
    changes: dict[str, Any], told: str
) -> None:
    outside = records(30, 3, **changes)
    for answers, more in (
        ([StoredAnswers("a", records(100, 1))], [StoredAnswers("planted", (), outside)]),
        ([StoredAnswers("a", records(100, 1), outside)], []),
    ):
        with pytest.raises(PairsError) as error:
            refit(answers, unanswerable=more)
        assert told in " ".join(str(error.value).replace(";", ",").split()) and "\n" not in str(error.value)


def test_answers_of_other_models_than_those_it_is_for_are_refused() -> None:
    with pytest.raises(PairsError, match=r"models of --model, n.*m"):
        refit([StoredAnswers("a", records(100, 1))], models="n")
    assert refit([StoredAnswers("a", records(100, 1))], models="m").calibration.models == "m"
    assert refit([StoredAnswers("a", records(100, 1, models=""))], models="n").calibration.models == "n"


def test_groups_of_one_name_stay_apart_and_none_is_the_total() -> None:
    names = ("law", "law", "all", "law 2")
    answers = [StoredAnswers(name, records(60 + i, i)) for i, name in enumerate(names)]
    found = refit(answers, CalibrationSettings(calibration="temperature"))
    assert [(each.group, each.n) for each in found.groups] == [
        ("law", 60),
        ("law 3", 61),
        ("all 2", 62),
        ("law 2", 63),
        ("all", 246),
    ]


def test_records_without_a_gold_answer_are_questions_without_an_answer(tmp_path: Path) -> None:
    without = records(25, 3, exact=0.0, nll=0.0, nll_tokens=0)
    path = written(tmp_path / "a" / "answers.jsonl", {"mixture 1a": [*records(80, 1), *without]})
    found = read_answers(str(path))
    assert (len(found.records), len(found.unanswerable)) == (80, 25)
    fitted = refit([found])
    assert fitted.unanswerable == 25 and fitted.groups[0].n == 80
    assert sum(n for n, _ in fitted.calibration.levels.values()) == pytest.approx(100, abs=2)
    planted = written(tmp_path / "b" / "answers.jsonl", {"off-corpus 1a": without})
    assert len(read_answers(str(planted), unanswerable=True).unanswerable) == 25
    with pytest.raises(PairsError, match="answers of mixture"):
        read_answers(str(planted))


def test_an_answer_that_matches_although_there_is_none_counts_as_wrong_and_is_said() -> None:
    outside = [*records(30, 3, exact=0.0), *records(2, 4, exact=1.0)]
    found = refit([StoredAnswers("a", records(100, 1))], unanswerable=[StoredAnswers("planted", outside)])
    assert any(notice.startswith("2 answers") for notice in found.notices) and found.unanswerable == 32


def test_a_precision_that_no_threshold_attains_is_said() -> None:
    poor = [replace(record, exact=float(i % 8 == 0)) for i, record in enumerate(records(100, 1))]
    found = refit([StoredAnswers("a", poor)], CalibrationSettings(precision=0.99))
    assert not found.threshold.reached and any("0.99" in notice for notice in found.notices)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mixrag", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_writes_a_confidence_and_shows_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = written(tmp_path / "a" / "answers.jsonl", {"sequence 1a": records(120, 1)})
    second = written(tmp_path / "b" / "answers.jsonl", {"sequence 1a": records(80, 2)})
    planted = written(tmp_path / "planted.jsonl", {"sequence 1a": records(30, 3, p_empty=0.9)})
    out = tmp_path / "confidence.json"
    common = ("calibrate", first, f"law={second}", "--unanswerable", planted, "--out", out)
    assert command(monkeypatch, *common, "--calibration", "two-part", "--precision", "0.7") == 0
    shown = capsys.readouterr().out
    assert "law" in shown and "all" in shown and "ECE" in shown and "valid for k = 5" in shown
    own = read_calibration(out)
    assert own.method == "two-part" and own.precision == 0.7 and own.models == "m"
    assert command(monkeypatch, *common, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["group"] for each in found["groups"]] == ["a", "law", "all"]
    assert {"auroc_before", "auroc_after", "ece_before", "ece_after", "n"} <= set(found["groups"][0])
    assert found["unanswerable_withheld"]["n"] == 30 and found["file"] == str(out)


def test_the_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = written(tmp_path / "a" / "answers.jsonl", {"sequence 1a": records(10, 1)})
    for arguments, told in (((few,), "40 pairs or more"), ((tmp_path / "no.jsonl",), "no file")):
        assert command(monkeypatch, "calibrate", *arguments, "--out", tmp_path / "c.json") == 1
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


def test_no_model_library_is_needed() -> None:
    code = "import sys, mixrag.evaluation.refit; sys.exit('sentence_transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

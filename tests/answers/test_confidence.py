"""Confidence: what it is computed from, the map, the file, and what an answer says of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import Settings
from mixrag.answers.applied_calibration import apply_calibration
from mixrag.answers.confidence import (
    LEVELS,
    Confidence,
    ConfidenceMap,
    conditions,
    level_of,
    read_calibration,
    write_calibration,
)
from mixrag.answers.signals import Signals, features
from mixrag.errors import ModelError, SettingError

FITTED = ConfidenceMap(
    "two-part",
    right={"mass": 0.5, "number": -1.0},
    right_offset=1.0,
    answerable={"support": 2.0, "answered": 1.0},
    answerable_offset=-1.0,
    knots=((0.0, 0.1), (0.5, 0.4), (1.0, 0.9)),
    levels={"unsure": (80, 33)},
    threshold=0.3,
    precision=0.8,
    fitted_on="p",
    settings={"k": 5, "switch": 0.0},
    fitted_on_questions=("0123456789abcdef",),
)
SIGNALS = Signals(math.log(0.2), 0.7, p_empty=0.3)


def test_the_map_is_that_of_its_definition() -> None:
    right = 1 / (1 + math.exp(-(0.5 * math.log(0.2 / 0.8) + 1.0)))
    answerable = 1 / (1 + math.exp(-(2.0 * 0.7 + math.log(0.7 / 0.3) - 1.0)))
    x = right * answerable
    y = 0.1 + x * 0.6 if x <= 0.5 else 0.4 + (x - 0.5)
    assert FITTED.confidence(SIGNALS) == pytest.approx(y)
    assert FITTED.answerable_of(features(SIGNALS)) == pytest.approx(answerable)


def test_without_a_fit_the_confidence_is_the_probability_of_the_answer() -> None:
    """Given that something is answered 0.2, and that has the chance 0.7."""
    assert ConfidenceMap().confidence(SIGNALS) == pytest.approx(0.2 * 0.7)
    assert ConfidenceMap().confidence(replace(SIGNALS, p_empty=0.0)) == pytest.approx(0.2)
    assert ConfidenceMap().answerable_of(features(SIGNALS)) == 1.0


def test_a_signal_that_is_not_known_is_not_taken_for_a_number() -> None:
    needy = replace(FITTED, right={"overlap": 1.0})
    assert FITTED.can_judge(SIGNALS) and not needy.can_judge(SIGNALS)
    assert needy.can_judge(replace(SIGNALS, overlap=0.5))
    with pytest.raises(ModelError, match="overlap"):
        needy.confidence(SIGNALS)


@pytest.mark.parametrize(
    "value, words",
    [(1.0, "very likely"), (0.85, "very likely"), (0.849, "likely"), (0.3, "unsure"), (0.0, "unlikely")],
)
def test_levels_in_words_cover_all_confidences(value: float, words: str) -> None:
    assert level_of(value) == words and words in dict(LEVELS)


def test_a_confidence_says_in_words_how_often_its_like_was_right() -> None:
    sure = Confidence(0.7, 0.3, "p", level_n=80, level_right=0.8125)
    assert sure.sentence == "likely: of answers this sure, about 8 in 10 were right"
    assert replace(sure, level_n=12, level_right=0.75).sentence == "likely: of 12 answers this sure, 9 were right"
    assert Confidence(0.1, 0.3, "p").sentence == "unlikely"


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    write_calibration(FITTED, tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json") == FITTED
    content = json.loads((tmp_path / "c.json").read_text())
    del content["fitted_on_questions"]
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert read_calibration(tmp_path / "c.json") == replace(FITTED, fitted_on_questions=())


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3},
        {"right": {"mass": "1"}},
        {"right": {"mass": True}},
        {"right": {"mood": 1.0}},
        {"right": []},
        {"answerable": {"mood": 1.0}},
        {"right_offset": math.nan},
        {"levels": {"sure": [1, 1]}},
        {"levels": {"unsure": [1, 2]}},
        {"levels": {"unsure": [1]}},
        {"precision": 2.0},
        {"knots": [[0.5, 0.1], [0.2, 0.3]]},
        {"knots": [[0.1, 0.9], [0.2, 0.3]]},
        {"knots": [[0.1, 1.5]]},
        {"knots": [[0.1]]},
        {"method": "guess"},
        {"fitted_on": 3},
        {"fitted_on_questions": ["Who?"]},
        {"fitted_on_questions": [3]},
        {"settings": {"seed": 1}},
        {"settings": {"k": -1}},
        {"settings": {"k": [5, -1]}},
        {"settings": {"k": []}},
        {"settings": {"temperature": [0.1, 0.2]}},
        {"settings": []},
        {"threshold": None},
        {"threshold": 1.5},
        {"models": 3},
    ],
    ids=str,
)
def test_a_file_that_is_no_calibration_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "c.json"
    write_calibration(FITTED, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError, match="confidence file") as caught:
        read_calibration(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_version_0_1_gives_the_confidence_that_it_gave(tmp_path: Path) -> None:
    old = {
        "format": 1,
        "method": "logistic",
        "scale": 0.6,
        "slope": 3.0,
        "offset": -2.5,
        "knots": [],
        "threshold": 0.04,
        "fitted_on": "questions",
        "settings": {"k": 5},
        "models": "m",
    }
    (tmp_path / "c.json").write_text(json.dumps(old))
    found = read_calibration(tmp_path / "c.json")
    inner = 0.6 * math.log(0.2 / 0.8) + 3.0 * 0.7 - 2.5
    assert found.confidence(Signals(math.log(0.2), 0.7)) == pytest.approx(1 / (1 + math.exp(-inner)))
    assert (found.threshold, found.levels, found.models, found.settings) == (0.04, {}, "m", {"k": 5})
    write_calibration(found, tmp_path / "new.json")
    assert read_calibration(tmp_path / "new.json") == found


def test_a_range_of_k_and_switch_holds_for_what_is_between(tmp_path: Path) -> None:
    ranged = replace(FITTED, settings={"k": [3, 8], "switch": [0.0, 0.5], "group": 1})
    write_calibration(ranged, tmp_path / "c.json")
    found = read_calibration(tmp_path / "c.json")
    for k, switch, mismatch in (
        (3, 0.0, None),
        (5, 0.5, None),
        (9, 0.0, "k"),
        ("all", 0.0, "k"),
        (5, 0.6, "switch"),
    ):
        assert found.mismatch(Settings(k=k, switch=switch), "") == mismatch
    assert found.mismatch(Settings(k=5, group=2), "") == "group"
    assert replace(found, settings={"k": [3, "all"]}).mismatch(Settings(k="all"), "") is None


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"format": 1}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ModelError, match="confidence file"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(ModelError, match="check the path"):
        read_calibration(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [{"levels": []}, {"levels": None}, {"right": {"plain": 1e308, "mass": -1e308}}, {"right_offset": 1e9}],
)
def test_figures_that_make_no_confidence_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_calibration(FITTED, tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ModelError, match="confidence file"):
        read_calibration(tmp_path / "c.json")


def test_a_confidence_holds_for_the_settings_it_was_fitted_with() -> None:
    own = Settings(k=5)
    found = apply_calibration(FITTED, own, "m")
    assert found is not None and found.mismatch is None
    value, answerable = FITTED.confidence(SIGNALS), FITTED.answerable_of(features(SIGNALS))
    assert found.confidence(SIGNALS) == Confidence(value, 0.3, "p", answerable, 80, 33 / 80)
    for name, other in (("k", replace(own, k=6)), ("switch", replace(own, switch=1.0))):
        refused = apply_calibration(FITTED, other, "m")
        assert refused is not None and refused.mismatch == name and refused.confidence(SIGNALS) is None
    assert apply_calibration(None, own, "m") is None
    anywhere = apply_calibration(replace(FITTED, settings={}), replace(own, k=6), "m")
    assert anywhere is not None and anywhere.confidence(SIGNALS) is not None


@pytest.mark.parametrize(
    "changes", [{"temperature": 2.0}, {"lexical": 0.4}, {"lexical_temperature": 2.0}, {"null": 1.0}]
)
def test_another_prior_is_another_confidence(changes: dict[str, float]) -> None:
    fitted = replace(FITTED, settings=conditions(Settings()))
    assert fitted.mismatch(Settings(), "") is None
    assert fitted.mismatch(Settings(**changes), "") == next(iter(changes))


def test_other_models_are_another_confidence() -> None:
    fitted = replace(FITTED, models="mine")
    assert fitted.mismatch(Settings(), "mine") is None and fitted.mismatch(Settings(), "yours") == "models"


def test_the_threshold_of_the_settings_comes_first() -> None:
    value = FITTED.confidence(SIGNALS)
    for threshold, abstains in ((0.0, False), (value, False), (value + 1e-9, True), (1.0, True)):
        found = apply_calibration(FITTED, Settings(abstain_below=threshold), "m")
        assert found is not None
        confidence = found.confidence(SIGNALS)
        assert confidence is not None and confidence.abstains is abstains


@pytest.mark.parametrize("calibration, found", [(None, "found none"), (FITTED, "another k")])
def test_nothing_can_be_withheld_without_a_calibration_that_holds(
    calibration: ConfidenceMap | None, found: str
) -> None:
    with pytest.raises(SettingError, match=found):
        apply_calibration(calibration, Settings(k=6, abstain_below=0.5), "m")
    apply_calibration(calibration, Settings(k=6, abstain_below=0.0), "m")


def test_the_width_of_a_search_counts_only_where_there_is_one() -> None:
    assert conditions(Settings(beams=3)) == conditions(Settings(beams=4))
    assert conditions(Settings(beams=3, decoder="beam")) != conditions(Settings(beams=4, decoder="beam"))
    assert conditions(Settings(samples=2, decoder="beam")) != conditions(Settings(decoder="beam"))
    assert conditions(Settings(samples=2, decoder="beam")) != conditions(Settings(samples=3, decoder="beam"))


def test_where_the_passage_may_change_counts_only_where_it_does() -> None:
    assert conditions(Settings(switch_at="sentence")) == conditions(Settings())
    changing = (conditions(Settings(switch=0.3, switch_at=each)) for each in ("token", "sentence"))
    assert next(changing) != next(changing)

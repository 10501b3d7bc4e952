"""Confidence: what it is computed from, the map, the file, and what an answer says of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enumeration import Toy
from mixrag import Settings
from mixrag.answers.confidence import (
    LARGEST_LOG_ODDS,
    Confidence,
    ConfidenceMap,
    Signals,
    apply_calibration,
    conditions,
    log_mass,
    log_odds,
    read_calibration,
    sigmoid,
    write_calibration,
)
from mixrag.errors import ModelError, SettingError
from mixrag.inference.beam_search import beam
from tables import toy_mixture

FITTED = ConfidenceMap(
    "logistic", 0.5, 2.0, -1.0, ((0.0, 0.1), (0.5, 0.4), (1.0, 0.9)), 0.3, "p", {"k": 5, "switch": 0.0}
)


@pytest.mark.parametrize("p", [1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
def test_log_odds_are_those_of_the_probability_and_sigmoid_undoes_them(p: float) -> None:
    assert log_odds(math.log(p)) == pytest.approx(math.log(p / (1 - p)), rel=1e-6)
    assert sigmoid(log_odds(math.log(p))) == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("log_p, odds", [(0.0, LARGEST_LOG_ODDS), (-1e4, -LARGEST_LOG_ODDS), (-math.inf, -30.0)])
def test_log_odds_stay_finite(log_p: float, odds: float) -> None:
    assert log_odds(log_p) == odds
    assert sigmoid(-1e4) == 0.0 and sigmoid(1e4) == 1.0


def test_the_map_is_that_of_its_definition() -> None:
    p, support = 0.2, 0.7
    inner = 0.5 * math.log(p / (1 - p)) + 2.0 * support - 1.0
    x = 1 / (1 + math.exp(-inner))
    y = 0.1 + x * 0.6 if x <= 0.5 else 0.4 + (x - 0.5)
    assert FITTED.confidence(Signals(math.log(p), support)) == pytest.approx(y)
    assert ConfidenceMap().confidence(Signals(math.log(p), support)) == pytest.approx(p)


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
def test_wordings_that_say_the_same_are_added_up(switch: float) -> None:
    """Words "the" and "w1": answers are equal once articles are gone, and the chances of all are enumerated."""
    toy = Toy(prior=[0.7, 0.3], seed=3, vocabulary=3, length=3)
    mixture = toy_mixture(toy, switch)
    mixture = replace(mixture, generator=replace(mixture.generator, words=("the", "w1", "<end>")))
    found = beam(mixture, 50, 3).answers
    said = {(1, 2), (0, 1, 2), (1, 0, 2)}  # "w1", "the w1", "w1 the"
    best = next(answer for answer in found if answer.tokens == (1, 2))
    expected = sum(toy.probability(tokens, switch) for tokens in said)
    assert {a.tokens for a in found} >= said
    assert math.exp(log_mass(best, found)) == pytest.approx(expected, rel=1e-6)
    assert log_mass(best, ()) == pytest.approx(best.log_prob)
    assert log_mass(best, [*found, *found]) == pytest.approx(log_mass(best, found))


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    write_calibration(FITTED, tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json") == FITTED


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"scale": "1"},
        {"scale": True},
        {"offset": math.nan},
        {"knots": [[0.5, 0.1], [0.2, 0.3]]},
        {"knots": [[0.1, 0.9], [0.2, 0.3]]},
        {"knots": [[0.1, 1.5]]},
        {"knots": [[0.1]]},
        {"method": "guess"},
        {"fitted_on": 3},
        {"settings": {"seed": 1}},
        {"settings": {"k": -1}},
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


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"format": 1}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ModelError, match="confidence file"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(ModelError, match="check the path"):
        read_calibration(tmp_path / "none.json")


SIGNALS = Signals(math.log(0.2), 0.7)


def test_a_confidence_holds_for_the_settings_it_was_fitted_with() -> None:
    own = Settings(k=5)
    found = apply_calibration(FITTED, own, "m")
    assert found is not None and found.mismatch is None
    assert found.confidence(SIGNALS) == Confidence(FITTED.confidence(SIGNALS), 0.3, "p")
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

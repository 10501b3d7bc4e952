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
from mixrag.confidence import (
    LARGEST_LOG_ODDS,
    Calibration,
    Signals,
    conditions,
    judged,
    log_mass,
    log_odds,
    read_calibration,
    sigmoid,
    write_calibration,
)
from mixrag.decoding import beam
from mixrag.errors import ModelError
from tables import toy_mixture

FITTED = Calibration(
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
    assert Calibration().confidence(Signals(math.log(p), support)) == pytest.approx(p)


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


def test_a_confidence_holds_for_the_settings_it_was_fitted_with() -> None:
    signals, own = Signals(math.log(0.2), 0.7), Settings(k=5)
    found = judged(signals, FITTED, own)
    assert found is not None and found.value == FITTED.confidence(signals) and found.threshold == 0.3
    assert judged(signals, FITTED, replace(own, k=6)) is None and FITTED.differs(replace(own, k=6)) == "k"
    assert judged(signals, FITTED, replace(own, switch=1.0)) is None
    assert judged(signals, None, own) is None
    assert judged(signals, replace(FITTED, settings={}), replace(own, k=6)) is not None


def test_the_threshold_of_the_settings_comes_first() -> None:
    signals = Signals(math.log(0.2), 0.7)
    value = FITTED.confidence(signals)
    for threshold, abstains in ((0.0, False), (value, False), (value + 1e-9, True), (1.0, True)):
        found = judged(signals, FITTED, Settings(abstain_below=threshold))
        assert found is not None and found.abstains is abstains


def test_the_width_of_a_search_counts_only_where_there_is_one() -> None:
    assert conditions(Settings(beams=3)) == conditions(Settings(beams=4))
    assert conditions(Settings(beams=3, decoder="beam")) != conditions(Settings(beams=4, decoder="beam"))

"""A guarantee: its file, when it applies, which answers it covers, and what is withheld for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import Settings
from mixrag.answers.confidence import (
    AppliedCalibration,
    ConfidenceMap,
    Signals,
    apply_calibration,
    conditions,
)
from mixrag.answers.guarantee import (
    CertifiedGroup,
    Guarantee,
    calibration_digest,
    read_guarantee,
    write_guarantee,
)
from mixrag.errors import ModelError, SettingError

MAP = ConfidenceMap("temperature", right={"plain": 0.5}, fitted_on="sixty pairs")
FOUND = Guarantee(
    risk=0.1,
    delta=0.05,
    groups=(CertifiedGroup("", 212, 90, 0.6, 100, 4, 0.09, 0.4),),
    pairs="p.jsonl (212 questions)",
    settings=conditions(Settings()),
    models="m",
    calibration=calibration_digest(MAP),
)
GROUP = {"value": "", "n": 9, "wrong_of_all": 1}
KINDS = replace(
    FOUND,
    by="kind",
    groups=(CertifiedGroup("law", 100, 50, 0.8, 50, 1, 0.09), CertifiedGroup("letter", 40, 30)),
)


@pytest.mark.parametrize("found", [FOUND, KINDS], ids=["all", "kinds"])
def test_a_guarantee_survives_its_file(tmp_path: Path, found: Guarantee) -> None:
    write_guarantee(found, tmp_path / "g.json")
    assert read_guarantee(tmp_path / "g.json") == found


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"risk": 0},
        {"risk": 1.0},
        {"delta": "0.05"},
        {"groups": []},
        {"groups": 3},
        {"groups": [{"value": "", "n": 3}]},
        {"groups": [{**GROUP, "threshold": 1.5}]},
        {"groups": [{**GROUP, "answered": 10}]},
        {"groups": [{**GROUP, "n": -1}]},
        {"groups": [GROUP, GROUP]},
        {"groups": [{**GROUP, "value": "law"}]},
        {"groups": [{**GROUP, "more": 1}]},
        {"settings": {"seed": 1}},
        {"settings": []},
        {"models": None},
        {"pairs": 3},
    ],
    ids=str,
)
def test_a_file_that_is_no_guarantee_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "g.json"
    write_guarantee(FOUND, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError, match="mixrag guarantee") as caught:
        read_guarantee(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"format": 1}', '{"format": NaN}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "g.json").write_text(content)
    with pytest.raises(ModelError, match="a guarantee, format 1"):
        read_guarantee(tmp_path / "g.json")
    with pytest.raises(ModelError, match="a guarantee at"):
        read_guarantee(tmp_path / "none.json")


def test_it_covers_what_reaches_its_threshold() -> None:
    assert FOUND.covering(0.59, {}) is None
    covered = FOUND.covering(0.6, {"kind": "law"})
    assert covered and (covered.n, covered.answered, covered.wrong, covered.threshold) == (212, 100, 4, 0.6)
    words = "covered: of answers like this at least 90 % are right, with probability 95 % (n = 212 pairs)"
    assert covered.words == words


def test_each_kind_has_its_own_threshold() -> None:
    assert KINDS.covering(0.8, {"kind": "law"}) and not KINDS.covering(0.7, {"kind": "law"})
    assert not KINDS.covering(1.0, {"kind": "letter"})  # tested, and not certified
    assert not KINDS.covering(1.0, {"kind": "novel"}) and not KINDS.covering(1.0, {})
    covered = KINDS.covering(0.9, {"kind": "law"})
    assert covered and "answers like this from law at least" in covered.words


def applied(guarantee: Guarantee, settings: Settings | None = None, models: str = "m") -> AppliedCalibration:
    found = apply_calibration(MAP, settings or Settings(), models, guarantee)
    assert found is not None
    return found


def test_it_applies_to_its_own_settings_models_and_confidence() -> None:
    assert applied(FOUND).guarantee == FOUND
    assert applied(FOUND, models="others").guarantee is None
    assert applied(FOUND, Settings(k=7)).guarantee is None
    assert applied(replace(FOUND, calibration="other")).guarantee is None
    moved = replace(MAP, threshold=0.4, models="x", fitted_on="other words")
    other = replace(MAP, right={"plain": 0.6})
    assert calibration_digest(moved) == calibration_digest(MAP) != calibration_digest(other)


def test_it_is_shown_and_not_enforced_unless_asked() -> None:
    low, high = (Signals(math.log(p), 0.5) for p in (0.1, 0.9))
    shown = applied(FOUND)
    for signals, covered in ((low, False), (high, True)):
        sure = shown.confidence(signals)
        assert sure and not sure.abstains and bool(shown.coverage(sure, {})) is covered
    only = applied(FOUND, Settings(guaranteed_only=True))
    sure, unsure = only.confidence(high), only.confidence(low)
    assert sure and unsure and not sure.abstains and unsure.abstains
    assert unsure.threshold == 0.6 and only.may_abstain and not shown.may_abstain
    strict = applied(FOUND, Settings(guaranteed_only=True, abstain_below=0.9)).confidence(high)
    assert strict and strict.threshold == 0.9


def test_kinds_that_are_not_certified_are_withheld_whatever_the_confidence() -> None:
    only = applied(KINDS, Settings(guaranteed_only=True))
    certain = Signals(0.0, 0.5)
    sure = only.confidence(certain, {"kind": "letter"})
    assert sure and sure.abstains
    given = only.confidence(certain, {"kind": "law"})
    assert given and not given.abstains


def test_where_none_applies_nothing_can_be_asked_for() -> None:
    settings = Settings(guaranteed_only=True)
    for guarantee in (None, replace(FOUND, models="others")):
        with pytest.raises(SettingError, match="a guarantee that applies"):
            apply_calibration(MAP, settings, "m", guarantee)
    with pytest.raises(SettingError, match="mixrag guarantee"):
        apply_calibration(None, settings, "m")

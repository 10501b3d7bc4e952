"""A guarantee: its file, when it applies, which answers it covers, and what is withheld for it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import Settings
from mixrag.answers.applied_calibration import (
    AppliedCalibration,
    apply_calibration,
    guarantee_for,
    guaranteed_conditions,
)
from mixrag.answers.confidence import ConfidenceMap, write_calibration
from mixrag.answers.guarantee import CertifiedGroup, Guarantee, calibration_digest, percent
from mixrag.answers.guarantee_file import MOST_PAIRS, read_guarantee, write_guarantee
from mixrag.answers.signals import Signals
from mixrag.config.model_config import ModelConfig
from mixrag.errors import ModelError, SettingError
from mixrag.probability import upper_risk

MODELS, DOCUMENTS = "a" * 16, "d" * 64
MAP = ConfidenceMap("temperature", right={"plain": 0.5}, fitted_on="sixty pairs")
FOUND = Guarantee(
    risk=0.1,
    delta=0.05,
    groups=(CertifiedGroup("", 212, 90, 0.6, 100, 4, upper_risk(100, 4, 0.05), 0.4),),
    pairs="p.jsonl (212 questions)",
    sources=(("p.jsonl", "5" * 64),),
    overlapping=3,
    settings=guaranteed_conditions(Settings()),
    models=MODELS,
    calibration=calibration_digest(MAP),
    documents=DOCUMENTS,
)
GROUP: dict[str, Any] = {**asdict(FOUND.groups[0])}
KINDS = replace(
    FOUND,
    by="kind",
    groups=(CertifiedGroup("law", 100, 50, 0.8, 50, 1, upper_risk(50, 1, 0.05)), CertifiedGroup("letter", 40, 30)),
)


@pytest.mark.parametrize("found", [FOUND, KINDS], ids=["all", "kinds"])
def test_a_guarantee_survives_its_file(tmp_path: Path, found: Guarantee) -> None:
    write_guarantee(found, tmp_path / "g.json")
    assert read_guarantee(tmp_path / "g.json") == found


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"risk": 0},
        {"risk": 1.0},
        {"delta": "0.05"},
        {"delta": 1},
        {"groups": []},
        {"groups": 3},
        {"groups": [{"value": "", "n": 3}]},
        {"groups": [{**GROUP, "threshold": 1.5}]},
        {"groups": [{**GROUP, "answered": 213}]},
        {"groups": [{**GROUP, "n": -1}]},
        {"groups": [GROUP, GROUP]},
        {"groups": [{**GROUP, "value": "law"}]},
        {"groups": [{**GROUP, "more": 1}]},
        {"settings": {"seed": 1}},
        {"settings": []},
        {"settings": {}},
        {"settings": {**FOUND.settings, "mood": 1}},
        {"settings": {k: v for k, v in FOUND.settings.items() if k != "max_tokens"}},
        {"settings": {k: v for k, v in FOUND.settings.items() if k != "kind"}},
        {"models": None},
        {"models": ""},
        {"calibration": ""},
        {"documents": "here"},
        {"sources": []},
        {"sources": [["p.jsonl", "5"]]},
        {"sources": [["p.jsonl"]]},
        {"kind": "list"},
        {"overlapping": -1},
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


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"wrong": 3}, "not the upper bound"),
        ({"wrong": 9}, "do not pass the test"),
        ({"answered": 50}, "do not pass the test"),
        ({"upper": 0.01}, "not the upper bound"),
        ({"wrong_of_all": 3}, "more answers than pairs"),
        ({"wrong_of_all": 120}, "more right answers"),
        ({"threshold": None}, "no threshold"),
        ({"n": MOST_PAIRS + 1}, "pairs"),
    ],
    ids=str,
)
def test_figures_that_do_not_agree_are_not_believed(tmp_path: Path, group: dict[str, Any], said: str) -> None:
    write_guarantee(replace(FOUND, groups=(CertifiedGroup(**{**GROUP, **group}),)), tmp_path / "g.json")
    with pytest.raises(ModelError, match=said):
        read_guarantee(tmp_path / "g.json")


@pytest.mark.parametrize("changes", [{"risk": 0.01}, {"risk": 0.001, "delta": 0.001}, {"delta": 0.001}], ids=str)
def test_the_counts_must_pass_the_test_that_is_stated(tmp_path: Path, changes: dict[str, float]) -> None:
    write_guarantee(replace(FOUND, **changes), tmp_path / "g.json")
    with pytest.raises(ModelError, match="do not pass the test"):
        read_guarantee(tmp_path / "g.json")


def test_together_each_kind_must_pass_at_its_share_of_delta(tmp_path: Path) -> None:
    both = replace(KINDS, groups=(KINDS.groups[0], replace(KINDS.groups[0], value="letter")))
    write_guarantee(both, tmp_path / "g.json")
    assert read_guarantee(tmp_path / "g.json") == both  # P(Bin(50, 0.1) <= 1) = 0.034
    write_guarantee(replace(both, simultaneous=True), tmp_path / "g.json")
    with pytest.raises(ModelError, match="do not pass the test"):
        read_guarantee(tmp_path / "g.json")


def test_a_damaged_file_is_one_warning_and_no_guarantee(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_calibration(MAP, tmp_path / "confidence.json")
    write_guarantee(FOUND, tmp_path / "guarantee.json")
    assert guarantee_for(ModelConfig(), None, tmp_path / "confidence.json") == FOUND and not caplog.records
    for content in (
        "{",
        json.dumps({"format": 2}),
        (tmp_path / "guarantee.json").read_text().replace("0.1", "1e-4"),
    ):
        (tmp_path / "guarantee.json").write_text(content)
        caplog.clear()
        assert guarantee_for(ModelConfig(), None, tmp_path / "confidence.json") is None
        (record,) = caplog.records
        assert record.levelname == "WARNING" and "\n" not in record.getMessage()
        assert "no answer is covered" in record.getMessage() and "guarantee.json" in record.getMessage()


@pytest.mark.parametrize("risk", [1e-3, 1e-5, 1e-9, 1e-15, 1e-17])
def test_no_share_below_one_is_shown_as_all(risk: float) -> None:
    covered = replace(FOUND, risk=risk, delta=risk).covering(0.9, {})
    assert covered and "100 %" not in covered.words and covered.right < 1 and covered.probability < 1


@pytest.mark.parametrize("risk", [k / 100 for k in range(1, 100)])
def test_shares_are_shown_as_they_were_asked_for(risk: float) -> None:
    assert percent(1 - risk) == str(round(100 * (1 - risk)))


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"format": 1}', '{"format": NaN}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "g.json").write_text(content)
    with pytest.raises(ModelError, match="a guarantee, format 2"):
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


def applied(
    guarantee: Guarantee, settings: Settings | None = None, models: str = MODELS, documents: str = DOCUMENTS
) -> AppliedCalibration:
    found = apply_calibration(MAP, settings or Settings(), models, guarantee, documents)
    assert found is not None
    return found


def test_it_applies_to_its_own_settings_models_and_confidence() -> None:
    assert applied(FOUND).guarantee == FOUND and applied(FOUND).unapplied is None
    for found, told in (
        (applied(FOUND, models="others"), "other models"),
        (applied(FOUND, Settings(k=7)), "another k"),
        (applied(FOUND, Settings(max_tokens=65)), "other max_tokens"),
        (applied(FOUND, Settings(kind="auto")), "another kind"),
        (applied(replace(FOUND, calibration="other")), "another confidence"),
        (applied(replace(FOUND, settings={"kind": "span", "max_tokens": 64})), "another k"),
        (applied(FOUND, documents="e" * 64), "other documents"),
        (applied(FOUND, documents=""), "other documents"),
    ):
        assert found.guarantee is None and found.not_covered(None, {}) == f"it was tested with {told}"
        assert found.coverage(found.confidence(Signals(0.0, 0.5)), {}) is None
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
    for guarantee, found in ((None, "none"), (replace(FOUND, models="others"), "one tested with other models")):
        with pytest.raises(SettingError, match=f"a guarantee that applies.*{found}"):
            apply_calibration(MAP, settings, MODELS, guarantee, DOCUMENTS)
    with pytest.raises(SettingError, match="mixrag guarantee"):
        apply_calibration(None, settings, MODELS)


@pytest.mark.parametrize("kind", ["yes-no", "list", "extract"])
def test_answers_of_other_kinds_are_never_covered_and_it_is_said(kind: str) -> None:
    assert FOUND.covering(1.0, {}, kind) is None and FOUND.covering(1.0, {}, "span")
    judged = applied(FOUND).of_kind(kind, judges=kind == "list")
    sure = judged.confidence(Signals(0.0, 0.5))
    assert (sure is None) is (kind != "list") and judged.coverage(sure, {}) is None
    reason = judged.not_covered(sure, {})
    assert reason and reason.startswith("it was tested on answers of kind span, and this question is asked for")
    assert applied(FOUND, Settings(guaranteed_only=True)).of_kind(kind, judges=False).may_abstain


def test_it_is_said_why_an_answer_is_not_covered() -> None:
    shown, kinds = applied(FOUND), applied(KINDS)
    low, high = (shown.confidence(Signals(math.log(p), 0.5)) for p in (0.1, 0.9))
    assert shown.not_covered(high, {}) is None and shown.coverage(high, {})
    assert shown.not_covered(low, {}) == "the confidence is below 0.6"
    assert shown.not_covered(None, {}) == "the answer was cut off at max_tokens"
    assert kinds.not_covered(high, {"kind": "letter"}) == "it covers no answer from documents of kind 'letter'"
    plain = apply_calibration(MAP, Settings(), MODELS)
    assert plain and plain.not_covered(high, {}) is None and plain.coverage(high, {}) is None


def test_what_another_kind_lacks_is_no_calibration_of_other_settings() -> None:
    ranged = apply_calibration(replace(MAP, settings={"k": 9}), Settings(), MODELS)
    assert ranged and ranged.uncalibrated == "k" and ranged.of_kind("extract", judges=False).uncalibrated is None

"""A store and a trained bundle written by version 0.1 open, and every number is what that version gave.

``tests/fixtures/version-0.1`` holds both, and ``expected.json``: answers, probabilities and passages under several
settings as version 0.1 computed them in float32. Of the hybrid prior (``hybrid: ...``) they are those of the
present version: its definition, and the BM25 in it, are others than in 0.1.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, ModelConfig

WRITTEN = Path(__file__).parent / "fixtures" / "version-0.1"
EXPECTED: dict[str, Any] = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> RAG:
    folder = tmp_path_factory.mktemp("version")
    for name in ("store", "bundle"):
        shutil.copytree(WRITTEN / name, folder / name)
    models = ModelConfig(device="cpu", dtype="float32", encoder_dtype="float32")
    return RAG.open(folder / "store", model=folder / "bundle", models=models)


@pytest.mark.parametrize("name", EXPECTED)
def test_numbers_are_those_of_the_version_that_wrote_them(opened: RAG, name: str) -> None:
    case = EXPECTED[name]
    answer = opened.ask(case["question"], **case["changes"], max_tokens=8)
    scored = opened.score(case["question"], case["gold"], **case["changes"])
    assert answer.best_guess == case["answer"]
    assert answer.log_prob == pytest.approx(case["log_prob"], abs=1e-4)
    assert scored.log_prob == pytest.approx(case["log_score"], abs=1e-4)
    assert answer.null_prior == pytest.approx(case["null_prior"], abs=1e-6)
    assert answer.outside == pytest.approx(case["outside"], abs=1e-6)
    assert answer.uncalibrated == case["uncalibrated"]
    confidence = answer.confidence and answer.confidence.value
    assert confidence == pytest.approx(case["confidence"], abs=1e-4)
    for weighted, (id_, document, prior, posterior, scored_posterior), rescored in zip(
        answer.passages, case["passages"], scored.passages, strict=True
    ):
        assert (weighted.id, weighted.document) == (id_, document)
        assert weighted.prior == pytest.approx(prior, abs=1e-6)
        assert weighted.posterior == pytest.approx(posterior, abs=1e-4)
        assert rescored.posterior == pytest.approx(scored_posterior, abs=1e-4)

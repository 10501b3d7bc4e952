"""A trained folder with a confidence for each engine: that of the engine in use counts, and is saved as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixrag import RAG, ModelConfig
from mixrag.answers.confidence import EIGHT_BITS, FILE, ConfidenceMap, read_calibration, write_calibration
from mixrag.config import engine_choice
from mixrag.config.bundle import Bundle, read_bundle, write_bundle
from mixrag.config.model_config import completed, models_digest
from tiny_models import save


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Named "torch" and "openvino" in what each was fitted on."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    save("llama", folder / "generator")
    write_bundle(Bundle(folder, generator="generator"))
    models = completed(ModelConfig(), read_bundle(folder))
    for engine, name in (("torch", FILE), ("openvino", EIGHT_BITS)):
        digest = models_digest(ModelConfig(generator=models.generator, engine=engine))
        write_calibration(ConfidenceMap("temperature", fitted_on=engine, models=digest), folder / name)
    return folder


@pytest.fixture
def auto_is_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIXRAG_ENGINE", raising=False)
    monkeypatch.setattr(engine_choice, "_found", {})
    monkeypatch.setattr(engine_choice, "installed", lambda package: True)


def opened(tmp_path: Path, model: Path, engine: str) -> RAG:
    return RAG.open(tmp_path / "store", create=True, model=model, engine=engine, device="cpu")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_one_of_the_engine_counts(engine: str, bundle: Path, tmp_path: Path) -> None:
    with opened(tmp_path, bundle, engine) as rag:
        assert rag.calibration is not None and rag.calibration.fitted_on == engine
        assert rag.calibration.mismatch(rag.settings, rag.models_digest) is None


@pytest.mark.usefixtures("auto_is_openvino")
def test_it_follows_an_engine_that_turned_out_to_be_another(bundle: Path, tmp_path: Path) -> None:
    with opened(tmp_path, bundle, "auto") as rag:
        assert rag.calibration is not None and rag.calibration.fitted_on == "openvino"
        assert rag.info().engine == "openvino, weights int8"
        engine_choice.runs_with(rag.models, "torch")
        assert rag.calibration.fitted_on == "torch" and rag.info().engine == "torch"


@pytest.mark.usefixtures("auto_is_openvino")
def test_auto_is_torch_where_the_only_confidence_is_for_torch(bundle: Path, tmp_path: Path) -> None:
    """Else who has trained a folder would lose its confidence by installing OpenVINO; also of a file by itself."""
    for_torch = tmp_path / "own.json"
    for_torch.write_bytes((bundle / FILE).read_bytes())
    with RAG.open(tmp_path / "store", create=True, model=bundle, confidence=for_torch, device="cpu") as rag:
        assert rag.info().engine == "torch"
    (bundle / EIGHT_BITS).unlink()
    for chosen, engine in (("auto", "torch"), ("openvino", "openvino, weights int8")):
        with opened(tmp_path, bundle, chosen) as rag:
            assert rag.info().engine == engine
            assert rag.calibration is not None
            assert (rag.calibration.mismatch(rag.settings, rag.models_digest) is None) == (engine == "torch")


@pytest.mark.usefixtures("auto_is_openvino")
def test_auto_is_not_torch_where_a_confidence_fits_or_fits_nothing(bundle: Path, tmp_path: Path) -> None:
    for name in (FILE, EIGHT_BITS):
        write_calibration(ConfidenceMap("temperature", fitted_on="others", models="0" * 16), bundle / name)
    for confidence in (None, "none"):
        with RAG.open(tmp_path / "store", create=True, model=bundle, confidence=confidence, device="cpu") as rag:
            assert rag.info().engine == "openvino, weights int8"


def test_both_go_along_when_it_is_saved(bundle: Path, tmp_path: Path) -> None:
    with opened(tmp_path, bundle, "torch") as rag:
        rag.save(tmp_path / "saved")
    for engine, name in (("torch", FILE), ("openvino", EIGHT_BITS)):
        assert read_calibration(tmp_path / "saved" / name).fitted_on == engine
        with opened(tmp_path, tmp_path / "saved", engine) as rag:
            assert rag.calibration is not None and rag.calibration.fitted_on == engine
            assert rag.calibration.mismatch(rag.settings, rag.models_digest) is None


def test_one_that_is_of_neither_is_not_applied(bundle: Path, tmp_path: Path) -> None:
    for name in (FILE, EIGHT_BITS):
        write_calibration(ConfidenceMap("temperature", fitted_on="others", models="0" * 16), bundle / name)
    with opened(tmp_path, bundle, "torch") as rag:
        assert rag.calibration is not None
        assert rag.calibration.mismatch(rag.settings, rag.models_digest) == "models"


def test_a_calibration_that_is_set_is_the_only_one(bundle: Path, tmp_path: Path) -> None:
    with opened(tmp_path, bundle, "torch") as rag:
        rag.calibration = ConfidenceMap("temperature", fitted_on="mine")
        assert rag.calibrations == (rag.calibration,)
        rag.calibration = None
        assert rag.calibration is None and rag.calibrations == ()

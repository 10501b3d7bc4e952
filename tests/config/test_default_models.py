"""The default models where their packages are not installed: the hub's, without the trained reader."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, ModelConfig, Settings, load_encoder, load_generator
from mixrag.config import default_models
from mixrag.config.default_models import (
    HUB_ENCODER,
    HUB_GENERATOR,
    INSTALL,
    default_encoder,
    default_generator,
    packaged_generator,
    packaged_reader,
)
from mixrag.config.model_config import completed
from mixrag.errors import MissingPackageError
from mixrag.generator import PromptTemplate
from tiny_encoder import save_encoder


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_models, "_file_of", lambda package, member: None)


@pytest.fixture
def on_the_hub(
    without_packages: None, tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny models under the hub's names: relative to the current folder they are found without a network."""
    for name, folder in ((HUB_GENERATOR, tiny_folder("llama")), (HUB_ENCODER, save_encoder(tmp_path / "made"))):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)


def one_line(error: pytest.ExceptionInfo[MissingPackageError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_installed_packages_come_first() -> None:
    found = default_encoder(), default_generator()
    assert all(isinstance(each, Path) and each.exists() for each in found)
    assert found[1] == packaged_generator() and packaged_reader() is not None


def test_a_package_without_its_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_models._file_of("json", "no-such-file") is None
    assert default_models._file_of("no_such_package_at_all", "x") is None


def test_the_hub_names_take_the_place_of_missing_packages(without_packages: None) -> None:
    assert (default_encoder(), default_generator()) == (HUB_ENCODER, HUB_GENERATOR)
    assert packaged_reader() is None
    mine = ModelConfig(encoder="mine", generator="own")
    named = ModelConfig(encoder=HUB_ENCODER, generator=HUB_GENERATOR)
    assert completed(ModelConfig(), None) == named
    assert completed(ModelConfig(adapter="none"), None).generator == HUB_GENERATOR
    assert completed(mine, None) == mine


def test_a_store_is_opened_without_the_reader_and_its_calibration(without_packages: None, tmp_path: Path) -> None:
    with RAG.open(tmp_path / "store", create=True) as rag:
        assert rag.models == ModelConfig(encoder=HUB_ENCODER, generator=HUB_GENERATOR)
        assert rag.settings == Settings() and rag.calibration is None


def test_the_models_of_the_hub_are_loaded(on_the_hub: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mixrag.generator")
    found: Any = load_generator(device="cpu")
    assert found.name == HUB_GENERATOR and found.tokens.template == PromptTemplate()
    assert "which the trained reader needs, is not installed" in caplog.text
    assert load_encoder(device="cpu").encode_questions(["x"]).shape == (1, 16)


def test_offline_and_without_packages_one_line_names_both_remedies(without_packages: None) -> None:
    for load, name in ((load_generator, HUB_GENERATOR), (load_encoder, HUB_ENCODER)):
        for given in (None, name):
            with pytest.raises(MissingPackageError) as error:
                load(given, device="cpu")
            message = one_line(error)
            assert name in message and INSTALL[name] in message and message.endswith("or go online once")


def test_another_model_that_is_not_there_is_not_called_the_default(without_packages: None) -> None:
    with pytest.raises(Exception, match="nobody/nothing") as error:
        load_generator("nobody/nothing", device="cpu")
    assert "default" not in str(error.value)


def test_an_adapter_made_for_the_packaged_model_needs_its_package(without_packages: None, tmp_path: Path) -> None:
    from tiny_adapter import save_adapter

    adapter = save_adapter("llama", tmp_path / "adapter")
    assert completed(ModelConfig(adapter=adapter), None).generator is None
    with pytest.raises(MissingPackageError, match="which the adapter was made for") as error:
        load_generator(adapter=adapter, device="cpu")
    assert INSTALL[HUB_GENERATOR] in one_line(error)

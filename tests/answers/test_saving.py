"""A saved bundle answers with equal numbers elsewhere, and what is uploaded holds no document and no path."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, ModelConfig, Settings
from mixrag.answers.applied_calibration import apply_calibration
from mixrag.answers.confidence import ConfidenceMap
from mixrag.config.bundle import read_bundle
from mixrag.config.model_config import models_digest
from mixrag.corpus import Store
from mixrag.errors import MixragError, ModelError, OutputError
from mixrag.generator import TableGenerator, load_generator
from mixrag.retrieval.encoders import load_encoder
from tiny_adapter import save_adapter
from tiny_encoder import save_encoder
from training.conftest import PAIRS, TEXTS
from words_encoder import WordsEncoder

QUESTION = PAIRS[0].question
SETTINGS = {"k": 3, "temperature": 0.4, "null": 0.3, "switch": 0.2, "lexical": 0.3}
OPENED = ModelConfig(device="cpu", dtype="float32")


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Path:
    """A machine's folder with models, documents and their store."""
    home = tmp_path / "home" / "somebody"
    (home / "files").mkdir(parents=True)
    for name, text in TEXTS.items():
        (home / "files" / name).write_text(text)
    shutil.copytree(tiny_folder("llama"), home / "llama")
    save_encoder(home / "encoder", seed=3)
    save_adapter("llama", home / "adapter")
    for file, key in (
        ("llama/config.json", "_name_or_path"),
        ("adapter/adapter_config.json", "base_model_name_or_path"),
    ):
        document = json.loads((home / file).read_text())
        (home / file).write_text(json.dumps({**document, key: str(home / "llama")}))
    (home / "llama" / ".secret.json").write_text("{}")
    (home / "llama" / "notes.doc").write_text("mine")
    models = ModelConfig(encoder=home / "encoder" / "model", device="cpu", encoder_dtype="float32")
    with RAG.open(home / "store", create=True, models=models) as rag:
        rag.index([home / "files"])
    return home


@pytest.fixture
def rag(home: Path) -> Iterator[RAG]:
    models = replace(
        OPENED, generator=home / "llama", encoder=str(home / "encoder" / "model"), adapter=home / "adapter"
    )
    with RAG.open(home / "store", models=models, settings=SETTINGS) as opened:
        yield opened


def loaded(folder: Path, home: Path, **options: Any) -> RAG:
    return RAG.load(folder, home / "store", models=OPENED, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def numbers(rag: RAG) -> list[float]:
    answer = rag.score(QUESTION, "nine crowns")
    return [
        answer.log_prob,
        *(each.prior for each in answer.passages),
        *(each.posterior for each in answer.passages),
    ]


def test_the_numbers_are_equal_where_the_models_of_before_are_gone(rag: RAG, home: Path, tmp_path: Path) -> None:
    expected = numbers(rag)
    folder = rag.save(tmp_path / "bundle")
    for name in ("llama", "encoder", "adapter"):
        shutil.rmtree(home / name)
    moved = folder.rename(tmp_path / "moved")
    with loaded(moved, home) as found:
        assert numbers(found) == expected
        assert {name: getattr(found.settings, name) for name in SETTINGS} == SETTINGS
    files = set(contents(moved))
    assert {"mixrag.json", "README.md", "adapter/adapter_model.safetensors", "generator/config.json"} <= files
    assert not [name for name in files if "secret" in name or "notes" in name]


def test_the_packaged_models_and_names_of_a_hub_stay_names(home: Path, tmp_path: Path) -> None:
    models = ModelConfig(generator="owner/model", encoder="owner/encoder", adapter="none")
    with RAG.open(home / "store", models=models) as rag:
        rag.save(tmp_path / "names")
    found = json.loads((tmp_path / "names" / "mixrag.json").read_text())
    assert found["generator"] == {"name": "owner/model"} and found["encoder"] == {"name": "owner/encoder"}
    assert found["adapter"] == {"name": "none"} and found["question_encoder"] is None
    with RAG.open(home / "store", models=ModelConfig(adapter="none")) as rag:
        rag.save(tmp_path / "packaged")
    found = json.loads((tmp_path / "packaged" / "mixrag.json").read_text())
    assert found["generator"] is None and found["encoder"] is None
    assert set(contents(tmp_path / "packaged")) == {"mixrag.json", "README.md"}


def test_objects_become_folders(home: Path, tmp_path: Path) -> None:
    encoder = load_encoder(home / "encoder" / "model", device="cpu")
    generator = load_generator(home / "llama", device="cpu")
    with RAG(
        Store.open(home / "store"), encoder=encoder, generator=generator, settings=Settings(**SETTINGS)
    ) as rag:
        expected = numbers(rag)
        rag.save(tmp_path / "bundle")
    with loaded(tmp_path / "bundle", home) as found:
        assert numbers(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("role", ["generator", "encoder"])
def test_objects_of_the_callers_own_are_refused_in_one_line(home: Path, tmp_path: Path, role: str) -> None:
    own = {"encoder": WordsEncoder(), "generator": TableGenerator(["a"], lambda *_: {"a": 1.0})}
    with RAG(Store.open(home / "store"), **{role: own[role]}) as rag, pytest.raises(ModelError) as caught:
        rag.save(tmp_path / "bundle")
    assert f"a {role} that can be saved" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists() and not list(tmp_path.glob(".*"))


def test_the_confidence_goes_along_and_holds(rag: RAG, home: Path, tmp_path: Path) -> None:
    rag.calibration = ConfidenceMap(
        "temperature", right={"plain": 0.7}, fitted_on="30 pairs", models=models_digest(rag.models)
    )
    rag.save(tmp_path / "bundle")
    with loaded(tmp_path / "bundle", home) as found:
        assert found.calibration == replace(rag.calibration, models=models_digest(found.models))
        assert found.calibration.models != rag.calibration.models  # the files name other paths now
        applied = apply_calibration(found.calibration, found.settings, models_digest(found.models))
        assert applied is not None and applied.mismatch is None
    rag.calibration = replace(rag.calibration, models="of other models")
    rag.save(tmp_path / "other")
    assert not (tmp_path / "other" / "confidence.json").exists()


def test_a_bundle_takes_the_place_of_a_bundle_and_of_nothing_else(rag: RAG, tmp_path: Path) -> None:
    first = contents(rag.save(tmp_path / "bundle"))
    rag.settings = replace(rag.settings, k=2)
    second = contents(rag.save(tmp_path / "bundle"))
    assert json.loads(second["mixrag.json"])["settings"]["k"] == 2 and first.keys() == second.keys()
    (tmp_path / "bundle" / "run.json").write_text("{}")
    with pytest.raises(OutputError, match=r"run\.json in .*name another"):
        rag.save(tmp_path / "bundle")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MixragError):
        rag.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    rag: RAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(rag.save(tmp_path / "bundle"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(MixragError, match="No space left") as caught:
        patch.setattr(os, "fsync", full)
        rag.save(tmp_path / "bundle")
    assert "\n" not in str(caught.value) and contents(tmp_path / "bundle") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_settings_that_a_bundle_does_not_hold_are_named(
    rag: RAG, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rag.settings = replace(rag.settings, decoder="beam", max_tokens=9)
    rag.save(tmp_path / "bundle")
    assert "the settings max_tokens:" in caplog.text
    assert read_bundle(tmp_path / "bundle").settings["decoder"] == "beam"


class Hub:
    """In the place of the hub's API: remembers what it is asked, and the files that would be uploaded."""

    calls: list[tuple[str, dict[str, Any]]]
    files: dict[str, bytes]

    def __init__(self, token: Any = None) -> None:
        Hub.calls = [("login", {"token": token})]

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))

    def create_branch(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_branch", {"repo_id": repo_id, **options}))

    def upload_folder(self, *, folder_path: str, **options: Any) -> Any:
        Hub.files = contents(Path(folder_path))
        self.calls.append(("upload_folder", options))
        return type("Commit", (), {"commit_url": "https://hub/commit/1"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return Hub


def test_what_is_uploaded_holds_no_document_and_no_path(
    rag: RAG, home: Path, hub: type[Hub], tmp_path: Path
) -> None:
    assert rag.push_to_hub("owner/reader", token="t", private=True, revision="v2") == "https://hub/commit/1"
    assert [name for name, _ in hub.calls] == ["login", "create_repo", "create_branch", "upload_folder"]
    options = dict(hub.calls)
    assert options["login"] == {"token": "t"}
    assert options["create_repo"] == {"repo_id": "owner/reader", "private": True, "exist_ok": True}
    assert options["create_branch"] == {"repo_id": "owner/reader", "branch": "v2", "exist_ok": True}
    assert options["upload_folder"]["revision"] == "v2" and options["upload_folder"]["repo_id"] == "owner/reader"
    assert {"mixrag.json", "README.md", "generator/model.safetensors", "encoder/model.safetensors"} <= set(
        hub.files
    )
    for name, content in hub.files.items():
        for private in (str(tmp_path), str(home), "somebody", *TEXTS.values()):
            assert private.encode() not in content, (name, private)
    assert b'RAG.load("owner/reader", "store")' in hub.files["README.md"]
    downloaded = tmp_path / "downloaded"
    for name, content in hub.files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(content)
    with loaded(downloaded, home) as found:
        assert numbers(found) == numbers(rag)


def test_without_a_revision_no_branch_is_made(rag: RAG, hub: type[Hub]) -> None:
    rag.push_to_hub("owner/reader")
    assert [name for name, _ in hub.calls] == ["login", "create_repo", "upload_folder"]
    assert dict(hub.calls)["upload_folder"]["revision"] is None


def test_a_path_that_cannot_be_left_out_stops_the_upload(
    rag: RAG, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixrag.answers.saving._without_paths", lambda folder: None)
    with pytest.raises(OutputError, match="without paths of this machine"):
        rag.push_to_hub("owner/reader")


def test_a_hub_that_refuses_is_one_line(rag: RAG, hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Hub, repo_id: str, **options: Any) -> None:
        raise RuntimeError("403 Forbidden\nfor you")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(OutputError, match=r"owner/reader.*403 Forbidden for you.*token") as caught:
        rag.push_to_hub("owner/reader")
    assert "\n" not in str(caught.value)


def test_a_bundle_is_loaded_from_the_hub(
    rag: RAG, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = rag.save(tmp_path / "bundle"), []

    def download(repo_id: str, **options: Any) -> str:
        asked.append((repo_id, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with RAG.load("owner/reader", home / "store", token="t", revision="v2", models=OPENED) as found:
        assert numbers(found) == numbers(rag)
    assert asked == [("owner/reader", {"token": "t", "revision": "v2"})]


@pytest.mark.parametrize("name", ["no/such/folder", "./none", "none", Path("owner/reader")])
def test_a_path_without_a_bundle_is_one_line(home: Path, name: str | Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        RAG.load(name, home / "store")

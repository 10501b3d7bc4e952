"""The folder of a trained RAG: there and back, and one line for whatever is none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mixrag.config.bundle import CONFIG, Bundle, read_bundle, write_bundle
from mixrag.errors import MixragError, ModelError, SettingError, TrainingError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    for part in ("adapter", "question-encoder", "generator"):
        (folder / part).mkdir(parents=True)
    return folder


def written(folder: Path, document: Any) -> Path:
    text = document if isinstance(document, str) else json.dumps({"format": 1, **document})
    (folder / CONFIG).write_text(text)
    return folder


def refusal(error: type[MixragError], folder: Path) -> MixragError:
    with pytest.raises(error) as caught:
        read_bundle(folder)
    text = str(caught.value)
    assert "\n" not in text and text.startswith("expected ") and "; found " in text
    return caught.value


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    whole = Bundle(
        folder,
        generator="someone/some-model",
        adapter="adapter",
        encoder=None,
        question_encoder="question-encoder",
        settings={"k": "all", "group": 2, "switch": 0.5, "null": -3.0, "temperature": 0.03, "lexical": 0.25},
        prompt={"header": "Lies:\n", "chat": False},
        titles=False,
    )
    for trained in (whole, Bundle(folder), Bundle(folder, generator="generator", adapter="none")):
        write_bundle(trained)
        assert read_bundle(folder) == trained
        assert {path.name for path in folder.iterdir()} == {CONFIG, "adapter", "question-encoder", "generator"}


def test_sub_folders_and_names_are_told_apart(folder: Path) -> None:
    trained = Bundle(
        folder, generator="someone/some-model", adapter="adapter", question_encoder="question-encoder"
    )
    write_bundle(trained)
    document = json.loads((folder / CONFIG).read_text())
    assert document["generator"] == {"name": "someone/some-model"} and document["encoder"] is None
    assert document["adapter"] == {"folder": "adapter"}
    assert document["question_encoder"] == {"folder": "question-encoder"}
    assert read_bundle(folder).models() == {
        "generator": "someone/some-model",
        "adapter": folder.resolve() / "adapter",
        "question_encoder": folder.resolve() / "question-encoder",
    }


def test_a_folder_that_was_moved_still_opens(folder: Path, tmp_path: Path) -> None:
    write_bundle(Bundle(folder, adapter="adapter"))
    moved = folder.rename(tmp_path / "elsewhere")
    assert read_bundle(moved).models() == {"adapter": moved.resolve() / "adapter"}


def test_a_folder_can_be_its_own_part(folder: Path) -> None:
    """As the reader that ships with mixrag is: adapter and config side by side."""
    write_bundle(Bundle(folder, adapter="."))
    assert read_bundle(folder).models() == {"adapter": folder.resolve()}


def test_a_relative_path_is_found_from_anywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    write_bundle(Bundle(folder, generator="base"))
    monkeypatch.chdir("/")
    assert read_bundle(folder).models() == {"generator": str(tmp_path.resolve() / "base")}


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such folder" in refusal(ModelError, tmp_path / "nowhere").found
    file = tmp_path / "file"
    file.write_text("{}")
    assert "no such folder" in refusal(ModelError, file).found
    refusal(ModelError, Path("~nosuchuser/x"))


def test_a_folder_without_the_config(tmp_path: Path) -> None:
    assert CONFIG in refusal(ModelError, tmp_path).expected


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, '{"format": 1', "\ud800", "9" * 5000, "[]", "3", "{}"]
)
def test_what_is_no_json_object_with_a_format(content: str, folder: Path) -> None:
    (folder / CONFIG).write_bytes(content.encode("utf-8", "surrogatepass"))
    assert CONFIG in refusal(ModelError, folder).expected


@pytest.mark.parametrize("number", [2, 0, -1, 10**30])
def test_another_format_is_refused(number: int, folder: Path) -> None:
    error = refusal(ModelError, written(folder, {"format": number, "novelty": True}))
    assert f"format {number}" in error.found and "upgrade mixrag" in error.remedy


@pytest.mark.parametrize("number", [True, "1", 1.0, None])
def test_a_format_that_is_no_whole_number(number: Any, folder: Path) -> None:
    assert '"format"' in refusal(ModelError, written(folder, {"format": number})).expected


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"novelty": 1}, "'novelty'"),
        ({"generator": "name"}, "'name'"),
        ({"generator": {}}, "{}"),
        ({"generator": {"name": 3}}, "{'name': 3}"),
        ({"generator": {"name": "a", "folder": "b"}}, "'folder': 'b'"),
        ({"adapter": {"path": "a"}}, "{'path': 'a'}"),
        ({"titles": 1}, "1"),
        ({"settings": []}, "[]"),
        ({"settings": {"seed": 1}}, "'settings.seed'"),
        ({"settings": {"k": 2.5}}, "2.5"),
        ({"settings": {"k": True}}, "True"),
        ({"settings": {"group": "some"}}, "'some'"),
        ({"settings": {"temperature": "warm"}}, "'warm'"),
        ({"settings": {"temperature": None}}, "None"),
        ({"settings": {"null": 10**400}}, "1000"),
        ({"settings": {"switch": False}}, "False"),
        ({"prompt": "Read."}, "'Read.'"),
        ({"prompt": {"footer": ""}}, "'prompt.footer'"),
        ({"prompt": {"chat": "yes"}}, "'yes'"),
        ({"prompt": {"header": 1}}, "1"),
    ],
    ids=str,
)
def test_unknown_and_ill_typed_keys(document: dict[str, Any], part: str, folder: Path) -> None:
    error = refusal(SettingError, written(folder, document))
    assert part in error.found and str(folder / CONFIG) in error.expected


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none(number: str, folder: Path) -> None:
    refusal(SettingError, written(folder, f'{{"format": 1, "settings": {{"temperature": {number}}}}}'))


def test_a_missing_sub_folder(folder: Path) -> None:
    error = refusal(ModelError, written(folder, {"adapter": {"folder": "adaptor"}}))
    assert "the sub-folder adaptor as adapter" in error.expected
    (folder / "file").write_text("")
    refusal(ModelError, written(folder, {"adapter": {"folder": "file"}}))


@pytest.mark.parametrize(
    "name",
    ["..", "../outside", "adapter/../../outside", "/etc", "~", "\\outside", "..\\outside", "C:\\x", "", "a\0b"],
)
def test_a_sub_folder_cannot_lie_outside(name: str, folder: Path) -> None:
    (folder.parent / "outside").mkdir()
    error = refusal(ModelError, written(folder, {"adapter": {"folder": name}}))
    assert "without '..'" in error.remedy


def test_a_link_cannot_lead_outside(folder: Path) -> None:
    (folder.parent / "outside").mkdir()
    (folder / "inside").symlink_to(folder.parent / "outside")
    refusal(ModelError, written(folder, {"adapter": {"folder": "inside"}}))
    write_bundle(Bundle(folder, encoder="inside"))
    assert json.loads((folder / CONFIG).read_text())["encoder"] == {"name": "inside"}


def test_a_name_that_is_also_a_sub_folder_is_refused(folder: Path) -> None:
    error = refusal(ModelError, written(folder, {"generator": {"name": "generator"}}))
    assert '{"folder": "generator"}' in error.expected


@pytest.mark.parametrize("settings", [{"temperature": float("nan")}, {"seed": 1}, {"k": "some"}])
def test_what_could_not_be_read_is_not_written(settings: Any, folder: Path) -> None:
    write_bundle(Bundle(folder, settings={"k": 3}))
    with pytest.raises(SettingError):
        write_bundle(Bundle(folder, settings=settings))
    assert read_bundle(folder).settings == {"k": 3}


def test_a_write_that_fails_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(Bundle(folder, settings={"k": 3}))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="No space left"):
        patch.setattr(os, "fsync", full)
        write_bundle(Bundle(folder, settings={"k": 4}))
    assert read_bundle(folder).settings == {"k": 3}
    assert not list(folder.glob(".*"))
    with pytest.raises(TrainingError, match="room to write"):
        write_bundle(Bundle(folder / "nowhere"))

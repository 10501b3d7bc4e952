"""From settings to stores: names and presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixrag import RAG
from mixrag.config.command_settings import ServerSettings
from mixrag.corpus import Store
from mixrag.errors import SettingError
from mixrag.server.serving import opened
from words_encoder import WordsEncoder


def served(folder: Path, settings: ServerSettings) -> list[str]:
    def open_store(also: str | None, _: RAG | None) -> RAG:
        return RAG(Store.open(also or folder, create=True), encoder=WordsEncoder())

    service = opened(settings, open_store)
    try:
        return service.stores.ids()
    finally:
        service.close()


def test_a_folder_whose_name_is_no_model_id_gets_another(tmp_path: Path) -> None:
    assert served(tmp_path / "notes:2024", ServerSettings()) == ["notes-2024"]


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("postgresql://ann:hunter2@db/acts?sslmode=require", "acts"),
        ("s3://bucket/some/acts/", "acts"),
        ("lance:/data/acts", "acts"),
        ("s3://bucket", "store"),
    ],
)
def test_a_store_elsewhere_is_named_by_the_last_part_of_its_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, name: str
) -> None:
    make = Store.open

    def elsewhere(folder: str | Path, **options: bool) -> Store:
        store = make(folder, **options)
        store.location = location
        return store

    monkeypatch.setattr(Store, "open", staticmethod(elsewhere))
    assert served(tmp_path, ServerSettings()) == [name]


def test_a_further_store_without_a_name_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="NAME=DIR") as caught:
        served(tmp_path, ServerSettings(also=("postgresql://ann:hunter2@db/acts",)))
    assert "hunter2" not in str(caught.value)


def test_each_store_has_the_presets(tmp_path: Path) -> None:
    presets = tmp_path / "presets.toml"
    presets.write_text("[short]\nmax_tokens = 3\n")
    also = (f"other={tmp_path / 'b'}",)
    assert served(tmp_path / "a", ServerSettings(presets=presets, also=also)) == [
        "a",
        "a:short",
        "other",
        "other:short",
    ]


@pytest.mark.parametrize(
    "text", ["[bad]\nk = -5\n", '[bad]\nk = "many"\n', "[bad]\nprecision = 1\n", "bad = 1\n", "["]
)
def test_presets_are_checked_before_anything_is_served(tmp_path: Path, text: str) -> None:
    presets = tmp_path / "presets.toml"
    presets.write_text(text)
    with pytest.raises(Exception, match=r"expected .*; found .*; ") as raised:
        served(tmp_path / "a", ServerSettings(presets=presets))
    if "k = " in text:
        assert isinstance(raised.value, SettingError) and "preset bad" in str(raised.value)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a name of its own"):
        served(tmp_path / "a", ServerSettings(also=(f"a={tmp_path / 'b'}",)))

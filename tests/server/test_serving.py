"""From settings to stores: names and presets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mixrag import RAG
from mixrag.cli.serve import _is_folder
from mixrag.config.command_settings import ServerSettings
from mixrag.corpus import Store
from mixrag.errors import SettingError
from mixrag.server.serving import first_lines, opened
from mixrag.server.stores import Served, Stores
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


def test_what_the_questions_may_take(tmp_path: Path) -> None:
    settings = ServerSettings(threads=3, waiting=5, answer_seconds=7.0, batch_rows=9)
    service = opened(settings, lambda *_: RAG(Store.open(tmp_path / "a", create=True), encoder=WordsEncoder()))
    try:
        limits = service.questions.limits
        assert (limits.threads, limits.waiting, limits.seconds, limits.rows) == (3, 5, 7.0, 9)
        assert service.questions.batches.rows == 9
    finally:
        service.close()


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


def test_an_empty_store_is_said_to_be_empty(rag: RAG, tmp_path: Path) -> None:
    with RAG(Store.open(tmp_path / "new", create=True), encoder=WordsEncoder()) as new:
        where, empty = first_lines(Stores([Served("demo", rag), Served("new", new)]), "http://127.0.0.1:8080")
    assert where == "demo, new: open http://127.0.0.1:8080 in a browser; Ctrl-C stops"
    assert empty == f"new has no documents yet, in {tmp_path / 'new'}: add some on the page"


@pytest.mark.parametrize(
    ("store", "made"),
    [("new", True), ("postgresql://db/acts", False), ("a,b", False), ("all.shards.json", False)],
)
def test_only_a_folder_is_made_where_there_is_no_store(store: str, made: bool) -> None:
    options: Any = SimpleNamespace(made=lambda kind: kind(store=store))
    assert _is_folder(options) is made

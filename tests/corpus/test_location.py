"""How stores are named: what a location means, what is shown of it, and what opens it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mixrag.corpus import Store, has_store, open_store, parse_location
from mixrag.corpus.store import backends
from mixrag.corpus.store.location import FOLDER, Location, cache_of
from mixrag.errors import SettingError, StoreMissingError


@pytest.mark.parametrize("given", ["store", "./a b", "a:b", "x:/y", "C:\\store", "postgresql", "s3:bucket", "a,b"])
def test_other_names_are_folders(given: str) -> None:
    path = str(Path(given).absolute())
    assert parse_location(given) == Location(FOLDER, path, path) == parse_location(Path(given))


def test_a_path_object_is_a_folder_whatever_its_name() -> None:
    assert parse_location(Path("lance:acts")).scheme == FOLDER
    assert parse_location(Path("postgresql://db/acts")).scheme == FOLDER


@pytest.mark.parametrize(
    ("given", "scheme", "rest"),
    [
        ("lance:/data/acts", "lance", "/data/acts"),
        ("lance:acts", "lance", str(Path("acts").absolute())),
        ("LANCE:/data/a:b", "lance", "/data/a:b"),
        ("s3://bucket/some/prefix", "s3", "//bucket/some/prefix"),
        ("postgresql://db/acts", "postgresql", "//db/acts"),
        ("postgres://db/acts", "postgresql", "//db/acts"),
    ],
)
def test_schemes(given: str, scheme: str, rest: str) -> None:
    found = parse_location(given)
    assert (found.scheme, found.rest) == (scheme, rest) and parse_location(found.text) == found


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("postgresql://ann:hunter2@db:5432/acts", "postgresql://ann:***@db:5432/acts"),
        ("postgresql://ann:se@cr/et?@db/acts", "postgresql://ann:***@db/acts"),
        ("postgresql://ann:hunter2\n@db/acts", "postgresql://ann:***@db/acts"),
        ("postgresql://:hunter2@db", "postgresql://:***@db"),
        ("postgresql://ann@db/acts", "postgresql://ann@db/acts"),
        ("postgresql://db:5432/acts", "postgresql://db:5432/acts"),
        ("postgresql://db/acts?user=ann&password=hunter2&x=1", "postgresql://db/acts?user=ann&password=***&x=1"),
        ("postgresql://db/acts?sslpassword=hunter2", "postgresql://db/acts?sslpassword=***"),
        ("s3://key:hunter2@bucket/p", "s3://key:***@bucket/p"),
        ("s3://bucket/p?aws_secret_access_key=hunter2", "s3://bucket/p?aws_secret_access_key=***"),
    ],
)
def test_passwords_are_not_shown(given: str, name: str) -> None:
    found = parse_location(given)
    assert found.name == name and "hunter2" not in repr(found) and found.text == given


@pytest.mark.parametrize("given", ["mysql://ann:hunter2@db/acts", "foo://x", "http://localhost:80/acts"])
@pytest.mark.parametrize("ask", [has_store, open_store, Store.open])
def test_an_unknown_scheme_is_refused_in_one_line_without_its_password(given: str, ask: Any) -> None:
    with pytest.raises(SettingError, match="a folder, lance:PATH") as caught:
        ask(given)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_backend_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("made_backend")
    asked: list[Any] = []
    module.open_store = lambda location, **options: asked.append((location.text, options))
    module.has_store = lambda location: location.rest == "//there"
    monkeypatch.setitem(sys.modules, "made_backend", module)
    monkeypatch.setitem(backends.BACKENDS, "made", "made_backend")
    open_store("made://there", create=True, timeout=1.0)
    assert asked == [("made://there", {"create": True, "timeout": 1.0})]
    assert has_store("made://there") and not has_store("made://elsewhere")


def test_an_error_inside_a_backend_is_not_taken_for_an_unknown_scheme(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_backend.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(backends.BACKENDS, "broken", "broken_backend")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        open_store("broken://x")


def test_a_folder(tmp_path: Path) -> None:
    assert not has_store(tmp_path) and not has_store(str(tmp_path / "none"))
    with pytest.raises(StoreMissingError):
        open_store(tmp_path)
    with open_store(str(tmp_path), create=True) as store:
        assert store.name == store.location == str(tmp_path) and store.cache_directory == tmp_path
    assert has_store(tmp_path)


def test_caches_of_a_store_elsewhere_are_the_user_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path))
    first = cache_of(parse_location("postgresql://ann:one@db/acts"))
    assert first.is_dir() and tmp_path in first.parents and first.stat().st_mode & 0o077 == 0
    assert first == cache_of(parse_location("postgresql://ann:two@db/acts"))
    assert first != cache_of(parse_location("postgresql://ann:one@db/other"))
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "file"))
    assert not cache_of(parse_location("postgresql://db/acts")).exists()

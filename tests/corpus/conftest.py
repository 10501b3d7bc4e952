from pathlib import Path

import pytest

from fake_corpus import FakeEncoder
from mixrag.corpus import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "store", create=True) as store:
        yield store


@pytest.fixture
def encoder():
    return FakeEncoder()

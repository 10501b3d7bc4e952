"""A few passages, pairs about them, and models of a few kilobytes to train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mixrag import ModelConfig, Settings
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from tiny_encoder import save_encoder

TEXTS = {
    "cod.txt": "a licence to fish cod costs nine crowns a year",
    "eel.txt": "a licence to fish eel costs four crowns a season",
    "tax.txt": "income tax is due in march and paid in crowns",
    "hen.txt": "hens lay fewer eggs during winter",
    "law.txt": "the tenancy law protects tenants during winter",
    "ice.txt": "the harbour is closed when the ice is thick",
}
PAIRS = tuple(
    Pair(question, answers, document, {}, f"pairs.jsonl:{line}")
    for line, (question, answers, document) in enumerate(
        [
            ("what does a licence for cod cost", ("nine crowns",), "cod.txt"),
            ("what does a licence for eel cost", ("four crowns", "4 crowns"), "eel.txt"),
            ("when is income tax due", ("march",), "tax.txt"),
            ("when do hens lay fewer eggs", ("during winter", "in winter"), "hen.txt"),
            ("whom does the tenancy law protect", ("tenants",), "law.txt"),
            ("when is the harbour closed", ("when the ice is thick",), "ice.txt"),
        ],
        start=1,
    )
)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), seed=3)


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    (root / "files").mkdir()
    for name, text in TEXTS.items():
        (root / "files" / name).write_text(text)
    with RAG.open(root / "store", create=True, models=ModelConfig(encoder=encoder_folder, device="cpu")) as rag:
        rag.index([root / "files"])
    return root / "store"


@pytest.fixture
def open_rag(
    store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path]
) -> Iterator[Callable[..., RAG]]:
    """From the kind of a tiny generator and changes to the settings to an open RAG."""
    opened: list[RAG] = []

    def open_one(kind: str = "llama", **changes: object) -> RAG:
        models = ModelConfig(encoder=encoder_folder, generator=tiny_folder(kind), device="cpu")
        settings = Settings(**{"k": 3, "temperature": 0.5, "max_tokens": 16, **changes})
        opened.append(RAG.open(store_folder, models=models, settings=settings))
        return opened[-1]

    yield open_one
    for rag in opened:
        rag.close()

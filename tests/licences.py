"""Two files, a question that one of them answers, and a table that reads the number in a passage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.generator import TableGenerator
from words_encoder import WordsEncoder

WORDS = ("nine", "four", "crowns", "<end>")
COD = "What does a licence for cod cost?"
HEN = "When do hens lay fewer eggs?"


def distribution(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """The number in the passage, "crowns", the end; where there is no number nearly always nothing."""
    number = next((token for token in passage if token in (0, 1)), 3)
    said = (number, 2, 3)[min(len(answer), 2)]
    return torch.tensor([0.85 if word == said else 0.05 for word in range(4)], dtype=torch.float64)


@contextmanager
def licences(tmp_path: Path, generator: TableGenerator, settings: Settings) -> Iterator[RAG]:
    """cod.txt states what a licence for cod costs, hen.txt does not."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "cod.txt").write_text("A licence to fish cod costs nine crowns.")
    (folder / "hen.txt").write_text("Hens lay fewer eggs in winter.")
    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=settings) as rag:
        rag.index([folder])
        yield rag

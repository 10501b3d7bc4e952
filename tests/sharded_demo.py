"""The demo's documents in ten shards of several kinds, and how they are opened and served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mixrag import RAG, Settings
from mixrag.generator import Generator
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from words_encoder import WordsEncoder

CORPUS = Path(__file__).parents[1] / "demo" / "corpus"
SHARDS = 10
SERVED = (8, 9)
"""Shards that are asked over the network."""
SETTINGS = Settings(
    lexical=0.5, typos=True, max_tokens=4, empty_answer=True, question_likelihood=0.5, abstain_below=0.0
)
"""As the packaged reader sets them, but for the lengths."""

Open = Callable[..., RAG]


def locations(root: Path, others: Mapping[int, str] = MappingProxyType({})) -> list[str]:
    """Where the ten shards are; those of ``SERVED`` are then served from there.

    Each is a folder, but for ``others``: by their number from 0, any locations of ``open_store``.
    """
    return [others.get(i, str(root / f"shard-{i}")) for i in range(SHARDS)]


def indexed(opened: Open, places: Sequence[str]) -> None:
    """Index each part of the demo's documents into a store by itself."""
    for number, location in enumerate(places, 1):
        with opened(location, create=True) as rag:
            rag.index([CORPUS], shard=f"{number}/{SHARDS}")


def opener(generator: Generator) -> Open:
    """``RAG.open`` with cheap models."""

    def opened(location: str | Path, **options: Any) -> RAG:
        rag = RAG.open(location, **{"settings": SETTINGS, **options})
        rag._encoder, rag._generator = WordsEncoder(), generator
        return rag

    return opened


def served(rag: RAG, **options: Any) -> Service:
    """A store as "part"."""
    return Service(Stores([Served("part", rag)]), **options)

"""Memory stays bounded however many questions are asked."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mixrag import RAG, Generator, Settings
from mixrag.corpus import Store
from words_encoder import WordsEncoder

QUESTIONS, ROOM = 1000, 24 * 2**20
"""Asked in all, and by how much the process may grow after the first fifth of them."""


@pytest.mark.slow
def test_a_thousand_questions_under_a_small_budget(
    tmp_path: Path, tiny_generator: Callable[[str], Generator]
) -> None:
    """The states of 400 passages would take many times the budget."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number}.txt").write_text(
            f"A licence to fish cod number {number} costs {number + 9} crowns. " * 4
        )
    generator = replace(tiny_generator("llama"), prefix_cache_bytes=2**18)  # type: ignore[type-var]
    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=Settings(k=2, max_tokens=3)) as rag:
        rag.index([folder])
        process, sizes = psutil.Process(), []
        for number in range(QUESTIONS):
            rag.ask(f"What does licence number {number % 400} cost in the year {number}?")
            if number % (QUESTIONS // 5) == QUESTIONS // 5 - 1:
                gc.collect()
                sizes.append(process.memory_info().rss)
        cache = generator.prefix_cache  # type: ignore[attr-defined]
        assert cache.size <= 2**18 and cache.misses > 400
        assert max(sizes) - sizes[0] < ROOM

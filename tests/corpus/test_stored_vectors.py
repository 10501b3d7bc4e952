"""Vectors in the store that cannot be an encoder's: each is named as it is read, and computed again on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mixrag import RAG
from mixrag.errors import StoreCorruptError
from words_encoder import WordsEncoder

TEXTS = [f"passage {i} about {word}" for i, word in enumerate(["cod", "eel", "tax", "hens"])]
QUESTION = "what about cod"


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    with RAG.open(tmp_path / "store", create=True, encoder=WordsEncoder(), index="exact") as opened:
        opened.add([{"text": text, "id": text.split()[1]} for text in TEXTS])
        yield opened


def damage(rag: RAG, change: Callable[[np.ndarray], bytes | None]) -> None:
    """Change the vector of the third passage."""
    (found,) = rag.store.query("SELECT id, vector FROM vectors ORDER BY id LIMIT 1 OFFSET 2")
    content = change(np.frombuffer(found[1], "<f4").copy())
    with rag.store.transaction() as db:
        if content is None:
            db.execute("DELETE FROM vectors WHERE id = ?", (found[0],))
        else:
            db.execute("UPDATE vectors SET vector = ? WHERE id = ?", (content, found[0]))


def with_value(value: float) -> Callable[[np.ndarray], bytes]:
    def changed(vector: np.ndarray) -> bytes:
        vector[7] = value
        return vector.tobytes()

    return changed


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (with_value(float("nan")), "one with a NaN or an infinity"),
        (with_value(float("-inf")), "one with a NaN or an infinity"),
        (with_value(3e38), "one with a NaN or an infinity"),
        (lambda vector: vector[:-1].tobytes(), "one of 255 numbers"),
        (lambda vector: vector.tobytes() + b"x", "one of 256.25 numbers"),
        (lambda vector: b"", "one of 0 numbers"),
        (lambda vector: None, "none"),
    ],
    ids=["nan", "infinity", "overflow", "short", "long", "empty", "missing"],
)
def test_a_damaged_vector_is_one_line_and_is_computed_again(
    rag: RAG, change: Callable[[np.ndarray], bytes | None], found: str
) -> None:
    before = rag.passages(QUESTION, k=4)
    damage(rag, change)
    rows, _ = rag.store.marks()
    for read in (
        rag.store.vectors,
        lambda: rag.store.vectors_of(rows),
        lambda: RAG(rag.store, encoder=WordsEncoder(), index="exact").passages(QUESTION),
    ):
        with pytest.raises(StoreCorruptError, match=f"256 finite numbers .*found {found}, of passage") as caught:
            read()
        assert "mixrag index --re-embed --store" in str(caught.value) and "\n" not in str(caught.value)
    rag.index([], reembed=True)
    after = rag.passages(QUESTION, k=4)
    assert [p.id for p in after.passages] == [p.id for p in before.passages]
    assert after.log_prior.tolist() == before.log_prior.tolist()


def test_a_dimension_that_no_vector_has_is_named_and_mended(rag: RAG) -> None:
    before = rag.passages(QUESTION, k=4)
    with rag.store.transaction() as db:
        db.execute("UPDATE encoders SET dimension = 9")
    with pytest.raises(StoreCorruptError, match=r"vector of 9 finite numbers .*found one of 256 numbers"):
        rag.store.vectors()
    rag.index([], reembed=True)
    assert rag.passages(QUESTION, k=4).log_prior.tolist() == before.log_prior.tolist()


def test_vectors_are_given_in_the_order_of_the_rows_asked_for(rag: RAG) -> None:
    rows, vectors = rag.store.vectors()
    wanted = [3, 0, 2]
    assert rag.store.vectors_of(rows[wanted]).tolist() == vectors[wanted].tolist()
    assert rag.store.vectors_of([]).shape == (0, 256)

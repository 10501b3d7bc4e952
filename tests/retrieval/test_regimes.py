"""One prior, whatever the index: exact, flat or approximate search, filtered or not, whatever k is.

Vectors and texts are made up, in one passage less and one more than the number to which "auto" searches exactly.
Approximate search may miss a component, and the others then have its mass; so what must agree are the priors that
the common components have among themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mixrag import RAG
from mixrag.corpus import WordSplitter
from mixrag.retrieval.index import FLAT_LIMIT
from mixrag.retrieval.retriever import Retrieval

RANDOM = np.random.default_rng(17)
COUNT = FLAT_LIMIT + 1
CENTRES = RANDOM.normal(size=(400, 24))
TABLE = (CENTRES[RANDOM.integers(0, 400, COUNT)] + 0.5 * RANDOM.normal(size=(COUNT, 24))).astype(np.float32)
TABLE /= np.linalg.norm(TABLE, axis=1, keepdims=True)
WORDS = np.array([f"word{i}x" for i in range(2000)])
CHOSEN = WORDS[np.minimum(RANDOM.zipf(1.3, size=(COUNT, 5)), 2000) - 1]
ASKED = [11, 20_222, 49_990]
"""Passages that the questions are like."""
TOLERANCE = 1e-6


class Numbered:
    """Vectors by the number that a text begins with; a question is like the passage of its number."""

    name, fingerprint = "numbered", "numbered-1"

    def encode_passages(self, texts: list[str]) -> np.ndarray:
        numbers = (re.match(r"[pq](\d+) ", text) for text in texts)
        return TABLE[[int(number[1]) if number else 0 for number in numbers]]

    def encode_questions(self, questions: list[str]) -> np.ndarray:
        near = self.encode_passages(questions) + np.float32(0.1)
        return near / np.linalg.norm(near, axis=1, keepdims=True)


def text_of(number: int) -> str:
    return " ".join([f"p{number}", *CHOSEN[number]])


def question(number: int) -> str:
    """Words of the passage, a frequent one, and one that is nowhere."""
    return " ".join([f"q{number}", *CHOSEN[number][:3], WORDS[0], "nowhere"])


def documents(numbers: range) -> Iterator[dict[str, Any]]:
    for i, first in enumerate(numbers[::1000]):
        some = range(first, min(first + 1000, numbers.stop))
        yield {"id": f"from-{first}", "text": "\n".join(map(text_of, some)), "half": "even" if i % 2 else "odd"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a store that grows from the smaller size to the larger."""
    return tmp_path_factory.mktemp("regimes") / "store"


def opened(folder: Path, index: Any) -> RAG:
    return RAG.open(folder, create=True, encoder=Numbered(), index=index, splitter=WordSplitter(6))


@pytest.fixture(scope="module", params=[FLAT_LIMIT - 1, FLAT_LIMIT + 1], ids=str)
def regimes(request: pytest.FixtureRequest, folder: Path) -> Iterator[Mapping[str, RAG]]:
    """The same corpus, searched in three ways."""
    with opened(folder, "exact") as exact, opened(folder, "faiss") as flat, opened(folder, "auto") as auto:
        there = exact.info().counts.passages
        exact.add(documents(range(there, request.param)))
        assert exact.info().counts.passages == request.param
        yield {"exact": exact, "faiss": flat, "auto": auto}


def among_themselves(found: Retrieval, ids: list[str]) -> torch.Tensor:
    """(C + 1,) priors of the passages with these ids, and of null, normalised over them."""
    log_prior = {p.id: each for p, each in zip(found.passages, found.log_prior.tolist(), strict=True)}
    null = -np.inf if found.log_null is None else found.log_null
    return torch.tensor([*(log_prior[id_] for id_ in ids), null], dtype=torch.float64).softmax(0)


def test_the_regimes_are_those_meant(regimes: Mapping[str, RAG]) -> None:
    passages = regimes["exact"].info().counts.passages
    kinds = {name: rag.info().index for name, rag in regimes.items()}
    assert kinds["exact"].startswith("exact search")
    assert kinds["auto"].startswith("exact search" if passages <= FLAT_LIMIT else "FAISS IVF")


@pytest.mark.parametrize(
    "where", [{}, {"half": "odd"}, {"document": "from-20000"}], ids=["all", "half", "document"]
)
@pytest.mark.parametrize(("lexical", "null"), [(0.0, None), (0.5, 6.0), (0.5, None), (1.0, 6.0)])
def test_the_prior_is_the_same_whatever_the_index(
    regimes: Mapping[str, RAG], lexical: float, null: float | None, where: dict[str, str]
) -> None:
    found_by_auto = wanted = 0
    for number in ASKED:
        for k in (1, 5, 50):
            asked = {"k": k, "lexical": lexical, "null": null, "where": where}
            found = {name: rag.passages(question(number), **asked) for name, rag in regimes.items()}
            exact = found.pop("exact")
            for each in found.values():
                common = [p.id for p in exact.passages if p.id in {other.id for other in each.passages}]
                ours, theirs = among_themselves(each, common), among_themselves(exact, common)
                torch.testing.assert_close(ours, theirs, rtol=0.0, atol=TOLERANCE)
                found_by_auto, wanted = found_by_auto + len(common), wanted + k
                if len(common) == k:
                    torch.testing.assert_close(
                        each.log_prior.exp(), exact.log_prior.exp(), rtol=0.0, atol=TOLERANCE
                    )
                    assert each.log_null == (exact.log_null and pytest.approx(exact.log_null, abs=TOLERANCE))
            if where and found["auto"].outside is not None:
                assert found["auto"].outside == pytest.approx(exact.outside, abs=TOLERANCE)
    assert found_by_auto >= 0.97 * wanted

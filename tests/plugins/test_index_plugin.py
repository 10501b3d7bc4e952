"""Index as a plug-in: a builder of one's own, with and without a normaliser, and bad input in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixrag import RAG, Hits
from mixrag.errors import PluginError, SettingError, StoreEmptyError
from mixrag.retrieval.index import ExactIndex, completed_index
from plugins.how_to import run_page
from words_encoder import WordsEncoder

TEXTS = {
    "cod": "a licence to fish cod costs nine crowns a year",
    "eel": "a licence to fish eel costs four crowns a season",
    "tax": "income tax is due in march and paid in crowns",
    "hen": "hens lay fewer eggs during winter",
}
QUESTION = "what does a licence for cod cost in crowns"
ROWS = np.arange(6, dtype=np.int64) * 2 + 1
VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def read(rows: np.ndarray) -> np.ndarray:
    return VECTORS[(rows - 1) // 2]


class Loop:
    """One method, in plain Python."""

    def __init__(self, rows, vectors):
        self.table = dict(zip(rows.tolist(), vectors, strict=True))

    def search(self, question, k, allowed=None):
        among = self.table if allowed is None else allowed.tolist()
        scored = sorted(((float(self.table[row] @ question), row) for row in among), reverse=True)[:k]
        return Hits(np.array([row for _, row in scored], np.int64), np.array([score for score, _ in scored]))


@pytest.fixture
def open_rag(tmp_path: Path) -> Callable[..., RAG]:
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.txt").write_text(text)

    def opened(index: object, **settings: object) -> RAG:
        rag = RAG.open(tmp_path / "store", create=True, encoder=WordsEncoder(), index=index, settings=settings)
        rag.index([tmp_path / f"{name}.txt" for name in TEXTS])
        return rag

    return opened


def test_the_how_to_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    # The packaged encoder takes seconds to load, and this page is about something else.
    monkeypatch.setattr("mixrag.answers.store_models.configured_encoder", lambda *given, **options: WordsEncoder())
    found = run_page("own-index.md")
    printed = capsys.readouterr().out.splitlines()
    assert "eel" in printed[0] and printed[-1] == "None" and len(found["found"].passages) == 2


@pytest.mark.parametrize("lexical", [0.0, 0.5])
def test_without_all_products_the_search_counts_as_approximate(
    open_rag: Callable[..., RAG], lexical: float
) -> None:
    with open_rag("exact", k=2, lexical=lexical) as exact:
        expected = exact.passages(QUESTION)
    with open_rag(Loop, k=2, lexical=lexical) as rag:
        found = rag.passages(QUESTION)
        assert [p.id for p in found.passages] == [p.id for p in expected.passages]
        assert found.log_prior.tolist() == pytest.approx(expected.log_prior.tolist(), abs=1e-12)
        assert found.outside is None and found.outside_bounds is None and expected.outside > 0
        with pytest.raises(SettingError, match=r"Loop over 4 passages"):
            rag.passages(QUESTION, normaliser="full")
        assert rag.info().index == "Loop, an index of the caller's own, over 4 passages"


def test_a_filter_reaches_the_index(open_rag: Callable[..., RAG]) -> None:
    with open_rag(Loop) as rag:
        found = rag.passages(QUESTION, where={"document": "*/?e?.txt"})
        assert sorted(Path(p.document).stem for p in found.passages) == ["eel", "hen"]


def test_with_all_products_or_bounds_it_is_as_good_as_exact(open_rag: Callable[..., RAG]) -> None:
    with open_rag("exact", k=2) as exact:
        expected = exact.passages(QUESTION, normaliser="full")
    with open_rag(lambda rows, vectors: ExactIndex(rows, vectors), k=2) as rag:
        found = rag.passages(QUESTION, normaliser="full")
        assert found.log_prior.tolist() == expected.log_prior.tolist() and found.outside == expected.outside

    class Bounded(Loop):
        def log_normaliser_bounds(self, question, temperature):
            logits = np.array([vector @ question / temperature for vector in self.table.values()])
            log_z = np.logaddexp.reduce(logits)
            return log_z - 0.1, log_z + 0.1

    for lexical in (0.0, 0.5):
        with open_rag("exact", k=2, lexical=lexical) as exact, open_rag(Bounded, k=2, lexical=lexical) as rag:
            low, high = rag.passages(QUESTION).outside_bounds
            assert low - 1e-6 < exact.passages(QUESTION).outside < high + 1e-6


def test_the_builder_is_called_anew_when_the_store_changes(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    built: list[int] = []

    def builder(rows, vectors):
        built.append(len(rows))
        return Loop(rows, vectors)

    with open_rag(builder) as rag:
        rag.passages(QUESTION)
        rag.passages("eggs")
        rag.remove([tmp_path / "hen.txt"])
        rag.passages(QUESTION)
    assert built == [4, 3]


@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        ("nearest", SettingError, "'nearest'"),
        (Loop(ROWS, VECTORS), PluginError, "found a Loop; give the function or class that builds"),
        (None, SettingError, "an object that builds an Index; found None"),
        (7, SettingError, "an object that builds an Index; found 7"),
    ],
)
def test_what_is_no_builder_is_refused_at_once(tmp_path: Path, index: object, error: type, match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        RAG.open(tmp_path / "store", create=True, index=index)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("builder", "match"),
    [
        (lambda rows, vectors: object(), "object without search"),
        (lambda rows, vectors: Loop, "the class Loop"),
        (lambda rows, vectors: None, "NoneType without search"),
    ],
)
def test_a_builder_that_returns_no_index_is_refused(
    open_rag: Callable[..., RAG], builder: object, match: str
) -> None:
    with open_rag(builder) as rag, pytest.raises(PluginError, match=match) as caught:
        rag.passages(QUESTION)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "products", "match"),
    [
        ([1, 3], [0.5], r"\(2,\) and \(1,\)"),
        ([[1]], [[0.5]], r"\(1, 1\)"),
        ([1, 3, 5, 7], [4.0, 3.0, 2.0, 1.0], "K <= 3"),
        ([1, 1], [0.5, 0.5], "distinct row ids"),
        ([1.0, 3.0], [0.5, 0.4], "distinct row ids"),
        ([1, 2], [0.5, 0.4], "rows that it was built with .* row 2"),
        ([1, 3], [0.5, float("nan")], "finite inner products"),
        ([1, 3], ["a", "b"], r"Hits\(rows, inner_products\)"),
    ],
)
def test_wrong_hits_are_one_line(rows: list, products: list, match: str) -> None:
    class Wrong:
        def search(self, question, k, allowed=None):
            return Hits(rows, products)

    with pytest.raises(PluginError, match=match) as caught:
        completed_index(Wrong(), ROWS, read).search(VECTORS[0], 3)
    assert "Wrong" in str(caught.value) and "\n" not in str(caught.value)


def test_hits_outside_the_filter_and_other_results_are_one_line() -> None:
    class Unfiltered(Loop):
        def search(self, question, k, allowed=None):
            return super().search(question, k)

    with pytest.raises(PluginError, match="the filter allows"):
        completed_index(Unfiltered(ROWS, VECTORS), ROWS, read).search(VECTORS[0], 6, ROWS[:2])

    class Pairs:
        def search(self, question, k, allowed=None):
            return [(1, 0.5)]

        def log_normaliser_bounds(self, question, temperature):
            return 0.0, float("nan")

    class Some(Loop):
        def products(self, question, allowed=None):
            return self.search(question, 5, allowed)

    with pytest.raises(PluginError, match="found a list"):
        completed_index(Pairs(), ROWS, read).search(VECTORS[0], 3)
    with pytest.raises(PluginError, match=r"log_normaliser_bounds .*found nan"):
        completed_index(Pairs(), ROWS, read).log_normaliser_bounds(VECTORS[0], 1.0)
    with pytest.raises(PluginError, match=r"products of all 6 rows, or None, from the index Some; found 5"):
        completed_index(Some(ROWS, VECTORS), ROWS, read).products(VECTORS[0])
    assert len(completed_index(Some(ROWS, VECTORS), ROWS, read).products(VECTORS[0], ROWS[:5]).rows) == 5


def test_hits_need_not_be_sorted() -> None:
    class Unsorted:
        def search(self, question, k, allowed=None):
            return Hits([5, 1, 3], [0.1, 0.3, 0.2])

    hits = completed_index(Unsorted(), ROWS, read).search(VECTORS[0], 3)
    assert hits.rows.tolist() == [1, 3, 5] and hits.inner_products.dtype == np.float32


def test_an_index_that_finds_nothing_is_one_line(open_rag: Callable[..., RAG]) -> None:
    class Nothing(Loop):
        def search(self, question, k, allowed=None):
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))

    with open_rag(Nothing) as rag, pytest.raises(StoreEmptyError, match="passages from the index; found none"):
        rag.passages(QUESTION)

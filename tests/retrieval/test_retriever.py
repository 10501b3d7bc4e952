"""p(z | x) against its definition, computed by a loop over all passages."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mixrag.config.settings import Settings
from mixrag.corpus import Store, WordSplitter, check_encoder, ingest
from mixrag.errors import EncoderMismatchError, SettingError, StoreEmptyError
from mixrag.retrieval.index import (
    ExactIndex,
    IVFIndex,
    build_faiss,
    build_ivf,
    choice,
    describe_index,
    open_index,
    persistence,
)
from mixrag.retrieval.lexical import open_lexical
from mixrag.retrieval.retriever import StoreRetriever
from mixrag.retrieval.snapshot_retriever import SnapshotRetriever
from words_encoder import WordsEncoder

TEXTS = {
    "cod.txt": "a licence to fish cod costs nine crowns a year",
    "eel.txt": "a licence to fish eel costs four crowns a season",
    "tax.txt": "income tax is due in march and paid in crowns",
    "hen.txt": "hens lay fewer eggs during winter",
    "law.txt": "the tenancy law protects tenants during winter",
}
QUESTION = "what does a licence for cod cost in crowns"


@pytest.fixture
def store(tmp_path: Path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    encoder = WordsEncoder()
    with Store.open(tmp_path / "store", create=True) as opened:
        ingest(
            opened,
            [folder],
            embed=encoder.encode_passages,
            encoder_fingerprint=encoder.fingerprint,
            encoder_name=encoder.name,
            embedding_text=encoder.passage_text,
            splitter=WordSplitter(),
        )
        yield opened


def retriever(store: Store, faiss: bool = False) -> StoreRetriever:
    rows, vectors = store.vectors()
    return StoreRetriever(
        store, WordsEncoder(), build_faiss(rows, vectors) if faiss else ExactIndex(rows, vectors)
    )


def dense(temperature: float = 0.1) -> dict[str, float]:
    """The definition: softmax of inner product over temperature, over all passages."""
    encoder = WordsEncoder()
    question = encoder.encode_questions([QUESTION])[0]
    logits = {name: float(encoder._vector(text) @ question) / temperature for name, text in TEXTS.items()}
    total = sum(math.exp(logit) for logit in logits.values())
    return {name: math.exp(logit) / total for name, logit in logits.items()}


def names(retrieval) -> list[str]:
    return [Path(passage.document).name for passage in retrieval.passages]


@pytest.mark.parametrize("k", [1, 2, 5, 50, "all"])
def test_the_full_normaliser_is_the_softmax_over_all_passages(store: Store, k: int) -> None:
    found = retriever(store).retrieve(QUESTION, Settings(k=k, normaliser="full"))
    expected = dense()
    for name, prior in zip(names(found), found.log_prior.exp().tolist(), strict=True):
        assert prior == pytest.approx(expected[name], rel=1e-5)
    assert found.outside == pytest.approx(1 - sum(expected[name] for name in names(found)), abs=1e-6)
    assert len(found.passages) == min(5, 5 if k == "all" else k)


@pytest.mark.parametrize("faiss", [False, True])
def test_the_top_k_normaliser_sums_to_one(store: Store, faiss: bool) -> None:
    found = retriever(store, faiss).retrieve(QUESTION, Settings(k=2))
    expected = dense()
    best = sorted(expected, key=lambda name: -expected[name])[:2]
    assert names(found) == best and best[0] == "cod.txt"
    mass = sum(expected[name] for name in best)
    assert found.log_prior.exp().tolist() == pytest.approx([expected[name] / mass for name in best], rel=1e-5)
    assert found.outside == (None if faiss else pytest.approx(1 - mass, rel=1e-5))


def test_fewer_passages_than_k_give_fewer_components_and_no_phantoms(store: Store) -> None:
    found = retriever(store).retrieve(QUESTION, Settings(k=20))
    assert len(found.passages) == len(set(names(found))) == 5
    assert found.outside == 0.0 and float(found.log_prior.exp().sum()) == pytest.approx(1.0)


def test_the_temperature_is_the_encoder_s_unless_it_is_set(store: Store) -> None:
    own, set_, flat = (
        retriever(store).retrieve(QUESTION, Settings(k="all", temperature=t)) for t in (None, 0.1, 100.0)
    )
    assert own.log_prior.tolist() == set_.log_prior.tolist() and own.temperature == 0.1
    assert flat.log_prior.exp().tolist() == pytest.approx([0.2] * 5, rel=0.02)


@pytest.mark.parametrize("normaliser", ["top-k", "full"])
def test_the_null_component_competes_with_its_score(store: Store, normaliser: str) -> None:
    score = 4.0
    found = retriever(store).retrieve(QUESTION, Settings(k=2, null=score, normaliser=normaliser))
    encoder = WordsEncoder()
    question = encoder.encode_questions([QUESTION])[0]
    masses = {name: math.exp(float(encoder._vector(text) @ question) / 0.1) for name, text in TEXTS.items()}
    over = names(found) if normaliser == "top-k" else list(TEXTS)
    total = sum(masses[name] for name in over) + math.exp(score)
    assert math.exp(found.log_null) == pytest.approx(math.exp(score) / total, rel=1e-5)
    expected = [masses[name] / total for name in names(found)]
    assert found.log_prior.exp().tolist() == pytest.approx(expected, rel=1e-5)
    everything = sum(masses.values()) + math.exp(score)
    others = sum(mass for name, mass in masses.items() if name not in names(found))
    assert found.outside == pytest.approx(others / everything, rel=1e-4)


@pytest.mark.parametrize("score", [1000.0, -1000.0])
def test_a_null_score_may_be_extreme(store: Store, score: float) -> None:
    found = retriever(store).retrieve(QUESTION, Settings(k=2, null=score))
    total = math.exp(found.log_null) + float(found.log_prior.exp().sum())
    assert total == pytest.approx(1.0)
    assert 0.0 <= found.outside < 1.0


def bm25(store: Store) -> dict[str, float]:
    """Of the passages that share a word with the question."""
    rows, scores = open_lexical(store).scores(QUESTION)
    named = zip((Path(passage.document).name for passage in store.passages(rows)), scores, strict=True)
    return {name: score for name, score in named if score > 0}


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_hybrid_prior_is_the_softmax_of_both_scores(store: Store, weight: float) -> None:
    settings = Settings(k="all", lexical=weight, lexical_temperature=2.0, normaliser="full")
    found = retriever(store).retrieve(QUESTION, settings)
    by_words, by_meaning = bm25(store), dense()
    assert 0 < len(by_words) < 5
    weights = {
        name: by_meaning[name] ** (1 - weight) * math.exp(by_words.get(name, 0.0) / 2.0) ** weight
        for name in TEXTS
    }
    for name, prior in zip(names(found), found.log_prior.exp().tolist(), strict=True):
        assert prior == pytest.approx(weights[name] / sum(weights.values()), rel=1e-5)
    assert float(found.log_prior.exp().sum()) == pytest.approx(1.0)


def test_passages_without_a_word_of_the_question_follow_in_the_order_of_dense_search(store: Store) -> None:
    """At λ = 1 they have equal priors, less than those that share a word."""
    found = retriever(store).retrieve(QUESTION, Settings(k="all", lexical=1.0))
    by_words, by_meaning = bm25(store), dense()
    others = sorted(set(TEXTS) - set(by_words), key=lambda name: (-by_meaning[name], name))
    assert names(found) == [*sorted(by_words, key=lambda name: -by_words[name]), *others]
    priors = found.log_prior.exp().tolist()
    assert priors[len(by_words) - 1] > priors[-1] == pytest.approx(priors[len(by_words)])


def test_a_truncated_hybrid_prior_keeps_the_best_and_knows_what_is_outside(store: Store) -> None:
    full = retriever(store).retrieve(QUESTION, Settings(k="all", lexical=0.5, normaliser="full"))
    two = retriever(store).retrieve(QUESTION, Settings(k=2, lexical=0.5))
    assert names(two) == names(full)[:2]
    prior = full.log_prior.exp()
    assert two.outside == pytest.approx(float(prior[2:].sum()), rel=1e-5)
    assert two.log_prior.exp().tolist() == pytest.approx((prior[:2] / prior[:2].sum()).tolist(), rel=1e-5)


def test_an_exact_hybrid_ranking_misses_nothing_that_is_second_best_twice(store: Store, tmp_path: Path) -> None:
    """A passage among the first of neither distribution can be the first of their sum."""
    texts = [f"cod cod cod {i}" for i in range(4)] + [f"licence {i} eel hen" for i in range(4)]
    texts.append("cod licence of the harbour office by the sea")
    folder = tmp_path / "more"
    folder.mkdir()
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_text(text)
    encoder = WordsEncoder()
    with Store.open(tmp_path / "second", create=True) as second:
        ingest(
            second,
            [folder],
            embed=encoder.encode_passages,
            encoder_fingerprint=encoder.fingerprint,
            encoder_name=encoder.name,
            embedding_text=encoder.passage_text,
            splitter=WordSplitter(),
        )
        found = StoreRetriever(second, encoder, ExactIndex(*second.vectors()))
        full = found.retrieve("cod licence", Settings(k="all", lexical=0.5))
        first = found.retrieve("cod licence", Settings(k=1, lexical=0.5))
        assert names(first) == names(full)[:1]


def test_a_question_without_any_known_word_falls_back_to_dense(store: Store) -> None:
    plain, mixed = (retriever(store).retrieve("xyzzy", Settings(k="all", lexical=weight)) for weight in (0.0, 0.5))
    assert plain.log_prior.tolist() == mixed.log_prior.tolist()


def test_filters_restrict_the_corpus_and_its_normaliser(store: Store) -> None:
    found = retriever(store).retrieve(QUESTION, Settings(k=5, where={"document": "*/?e?.txt"}, normaliser="full"))
    assert sorted(names(found)) == ["eel.txt", "hen.txt"]
    assert float(found.log_prior.exp().sum()) == pytest.approx(1.0) and found.outside == 0.0
    with pytest.raises(StoreEmptyError, match="loosen the filter"):
        retriever(store).retrieve(QUESTION, Settings(where={"document": "nothing.txt"}))


@pytest.mark.parametrize("settings", [Settings(normaliser="full"), Settings(k="all")])
def test_an_approximate_index_refuses_what_it_cannot_know(store: Store, settings: Settings) -> None:
    with pytest.raises(SettingError, match="exact search"):
        retriever(store, faiss=True).retrieve(QUESTION, settings)


def test_another_encoder_is_refused_with_the_command_that_re_embeds(store: Store) -> None:
    check_encoder(store, "words", "words-1")
    with pytest.raises(EncoderMismatchError, match=r"mixrag index --re-embed --store ") as caught:
        check_encoder(store, "other", "other-1")
    assert "words" in str(caught.value) and "other" in str(caught.value)


def test_the_index_is_chosen_by_size_and_kept_beside_the_store(store: Store, monkeypatch) -> None:
    assert isinstance(open_index(store, "auto"), ExactIndex)
    assert "exact search over 5 passages" in describe_index(5, "auto")
    assert describe_index(5, "faiss").startswith("FAISS Flat, exact")
    assert describe_index(100_000, "auto").startswith("FAISS IVF1024, four-bit codes")
    assert len(open_index(store, "faiss")) == 5 and not (store.directory / "index").exists()
    monkeypatch.setattr(choice, "FLAT_LIMIT", 3)
    built = open_index(store, "auto")
    assert isinstance(built, IVFIndex) and len(built) == 5
    assert describe_index(5, "auto", store) == built.description
    store.remove(Path(store.documents()[0].path))
    assert describe_index(4, "auto", store) != built.description
    changed = open_index(store, "auto")
    rows, vectors = store.vectors()
    assert len(changed) == 4
    assert (
        changed.search(vectors[2], 4).rows.tolist()
        == ExactIndex(rows, vectors).search(vectors[2], 4).rows.tolist()
    )


class OneSeen(IVFIndex):
    """Looks at the best passage only, so that something is left to be bounded."""

    def _near(self, question, wanted):
        return self.rows[:0] + 0 if wanted == 0 else super()._near(question, 1)

    def log_normaliser_bounds(self, question, temperature, known=None):
        return super().log_normaliser_bounds(question, temperature)


def few_seen(store: Store) -> StoreRetriever:
    rows, vectors = store.vectors()
    index = build_ivf(rows, vectors, clusters=2)
    return StoreRetriever(store, WordsEncoder(), OneSeen(**index.__dict__))


@pytest.mark.parametrize("null", [None, 4.0])
@pytest.mark.parametrize("lexical", [0.0, 0.4])
@pytest.mark.parametrize("normaliser_temperature", [0.1, 1.0])
def test_the_mass_outside_lies_between_its_bounds(
    store: Store, null: float | None, lexical: float, normaliser_temperature: float
) -> None:
    asked = Settings(k=2, null=null, lexical=lexical, temperature=normaliser_temperature)
    exact, bounded = retriever(store).retrieve(QUESTION, asked), few_seen(store).retrieve(QUESTION, asked)
    assert names(bounded) == names(exact)
    assert exact.outside_bounds is None and bounded.outside is None
    low, high = bounded.outside_bounds
    assert 0.0 <= low <= exact.outside + 1e-6 and exact.outside <= high + 1e-6 <= 1.0 + 1e-6
    assert high - low > 1e-4


def test_there_are_no_bounds_where_the_mass_is_known_or_of_another_prior(store: Store) -> None:
    assert few_seen(store).retrieve(QUESTION, Settings(k=5)).outside_bounds is None
    assert few_seen(store).retrieve(QUESTION, Settings(k=2, weights="uniform")).outside_bounds is None
    assert retriever(store, faiss=True).retrieve(QUESTION, Settings(k=2)).outside_bounds is None
    filtered = few_seen(store).retrieve(QUESTION, Settings(k=1, where={"document": "*/?e?.txt"}))
    exact = retriever(store).retrieve(QUESTION, Settings(k=1, where={"document": "*/?e?.txt"}))
    assert filtered.outside_bounds is None and filtered.outside == pytest.approx(exact.outside, rel=1e-5)


@pytest.mark.parametrize("lexical", [0.0, 1.0])
def test_uniform_weights_keep_the_passages_and_share_their_mass_equally(store: Store, lexical: float) -> None:
    settings = {"k": 3, "lexical": lexical, "null": 2.0, "normaliser": "full"}
    own = retriever(store).retrieve(QUESTION, Settings(**settings))
    flat = retriever(store).retrieve(QUESTION, Settings(**settings, weights="uniform"))
    assert names(flat) == names(own) and flat.log_null == own.log_null
    assert own.outside > 0 and flat.outside == own.outside, "the rest is where it was"
    share = float(own.log_prior.exp().sum()) / 3
    assert flat.log_prior.exp().tolist() == pytest.approx([share] * 3)
    assert 3 * share + math.exp(flat.log_null) + flat.outside == pytest.approx(1.0)
    alone = retriever(store).retrieve(QUESTION, Settings(k=3, lexical=lexical, weights="uniform"))
    assert alone.outside is None and alone.log_prior.exp().tolist() == pytest.approx([1 / 3] * 3)
    everything = retriever(store).retrieve(QUESTION, Settings(k="all", weights="uniform"))
    assert everything.outside == 0.0 and everything.log_prior.exp().tolist() == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("null", [None, 3.0])
@pytest.mark.parametrize("allowed", [0.0, 0.01, 0.1, 0.5])
def test_adaptive_k_is_the_smallest_that_leaves_at_most_so_much_outside(
    store: Store, allowed: float, null: float | None
) -> None:
    by_k = {k: retriever(store).retrieve(QUESTION, Settings(k=k, null=null)).outside for k in range(1, 6)}
    smallest = next(k for k, outside in by_k.items() if outside <= allowed + 1e-12)
    found = retriever(store).retrieve(QUESTION, Settings(k="all", null=null, max_outside=allowed))
    assert len(found.passages) == smallest and found.outside == pytest.approx(by_k[smallest])
    capped = retriever(store).retrieve(QUESTION, Settings(k=1, null=null, max_outside=allowed))
    assert len(capped.passages) == 1


def test_adaptive_k_needs_exact_search(store: Store) -> None:
    with pytest.raises(SettingError, match="max_outside"):
        retriever(store, faiss=True).retrieve(QUESTION, Settings(k=2, max_outside=0.1))


def test_a_null_component_that_takes_everything_leaves_one_passage(store: Store) -> None:
    found = retriever(store).retrieve(QUESTION, Settings(k="all", null=800.0, max_outside=0.1))
    assert len(found.passages) == 1 and found.outside == 0.0


def test_an_index_whose_numbers_are_damaged_is_built_again_from_the_store(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(choice, "FLAT_LIMIT", 3)
    monkeypatch.setattr(persistence, "_is_of", lambda index, corpus: True)  # the sample has missed it
    encoder = WordsEncoder()
    answer = SnapshotRetriever(store, lambda: encoder, lambda: "auto").retrieve(QUESTION, Settings(k=2))
    (path,) = (store.directory / "index").glob("vectors-*")
    path.write_bytes(np.full(path.stat().st_size // 4, np.nan, "<f4").tobytes())
    again = SnapshotRetriever(store, lambda: encoder, lambda: "auto")
    found = again.retrieve(QUESTION, Settings(k=2))
    assert found.log_prior.tolist() == answer.log_prior.tolist() and names(found) == names(answer)
    assert np.isfinite(np.fromfile(next((store.directory / "index").glob("vectors-*")), "<f4")).all()


def test_misspelt_words_are_found_where_it_is_asked_for(store: Store) -> None:
    right = retriever(store).retrieve("licence", Settings(k=5, lexical=1.0))
    assert right.log_prior[0] > right.log_prior[-1]
    tolerant = retriever(store).retrieve("licnece", Settings(k=5, lexical=1.0, typos=True))
    assert tolerant.log_prior.tolist() == right.log_prior.tolist()
    assert (
        retriever(store).retrieve("licnece", Settings(k=5, lexical=1.0)).log_prior.tolist()
        != right.log_prior.tolist()
    )

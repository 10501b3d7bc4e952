"""Fitting β: what is computed of a pair, and that a gain that may be chance is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.errors import ModelError, PairsError, SettingError
from mixrag.evaluation.question_weight import (
    FEWEST_PAIRS,
    PairTable,
    fit_question_likelihood,
    log_likelihoods,
    pair_table,
)
from mixrag.generator import Prompt, TableGenerator
from mixrag.pairs.pairs import Pair
from words_encoder import WordsEncoder


def table(source: torch.Generator, gain: float, size: int = 5) -> PairTable:
    """A pair whose answer is in the passage that makes the question e^gain times as probable."""
    prior = torch.randn(size, generator=source, dtype=torch.float64).log_softmax(0)
    question = -40 + 5 * torch.randn(size, generator=source, dtype=torch.float64)
    right = int(torch.multinomial(prior.exp(), 1, generator=source))
    question[right] += gain
    likelihood = torch.full((size,), 0.01, dtype=torch.float64)
    likelihood[right] = 0.8
    answered = torch.rand(size, generator=source, dtype=torch.float64).clamp(min=0.81)
    return PairTable(prior, question, likelihood.log(), answered.log(), tuple(j == right for j in range(size)))


def tables(seed: int, gain: float, count: int = 60) -> list[PairTable]:
    source = torch.Generator().manual_seed(seed)
    return [table(source, gain, 4 + i % 2) for i in range(count)]


def test_a_gain_on_other_pairs_sets_the_weight() -> None:
    some = tables(0, 6.0, 120)
    found = fit_question_likelihood(some)
    assert found.weight == found.fitted > 0.05 and found.gain.low > 0.0 and len(found.by_fold) == 5
    assert found.gain.n == 120 and set(found.of_question) == set(found.by_fold)
    before, after = (sum(each.first_is_relevant(w) for each in some) for w in (0.0, found.weight))
    assert after > before
    assert sum(log_likelihoods(some, found.weight)) > sum(log_likelihoods(some, 0.0))
    better = [each.log_relevant(found.weight) - each.log_relevant(0.0) for each in some]
    assert sum(better) > 0.0


def test_of_noise_nothing_is_learnt() -> None:
    """The best β on these very pairs is often above 0; what it gains on others is chance."""
    found = [fit_question_likelihood(tables(seed, 0.0)) for seed in range(30)]
    assert sum(each.fitted > 0.0 for each in found) >= 10
    assert sum(each.weight > 0.0 for each in found) <= 2
    assert all(each.weight in (0.0, each.fitted) for each in found)


def test_the_gain_is_that_of_the_weight_fitted_without_the_question() -> None:
    some = tables(3, 3.0, 20)
    found = fit_question_likelihood(some, seed=5)
    gains = [
        log_likelihoods([each], weight)[0] - log_likelihoods([each], 0.0)[0]
        for each, weight in zip(some, found.of_question, strict=True)
    ]
    assert found.gain.mean == pytest.approx(math.fsum(gains) / 20)
    assert fit_question_likelihood(some, seed=5) == found, "a function of the seed"
    assert sorted(map(found.of_question.count, found.by_fold)) == [4] * 5


def test_pairs_that_nothing_explains_gain_nothing() -> None:
    some = tables(0, 6.0, 40)
    nothing = torch.full_like(some[0].log_likelihood, -math.inf)
    found = fit_question_likelihood([replace(some[0], log_likelihood=nothing), *some[1:]])
    assert math.isfinite(found.gain.mean) and found.fitted > 0.0
    assert some[0].log_relevant(0.1) <= 0.0
    assert replace(some[0], relevant=(False,) * len(nothing)).log_relevant(0.1) == -math.inf


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(PairsError, match="at least 10 pairs"):
        fit_question_likelihood(tables(0, 0.0, FEWEST_PAIRS - 1))


WORDS = ("nine", "four", "crowns", "<end>")


def distribution(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    number = next((token for token in passage if token in (0, 1)), 3)
    said = (number, 2, 3)[min(len(answer), 2)]
    return torch.tensor([0.85 if word == said else 0.05 for word in range(4)], dtype=torch.float64)


@dataclass(frozen=True)
class Reading(TableGenerator):
    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        return torch.tensor([-20.0 - len(prompt.passages) for prompt in prompts], dtype=torch.float64)


PAIR = Pair("What does a licence for cod cost?", ("nine crowns", "nine"), "cod.txt", {}, "")


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "cod.txt").write_text("A licence to fish cod costs nine crowns.")
    (folder / "hen.txt").write_text("Hens lay fewer eggs in winter.")
    settings = Settings(k=2, max_tokens=4, temperature=0.5, empty_answer=True, null=0.0, question_likelihood=0.3)
    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=Reading(WORDS, distribution), settings=settings) as rag:
        rag.index([folder])
        yield rag


def test_the_table_of_a_pair_is_what_the_mixture_has(rag: RAG) -> None:
    found = pair_table(rag, PAIR)
    assert found.relevant == (True, False, False), "the null component is none"
    assert math.fsum(found.log_prior.exp().tolist()) == pytest.approx(1.0)
    assert found.log_question.tolist() == [-28.0, -26.0, -20.0]
    both = [0.85**3 + 0.85 * 0.05, 0.05 * 0.85**2 + 0.05 * 0.05, 0.05 * 0.85**2 + 0.05 * 0.05]
    assert found.log_likelihood.exp().tolist() == pytest.approx(both)
    assert found.log_answered.exp().tolist() == pytest.approx([0.95, 0.15, 0.15])
    for weight in (0.0, 0.3):
        mixture = rag.condition(PAIR.question, question_likelihood=weight)
        whole = math.fsum(math.exp(mixture.log_prob(answer)) for answer in PAIR.answers)
        assert math.exp(log_likelihoods([found], weight)[0]) == pytest.approx(whole)
    plain = pair_table(rag, PAIR, empty_answer=False)
    assert plain.log_answered.tolist() == [0.0] * 3
    assert plain.log_likelihood.tolist() == found.log_likelihood.tolist()


def test_what_cannot_be_fitted_is_refused(rag: RAG) -> None:
    with pytest.raises(SettingError, match="switch 0 to fit question_likelihood"):
        pair_table(rag, PAIR, switch=0.5)
    with (
        RAG(rag.store, encoder=rag.encoder, generator=TableGenerator(WORDS, distribution)) as other,
        pytest.raises(ModelError, match="for question_likelihood"),
    ):
        pair_table(other, PAIR)

"""One-pass beam search against the paper's thorough decoding, at equal rows of the language model.

Random mixtures small enough that the most probable answer is known by enumeration: K=5 passages, V=8 words,
answers of T=5 words. Thorough decoding has width 4 for each passage; the one-pass beam gets the largest width
whose rows do not exceed what thorough decoding took on the same mixture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import pytest
import torch
from torch import Tensor

from mixrag.decoding import Search, beam, thorough
from mixrag.generator import Prompt, TableGenerator
from mixrag.generator.table import TableBranches
from mixrag.mixture import Component, Mixture

K, V, T = 5, 8, 5
WIDTH = 4
"""Of thorough decoding, for each passage."""
STARTS, STEPS, SCORED = "rows started", "rows advanced", "tokens scored"


@dataclass(frozen=True)
class CountedGenerator(TableGenerator):
    """Without a stop token: every answer has T words. Counts the rows that a language model would compute."""

    rows: Counter[str] = field(default_factory=Counter)

    @property
    def stop_tokens(self) -> frozenset[int]:
        return frozenset()

    def start(self, prompts: Sequence[Prompt]) -> CountedBranches:
        self.rows[STARTS] += len(prompts)
        return CountedBranches(self, tuple(prompts), ((),) * len(prompts))

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        self.rows[SCORED] += len(prompts) * len(answer)
        return super().log_likelihood(prompts, answer)


@dataclass(frozen=True)
class CountedBranches(TableBranches):
    def advance(self, rows: Tensor, tokens: Tensor) -> CountedBranches:
        assert isinstance(self.generator, CountedGenerator)
        self.generator.rows[STEPS] += len(rows)
        after = super().advance(rows, tokens)
        return CountedBranches(after.generator, after.prompts, after.answers)


@dataclass(frozen=True)
class Random:
    """A random mixture: for every prefix of t words a law for each passage, (K, 8^t, V) log-probabilities."""

    log_prior: Tensor
    laws: tuple[Tensor, ...]

    @classmethod
    def drawn(cls, seed: int) -> Random:
        source = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=source, dtype=torch.float64)

        laws = tuple((1.5 * normal(K, V**t, V)).log_softmax(-1) for t in range(T))
        return cls(normal(K).log_softmax(-1), laws)

    def mixture(self) -> Mixture:
        probabilities = [list(law.exp().unbind(0)) for law in self.laws]

        def next_token(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
            index = 0
            for word in answer:
                index = index * V + word
            return probabilities[len(answer)][passage[0]][index]

        generator = CountedGenerator(tuple("abcdefgh"), next_token)
        components = tuple(Component((), Prompt((), (j,), ())) for j in range(K))
        return Mixture(generator, "", components, self.log_prior, 0.0, None)

    def log_probs(self) -> Tensor:
        """(8^T,) log p(y | x) of every answer, in the order of its words."""
        log_joint = self.log_prior[:, None]
        for law in self.laws:
            log_joint = (log_joint[:, :, None] + law).flatten(1)
        return log_joint.logsumexp(0)


def rows_of_beam(width: int) -> int:
    return K + K * sum(min(width, V**t) for t in range(1, T))


@dataclass(frozen=True)
class Outcome:
    """What both methods found on one mixture."""

    optimum: tuple[int, ...]
    log_optimum: float
    one_pass: Search
    thorough: Search
    rows_one_pass: int
    rows_thorough: int

    @property
    def found(self) -> tuple[bool, bool]:
        return self.one_pass.answers[0].tokens == self.optimum, self.thorough.answers[0].tokens == self.optimum


def outcome(seed: int) -> Outcome:
    drawn = Random.drawn(seed)
    log_probs = drawn.log_probs()
    best = int(log_probs.argmax())
    optimum = tuple(best // V**t % V for t in reversed(range(T)))
    by_thorough, thoroughly = _run(drawn, lambda mixture: thorough(mixture, WIDTH, T))
    width = max(w for w in range(1, V ** (T - 1)) if rows_of_beam(w) <= thoroughly)
    by_beam, passed = _run(drawn, lambda mixture: beam(mixture, width, T))
    assert passed == rows_of_beam(width)
    return Outcome(optimum, float(log_probs[best]), by_beam, by_thorough, passed, thoroughly)


def _run(drawn: Random, method: Callable[[Mixture], Search]) -> tuple[Search, int]:
    mixture = drawn.mixture()
    assert isinstance(mixture.generator, CountedGenerator)
    found = method(mixture)
    return found, mixture.generator.rows.total()


def check(outcomes: list[Outcome]) -> None:
    for each in outcomes:
        assert each.rows_one_pass <= each.rows_thorough
        for search in (each.one_pass, each.thorough):
            assert search.answers[0].log_prob <= each.log_optimum + 1e-9
        assert not each.thorough.certified
        if each.one_pass.certified:
            assert each.one_pass.answers[0].tokens == each.optimum
            assert each.one_pass.answers[0].log_prob == pytest.approx(each.log_optimum, abs=1e-9)
    one_pass, by_thorough = (sum(column) for column in zip(*(each.found for each in outcomes), strict=True))
    assert one_pass >= by_thorough
    mean = fmean(each.one_pass.answers[0].log_prob for each in outcomes)
    assert mean >= fmean(each.thorough.answers[0].log_prob for each in outcomes)
    assert any(each.one_pass.certified for each in outcomes)


def test_one_pass_finds_better_answers_at_equal_rows() -> None:
    check([outcome(seed) for seed in range(40)])


@pytest.mark.slow
def test_one_pass_finds_better_answers_at_equal_rows_on_300_mixtures() -> None:
    outcomes = [outcome(seed) for seed in range(300)]
    check(outcomes)
    misses = [sum(not found[i] for found in (each.found for each in outcomes)) for i in (0, 1)]
    assert misses[0] < misses[1], "strictly more often, over as many as these"


def test_narrow_beams_miss_and_never_certify_a_miss() -> None:
    certified, missed = 0, 0
    for seed in range(40):
        drawn = Random.drawn(seed)
        log_optimum = float(drawn.log_probs().max())
        for width in (1, 4, 16):
            search = beam(drawn.mixture(), width, T)
            is_optimum = search.answers[0].log_prob == pytest.approx(log_optimum, abs=1e-9)
            assert is_optimum or not search.certified
            certified += search.certified
            missed += not is_optimum
    assert certified >= 5 and missed >= 5


def test_enumeration_is_what_the_mixture_says() -> None:
    """The reference itself: an answer's place in the table, and its probability."""
    drawn = Random.drawn(0)
    mixture, log_probs = drawn.mixture(), drawn.log_probs()
    assert float(log_probs.logsumexp(0)) == pytest.approx(0.0, abs=1e-12)
    for words in ((0, 0, 0, 0, 0), (1, 2, 3, 4, 5), (7, 0, 7, 0, 7)):
        index = sum(word * V ** (T - 1 - t) for t, word in enumerate(words))
        assert mixture.score_tokens(words).log_prob == pytest.approx(float(log_probs[index]), abs=1e-12)


def test_a_beam_as_wide_as_all_prefixes_is_certified() -> None:
    drawn = Random.drawn(1)
    search = beam(drawn.mixture(), V**T, T)
    assert search.certified
    assert search.log_pruned == -math.inf
    assert search.answers[0].log_prob == pytest.approx(float(drawn.log_probs().max()), abs=1e-12)


def test_an_impossible_stop_token_is_no_answer() -> None:
    """Where no answer can end within the horizon, the best that is cut off is the answer, as for any law."""
    law = torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64)
    generator = TableGenerator(("a", "b", "<end>"), lambda *_: law)
    prior = torch.zeros(1, dtype=torch.float64)
    mixture = Mixture(generator, "", (Component((), Prompt((), (0,), ())),), prior, 0.0, None)
    for search in (beam(mixture, 2, 3), thorough(mixture, 2, 3)):
        assert search.answers[0].tokens == (0, 0, 0)
        assert search.answers[0].log_prob == pytest.approx(3 * math.log(0.6))

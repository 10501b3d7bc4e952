"""The simulation of ``benchmarks/one_pass_beam.py``, held against its enumerated optimum."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch

from mixrag.generator import Prompt, TableGenerator
from mixrag.inference.beam_search import beam, thorough
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture
from one_pass_beam import Outcome, Random, T, V, outcome


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

"""Components dropped in mid-answer: the distribution of answers moves by at most the budget, no number is lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enumeration import Toy, switches, toys
from mixrag.corpus import Passage
from mixrag.generator import Generator
from mixrag.generator.copying import CopyingGenerator
from mixrag.inference.batch import greedy_together
from mixrag.inference.decoders import Greedy, Sample
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.protocol import DecoderResult
from mixrag.inference.pruning import Pruning, copies_slowly
from mixrag.inference.stepwise import greedy, scored
from mixrag.probability import log_normalise, most_prunable, pruning_tv
from tables import toy_mixture

quick = settings(max_examples=40, deadline=None)
LIMIT = 4
PEAKED = Toy([0.4, 0.3, 0.2, 0.06, 0.04], seed=23, vocabulary=4, length=LIMIT)
"""Next-token distributions that differ much, so that a few tokens decide between the components."""


def outcomes(mixture: Mixture, budget: float, vocabulary: int) -> dict[tuple[int, ...], tuple[float, float]]:
    """Every answer, ended or cut off, with its probability under pruned decoding and what its path spent."""
    found = {}

    def walk(tokens: tuple[int, ...]) -> None:
        pruning, log_prob = Pruning(budget), 0.0
        state = mixture.start()
        for position, token in enumerate(tokens):
            log_prob += float(log_normalise(state.log_mixed()[0], 0)[token])  # as sampling does
            if position + 1 < len(tokens):
                followed = pruning.drop(state, token, position, LIMIT - position - 1)
                if followed is not None:
                    state = state.only(followed, state.branches.select(followed))
                state = state.advance(torch.tensor([0]), torch.tensor([token]))
        if tokens and (tokens[-1] == vocabulary - 1 or len(tokens) == LIMIT):
            found[tokens] = math.exp(log_prob), pruning.spent
            return
        for token in range(vocabulary):
            walk((*tokens, token))

    walk(())
    return found


@quick
@given(toys(length=LIMIT), switches, st.sampled_from([0.01, 0.1, 0.4]), st.sampled_from([1.0, 0.5, 0.01]))
def test_the_distribution_of_answers_moves_by_at_most_the_budget(
    toy: Toy, switch: float, budget: float, share: float
) -> None:
    """Also where the prior is that over the whole corpus, of which ``share`` is retrieved."""
    mixture = toy_mixture(toy, switch)
    mixture = replace(mixture, unconditioned_log_prior=mixture.log_prior + math.log(share))
    pruned, exact = (outcomes(mixture, each, toy.vocabulary) for each in (budget, 0.0))
    assert math.fsum(probability for probability, _ in pruned.values()) == pytest.approx(1.0)
    worst = max(spent for _, spent in pruned.values())
    assert worst <= budget
    distance = math.fsum(abs(pruned[answer][0] - exact[answer][0]) for answer in exact) / 2
    assert distance <= worst + 1e-9
    assert all(spent == 0.0 for _, spent in exact.values())


def test_a_prior_of_which_little_is_retrieved() -> None:
    """Weights whose total is small are compared as between themselves."""
    mixture = toy_mixture(PEAKED, 1.0)
    mixture = replace(mixture, unconditioned_log_prior=mixture.log_prior + math.log(0.01))
    pruned, exact = (outcomes(mixture, each, PEAKED.vocabulary) for each in (0.2, 0.0))
    distance = math.fsum(abs(pruned[answer][0] - exact[answer][0]) for answer in exact) / 2
    assert 0.0 < distance <= 0.2


@pytest.mark.parametrize("switch", [0.0, 0.05])
def test_a_distribution_that_does_move(switch: float) -> None:
    mixture = toy_mixture(PEAKED, switch)
    pruned, exact = (outcomes(mixture, each, PEAKED.vocabulary) for each in (0.4, 0.0))
    distance = math.fsum(abs(pruned[answer][0] - exact[answer][0]) for answer in exact) / 2
    assert 1e-3 < distance <= max(spent for _, spent in pruned.values()) <= 0.4


@quick
@given(toys(length=LIMIT, zeros=False), switches, st.sampled_from([0.0, 0.01, 0.3, 0.9]))
def test_the_whole_table_is_there_at_the_end(toy: Toy, switch: float, budget: float) -> None:
    mixture, pruning = toy_mixture(toy, switch), Pruning(budget)
    answer = scored(mixture, list(greedy(mixture, LIMIT, pruning)), pruning)
    again = mixture.score_tokens(answer.tokens)
    torch.testing.assert_close(answer.log_likelihood, again.log_likelihood)
    assert answer.log_prob == pytest.approx(again.log_prob)


def test_what_was_dropped_has_no_live_posterior_and_is_read_once() -> None:
    mixture, pruning = toy_mixture(PEAKED, 0.0), Pruning(0.5)
    steps = list(greedy(mixture, LIMIT, pruning))
    assert pruning.spent > 0 and steps[0].posterior.min() > 0
    gone = torch.cat([each.components for each in pruning.dropped])
    assert 0 < len(gone) < len(PEAKED.prior) and len(set(gone.tolist())) == len(gone)
    assert steps[-1].posterior[gone].tolist() == [0.0] * len(gone)
    assert steps[-1].log_likelihood[gone].isnan().all()
    assert float(steps[-1].posterior.sum()) == pytest.approx(1.0)
    for _ in range(2):
        assert scored(mixture, steps, pruning).log_likelihood.isfinite().all()


@quick
@given(toys(length=LIMIT, zeros=False), switches, st.sampled_from([0.01, 0.3, 0.9]))
def test_where_rows_are_copied_slowly_prompts_are_read_again(toy: Toy, switch: float, budget: float) -> None:
    mixture, copied = toy_mixture(toy, switch), Pruning(budget)
    expected = list(greedy(mixture, LIMIT, copied))
    slow = replace(mixture, generator=_Slow(mixture.generator))
    found = list(greedy(slow, LIMIT, pruning := Pruning(budget)))
    assert [step.token for step in found] == [step.token for step in expected]
    assert pruning.spent == copied.spent and all(each.branches is None for each in pruning.dropped)
    for _ in range(2):
        torch.testing.assert_close(
            scored(slow, found, pruning).log_likelihood, scored(mixture, expected, copied).log_likelihood
        )


class _Slow:
    """A generator whose rows should not be copied."""

    copies_rows_slowly = True

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)


def test_who_copies_rows_slowly() -> None:
    plain = toy_mixture(PEAKED, 0.0).generator
    slow: Any = _Slow(plain)
    assert copies_slowly(slow) and copies_slowly(CopyingGenerator(slow))
    assert not copies_slowly(plain) and not copies_slowly(CopyingGenerator(plain))


@pytest.mark.parametrize("decoder", [Greedy(prune=0.5), Greedy(prune=0.5, samples=1), Sample(prune=0.5)])
def test_decoders_drop_nothing_where_to_restore_it_costs_more(decoder: Greedy | Sample) -> None:
    """Also in a batch."""
    mixture = toy_mixture(PEAKED, 0.0)
    slow = replace(mixture, generator=_Slow(mixture.generator))
    assert _pruned(decoder, mixture) > 0 and _pruned(decoder, slow) == 0.0
    if isinstance(decoder, Greedy):
        fast, kept = (next(iter(decoder.decode_batch([each], LIMIT))).pruned for each in (mixture, slow))
        assert fast > 0 and kept == 0.0


def _pruned(decoder: Greedy | Sample, mixture: Mixture) -> float:
    *_, result = decoder.decode(mixture, LIMIT)
    assert isinstance(result, DecoderResult)
    return result.pruned


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("budget", [0.4, 0.95])
def test_a_real_model_reads_what_it_left_out(
    kind: str, budget: float, tiny_generator: Callable[[str], Generator]
) -> None:
    """By itself, and with other questions as rows of the same batch."""
    texts = ("The river city is old.", "Short.", "Nobody wrote the letter twice. " * 3, "Its name is long.")
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in texts]
    log_prior = torch.tensor([0.4, 0.25, 0.2, 0.15], dtype=torch.float64).log()
    mixture = condition(tiny_generator(kind), "Who wrote it?", passages, log_prior)
    pruning = Pruning(budget)
    found = [(scored(mixture, list(greedy(mixture, 12, pruning)), pruning), pruning)]
    slow = replace(mixture, generator=_Slow(mixture.generator))
    found += [(scored(slow, list(greedy(slow, 12, again := Pruning(budget))), again), again)]
    found += [(each.scored(), each.pruning) for each in greedy_together([mixture, mixture], 12, budget)]
    for answer, spent in found:
        assert spent.spent > 0
        again = mixture.score_tokens(answer.tokens)
        torch.testing.assert_close(answer.log_likelihood, again.log_likelihood, rtol=0.0, atol=1e-4)


@quick
@given(
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=6),
    st.integers(0, 1000),
    switches,
    st.integers(1, 9),
    st.floats(0.0, 0.9),
)
def test_as_many_are_prunable_as_the_budget_pays_for(
    masses: list[float], seed: int, switch: float, remaining: int, budget: float
) -> None:
    weights = torch.tensor(masses, dtype=torch.float64) / sum(masses)
    prior = weights[torch.randperm(len(weights), generator=torch.Generator().manual_seed(seed))]
    gone, spent = most_prunable(weights.log() - 3.0, prior.log(), switch, remaining, budget)
    assert len(gone) < len(weights)
    assert spent <= budget
    torch.testing.assert_close(weights[gone], weights.sort().values[: len(gone)])
    paid = pruning_tv(weights[gone].sum(), prior[gone].sum().clamp(max=1.0), switch, remaining)
    assert spent == pytest.approx(float(paid), abs=1e-12)
    if switch == 0.0 and len(gone) + 1 < len(weights):
        left = [i for i in weights.argsort().tolist() if i not in gone.tolist()]
        more = torch.tensor([*gone.tolist(), left[0]])
        cost = pruning_tv(weights[more].sum(), prior[more].sum().clamp(max=1.0), switch, remaining)
        assert float(cost) > budget - 1e-12

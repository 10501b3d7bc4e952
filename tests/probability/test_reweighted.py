"""The prior weighed by the likelihood of the question, in probability space; mixtures are in tests/inference."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from enumeration import Toy, switches, toys
from mixrag.probability import (
    best_question_weight,
    log_leave_one_out,
    log_marginal,
    log_posterior,
    log_reweighted_marginal,
    log_reweighted_prior,
    log_truncation_bracket,
    reweighted_poisoning,
)

NEAR = {"rel": 1e-9, "abs": 1e-12}
weights = st.sampled_from([0.0, 0.05, 0.5, 1.0]) | st.floats(0.0, 2.0)


def questions(toy: Toy) -> list[float]:
    """p(x | z_j): some of them tiny, as of a whole question."""
    source = torch.Generator().manual_seed(toy.seed)
    return (-20 * torch.rand(len(toy.prior), generator=source, dtype=torch.float64)).exp().tolist()


def reweighted(prior: list[float], question: list[float], weight: float) -> list[float]:
    """By the definition."""
    total = math.fsum(prior)
    products = [p * q**weight for p, q in zip(prior, question, strict=True)]
    return [total * each / math.fsum(products) for each in products]


def logs(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


def some_answer(toy: Toy) -> tuple[int, ...]:
    return toy.answers()[toy.seed % len(toy.answers())]


@settings(deadline=None)
@given(toys(), switches, weights)
def test_every_function_of_the_mixture_is_that_of_the_reweighted_prior(
    toy: Toy, switch: float, weight: float
) -> None:
    """Marginal, posterior and leave-one-out against sums over hidden paths."""
    expected = Toy(reweighted(toy.prior, questions(toy), weight), toy.seed, toy.vocabulary, toy.length)
    prior = log_reweighted_prior(toy.log_prior, logs(questions(toy)), weight)
    assert prior.exp().tolist() == pytest.approx(expected.prior, **NEAR)
    answer = some_answer(toy)
    table, whole = toy.log_likelihood(answer), expected.probability(answer, switch)
    assert float(log_marginal(prior, table, switch).exp()) == pytest.approx(whole, **NEAR)
    joint = expected.joint(answer, switch)
    shares = [math.fsum(p * path.count(j) / len(path) for path, p in joint.items()) for j in range(len(toy.prior))]
    found = log_posterior(prior, table, switch).exp()
    assert found.tolist() == pytest.approx([share / whole for share in shares], **NEAR)
    for j, without in enumerate(log_leave_one_out(prior, table, switch).exp().tolist()):
        if expected.prior[j] < 1.0 - 1e-9:
            rest = [0.0 if i == j else p / (1 - expected.prior[j]) for i, p in enumerate(expected.prior)]
            other = Toy(rest, toy.seed, toy.vocabulary, toy.length)
            assert without == pytest.approx(other.probability(answer, switch), rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(toys(least=2), switches, weights, st.data())
def test_the_bounds_of_a_truncated_prior_stand_as_they_are(
    toy: Toy, switch: float, weight: float, data: st.DataObject
) -> None:
    """ε is that of the retriever; inside it is π', outside π."""
    kept = data.draw(st.integers(1, len(toy.prior) - 1))
    inside, outside = toy.prior[:kept], math.fsum(toy.prior[kept:])
    assume(math.fsum(inside) > 1e-200)  # less is nothing times a question's likelihood, in probability space
    whole = Toy(
        [*reweighted(inside, questions(toy)[:kept], weight), *toy.prior[kept:]],
        toy.seed,
        toy.vocabulary,
        toy.length,
    )
    prior = log_reweighted_prior(logs(inside), logs(questions(toy)[:kept]), weight)
    assert math.fsum(prior.exp().tolist()) == pytest.approx(1 - outside, **NEAR)
    for answer in toy.answers():
        part = log_marginal(prior, toy.log_likelihood(answer)[:kept], switch)
        low, high = (float(each.exp()) for each in log_truncation_bracket(part, outside, switch, toy.length))
        assert low - 1e-12 <= whole.probability(answer, switch) <= high + 1e-12


def test_what_weight_leaves_and_takes() -> None:
    prior, question = logs([0.6, 0.1, 0.0, 0.2]), torch.tensor([-60.0, -40.0, -1.0, -900.0]).double()
    assert log_reweighted_prior(prior, question, 0.0).tolist() == prior.tolist()
    large = log_reweighted_prior(prior, question, 5.0).exp()
    assert large.tolist() == pytest.approx([0.0, 0.9, 0.0, 0.0], abs=1e-12), "of all that have a prior, the best"
    impossible = torch.tensor([-math.inf, -3.0, -1.0, -math.inf]).double()
    assert log_reweighted_prior(prior, impossible, 0.1).exp().tolist() == pytest.approx([0.0, 0.9, 0.0, 0.0])
    assert log_reweighted_prior(prior, impossible, 0.0).tolist() == prior.tolist()
    nothing = torch.full((4,), -math.inf, dtype=torch.float64)
    assert log_reweighted_prior(prior, nothing, 0.5).tolist() == prior.tolist(), "nothing is learnt"


def test_of_a_batch_each_row_is_what_it_is_alone() -> None:
    prior = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log()
    question = -30 * torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = log_reweighted_prior(prior, question, 0.2)
    for b in range(3):
        torch.testing.assert_close(whole[b], log_reweighted_prior(prior[b], question[b], 0.2))
        torch.testing.assert_close(whole[b].exp().sum(), prior[b].exp().sum())


def test_gradients_flow_to_the_prior() -> None:
    prior = logs([0.5, 0.3, 0.2]).requires_grad_()
    log_reweighted_prior(prior, torch.tensor([-3.0, -math.inf, -1.0]).double(), 0.5)[0].backward()
    assert prior.grad is not None and bool(prior.grad.isfinite().all())


@pytest.mark.parametrize("outside", [0.0, 0.3])
@pytest.mark.parametrize("empty", [False, True])
def test_the_poisoned_prior_is_the_largest_that_a_text_can_reach(outside: float, empty: bool) -> None:
    inside, weight = [p * (1 - outside) for p in (0.5, 0.3, 0.2)], 0.4
    question, answered = [1e-4, 1e-6, 1e-3], [0.9, 0.2, 0.6]
    log_answered = logs(answered) if empty else None
    bound = reweighted_poisoning(logs(inside), logs(question), weight, log_answered)
    for j in range(3):
        reached = []
        for likelihood in (1e-30, 1e-6, 0.5, 1.0):
            for own in (0.0, 0.5, 1.0) if empty else (1.0,):
                other = [likelihood if i == j else q for i, q in enumerate(question)]
                weighed = reweighted(inside, other, weight)
                if empty:  # what is outside answers nothing at worst
                    stated = [p * (own if i == j else answered[i]) for i, p in enumerate(weighed)]
                    weighed = [p / math.fsum(stated) for p in stated]
                reached.append(weighed[j])
        assert max(reached) == pytest.approx(float(bound[j])) and min(reached) < float(bound[j])
    assert float(reweighted_poisoning(logs([1.0, 0.0]), logs([0.1, 0.1]), weight)[1]) == 0.0


def tables(gain: float, count: int = 200, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """log π, log p(x | z), log p(y | x, z): the true passage makes the question e^gain times as probable."""
    source = torch.Generator().manual_seed(seed)
    prior = torch.randn(count, 5, generator=source, dtype=torch.float64).log_softmax(-1)
    question = -40 + 5 * torch.randn(count, 5, generator=source, dtype=torch.float64)
    uniform = torch.rand(count, 1, generator=source, dtype=torch.float64)
    right = (prior.exp().cumsum(-1) < uniform).sum(-1).clamp(max=4)
    question[torch.arange(count), right] += gain
    likelihood = (
        torch.full_like(prior, 0.01).index_put((torch.arange(count), right), torch.tensor(0.8).double()).log()
    )
    return prior, question, likelihood


def test_the_marginal_is_that_of_the_prior_divided_by_its_total() -> None:
    prior, question, likelihood = tables(5.0, 3)
    answered = torch.rand(3, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = log_reweighted_marginal(prior - 0.7, question, likelihood, 0.1)
    given_stated = log_reweighted_marginal(prior - 0.7, question, likelihood, 0.1, answered.log())
    for b in range(3):
        weighed = reweighted(prior[b].exp().tolist(), question[b].exp().tolist(), 0.1)
        whole = math.fsum(p * e for p, e in zip(weighed, likelihood[b].exp().tolist(), strict=True))
        assert math.exp(float(found[b])) == pytest.approx(whole)
        stated = math.fsum(p * a for p, a in zip(weighed, answered[b].tolist(), strict=True))
        assert math.exp(float(given_stated[b])) == pytest.approx(whole / stated)


@pytest.mark.parametrize("gain", [-8.0, 0.0, 2.0, 4.0, 30.0])
def test_the_best_weight_is_that_of_a_fine_grid(gain: float) -> None:
    given_tables = tables(gain)
    found = best_question_weight(*given_tables)
    grid = torch.linspace(0.0, 1.0, 2001, dtype=torch.float64)
    values = torch.stack([log_reweighted_marginal(*given_tables, float(each)).sum() for each in grid])
    assert found == pytest.approx(float(grid[values.argmax()]), abs=1e-3)
    assert float(log_reweighted_marginal(*given_tables, found).sum()) >= float(values.max()) - 1e-9
    assert (found == 0.0) == (gain <= 0.0)


def test_the_derivative_is_posterior_minus_prior() -> None:
    prior, question, likelihood = tables(4.0)
    weight = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    log_reweighted_marginal(prior, question, likelihood, weight).sum().backward()
    now = log_reweighted_prior(prior, question, 0.07)
    moved = ((now + likelihood).softmax(-1) - now.exp()) * question
    assert float(weight.grad) == pytest.approx(float(moved.sum()))


def test_of_several_peaks_the_highest_is_found() -> None:
    """One pair rises with β, one peaks near 0: their sum has two maxima."""
    prior = logs([0.5, 0.5]).expand(2, 2)
    question = torch.tensor([[0.0, -9.0], [-300.0, 0.0]]).double()
    likelihood = torch.tensor([[0.0, -30.0], [0.0, -0.5]]).double()
    found = best_question_weight(prior, question, likelihood)
    values = [float(log_reweighted_marginal(prior, question, likelihood, b / 1000).sum()) for b in range(1001)]
    assert found == pytest.approx(max(range(1001), key=values.__getitem__) / 1000, abs=2e-3)


def test_pairs_that_nothing_explains_do_not_count() -> None:
    prior, question, likelihood = tables(4.0)
    hopeless = likelihood.clone()
    hopeless[:3] = -math.inf
    assert best_question_weight(prior, question, hopeless) == pytest.approx(
        best_question_weight(prior[3:], question[3:], likelihood[3:])
    )
    assert best_question_weight(prior[:3], question[:3], hopeless[:3]) == 0.0

"""Training objectives against enumeration: values, gradients, the ascent of EM, the error of skipped branches."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_switching import TOLERANCE, some_answer
from torch import Tensor, nn

from enumeration import Toy, switches, toys
from mixrag.probability import (
    Responsibilities,
    contributing_branches,
    distillation_loss,
    e_step,
    em_loss,
    log_answer_likelihood,
    log_any_marginal,
    log_normalise,
    log_posterior,
    log_target,
    marginal_loss,
    score_gradient,
)

quick = settings(max_examples=40, deadline=None)
GRADIENT = {"rtol": 1e-7, "atol": 1e-10}
SWITCHES = [0.0, 0.3, 1.0]
SHAPES = [((), 1, 1), ((), 3, 2), ((2,), 3, 3), ((2, 2), 2, 3)]


def tables(leading: tuple[int, ...], components: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and log-likelihoods that need gradients, and a mask of ragged answers of at least one token."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(*leading, components, generator=generator, dtype=torch.float64)
    table = torch.rand(*leading, components, tokens, generator=generator, dtype=torch.float64).log()
    lengths = torch.randint(1, tokens + 1, leading, generator=generator)
    mask = torch.arange(tokens) < lengths.unsqueeze(-1)
    return scores.requires_grad_(), table.requires_grad_(), mask


def paths_with_draws(components: int, tokens: int) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """Every hidden path with, for each token, whether its passage was drawn from the prior or kept."""
    flags = itertools.product([True, False], repeat=max(0, tokens - 1))
    return [
        (path, (True, *drawn))
        for drawn in flags
        for path in itertools.product(range(components), repeat=tokens)
        if all(
            again or before == now for again, (before, now) in zip(drawn, itertools.pairwise(path), strict=True)
        )
    ]


def joint(
    prior: Tensor, likelihood: Tensor, path: tuple[int, ...], drawn: tuple[bool, ...], switch: float
) -> Tensor:
    """p(y, z, which tokens drew | x) in probability space, differentiable."""
    probability = torch.ones((), dtype=torch.float64)
    for t, j in enumerate(path):
        chance = 1.0 if t == 0 else switch if drawn[t] else 1 - switch
        probability = probability * chance * likelihood[j, t] * (prior[j] if drawn[t] else 1.0)
    return probability


def enumerated(prior: Tensor, likelihood: Tensor, switch: float) -> Tensor:
    """p(y | x) of one question without padding."""
    return torch.stack(
        [joint(prior, likelihood, *each, switch) for each in paths_with_draws(*likelihood.shape)]
    ).sum()


def each_question(scores: Tensor, table: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Prior (K,) and likelihood (K, its own T) of every question, in probability space."""
    rows = zip(scores.flatten(0, -2), table.flatten(0, -3), mask.flatten(0, -2), strict=True)
    return [(row.exp() / row.exp().sum(), each.exp()[:, : int(valid.sum())]) for row, each, valid in rows]


def enumerated_loss(scores: Tensor, table: Tensor, mask: Tensor, switch: float) -> Tensor:
    batched = (scores[None], table[None], mask[None])
    losses = [-enumerated(prior, likelihood, switch).log() for prior, likelihood in each_question(*batched)]
    return torch.stack(losses).reshape(mask.shape[:-1])


def gradients(loss: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss.sum(), of, retain_graph=True)


# The marginal likelihood


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(("leading", "components", "tokens"), SHAPES)
def test_marginal_loss_has_value_and_gradient_of_the_enumerated_objective(
    leading: tuple[int, ...], components: int, tokens: int, switch: float
) -> None:
    scores, table, mask = tables(leading, components, tokens)
    loss = marginal_loss(scores.log_softmax(-1), table, switch, mask)
    expected = enumerated_loss(scores, table, mask, switch)
    torch.testing.assert_close(loss, expected, **TOLERANCE)
    for found, wanted in zip(gradients(loss, scores, table), gradients(expected, scores, table), strict=True):
        torch.testing.assert_close(found, wanted, **GRADIENT)


def answers_of(toy: Toy, number: int) -> list[tuple[int, ...]]:
    """Different answers, of different lengths, each ended by the token 0 that stands nowhere else."""
    words = range(1, toy.vocabulary)
    ended = [(*a, 0) for n in range(toy.length) for a in itertools.product(words, repeat=n)]
    return ended[:number]


def gold_tables(toy: Toy, answers: list[tuple[int, ...]], padding: int) -> tuple[Tensor, Tensor, Tensor]:
    size = len(answers) + padding
    table = torch.full((size, len(toy.prior), toy.length), -1.5, dtype=torch.float64)
    mask = torch.zeros(size, toy.length, dtype=torch.bool)
    for a, answer in enumerate(answers):
        table[a, :, : len(answer)] = toy.log_likelihood(answer)
        mask[a, : len(answer)] = True
    return table, mask, torch.arange(size) < len(answers)


@quick
@given(toys(components=3, length=3), switches, st.integers(1, 4), st.integers(0, 2))
def test_any_gold_answer_has_the_sum_of_their_probabilities(
    toy: Toy, switch: float, number: int, padding: int
) -> None:
    answers = answers_of(toy, number)
    table, mask, present = gold_tables(toy, answers, padding)
    value = log_any_marginal(toy.log_prior, table, switch, mask, present).exp().item()
    expected = math.fsum(toy.probability(answer, switch) for answer in answers)
    torch.testing.assert_close(value, expected, **TOLERANCE)
    assert value <= 1 + 1e-9
    if not padding:
        assert log_any_marginal(toy.log_prior, table, switch, mask).exp().item() == pytest.approx(expected)


@pytest.mark.parametrize("switch", SWITCHES)
def test_any_gold_answer_has_the_gradient_of_the_enumerated_sum(switch: float) -> None:
    scores, _, _ = tables((2,), 2, 3)
    _, table, mask = tables((2, 3), 2, 3, seed=1)
    present = torch.tensor([[True, True, False], [True, False, False]])
    value = log_any_marginal(scores.log_softmax(-1), table, switch, mask, present)
    sums = []
    for b, row in enumerate(present):
        each = [
            torch.exp(-enumerated_loss(scores[b], table[b, a], mask[b, a], switch)) for a in range(int(row.sum()))
        ]
        sums.append(torch.stack(each).sum().log())
    expected = torch.stack(sums)
    torch.testing.assert_close(value, expected, **TOLERANCE)
    for found, wanted in zip(gradients(value, scores, table), gradients(expected, scores, table), strict=True):
        torch.testing.assert_close(found, wanted, **GRADIENT)


def test_a_question_without_any_answer_has_probability_zero_and_no_gradient() -> None:
    scores, table, mask = tables((2,), 3, 2)
    value = log_any_marginal(scores[0].log_softmax(-1), table, 0.3, mask, torch.zeros(2, dtype=torch.bool))
    assert value == -math.inf
    assert all(not gradient.any() for gradient in gradients(value, scores, table))


# EM


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(("leading", "components", "tokens"), SHAPES[:3])
def test_e_step_counts_what_the_enumerated_paths_do(
    leading: tuple[int, ...], components: int, tokens: int, switch: float
) -> None:
    scores, table, mask = tables(leading, components, tokens)
    found = e_step(scores.log_softmax(-1), table, switch, mask)
    assert not found.tokens.requires_grad and not found.draws.requires_grad
    rows = zip(found.tokens.reshape(-1, components, tokens), found.draws.reshape(-1, components), strict=True)
    questions = each_question(scores[None], table[None], mask[None])
    for (written, draws), (prior, likelihood) in zip(rows, questions, strict=True):
        total = enumerated(prior, likelihood, switch).item()
        expected_tokens, expected_drawn = torch.zeros_like(written), torch.zeros_like(draws)
        for path, drawn in paths_with_draws(*likelihood.shape):
            share = joint(prior, likelihood, path, drawn, switch).item() / total
            for t, j in enumerate(path):
                expected_tokens[j, t] += share
                expected_drawn[j] += share * drawn[t]
        torch.testing.assert_close(written, expected_tokens, **TOLERANCE)
        torch.testing.assert_close(draws, expected_drawn, **TOLERANCE)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(("leading", "components", "tokens"), SHAPES)
def test_em_loss_has_the_gradient_of_the_enumerated_marginal_where_the_e_step_was_made(
    leading: tuple[int, ...], components: int, tokens: int, switch: float
) -> None:
    scores, table, mask = tables(leading, components, tokens)
    log_prior = scores.log_softmax(-1)
    held = em_loss(log_prior, table, e_step(log_prior, table, switch, mask))
    assert held.shape == leading
    expected = enumerated_loss(scores, table, mask, switch)
    for found, wanted in zip(gradients(held, scores, table), gradients(expected, scores, table), strict=True):
        torch.testing.assert_close(found, wanted, **GRADIENT)


@quick
@given(toys(), switches)
def test_fisher_s_identity_holds_for_every_mixture_and_switch(toy: Toy, switch: float) -> None:
    prior, table = toy.log_prior.requires_grad_(), toy.log_likelihood(some_answer(toy)).requires_grad_()
    held = em_loss(prior, table, e_step(prior, table, switch))
    marginal = marginal_loss(prior, table, switch)
    for found, wanted in zip(gradients(held, prior, table), gradients(marginal, prior, table), strict=True):
        torch.testing.assert_close(found, wanted, **GRADIENT)


@quick
@given(toys(components=3, length=3, zeros=False), switches, st.integers(0, 10_000))
def test_what_em_gains_the_marginal_gains_at_least(toy: Toy, switch: float, seed: int) -> None:
    before = toy.log_prior, toy.log_likelihood(some_answer(toy))
    scores, after_table, _ = tables((), len(toy.prior), toy.length, seed)
    after = scores.log_softmax(-1), after_table
    held = e_step(*before, switch)
    gained = em_loss(*before, held) - em_loss(*after, held)
    assert marginal_loss(*before, switch) - marginal_loss(*after, switch) >= gained - 1e-9


class Tables:
    """A mixture whose parameters are its tables: prior (K,), emission (K, V), the same at every token."""

    def __init__(self, observed: Tensor, mask: Tensor, components: int, vocabulary: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.observed, self.mask = observed, mask
        self.prior = torch.rand(components, generator=generator, dtype=torch.float64).add(0.2)
        self.prior /= self.prior.sum()
        emission = torch.rand(components, vocabulary, generator=generator, dtype=torch.float64).add(0.2)
        self.emission = emission / emission.sum(-1, keepdim=True)

    def log_likelihood(self, log_emission: Tensor) -> Tensor:  # (B, K, T)
        return log_emission[:, self.observed].transpose(0, 1)

    def log_marginal(self, switch: float) -> float:
        table = self.log_likelihood(self.emission.log())
        return -float(marginal_loss(self.prior.log(), table, switch, self.mask).sum())

    def responsibilities(self, switch: float) -> Responsibilities:
        return e_step(self.prior.log(), self.log_likelihood(self.emission.log()), switch, self.mask)

    def held_loss(self, held: Responsibilities) -> float:
        return float(em_loss(self.prior.log(), self.log_likelihood(self.emission.log()), held).sum())

    def m_step(self, held: Responsibilities) -> None:
        self.prior = held.draws.sum(0) / held.draws.sum()
        counts = torch.zeros_like(self.emission)
        for v in range(counts.shape[-1]):
            counts[:, v] = (held.tokens * (self.observed == v).unsqueeze(1)).sum((0, 2))
        self.emission = counts / counts.sum(-1, keepdim=True)

    def gradient_norm(self, switch: float) -> float:
        scores, logits = self.prior.log().requires_grad_(), self.emission.log().requires_grad_()
        table = self.log_likelihood(logits.log_softmax(-1))
        loss = marginal_loss(scores.log_softmax(-1), table, switch, self.mask)
        return math.sqrt(sum(float(g.square().sum()) for g in gradients(loss, scores, logits)))


def tables_to_fit(seed: int = 0) -> Tables:
    """Forty ragged answers from two unlike kinds of passage."""
    generator = torch.Generator().manual_seed(seed)
    laws = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    kinds = torch.randint(0, 2, (40,), generator=generator)
    observed = torch.stack([torch.multinomial(laws[k], 4, True, generator=generator) for k in kinds])
    mask = torch.arange(4) < torch.randint(1, 5, (40, 1), generator=generator)
    return Tables(observed, mask, 2, 3, seed + 1)


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_em_never_lowers_the_marginal_likelihood(switch: float) -> None:
    model = tables_to_fit()
    before = first = model.log_marginal(switch)
    for _ in range(30):
        held = model.responsibilities(switch)
        lost = model.held_loss(held)
        model.m_step(held)
        now = model.log_marginal(switch)
        assert model.held_loss(held) <= lost + 1e-9
        assert now >= before + (lost - model.held_loss(held)) - 1e-9
        before = now
    assert before > first + 1


def test_em_ends_where_the_gradient_of_the_marginal_likelihood_vanishes() -> None:
    model = tables_to_fit()
    start = model.gradient_norm(0.0)
    for _ in range(300):
        model.m_step(model.responsibilities(0.0))
    assert start > 1
    assert model.gradient_norm(0.0) < 1e-6


def test_em_loss_counts_nothing_for_what_nothing_is_expected_of() -> None:
    prior = torch.tensor([0.0, -math.inf], dtype=torch.float64, requires_grad=True)
    table = torch.tensor([[-1.0, math.nan], [-math.inf, math.nan]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, False])
    loss = em_loss(prior, table, e_step(prior, table.nan_to_num(), 0.3, mask))
    loss.backward()
    assert loss == 1.0
    assert prior.grad.tolist() == [-1.0, 0.0] and table.grad.tolist() == [[-1.0, 0.0], [0.0, 0.0]]


# Distillation


def published_pdist(scores: list[float], gold: list[list[float]], temperature: float) -> float:
    """Atlas, src/atlas.py, perplexity_score and kldivloss, as a sum over passages, in plain loops."""
    means = [math.fsum(tokens) / len(tokens) for tokens in gold]
    target = [math.exp(mean / temperature) for mean in means]
    target = [weight / math.fsum(target) for weight in target]
    prior = [math.exp(score) for score in scores]
    prior = [weight / math.fsum(prior) for weight in prior]
    return math.fsum(r * (math.log(r) - math.log(p)) for r, p in zip(target, prior, strict=True))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 3.0])
def test_distillation_is_the_published_pdist(temperature: float) -> None:
    scores, table, mask = tables((4,), 5, 3)
    lengths = mask.sum(-1, keepdim=True)
    log_prior = scores.log_softmax(-1)
    mean = log_answer_likelihood(table, mask) / lengths
    loss = distillation_loss(log_prior, log_target(log_prior, mean, 0.0, temperature))
    for b in range(4):
        gold = table[b, :, : int(lengths[b])].tolist()
        expected = published_pdist(scores[b].tolist(), gold, temperature)
        torch.testing.assert_close(loss[b].item(), expected, rtol=1e-9, atol=1e-12)


def test_reverse_distillation_is_the_published_replug_lsr() -> None:
    """Its exponent holds the likelihood itself, over β; passed in place of its logarithm it is reproduced."""
    scores, table, _ = tables((), 4, 2)
    log_prior, beta = scores.log_softmax(-1), 0.1
    likelihood = log_answer_likelihood(table).exp()
    loss = distillation_loss(log_prior, log_target(log_prior, likelihood, 0.0, beta), reverse=True)
    weights = [math.exp(p / beta) for p in likelihood.tolist()]
    target = [weight / math.fsum(weights) for weight in weights]
    terms = (p * math.log(p / q) for p, q in zip(log_prior.exp().tolist(), target, strict=True))
    assert loss.item() == pytest.approx(math.fsum(terms), rel=1e-12)


@quick
@given(toys(zeros=False), st.floats(0.0, 2.0), st.floats(0.2, 5.0))
def test_the_target_is_the_normalised_product_of_powers(toy: Toy, power: float, temperature: float) -> None:
    likelihood = log_answer_likelihood(toy.log_likelihood(some_answer(toy)))
    found = log_target(toy.log_prior, likelihood, power, temperature).exp()
    weights = [p**power * math.exp(e / temperature) for p, e in zip(toy.prior, likelihood.tolist(), strict=True)]
    for value, weight in zip(found.tolist(), weights, strict=True):
        assert value == pytest.approx(weight / math.fsum(weights), rel=1e-6, abs=1e-300)


@quick
@given(toys(zeros=False))
def test_distilling_the_posterior_is_em_is_the_marginal_likelihood(toy: Toy) -> None:
    """(a, τ) = (1, 1) at switch 0: equal target, equal gradient in the scores."""
    scores, table = toy.log_prior.clone().requires_grad_(), toy.log_likelihood(some_answer(toy))
    log_prior = scores.log_softmax(-1)
    target = log_target(log_prior, log_answer_likelihood(table))
    torch.testing.assert_close(target.exp(), log_posterior(log_prior, table, 0.0).exp(), **TOLERANCE)
    (distilled,) = gradients(distillation_loss(log_prior, target), scores)
    (marginal,) = gradients(marginal_loss(log_prior, table, 0.0), scores)
    torch.testing.assert_close(distilled, marginal, **GRADIENT)


@quick
@given(toys(zeros=False), st.booleans())
def test_distillation_is_a_divergence(toy: Toy, reverse: bool) -> None:
    target = log_target(toy.log_prior, log_answer_likelihood(toy.log_likelihood(some_answer(toy))), 0.0)
    assert distillation_loss(toy.log_prior, target, reverse) >= -1e-12
    assert distillation_loss(target, target, reverse).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_distillation_has_the_gradient_of_the_plain_sum_and_none_in_the_target(reverse: bool) -> None:
    scores, table, _ = tables((3,), 4, 2)
    target = log_target(scores.log_softmax(-1), log_answer_likelihood(table), 0.0, 2.0)
    prior, fixed = scores.exp() / scores.exp().sum(-1, keepdim=True), target.detach().exp()
    plain = (prior * (prior / fixed).log() if reverse else fixed * (fixed / prior).log()).sum(-1)
    loss = distillation_loss(scores.log_softmax(-1), target, reverse)
    torch.testing.assert_close(loss, plain, **TOLERANCE)
    torch.testing.assert_close(gradients(loss, scores), gradients(plain, scores), **GRADIENT)
    assert torch.autograd.grad(loss.sum(), table, allow_unused=True) == (None,)


def test_a_truncated_prior_is_compared_as_it_is_or_normalised_when_reversed() -> None:
    prior, target = torch.tensor([0.3, 0.2]).double(), torch.tensor([0.5, 0.5]).double()
    forward = distillation_loss(prior.log(), target.log()).item()
    assert forward == pytest.approx(0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.2))
    backward = distillation_loss(prior.log(), target.log(), reverse=True).item()
    assert backward == pytest.approx(0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.5))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_what_is_not_in_the_prior_is_in_no_target(power: float) -> None:
    prior = torch.tensor([0.5, 0.5, 0.0]).log()
    found = log_target(prior, torch.tensor([-2.0, -1.0, -0.1]), power).exp()
    torch.testing.assert_close(found, torch.tensor([-2.0, -1.0, -math.inf]).softmax(0))
    nothing = log_target(prior, torch.tensor([-math.inf, -math.inf, 0.0]), power)
    assert nothing.tolist() == [-math.inf] * 3


def test_a_law_that_excludes_what_the_other_allows_is_infinitely_far() -> None:
    certain = torch.tensor([0.0, -math.inf], requires_grad=True)
    open_minded = torch.tensor([0.5, 0.5]).log().requires_grad_()
    for prior, target, reverse in ((certain, open_minded, False), (open_minded, certain, True)):
        loss = distillation_loss(prior, target, reverse)
        assert loss == math.inf and not gradients(loss, prior)[0].any()
    assert distillation_loss(certain, open_minded, True).item() == pytest.approx(math.log(2))
    assert distillation_loss(open_minded, certain).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(("power", "temperature"), [(-0.1, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, math.inf)])
def test_target_powers_outside_their_range_are_refused(power: float, temperature: float) -> None:
    with pytest.raises(ValueError, match="prior_power >= 0"):
        log_target(torch.zeros(1), torch.zeros(1), power, temperature)


# The gradient in the scores


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(("leading", "components", "tokens"), SHAPES)
def test_score_gradient_is_that_of_the_enumerated_objective(
    leading: tuple[int, ...], components: int, tokens: int, switch: float
) -> None:
    scores, table, mask = tables(leading, components, tokens)
    found = score_gradient(scores.log_softmax(-1), table, switch, mask)
    (expected,) = gradients(-enumerated_loss(scores, table, mask, switch), scores)
    torch.testing.assert_close(found, expected, **GRADIENT)
    assert not found.requires_grad
    if switch == 0.0:
        posterior = log_posterior(scores.log_softmax(-1), table, 0.0, mask).exp()
        torch.testing.assert_close(found, posterior - scores.softmax(-1), **GRADIENT)


@quick
@given(toys(least=2, zeros=False), switches)
def test_score_gradient_of_a_truncated_prior_is_that_of_the_full_normaliser(toy: Toy, switch: float) -> None:
    """The last passage was not retrieved, but its score is in the normaliser."""
    scores = toy.log_prior.clone().requires_grad_()
    table = toy.log_likelihood(some_answer(toy))[:-1]
    loss = marginal_loss(scores.log_softmax(-1)[:-1], table, switch)
    found = score_gradient(toy.log_prior[:-1], table, switch)
    torch.testing.assert_close(found, -gradients(loss, scores)[0][:-1], **GRADIENT)


# Extreme values


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_values_give_no_nan(switch: float, dtype: torch.dtype) -> None:
    scores = torch.tensor([[0.0, -math.inf, 1e4, -1e4]] * 3, dtype=dtype, requires_grad=True)
    table = torch.tensor([[-1e4, 0.0], [-1.0, -1.0], [-1e4, -1e4], [-math.inf, -1e4]], dtype=dtype)
    impossible = torch.full_like(table, -math.inf)
    table = torch.stack([table, table.flip(-1), impossible]).requires_grad_()
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    log_prior = log_normalise(scores, -1)
    target = log_target(log_prior, log_answer_likelihood(table, mask), 0.0, 0.01)
    losses = [
        marginal_loss(log_prior, table, switch, mask),
        -log_any_marginal(log_prior[0], table, switch, mask),
        em_loss(log_prior, table, e_step(log_prior, table, switch, mask)),
        distillation_loss(log_prior, target),
        distillation_loss(log_prior, target, reverse=True),
    ]
    for loss in losses:
        assert not loss.isnan().any()
        for gradient in torch.autograd.grad(loss.sum(), (scores, table), allow_unused=True, retain_graph=True):
            assert gradient is None or gradient.isfinite().all()
    assert losses[0][:2].isfinite().all() and losses[0][2] == math.inf
    assert losses[3].isfinite().all()  # outside both laws is no difference between them
    assert score_gradient(log_prior, table, switch, mask).isfinite().all()


# Branches that need no backward pass

coefficients = st.lists(st.floats(0.0, 10.0), min_size=1, max_size=8)


@quick
@given(coefficients, st.floats(0.0, 0.99))
def test_as_many_of_the_smallest_branches_are_dropped_as_the_budget_allows(
    each: list[float], budget: float
) -> None:
    kept = contributing_branches(torch.tensor(each, dtype=torch.float64), budget).tolist()
    dropped = [c for c, keep in zip(each, kept, strict=True) if not keep]
    remaining = sorted(c for c, keep in zip(each, kept, strict=True) if keep)
    limit = budget * math.fsum(each)
    assert math.fsum(dropped) <= limit + 1e-12
    if remaining:
        assert max(dropped, default=0.0) <= remaining[0]
        assert math.fsum(dropped) + remaining[0] >= limit - 1e-12


@given(coefficients)
def test_without_a_budget_only_what_contributes_nothing_is_dropped(each: list[float]) -> None:
    assert contributing_branches(torch.tensor(each), 0.0).tolist() == [c > 0 for c in torch.tensor(each).tolist()]


def test_each_question_has_its_own_budget() -> None:
    kept = contributing_branches(
        torch.tensor([[[0.9, 0.05, 0.05], [5.0, 4.0, 1.0]], [[0.0, 0.0, 2.0], [1.0, 1.0, 1.0]]]), 0.2
    )
    expected = [[[True, False, False], [True, True, False]], [[False, False, True], [True, True, True]]]
    assert kept.tolist() == expected


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_question_with_a_broken_coefficient_keeps_every_branch(broken: float) -> None:
    kept = contributing_branches(torch.tensor([[0.0, broken, 1.0], [0.0, 1.0, 1.0]]), 0.3)
    assert kept.tolist() == [[True] * 3, [False, True, True]]


@pytest.mark.parametrize("budget", [-0.1, 1.0, math.nan])
def test_a_budget_outside_its_range_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match=r"budget in \[0, 1\)"):
        contributing_branches(torch.ones(2), budget)


class LinearReader:
    """A generator of one linear layer: log e_t(j) = log softmax(W h_{j,t})[y_t] for fixed features h (K, T, D)."""

    def __init__(self, components: int, tokens: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.features = 2 * torch.randn(components, tokens, 3, generator=generator, dtype=torch.float64)
        self.answer = torch.randint(0, 4, (tokens,), generator=generator)
        self.layer = nn.Linear(3, 4, bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.layer.weight.copy_(2 * torch.randn(4, 3, generator=generator, dtype=torch.float64))

    def log_likelihood(self) -> Tensor:  # (K, T)
        log_probs = self.layer(self.features).log_softmax(-1)
        return log_probs[:, torch.arange(len(self.answer)), self.answer]

    def token_gradients(self) -> Tensor:  # (K, T, 4, 3)
        table = self.log_likelihood()
        rows = [[gradients(entry, self.layer.weight)[0] for entry in row] for row in table]
        return torch.stack([torch.stack(row) for row in rows])


@quick
@given(st.integers(0, 10_000), switches, st.floats(0.0, 0.5))
def test_leaving_out_branches_changes_the_gradient_by_at_most_the_bound(
    seed: int, switch: float, budget: float
) -> None:
    reader, log_prior = LinearReader(5, 3, seed), torch.zeros(5, dtype=torch.float64).log_softmax(-1)
    loss = marginal_loss(log_prior, reader.log_likelihood(), switch)
    (exact,) = gradients(loss, reader.layer.weight)
    table = reader.log_likelihood().detach().requires_grad_()
    (entries,) = gradients(marginal_loss(log_prior, table, switch), table)
    shares = entries.abs().sum(-1)
    torch.testing.assert_close(shares, e_step(log_prior, table, switch).tokens.sum(-1), **TOLERANCE)
    kept = contributing_branches(shares, budget)
    each = reader.token_gradients()
    torch.testing.assert_close((entries[..., None, None] * each).sum((0, 1)), exact, **GRADIENT)
    partial = (entries[..., None, None] * each)[kept].sum((0, 1))
    error = (partial - exact).norm().item()
    steepest = each.flatten(2).norm(dim=-1).max().item()
    dropped = shares[~kept].sum().item()
    assert error <= dropped * steepest + 1e-12
    assert dropped <= budget * 3 + 1e-12  # the answer's three tokens are the question's total


def test_the_skipping_bound_is_attained() -> None:
    """Two like branches with opposite gradients of one norm: what is dropped is exactly what is missed."""
    shares, each = torch.tensor([0.9, 0.1]).double(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    kept = contributing_branches(shares, 0.2)
    missed = (shares[~kept, None] * each[~kept]).sum(0).norm()
    assert kept.tolist() == [True, False] and missed.item() == pytest.approx(shares[~kept].sum().item())


@quick
@given(toys(zeros=False), switches)
def test_expected_tokens_and_draws_add_up(toy: Toy, switch: float) -> None:
    assume(toy.length > 1)
    found = e_step(toy.log_prior, toy.log_likelihood(some_answer(toy)), switch)
    torch.testing.assert_close(found.tokens.sum(-2), torch.ones(toy.length, dtype=torch.float64), **TOLERANCE)
    assert 1 - 1e-9 <= found.draws.sum().item() <= toy.length + 1e-9

"""Mixture against enumeration; grouping, null component, closed book, truncation bracket."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings

from enumeration import Toy, switches, toys
from mixrag.generator import Prompt, TableGenerator
from mixrag.inference.mixture import Mixture, condition
from tables import passage, table_generator, toy_mixture, toy_passages

quick = settings(max_examples=40, deadline=None)
TOY = Toy([0.5, 0.3, 0.2], seed=7, vocabulary=3, length=3)


@quick
@given(toys(), switches)
def test_log_prob_is_the_enumerated_mixture(toy: Toy, switch: float) -> None:
    scored = toy_mixture(toy, switch).score_tokens(toy.answers()[-1])
    expected = toy.probability(toy.answers()[-1], switch)
    assert math.exp(scored.log_prob) == pytest.approx(expected, rel=1e-9)
    assert float(scored.token_log_probs.sum()) == pytest.approx(scored.log_prob, rel=1e-9)


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_responsibilities_are_the_enumerated_smoothing(switch: float) -> None:
    answer = (0, 1, 2)
    joint = TOY.joint(answer, switch)
    scored = toy_mixture(TOY, switch).score_tokens(answer)
    for j in range(3):
        for t in range(3):
            expected = sum(p for path, p in joint.items() if path[t] == j) / sum(joint.values())
            assert float(scored.responsibilities[j, t]) == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(scored.posterior, scored.responsibilities.mean(-1))


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_predictive_is_the_ratio_of_enumerated_prefixes(switch: float) -> None:
    mixture = toy_mixture(TOY, switch)
    for answer, prefix in (("", ()), ("w1", (1,)), ("w1 w0", (1, 0))):
        distribution = mixture.predictive(answer).exp()
        before = TOY.probability(prefix, switch)
        for token in range(3):
            expected = TOY.probability((*prefix, token), switch) / before
            assert float(distribution[token]) == pytest.approx(expected, rel=1e-9)
        assert float(distribution.sum()) == pytest.approx(1.0, rel=1e-12)


def test_score_of_a_text_includes_its_end() -> None:
    mixture = toy_mixture(TOY, 0.0)
    scored = mixture.score("w1")
    assert scored.tokens == (1, 2) and scored.finished and scored.text == "w1"
    assert mixture.log_prob("w1") == pytest.approx(math.log(TOY.probability((1, 2), 0.0)))
    assert not mixture.score_tokens((1, 1)).finished


def test_a_group_is_one_prompt_whose_prior_is_the_sum_of_its_members() -> None:
    passages = toy_passages(TOY)
    mixture = condition(table_generator(TOY), "q", passages, TOY.log_prior, group=2)
    assert [len(component.passages) for component in mixture.components] == [2, 1]
    torch.testing.assert_close(mixture.log_prior.exp(), torch.tensor([0.8, 0.2], dtype=torch.float64))
    assert len(mixture.components[0].prompt.passages) == 1 + 2  # "p" and "p p", in order of rank


def test_all_passages_in_one_group_is_the_concatenated_prompt() -> None:
    generator = table_generator(TOY)
    mixture = condition(generator, "q", toy_passages(TOY), TOY.log_prior, group=None, switch=1.0)
    assert len(mixture.components) == 1
    prompt = generator.prompt("q", toy_passages(TOY), 0)
    alone = generator.log_likelihood([prompt], (0, 1, 2)).sum()
    assert mixture.score_tokens((0, 1, 2)).log_prob == pytest.approx(float(alone))


def test_no_passage_is_the_closed_book_model() -> None:
    generator = table_generator(TOY)
    mixture = condition(generator, "q", (), torch.empty(0))
    assert [component.passages for component in mixture.components] == [()]
    alone = generator.log_likelihood([Prompt((), (), ())], (0, 2)).sum()
    assert mixture.score_tokens((0, 2)).log_prob == pytest.approx(float(alone))


def test_the_null_component_is_mixed_in_with_its_own_prior() -> None:
    log_prior = TOY.log_prior + math.log(0.9)
    mixture = condition(table_generator(TOY), "q", toy_passages(TOY), log_prior, log_null=math.log(0.1))
    assert mixture.components[-1].passages == ()
    with_null = Toy([0.45, 0.27, 0.18, 0.1], TOY.seed, 3, 3)
    likelihood = torch.cat(
        [
            TOY.log_likelihood((0, 1, 2)),
            torch.tensor([[TOY.token_probability(-1, (0, 1, 2), t) for t in range(3)]]).double().log(),
        ]
    )
    expected = (with_null.log_prior + likelihood.sum(-1)).logsumexp(0)
    assert mixture.score_tokens((0, 1, 2)).log_prob == pytest.approx(float(expected))


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_bracket_of_a_truncated_mixture_holds_the_full_one(switch: float, size: int) -> None:
    outside = sum(TOY.prior[size:])
    passages, log_prior = toy_passages(TOY)[:size], TOY.log_prior[:size]
    for prior in (log_prior, log_prior.log_softmax(0)):  # full and top-k normaliser
        mixture = condition(table_generator(TOY), "q", passages, prior, outside=outside, switch=switch)
        for answer in TOY.answers():
            low, high = mixture.score_tokens(answer).log_bracket
            full = math.log(TOY.probability(answer, switch))
            assert low - 1e-9 <= full <= high + 1e-9
    assert size < 3 or low == pytest.approx(full)


@pytest.mark.parametrize(
    ("group", "size", "known"), [(None, 2, False), (2, 2, True), (3, 2, False), (None, 3, True)]
)
def test_a_group_cut_short_by_k_has_no_bracket(group: int | None, size: int, known: bool) -> None:
    """The concatenation of k passages is no component of the mixture over all of them."""
    outside = sum(TOY.prior[size:])
    passages, log_prior = toy_passages(TOY)[:size], TOY.log_prior[:size]
    mixture = condition(table_generator(TOY), "q", passages, log_prior, outside=outside, group=group)
    assert (mixture.score_tokens((0, 2)).log_bracket is not None) == known


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_complete_groups_are_bracketed(switch: float) -> None:
    toy = Toy([0.4, 0.3, 0.2, 0.1], seed=5, vocabulary=3, length=2)

    def grouped(k: int) -> Mixture:
        outside = sum(toy.prior[k:])
        chosen = toy_passages(toy)[:k], toy.log_prior[:k]
        return condition(table_generator(toy), "q", *chosen, outside=outside, group=2, switch=switch)

    for answer in toy.answers():
        low, high = grouped(2).score_tokens(answer).log_bracket
        assert low - 1e-9 <= grouped(4).score_tokens(answer).log_prob <= high + 1e-9


def test_without_known_outside_mass_there_is_no_bracket_and_no_certain_lead() -> None:
    mixture = toy_mixture(TOY, 0.0)
    best, other = mixture.score_tokens((0, 2)), mixture.score_tokens((1, 2))
    assert best.log_bracket is None and not best.certainly_beats(other)


def test_a_lead_larger_than_the_outside_mass_is_certain() -> None:
    generator = TableGenerator(("a", "b", "<end>"), lambda tokens, answer: torch.tensor([0.8, 0.1, 0.1]).double())
    mixture = condition(generator, "q", [passage("p")], torch.zeros(1), outside=0.3)
    a, b = mixture.score_tokens((0,)), mixture.score_tokens((1,))
    assert a.certainly_beats(b) and not b.certainly_beats(a)
    wide = condition(generator, "q", [passage("p")], torch.zeros(1), outside=0.5)
    assert not wide.score_tokens((0,)).certainly_beats(wide.score_tokens((1,)))


def test_under_the_full_normaliser_log_prob_is_the_part_of_the_kept_passages() -> None:
    mixture = condition(table_generator(TOY), "q", toy_passages(TOY)[:2], TOY.log_prior[:2], outside=0.2)
    scored = mixture.score_tokens((0, 1, 2))
    expected = (TOY.log_prior[:2] + TOY.log_likelihood((0, 1, 2))[:2].sum(-1)).logsumexp(0)
    assert scored.log_prob == pytest.approx(float(expected))
    assert scored.log_prob == pytest.approx(scored.log_bracket[0])


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_states_follow_several_answers_at_once(switch: float) -> None:
    state = toy_mixture(TOY, switch).start()
    state = state.advance(torch.tensor([0, 0]), torch.tensor([0, 1]))
    state = state.advance(torch.tensor([1, 0, 1]), torch.tensor([2, 0, 1]))
    for row, prefix in enumerate([(1, 2), (0, 0), (1, 1)]):
        before = TOY.probability(prefix, switch)
        expected = [TOY.probability((*prefix, token), switch) / before for token in range(3)]
        assert state.log_mixed()[row].exp().tolist() == pytest.approx(expected)

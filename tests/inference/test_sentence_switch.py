"""The passage that changes at the ends of sentences only: one model, however it is computed."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings

from enumeration import Toy, switches, toys
from mixrag.answers.written_sentences import sentence_spans
from mixrag.generator import Generator, TableGenerator
from mixrag.inference.batch import greedy_together
from mixrag.inference.beam_search import beam, thorough
from mixrag.inference.mixture import condition
from mixrag.inference.pruning import Pruning
from mixrag.inference.sentence_switch import ends_sentence, sentence_ends
from mixrag.inference.stepwise import greedy, sample, scored
from mixrag.probability import log_marginal, pruning_tv
from noisy_tables import noisy_mixture
from tables import by_sentence, passage, sentence_mixture, toy_mixture

quick = settings(max_examples=20, deadline=None)
TOY = Toy([0.5, 0.3, 0.2], seed=11, vocabulary=4, length=4)
LIMIT = 4


def outcomes(toy: Toy, switch: float, limit: int) -> dict[tuple[int, ...], float]:
    """Every answer that ends, or is cut off, within the limit, with its enumerated probability."""
    stop, table = toy.vocabulary - 1, {}
    for length in range(1, limit + 1):
        for tokens in itertools.product(range(toy.vocabulary), repeat=length):
            if stop not in tokens[:-1] and (tokens[-1] == stop or length == limit):
                table[tokens] = toy.probability(tokens, by_sentence(switch, tokens))
    return table


def test_the_answers_make_one_distribution_which_is_neither_that_of_tokens_nor_of_switch_0() -> None:
    answers = outcomes(TOY, 0.7, LIMIT)
    assert math.fsum(answers.values()) == pytest.approx(1.0)
    tokens = (0, 1, 0, 2)
    assert abs(answers[tokens] - TOY.probability(tokens, 0.7)) > 1e-4
    assert abs(answers[tokens] - TOY.probability(tokens, 0.0)) > 1e-4


@quick
@given(toys(length=4), switches)
def test_scores_are_sums_over_hidden_paths(toy: Toy, switch: float) -> None:
    mixture = sentence_mixture(toy, switch)
    for tokens in outcomes(toy, switch, min(3, toy.length)):
        answer = mixture.score_tokens(tokens)
        rho = by_sentence(switch, tokens)
        assert math.exp(answer.log_prob) == pytest.approx(toy.probability(tokens, rho), rel=1e-9, abs=1e-14)
        assert float(answer.token_log_probs.sum()) == pytest.approx(answer.log_prob)
        joint = toy.joint(tokens, rho)
        for j, t in itertools.product(range(len(toy.prior)), range(len(tokens))):
            share = math.fsum(p for path, p in joint.items() if path[t] == j) / math.fsum(joint.values())
            assert float(answer.responsibilities[j, t]) == pytest.approx(share, abs=1e-9)


@quick
@given(toys(length=4), switches)
def test_streaming_scoring_and_beam_search_give_the_same_numbers(toy: Toy, switch: float) -> None:
    mixture = sentence_mixture(toy, switch)
    for steps in (list(greedy(mixture, LIMIT)), list(sample(mixture, LIMIT, seed=toy.seed))):
        written = scored(mixture, steps)
        again = mixture.score_tokens(written.tokens)
        assert sum(step.log_prob for step in steps) == pytest.approx(again.log_prob)
        assert written.log_prob == pytest.approx(again.log_prob)
        assert [step.log_prob for step in steps] == pytest.approx(again.token_log_probs.tolist())
        for t, step in enumerate(steps):
            joint = toy.joint(written.tokens[: t + 1], by_sentence(switch, written.tokens[: t + 1]))
            total = math.fsum(joint.values())
            for j in range(len(toy.prior)):
                live = math.fsum(p for path, p in joint.items() if path[-1] == j) / total
                assert float(step.posterior[j]) == pytest.approx(live, abs=1e-9)
    for answer in beam(mixture, 3, LIMIT).answers:
        exact = toy.probability(answer.tokens, by_sentence(switch, answer.tokens))
        assert math.exp(answer.log_prob) == pytest.approx(exact, rel=1e-9)


@quick
@given(toys(length=3), switches)
def test_a_wide_beam_finds_the_enumerated_best_and_its_certificates_are_right(toy: Toy, switch: float) -> None:
    mixture, table = sentence_mixture(toy, switch), outcomes(toy, switch, 3)
    wide, most = beam(mixture, toy.vocabulary**3, 3), max(table.values())
    finished = max(p for tokens, p in table.items() if tokens[-1] == toy.vocabulary - 1)
    assert math.exp(wide.answers[0].log_prob) == pytest.approx(finished)
    assert wide.certified == (finished >= most * (1 - 1e-9))
    for width in (1, 2):
        found = beam(mixture, width, 3)
        if found.certified:
            assert table[found.answers[0].tokens] >= most - 1e-12
    assert math.exp(thorough(mixture, toy.vocabulary**3, 3).answers[0].log_prob) == pytest.approx(most)


@quick
@given(toys(length=4), switches)
def test_answers_written_side_by_side_are_those_written_alone(toy: Toy, switch: float) -> None:
    mixtures = [sentence_mixture(toy, switch), toy_mixture(toy, switch, "."), sentence_mixture(toy, 1.0)]
    for mixture, written in zip(mixtures, greedy_together(mixtures, LIMIT, budget=0.01), strict=True):
        alone = scored(mixture, greedy(mixture, LIMIT))
        assert written.scored().tokens[0] == alone.tokens[0]
        again = mixture.score_tokens(written.scored().tokens)
        assert written.scored().log_prob == pytest.approx(again.log_prob)
        if not written.pruning.spent:
            assert written.scored().log_prob == pytest.approx(alone.log_prob)


def test_a_sentence_has_one_passage() -> None:
    toy = Toy([0.4, 0.35, 0.25], seed=5, vocabulary=4, length=7)
    tokens = (1, 2, 0, 2, 1, 0, 3)
    answer = sentence_mixture(toy, 0.8).score_tokens(tokens)
    spans = list(sentence_spans(answer.sentence_ends))
    assert spans == [(0, 3), (3, 6), (6, 7)]
    shares = answer.responsibilities
    for start, end in spans:
        torch.testing.assert_close(shares[:, start:end], shares[:, start : start + 1].expand(-1, end - start))
    assert (shares[:, 0] - shares[:, 3]).abs().max() > 0.05
    joint = toy.joint(tokens, by_sentence(0.8, tokens))
    for j in range(3):  # the whole second sentence by passage j
        whole = math.fsum(p for path, p in joint.items() if set(path[3:6]) == {j}) / math.fsum(joint.values())
        assert float(shares[j, 4]) == pytest.approx(whole)


@pytest.mark.parametrize("switch", [0.2, 0.9])
def test_pruning_within_and_at_the_end_of_a_sentence_stays_within_its_budget(switch: float) -> None:
    """What is dropped is paid for with its weights in the next token: filtered, or drawn again after an end."""
    toy = Toy([0.9, 0.099, 0.001], seed=2, vocabulary=4, length=4)
    mixture, state = sentence_mixture(toy, switch), sentence_mixture(toy, switch).start()
    zero = torch.tensor([0])
    inside, ended = (state.later_weights(zero, torch.tensor([token]))[0].exp() for token in (1, 0))
    filtered = state.filtered(zero, torch.tensor([1]))[0].exp()
    torch.testing.assert_close(inside, filtered)
    drawn = (1 - switch) * state.filtered(zero, zero)[0].exp() + switch * torch.tensor(toy.prior).double()
    torch.testing.assert_close(ended, drawn)
    for budget in (1e-4, 0.05):
        pruning = Pruning(budget)
        steps = list(greedy(mixture, LIMIT, pruning))
        assert pruning.spent <= budget
        if pruning.dropped:
            assert pruning.spent >= pruning_tv(0.0, 0.001, switch, 1).item()
        answer = scored(mixture, steps, pruning)
        exact = toy.probability(answer.tokens, by_sentence(switch, answer.tokens))
        assert math.exp(answer.log_prob) == pytest.approx(exact)


def answered(toy: Toy, switch: float, tokens: tuple[int, ...]) -> float:
    """p(tokens | something is answered), in a loop over probabilities."""
    stop = toy.vocabulary - 1
    stated = [1 - toy.next_token(j, ())[stop] for j in range(len(toy.prior))]
    total = math.fsum(p * a for p, a in zip(toy.prior, stated, strict=True))
    prior = [p * a / total for p, a in zip(toy.prior, stated, strict=True)]
    weights = prior
    for t, token in enumerate(tokens):
        chance = by_sentence(switch, tokens)[t - 1] if t else 0.0
        mass = math.fsum(weights)
        weights = [(1 - chance) * w + chance * p * mass for w, p in zip(weights, prior, strict=True)]
        weights = [
            w * toy.next_token(j, tokens[:t])[token] / (1.0 if t else stated[j]) for j, w in enumerate(weights)
        ]
    return math.fsum(weights)


@pytest.mark.parametrize("empty_answer", [False, True])
def test_certificates_and_intervals_allow_for_rounding(empty_answer: bool) -> None:
    """A table whose logits have errors of up to 0.3, another one in every batch."""
    noise, switch, certified = 0.3, 0.7, 0
    for seed in range(25):
        toy = Toy([0.5, 0.3, 0.2], seed, 4, 3)
        noisy = noisy_mixture(toy, switch, noise, noise, mark=".", switch_at="sentence", empty_answer=empty_answer)
        table = outcomes(toy, switch, 3)
        if empty_answer:
            table = {tokens: answered(toy, switch, tokens) for tokens in table if tokens[0] != 3}
        assert math.fsum(table.values()) == pytest.approx(1.0)
        found = beam(noisy, 2, 3)
        low, high = found.answers[0].log_interval
        assert low <= math.log(table[found.answers[0].tokens]) <= high
        if found.certified:
            assert table[found.answers[0].tokens] >= max(table.values()) * (1 - 1e-9)
            certified += 1
    assert certified


def test_a_language_model_scores_what_it_steps_through(tiny_generator: Callable[[str], Generator]) -> None:
    """With a real tokenizer, whose tokens are parts of words."""
    passages = [passage("a", "It costs nine crowns."), passage("b", "It is due in winter.")]
    prior = torch.tensor([0.6, 0.4], dtype=torch.float64).log()
    mixture = condition(tiny_generator("llama"), "When?", passages, prior, switch=0.7, switch_at="sentence")
    answer = mixture.score("It costs 3.5 crowns. Ask Dr. Orr! In winter")
    assert sum(answer.sentence_ends) == 2
    assert float(log_marginal(mixture.log_prior, answer.log_likelihood, 0.0)) != pytest.approx(answer.log_prob)
    state, steps = mixture.start(), []
    for token in answer.tokens:
        steps.append(float(state.log_mixed()[0, token]))
        state = state.advance(torch.tensor([0]), torch.tensor([token]))
    assert steps == pytest.approx(answer.token_log_probs.tolist(), abs=1e-4)
    assert math.fsum(steps) == pytest.approx(answer.log_prob, abs=1e-4)


def test_a_pickle_knows_where_its_sentences_end() -> None:
    answer = sentence_mixture(TOY, 0.6).score_tokens((1, 0, 2, 3))
    read = pickle.loads(pickle.dumps(answer))  # noqa: S301
    assert read.sentence_ends == (False, True, False, False)
    assert read.log_prob == answer.log_prob
    assert read.responsibilities.tolist() == answer.responsibilities.tolist()


def test_bounds_of_a_truncated_mixture_hold() -> None:
    toy = Toy([0.6, 0.25, 0.15], seed=4, vocabulary=3, length=3)
    whole = sentence_mixture(toy, 0.7, outside=0.0)
    part = Toy(toy.prior[:2], toy.seed, toy.vocabulary, toy.length)
    some = sentence_mixture(part, 0.7, outside=0.15)
    for tokens in outcomes(toy, 0.7, 3):
        bounds = some.score_tokens(tokens).log_bracket
        assert bounds is not None
        assert bounds[0] - 1e-9 <= whole.score_tokens(tokens).log_prob <= bounds[1] + 1e-9


def ends_of(*words: str) -> list[bool]:
    generator = TableGenerator((*words, "<end>"), lambda passage, answer: torch.ones(len(words) + 1))
    return list(sentence_ends(generator, range(len(words) + 1)))


def test_sentences_end_by_what_is_written_and_not_by_what_follows() -> None:
    assert ends_of("He", "paid.", "Who?", "I") == [False, True, True, False, False]
    assert ends_of("Dr.", "Vane", "paid", "3.", "5", "in", "1920.") == [False] * 6 + [True, False]
    assert ends_of("他走了。", "谁？") == [True, True, False]


def test_a_further_mark_is_no_further_end() -> None:
    assert ends_sentence("He paid", "He paid.")
    for before, text in (("He paid.", "He paid.."), ("He paid.", 'He paid."'), ("He paid.", "He paid.\n")):
        assert not ends_sentence(before, text)
    assert ends_sentence("It cost 45.", "It cost 45.\n")
    assert ends_sentence("Yes.", "Yes. Sure.")
    assert ends_sentence("- one", "- one\n") and not ends_sentence("- one\n", "- one\n\n")


@pytest.mark.parametrize("length", range(1, 6))
def test_the_ends_of_a_prefix_are_those_of_the_whole(length: int) -> None:
    words = ("It", "was", "Dr.", "Vane.", "Who?", "He.")
    assert ends_of(*words)[:length] == ends_of(*words[:length])[:length]

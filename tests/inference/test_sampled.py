"""Answers drawn under sampling settings: with which probability, and what stays the mixture's own."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings

from enumeration import Switching, Toy, switches, toys
from mixrag.config.settings import Settings
from mixrag.errors import SettingError
from mixrag.inference.decoders import Greedy, Sample, decoder_for, decoder_name
from mixrag.inference.mixture import Mixture
from mixrag.inference.protocol import DecodedToken, DecoderResult
from tables import by_sentence, sentence_mixture, toy_mixture

quick = settings(max_examples=30, deadline=None)
TOY = Toy([0.5, 0.3, 0.2], seed=11, vocabulary=4, length=4)
SAMPLING = {"temperature": 0.7, "top_k": 3, "top_p": 0.8}


def drawn_with(toy: Toy, tokens: tuple[int, ...], switch: Switching, sampling: dict[str, float]) -> float:
    """The probability of drawing these tokens, from the enumerated distributions of the next token."""
    total = 1.0
    for t, token in enumerate(tokens):
        before = toy.probability(tokens[:t], switch)
        law = [toy.probability((*tokens[:t], v), switch) / before for v in range(toy.vocabulary)]
        scaled = [p ** (1 / sampling.get("temperature", 1.0)) for p in law]
        order = sorted(range(len(law)), key=lambda v: -scaled[v])[: int(sampling.get("top_k", 0)) or None]
        mass, chosen = math.fsum(scaled[v] for v in order), list[int]()
        while math.fsum(scaled[v] for v in chosen) < sampling.get("top_p", 1.0) * mass and len(chosen) < len(
            order
        ):
            chosen.append(order[len(chosen)])
        total *= scaled[token] / math.fsum(scaled[v] for v in chosen) if token in chosen else 0.0
    return total


def decoded(
    decoder: Sample | Greedy, mixture: Mixture, limit: int = 4
) -> tuple[list[DecodedToken], DecoderResult]:
    *steps, result = decoder.decode(mixture, limit)
    assert isinstance(result, DecoderResult)
    return [step for step in steps if isinstance(step, DecodedToken)], result


@quick
@given(toys(length=4, vocabulary=4), switches)
def test_the_probability_of_the_draw_and_of_the_answer_are_those_enumerated(toy: Toy, switch: float) -> None:
    steps, result = decoded(Sample(seed=3, prune=0.0, sampling=SAMPLING), toy_mixture(toy, switch))
    tokens = tuple(step.token for step in steps)
    assert result.log_drawn is not None
    assert math.exp(result.log_drawn) == pytest.approx(drawn_with(toy, tokens, switch, SAMPLING), rel=1e-6)
    assert result.answers[0].log_prob == pytest.approx(math.log(toy.probability(tokens, switch)), rel=1e-6)


def test_draws_come_as_often_as_is_said_also_with_the_switch_at_sentences() -> None:
    mixture, draws = sentence_mixture(TOY, 0.6), 2000
    found = Counter[tuple[int, ...]]()
    for seed in range(draws):
        _, result = decoded(Sample(seed=seed, prune=0.0, sampling=SAMPLING), mixture, limit=2)
        found[result.answers[0].tokens] += 1
    outcomes = [
        tokens
        for length in (1, 2)
        for tokens in itertools.product(range(TOY.vocabulary), repeat=length)
        if 3 not in tokens[:-1] and (tokens[-1] == 3 or length == 2)
    ]
    expected = {tokens: drawn_with(TOY, tokens, by_sentence(0.6, tokens), SAMPLING) for tokens in outcomes}
    assert math.fsum(expected.values()) == pytest.approx(1.0)
    assert 0.0 in expected.values(), "what is left out by top_k and top_p"
    for tokens, p in expected.items():
        deviation = math.sqrt(draws * p * (1 - p))
        assert abs(found[tokens] - draws * p) <= 4 * deviation


def test_without_settings_an_answer_is_drawn_with_its_own_probability() -> None:
    _, result = decoded(Sample(seed=5, prune=0.0), toy_mixture(TOY, 0.3))
    assert result.log_drawn == pytest.approx(result.answers[0].log_prob)
    many = toy_mixture(Toy([0.4, 0.3, 0.2, 0.05, 0.05], seed=2, vocabulary=4, length=4), 0.0)
    for seed in range(20):
        steps, pruned = decoded(Sample(seed=seed, prune=0.4), many)
        if pruned.pruned > 0.0:
            break
    assert pruned.log_drawn == pytest.approx(math.fsum(step.log_prob for step in steps))
    assert pruned.log_drawn != pytest.approx(pruned.answers[0].log_prob, abs=1e-9)


def test_temperature_zero_is_greedy_and_certain() -> None:
    mixture = toy_mixture(TOY, 0.3)
    greedy = decoded(Greedy(prune=0.0), mixture)[1]
    _, found = decoded(Sample(seed=7, prune=0.0, sampling={"temperature": 0}), mixture)
    assert found.answers[0].tokens == greedy.answers[0].tokens and found.log_drawn == 0.0
    assert greedy.log_drawn is None


def test_further_answers_are_drawn_in_the_same_way() -> None:
    mixture, coldest = toy_mixture(TOY, 0.0), {"temperature": 0.0}
    for decoder in (Greedy(samples=3, sampling=coldest), Sample(samples=3, sampling=coldest)):
        assert len({answer.tokens for answer in decoded(decoder, mixture)[1].answers}) == 1


def test_settings_without_a_draw_are_refused() -> None:
    for chosen in ("greedy", "beam", "thorough"):
        with pytest.raises(SettingError, match=r"decoder 'sample'.*top_p=0\.9"):
            decoder_for(Settings(decoder=chosen, sampling={"top_p": 0.9}))
    given = decoder_for(Settings(decoder="greedy", samples=2, sampling={"top-p": 0.9}))
    assert isinstance(given, Greedy) and given.sampling == {"top_p": 0.9}
    assert decoder_for(Settings(decoder="sample", sampling=SAMPLING)) == Sample(sampling=SAMPLING)
    with pytest.raises(SettingError, match="temperature in sampling"):
        Sample(sampling={"temperature": -1.0})


def test_an_object_with_sampling_settings_has_another_name() -> None:
    names = {decoder_name(Sample()), decoder_name(Sample(sampling={"top_k": 3})), decoder_name(Sample(seed=1))}
    assert len(names) == 3

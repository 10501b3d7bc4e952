"""Two generators as one, against loops in probability space, and with real tokenizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mixed_toy import MIXED, MODEL, SPANS, STOP, WEIGHT, mixed_generator, mixed_mixture, product
from mixrag.errors import ModelError, SettingError
from mixrag.generator import CausalGenerator, Generator, MixedGenerator, Prompt, TableGenerator
from mixrag.generator.mixed import copying, language_model_of
from mixrag.inference.batch import greedy_together
from mixrag.inference.beam_search import beam, thorough
from mixrag.inference.mixture import condition
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import each_alone, greedy, sample, scored
from tables import toy_passages
from tiny_span_model import passage, span_generator

SWITCHES = (0.0, 0.3, 1.0)
QUESTION = "Who pays the fee?"
TEXTS = ("The ferry costs nine crowns in May.", "Åse Ødegård pays 1,250 crowns; the fee, she says.")
Loaded = Callable[[str], Generator]


def ended() -> list[tuple[int, ...]]:
    """All answers of at most three tokens that end."""
    every = [answer for length in (1, 2, 3) for answer in MIXED.answers(length)]
    return [answer for answer in every if answer[-1] == STOP and STOP not in answer[:-1]]


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_answer_has_the_probability_of_the_double_loop(switch: float) -> None:
    mixture = mixed_mixture(switch)
    for answer in MIXED.answers():
        found = mixture.score_tokens(answer)
        joint = MIXED.joint(answer, switch)
        assert math.exp(found.log_prob) == pytest.approx(math.fsum(joint.values()), rel=1e-12)
        shares = [
            math.fsum(p * path.count(j) / len(path) for path, p in joint.items()) / math.fsum(joint.values())
            for j in range(3)
        ]
        assert found.posterior.tolist() == pytest.approx(shares, rel=1e-9)


def test_at_switch_0_it_is_a_mixture_over_passages_and_generators() -> None:
    mixture = mixed_mixture()
    for answer in ended():
        each = [[product(toy, j, answer) for toy in (MODEL, SPANS)] for j in range(3)]
        total = math.fsum(
            prior * (WEIGHT * a + (1 - WEIGHT) * b) for prior, (a, b) in zip(MIXED.prior, each, strict=True)
        )
        found = mixture.score_tokens(answer)
        assert math.exp(found.log_prob) == pytest.approx(total, rel=1e-12)
        assert math.fsum(found.token_log_probs.tolist()) == pytest.approx(found.log_prob, rel=1e-12)
        for j, without in enumerate(found.log_leave_one_out.exp().tolist()):
            own = MIXED.prior[j] * (WEIGHT * each[j][0] + (1 - WEIGHT) * each[j][1])
            assert without == pytest.approx((total - own) / (1 - MIXED.prior[j]), rel=1e-9)


@pytest.mark.parametrize("answer", [(0, 1, STOP), (1, 1, STOP), (0, 0, 0), (STOP,)])
def test_steps_and_teacher_forcing_agree(answer: tuple[int, ...]) -> None:
    generator = mixed_generator()
    prompts = [generator.prompt("q", [each], 0) for each in toy_passages(MIXED)]
    table = generator.log_likelihood(prompts, answer)
    assert torch.allclose(generator.start(prompts).score(answer), table, rtol=0, atol=1e-12)
    branches, order = generator.start(prompts), torch.tensor([2, 0, 1, 0])
    branches, columns = branches.select(order), []
    for t, token in enumerate(answer):
        expected = [MIXED.next_token(j, answer[:t]) for j in order.tolist()]
        assert torch.allclose(branches.log_probs.exp(), torch.tensor(expected, dtype=torch.float64))
        columns.append(branches.log_probs[:, token])
        rest = branches.select(torch.arange(4)).score(answer[t:])
        assert torch.allclose(rest, table[order, t:], rtol=0, atol=1e-12)
        branches = branches.advance(torch.arange(4), torch.full((4,), token))
    assert torch.allclose(torch.stack(columns, -1), table[order], rtol=0, atol=1e-12)


def test_where_one_generator_has_nothing_the_other_goes_on_alone() -> None:
    prompts = [mixed_generator().prompt("q", [each], 0) for each in toy_passages(MIXED)]
    first = next(v for v in range(STOP) if SPANS.next_token(0, ())[v] == 0.0)
    branches = mixed_generator().start(prompts).advance(torch.tensor([0]), torch.tensor([first]))
    assert branches.log_weights.exp().tolist() == [[1.0, 0.0]]
    assert branches.log_probs[0].exp().tolist() == pytest.approx(MODEL.next_token(0, (first,)))


def test_what_is_impossible_for_both_stays_so_without_nan() -> None:
    spans = mixed_generator().extractive
    both = MixedGenerator(spans, replace(spans), 0.5)
    prompts = [both.prompt("q", [each], 0) for each in toy_passages(MIXED)]
    first = next(v for v in range(STOP) if SPANS.next_token(0, ())[v] == 0.0)
    answer = (first, 0, STOP)
    table = both.log_likelihood(prompts, answer)
    assert not table.isnan().any() and table[0].tolist() == [-math.inf] * 3
    branches = both.start(prompts)
    for t, token in enumerate(answer):
        assert not branches.log_probs.isnan().any()
        assert branches.log_probs[0, token] == table[0, t] == -math.inf
        branches = branches.advance(torch.arange(3), torch.full((3,), token))
    prior = torch.tensor(MIXED.prior, dtype=torch.float64).log()
    for switch in SWITCHES:
        found = condition(both, "q", toy_passages(MIXED), prior, switch=switch).score_tokens(answer)
        assert not any(each.isnan().any() for each in (found.posterior, found.token_log_probs))


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("null", [None, math.log(0.25)])
def test_the_empty_answer_mixes_by_the_same_weights(switch: float, null: float | None) -> None:
    mixture = mixed_mixture(switch, empty_answer=True, log_null=null)
    components = [0, 1, 2] + ([] if null is None else [-1])
    empty = [MIXED.next_token(j, ())[STOP] for j in components]
    expected = [WEIGHT * MODEL.next_token(j, ())[STOP] for j in components]
    expected = [
        p + (1 - WEIGHT) * SPANS.next_token(j, ())[STOP] for p, j in zip(expected, components, strict=True)
    ]
    assert empty == pytest.approx(expected)
    assert mixture.log_empty is not None and mixture.log_empty.exp().tolist() == pytest.approx(expected, rel=1e-12)
    total = 0.0
    for answer in (*MIXED.answers(), (0, STOP), (1, STOP)):
        if answer[0] != STOP and STOP not in answer[:-1]:
            total += math.exp(mixture.score_tokens(answer).log_prob)
    assert total == pytest.approx(1.0, rel=1e-12)
    assert math.exp(mixture.score_tokens((STOP,)).log_prob) == pytest.approx(
        math.fsum(p * q for p, q in zip(mixture.unconditioned_log_prior.exp().tolist(), expected, strict=True))
    )


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("switch", SWITCHES)
def test_decoders_score_what_they_write(switch: float, empty: bool) -> None:
    mixture = mixed_mixture(switch, empty_answer=empty)
    pruning = Pruning(0.4)
    written = [scored(mixture, greedy(mixture, 3)), scored(mixture, greedy(mixture, 3, pruning), pruning)]
    written += [scored(mixture, sample(mixture, 3, seed)) for seed in range(4)]
    written += [*beam(mixture, 3, 8).answers, *thorough(mixture, 3, 3).answers]
    for answer in written:
        again = mixture.score_tokens(answer.tokens)
        assert answer.log_prob == pytest.approx(again.log_prob, abs=1e-12)
        assert torch.allclose(answer.posterior, again.posterior)
    for alone in each_alone(mixture, 3):
        assert alone.log_prob == pytest.approx(alone.mixture.score_tokens(alone.tokens).log_prob, abs=1e-12)


def test_beam_finds_the_most_probable_answer() -> None:
    found = beam(mixed_mixture(), 3, 9)
    best = max(ended(), key=lambda answer: MIXED.probability(answer, 0.0))
    ending = next(each for each in found.answers if each.finished)
    assert ending.tokens == best
    assert math.exp(ending.log_prob) == pytest.approx(MIXED.probability(best, 0.0))


def test_questions_together_are_as_alone() -> None:
    mixtures = [mixed_mixture(0.0, empty_answer=True), mixed_mixture(0.3)]
    for mixture, written in zip(mixtures, greedy_together(mixtures, 3, 0.01), strict=True):
        alone = scored(mixture, greedy(mixture, 3, pruning := Pruning(0.01)), pruning)
        assert written.scored().tokens == alone.tokens
        assert written.scored().log_prob == pytest.approx(alone.log_prob, abs=1e-12)


def test_the_question_is_read_by_the_language_model() -> None:
    class Reader(TableGenerator):
        def question_log_likelihood(self, prompts: list[Prompt]) -> torch.Tensor:
            return torch.tensor([-float(len(prompt.passages)) for prompt in prompts])

    tables = mixed_generator()
    assert not hasattr(tables, "question_log_likelihood")
    model = tables.language_model
    assert isinstance(model, TableGenerator)
    both = replace(tables, language_model=Reader(model.words, model.next_token))
    prompts = [both.prompt("q", [each], 0) for each in toy_passages(MIXED)]
    assert both.question_log_likelihood(prompts).tolist() == [-1.0, -2.0, -3.0]
    branches, log_question = both.start_with_question(prompts)
    assert log_question.tolist() == [-1.0, -2.0, -3.0]
    assert torch.equal(branches.log_probs, tables.start(prompts).log_probs)
    assert both.rounding == 0.0


def test_a_weight_between_0_and_1_and_the_same_tokens() -> None:
    table = mixed_generator()
    for weight in (0.0, 1.0, -0.5, math.nan):
        with pytest.raises(SettingError, match="between 0 and 1"):
            table.weighted(weight)
    longer = TableGenerator(("a", "b", "c", "<end>"), lambda passage, answer: torch.full((4,), 0.25))
    for spans in (longer, TableGenerator(("a", "<end>"), lambda passage, answer: torch.full((2,), 0.5))):
        with pytest.raises(ModelError, match="tokens"):
            MixedGenerator(table.language_model, spans)
    assert table.weighted(WEIGHT) is table and table.weighted(0.9).weight == 0.9
    assert language_model_of(table) is table.language_model and language_model_of(longer) is longer


@pytest.mark.parametrize("kind", ["llama-chat"])
def test_with_tokenizers_it_is_the_sum_of_both(kind: str, tiny_generator: Loaded) -> None:
    model, spans = tiny_generator(kind), span_generator()
    both = MixedGenerator(model, spans, 0.3)
    passages = [passage(text) for text in TEXTS]
    prior = torch.tensor([0.6, 0.4], dtype=torch.float64).log()
    for answer in ("nine crowns", "Åse Ødegård", "seven", "", "1,250 crowns"):
        tokens = both.answer_tokens(answer)
        assert tokens == model.answer_tokens(answer)
        found = [condition(each, QUESTION, passages, prior).score_tokens(tokens) for each in (both, model, spans)]
        mixed, alone, span = (math.exp(each.log_prob) for each in found)
        assert mixed == pytest.approx(0.3 * alone + 0.7 * span, rel=1e-6)
        assert both.text(tokens) == answer
    assert both.prompt_text(both.prompt(QUESTION, passages, 5)) == model.prompt_text(
        model.prompt(QUESTION, passages, 5)
    )


@pytest.mark.parametrize("empty", [False, True])
def test_decoding_with_tokenizers_and_a_cache_of_passages(empty: bool, tiny_generator: Loaded) -> None:
    model = tiny_generator("llama-chat")
    assert isinstance(model, CausalGenerator) and model.prefix_cache is not None
    both = MixedGenerator(model, span_generator(), 0.5)
    assert both.prefix_cache is model.prefix_cache
    prior = torch.tensor([0.6, 0.4], dtype=torch.float64).log()
    mixture = condition(both, QUESTION, [passage(text) for text in TEXTS], prior, empty_answer=empty)
    for answer in (scored(mixture, greedy(mixture, 12)), beam(mixture, 12, 4).answers[0]):
        assert answer.log_prob == pytest.approx(mixture.score_tokens(answer.tokens).log_prob, abs=1e-5)
    together = greedy_together([mixture, mixture], 12)
    assert together[0].scored().tokens == scored(mixture, greedy(mixture, 12)).tokens


def test_a_passage_that_is_shortened_for_the_language_model_is_read_whole_by_the_other(
    tiny_generator: Loaded,
) -> None:
    both = MixedGenerator(tiny_generator("llama-chat"), span_generator(), 0.5)
    text = "The fee is due. " * 30 + "Åse pays ten crowns."
    prompt = both.prompt("Who pays?", [passage(text)], 8)
    assert prompt.shortened and prompt.tokens == both.language_model.prompt("Who pays?", [passage(text)], 8).tokens
    answer = both.answer_tokens("ten crowns")
    spans = both.extractive.log_likelihood([both.extractive.prompt("Who pays?", [passage(text)], 8)], answer)
    found = both.log_likelihood([prompt], answer).sum()
    assert spans.sum() > -math.inf and found > math.log(0.5) + spans.sum() - 1e-9


def test_a_language_model_that_may_only_copy(tiny_generator: Loaded) -> None:
    both = copying(MixedGenerator(tiny_generator("llama-chat"), span_generator(), 0.5))
    prior = torch.tensor([0.6, 0.4], dtype=torch.float64).log()
    mixture = condition(both, QUESTION, [passage(text) for text in TEXTS], prior)
    assert mixture.score("seven crowns").log_prob == -math.inf
    assert mixture.score("nine crowns").log_prob > -math.inf
    for seed in range(3):
        written = scored(mixture, sample(mixture, 60, seed))
        assert written.text == "" or any(written.text in text for text in TEXTS)

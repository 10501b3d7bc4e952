"""The span model as a generator: every number against a double loop over spans in probability space."""

from __future__ import annotations

import math

import pytest
import torch

from mixrag.errors import ModelError, QuestionError
from mixrag.generator import ExtractiveGenerator, Prompt
from mixrag.generator.protocol import prompt_length
from mixrag.generator.span_scores import end_scores, span_distribution
from mixrag.generator.span_windows import span_prompt, windows_of
from mixrag.inference.batch import greedy_together
from mixrag.inference.beam_search import beam
from mixrag.inference.mixture import condition
from mixrag.inference.stepwise import greedy, scored
from tiny_span_model import encoder_tokenizer, passage, reference, span_generator

QUESTION = "Who pays the fee?"
TEXTS = (
    "The ferry costs nine crowns in May, nine crowns.",
    "Åse Ødegård pays 1,250 crowns;\n\tthe fee,  she says.",
    "東京 pays, naïve 𝔸 too: the fée.",
)


@pytest.fixture(scope="module")
def generator() -> ExtractiveGenerator:
    return span_generator()


def mixture(generator: ExtractiveGenerator, texts=TEXTS, switch: float = 0.0):  # type: ignore[no-untyped-def]
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)[: len(texts)].log()
    return condition(generator, QUESTION, [passage(text) for text in texts], prior, switch=switch)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("whole_words", [True, False])
def test_likelihood_is_the_sum_over_spans_with_the_text(text: str, whole_words: bool) -> None:
    generator = span_generator(whole_words=whole_words)
    expected = reference(generator, QUESTION, text, whole_words)
    assert len(expected) > 20
    prompt = generator.prompt(QUESTION, [passage(text)], 5)
    for answer, probability in expected.items():
        found = generator.log_likelihood([prompt], generator.answer_tokens(answer)).sum()
        assert math.exp(found) == pytest.approx(probability, rel=1e-5), answer
    assert sum(expected.values()) == pytest.approx(1)


def test_equal_texts_add_up(generator: ExtractiveGenerator) -> None:
    (found,) = generator.finite_answers([generator.prompt(QUESTION, [passage(TEXTS[0])], 5)])
    places = [i for i, text in enumerate(found.texts) if text == "nine crowns"]
    assert len(places) == 2
    both = float(found.log_probs[places].exp().sum())
    prompt = generator.prompt(QUESTION, [passage(TEXTS[0])], 5)
    log_probs = generator.log_likelihood([prompt], generator.answer_tokens("nine crowns"))
    assert math.exp(log_probs.sum()) == pytest.approx(both, rel=1e-12)


def test_what_is_no_span_has_probability_zero(generator: ExtractiveGenerator) -> None:
    prompt = generator.prompt(QUESTION, [passage(TEXTS[0])], 5)
    for answer in ("seven crowns", "nine", "cro", "The ferry costs nine crowns in May, nine crowns."):
        total = generator.log_likelihood([prompt], generator.answer_tokens(answer)).sum()
        assert (total == -math.inf) == (answer != "nine")


def test_rows_are_distributions_whatever_was_written(generator: ExtractiveGenerator) -> None:
    prompts = [generator.prompt(QUESTION, [passage(text)], 5) for text in TEXTS]
    branches, everyone = generator.start(prompts), torch.arange(3)
    for token in (*generator.answer_tokens("nine crowns"), generator.stop_token):
        assert branches.log_probs.shape == (3, generator.vocabulary_size)
        assert torch.allclose(branches.log_probs.exp().sum(-1), torch.ones(3, dtype=torch.float64))
        branches = branches.advance(everyone, torch.full((3,), token))


def test_teacher_forcing_equals_steps(generator: ExtractiveGenerator) -> None:
    prompts = [generator.prompt(QUESTION, [passage(text)], 5) for text in TEXTS]
    tokens, branches, columns = generator.answer_tokens("pays 1,250 crowns"), generator.start(prompts), []
    for token in tokens:
        columns.append(branches.log_probs[:, token])
        branches = branches.advance(torch.arange(3), torch.full((3,), token))
    assert torch.equal(torch.stack(columns, -1), generator.log_likelihood(prompts, tokens))


def test_the_mixture_is_the_double_loop(generator: ExtractiveGenerator) -> None:
    found, prior = mixture(generator), (0.5, 0.3, 0.2)
    tables = [reference(generator, QUESTION, text) for text in TEXTS]
    for answer in {answer for table in tables for answer in table}:
        likelihood = [table.get(answer, 0.0) for table in tables]
        total = sum(p * q for p, q in zip(prior, likelihood, strict=True))
        score = found.score(answer)
        assert math.exp(score.log_prob) == pytest.approx(total, rel=1e-5)
        posterior = [p * q / total for p, q in zip(prior, likelihood, strict=True)]
        assert score.posterior.tolist() == pytest.approx(posterior, rel=1e-4, abs=1e-12)


def test_an_impossible_answer_has_no_nan(generator: ExtractiveGenerator) -> None:
    score = mixture(generator).score("seven")
    assert score.log_prob == -math.inf
    assert not score.posterior.isnan().any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beam_finds_the_most_probable_answer(seed: int) -> None:
    generator = span_generator(seed)
    tables = [reference(generator, QUESTION, text) for text in TEXTS]
    totals: dict[str, float] = {}
    for share, table in zip((0.5, 0.3, 0.2), tables, strict=True):
        for answer, probability in table.items():
            totals[answer] = totals.get(answer, 0.0) + share * probability
    best = max(totals, key=lambda answer: totals[answer])
    found = beam(mixture(generator), 40, 64)
    assert found.certified
    assert found.answers[0].text == best
    assert math.exp(found.answers[0].log_prob) == pytest.approx(totals[best], rel=1e-5)


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_streamed_and_scored_agree(generator: ExtractiveGenerator, switch: float) -> None:
    asked = mixture(generator, switch=switch)
    answer = scored(asked, greedy(asked, 64))
    again = asked.score_tokens(answer.tokens)
    assert answer.log_prob == pytest.approx(again.log_prob, abs=1e-12)
    assert torch.allclose(answer.posterior, again.posterior)


def test_one_question_and_many_agree_to_the_last_bit() -> None:
    alone = [mixture(span_generator(), texts) for texts in (TEXTS, TEXTS[1:])]
    one_by_one = [scored(each, greedy(each, 64)) for each in alone]
    generator = span_generator()
    together = greedy_together([mixture(generator, texts) for texts in (TEXTS, TEXTS[1:])], 64)
    for single, written in zip(one_by_one, together, strict=True):
        assert single.tokens == written.scored().tokens
        assert torch.equal(single.log_likelihood, written.scored().log_likelihood)


def test_the_first_stop_token_is_the_empty_answer(generator: ExtractiveGenerator) -> None:
    prompts = [generator.prompt(QUESTION, [passage(text)], 5) for text in TEXTS]
    log_probs = generator.start(prompts).log_probs[:, generator.stop_token]
    expected = [reference(generator, QUESTION, text)[""] for text in TEXTS]
    assert log_probs.exp().tolist() == pytest.approx(expected, rel=1e-5)
    assert generator.answer_tokens("") == generator.answer_tokens(" \n") == (generator.stop_token,)


@pytest.mark.parametrize("passages", [[], [passage("")], [passage(" \n ")], [passage("", "A title")]])
def test_nothing_to_read_is_the_empty_answer(generator: ExtractiveGenerator, passages: list) -> None:  # type: ignore[type-arg]
    log_probs = generator.start([generator.prompt(QUESTION, passages, 5)]).log_probs[0]
    assert log_probs[generator.stop_token] == 0
    assert torch.isneginf(log_probs).sum() == generator.vocabulary_size - 1


def test_no_answer_comes_from_title_context_or_question(generator: ExtractiveGenerator) -> None:
    prompt = generator.prompt(QUESTION, [passage("Ten crowns.", "Ferry", "In June")], 5)
    assert prompt.text == "Ferry:\nIn June:\nTen crowns."
    (found,) = generator.finite_answers([prompt])
    assert set(found.texts) == {"Ten", "Ten crowns", "Ten crowns.", "crowns", "crowns.", ".", ""}


def test_several_passages_are_one_text_and_no_span_crosses_them(generator: ExtractiveGenerator) -> None:
    prompt = generator.prompt(QUESTION, [passage("nine crowns"), passage("in May")], 5)
    assert prompt.text == "nine crowns\n\nin May"
    (found,) = generator.finite_answers([prompt])
    assert set(found.texts) == {"nine", "nine crowns", "crowns", "in", "in May", "May", ""}


def test_a_question_that_leaves_no_room_is_refused(generator: ExtractiveGenerator) -> None:
    generator.prompt("nine " * 50, [passage("ten")], 5)
    with pytest.raises(QuestionError, match="at most 64 tokens"):
        generator.prompt("nine " * 80, [passage("ten")], 5)


def test_a_long_passage_is_read_in_windows_with_one_softmax(generator: ExtractiveGenerator) -> None:
    text = " ".join(f"{TEXTS[i % 2]}" for i in range(12))
    prompt = span_prompt(QUESTION, [passage(text)])
    windows = windows_of(encoder_tokenizer(), prompt, generator.config)
    assert len(windows) == 3
    assert all(len(window.ids) <= 96 for window in windows)
    assert all(window.ids[: window.texts[0]] == windows[0].ids[: windows[0].texts[0]] for window in windows)
    scores = end_scores(generator.model, windows)
    found = span_distribution(prompt, windows, scores, generator.config)
    weights: dict[tuple[int, int], tuple[int, float]] = {}
    for window, (start, end) in zip(windows, scores, strict=True):
        for i, extra in window.possible(generator.config.longest).nonzero().tolist():
            j = i + extra
            room = min(i - window.texts[0], window.texts[1] - 1 - j)
            span = (int(window.starts[i]), int(window.ends[j]))
            if span not in weights or room > weights[span][0]:
                weights[span] = (room, math.exp(float(start[i].double() + end[j].double())))
    empty = min(math.exp(float(start[0].double() + end[0].double())) for start, end in scores)
    total = empty + sum(weight for _, weight in weights.values())
    own = list(zip(found.starts.tolist(), found.ends.tolist(), found.log_probs.exp().tolist(), strict=False))
    assert len({(start, end) for start, end, _ in own}) == len(own) == len(weights)
    for start_, end_, probability in own:
        assert probability == pytest.approx(weights[start_, end_][1] / total, rel=1e-9)
    assert math.exp(found.log_empty) == pytest.approx(empty / total, rel=1e-9)
    # Every word is an answer, those at the borders of windows too.
    words = {text[start_:end_] for start_, end_, _ in own}
    assert {"ferry", "Ødegård", "250"} <= words


def test_special_tokens_in_a_passage_are_letters() -> None:
    generator = span_generator(longest=16)
    text = "nine [SEP] crowns <|im_end|>"
    prompt = generator.prompt(QUESTION, [passage(text)], 5)
    (window,) = windows_of(encoder_tokenizer(), prompt, generator.config)
    assert window.ids.count(encoder_tokenizer().sep_token_id) == 2
    answer = generator.answer_tokens("crowns <|im_end|>")
    assert answer.count(generator.stop_token) == 1
    assert generator.text(answer) == "crowns <|im_end|>"
    assert generator.log_likelihood([prompt], answer).sum() > -math.inf


def test_a_prompt_of_another_generator_is_refused(generator: ExtractiveGenerator) -> None:
    with pytest.raises(ModelError, match="extractive"):
        generator.start([Prompt((), (1,), (2,))])


def test_the_length_of_a_prompt_is_what_the_encoder_reads() -> None:
    read: list[int] = []
    generator = span_generator()

    def count(model: object, arguments: object, named: dict[str, torch.Tensor]) -> None:
        read.append(int(named["attention_mask"].sum()))

    generator.model.register_forward_pre_hook(count, with_kwargs=True)
    for text in (TEXTS[0], " ".join(TEXTS * 4), "  "):
        prompt = generator.prompt(QUESTION, [passage(text, "Fees", "In May")], 0)
        read.clear()
        generator.start([prompt])
        assert prompt_length(generator, prompt) == sum(read)
    closed = generator.prompt(QUESTION, [], 0)
    assert prompt_length(generator, closed) == 0
    assert prompt_length(generator, generator.prompt(QUESTION, [passage(TEXTS[0])], 0)) > 20

"""An extractive reader under the objectives of a mixture: gradients against enumeration in probability space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings
from mixrag.generator import ExtractiveGenerator, Prompt
from mixrag.generator.span_windows import SpanPrompt
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training.composite import span_drawing
from mixrag.training.examples import Example, examples_from
from mixrag.training.generators import ScoredRows
from mixrag.training.reading_sets import own_sets
from mixrag.training.span_answers import answerable, possible_answers
from mixrag.training.span_rows import SpanReading, SpanRowReader
from mixrag.training.step import QuestionTables, TrainingStep
from mixrag.training.trainable_prior import TrainablePrior
from mixrag.training.trainable_spans import TrainableSpans
from tiny_span_model import inside_word, passage, span_generator
from training.conftest import PAIRS

TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}
"""Gradients in float32; padding changes the order of additions."""
OPEN = Callable[..., RAG]
RETRIEVER = frozenset({"question-encoder", "temperature"})
CROWNS = Pair("what is paid in crowns", ("four crowns a season", "nine crowns a year"), None, {}, "pairs.jsonl:9")


def enumerated(generator: ExtractiveGenerator, prompt: Prompt) -> dict[str, Tensor]:
    """p(answer), with gradient, by a double loop over the ends of spans in one window; "" is the empty answer."""
    assert isinstance(prompt, SpanPrompt)
    read = generator.tokenizer(prompt.asked, prompt.text, return_offsets_mapping=True, return_tensors="pt")
    offsets, parts = read.pop("offset_mapping")[0].tolist(), read.sequence_ids(0)
    output = generator.model(**read)
    start, end = output.start_logits[0].double(), output.end_logits[0].double()
    weights = {"": (start[0] + end[0]).exp()}
    for i in range(len(parts)):
        for j in range(i, min(i + generator.config.longest, len(parts))):
            first, last = offsets[i][0], offsets[j][1]
            one = any(a <= first and last <= b for a, b in prompt.regions)
            if (
                parts[i] != 1
                or parts[j] != 1
                or not one
                or inside_word(prompt.text, first)
                or inside_word(prompt.text, last)
            ):
                continue
            answer = " ".join(prompt.text[first:last].split())
            weights[answer] = weights.get(answer, torch.zeros(())) + (start[i] + end[j]).exp()
    total = torch.stack(list(weights.values())).sum()
    return {answer: weight / total for answer, weight in weights.items()}


def trainable(generator: ExtractiveGenerator | None = None, **changes: Any) -> TrainableSpans:
    settings = TrainingSettings(**{"parts": ("generator",), "method": "full", "skip": 0.0, **changes})
    return TrainableSpans(generator or span_generator(seed=1, longest=16), settings, None, "the encoder")


def build(rag: RAG, pairs: Sequence[Pair] = PAIRS, **changes: Any) -> tuple[TrainingStep, list[Example]]:
    trained = trainable(**{"parts": ("generator", *sorted(RETRIEVER)), **changes})
    prior = TrainablePrior(rag.store, rag.encoder, rag.settings, RETRIEVER)  # type: ignore[arg-type]
    examples, _ = examples_from(pairs, trained.generator, 64)
    found = answerable(
        examples, trained.generator, lambda some: [each.passages for each in prior.candidates(some)], 64
    )
    return TrainingStep(prior, trained.generator, trained, trained.settings, rag.settings), found


def taken(step: TrainingStep) -> dict[str, Tensor]:
    assert step.prior is not None and step.trained is not None
    weights = {**step.trained.weights(), **step.prior.weights(), **step.prior.scalars()}
    found = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in weights.items()}
    for weight in weights.values():
        weight.grad = None
    return found


def enumerated_loss(step: TrainingStep, question: QuestionTables) -> Tensor:
    """-log Σ_a Σ_j π_j Σ over spans, in probability space."""
    assert isinstance(step.generator, ExtractiveGenerator)
    texts = [step.generator.text(answer) for answer in question.example.answers]
    total = torch.zeros((), dtype=torch.float64)
    for log_prior, component in zip(question.log_prior, question.components, strict=True):
        table = enumerated(step.generator, component.prompt) if component.passages else {"": torch.ones(())}
        for text in texts:
            total = total + log_prior.exp() * table.get(text, torch.zeros(()))
    return -total.log()


@pytest.mark.parametrize("objective", ["marginal", "em"])
@pytest.mark.parametrize("changes", [{"normaliser": "full"}, {"null": 0.2, "lexical": 0.4}])
def test_the_gradient_is_that_of_the_enumerated_likelihood(
    open_rag: OPEN, objective: str, changes: dict[str, Any]
) -> None:
    step, examples = build(open_rag(k=5, **changes), (*PAIRS, CROWNS), objective=objective)
    assert any(len(example.answers) == 2 for example in examples) and len(examples) >= 4
    losses = [enumerated_loss(step, question) for question in step.questions(examples)]
    (torch.stack(losses).sum() / len(examples)).backward()
    expected = taken(step)
    learnt = step.learn(examples, len(examples))
    found = taken(step)
    assert [each.nll for each in learnt.coefficients] == pytest.approx([float(x) for x in losses], rel=1e-4)
    assert learnt.tokens > 0 and 0 < learnt.backward < learnt.rows
    assert sum(bool(each.abs().sum() > 0) for each in expected.values()) > 20
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


def test_responsibilities_sum_to_one_and_may_be_stored(open_rag: OPEN) -> None:
    step, examples = build(open_rag(k=5), (*PAIRS, CROWNS), objective="em", e_step_every=2)
    fresh = step.learn(examples, len(examples))
    expected = taken(step)
    for question, each in zip(fresh.questions, fresh.coefficients, strict=True):
        by_token = -each.likelihood
        for a, answer in enumerate(question.example.answers):  # all tokens of a branch have one
            own = by_token[a, :, : len(answer)]
            torch.testing.assert_close(own, own[:, :1].expand_as(own))
        assert float(by_token[:, :, 0].sum()) == pytest.approx(1)
        assert float(each.log_posterior.exp().sum()) == pytest.approx(1)
        impossible = question.log_likelihood.sum(-1) == -torch.inf
        assert bool(impossible.any()) and bool((by_token[:, :, 0][impossible] == 0).all())
    stored = step.learn(examples, len(examples), e_step=False)
    assert stored.rows == 0 and stored.backward == fresh.backward
    for name, gradient in taken(step).items():
        torch.testing.assert_close(gradient, expected[name], **TOLERANCE)
    losses = zip(stored.coefficients, fresh.coefficients, strict=True)
    assert all(one.loss == pytest.approx(other.loss, rel=1e-5) for one, other in losses)


OWN = (
    Pair("who pays?", ("Ada", "ada"), passage="Ada pays the fee, says Ada.", title="Fees"),
    Pair("what is paid?", ("the fee",), passage="Ada pays the fee, says Ada.", title="Fees"),
    Pair("when?", (), passage="Ada pays the fee, says Ada.", title="Fees"),
    Pair("what is the fee?", ("Nine crowns",), passage="It is nine crowns."),
)


def test_the_gradient_of_the_composite_objective_with_the_empty_answer() -> None:
    trained = trainable(objective="composite", empty_weight=0.3, rows=2)
    generator = trained.generator
    reading = SpanReading(generator, 16)
    sets = reading.readable(own_sets([*OWN, Pair("what?", ("tin",), passage="It is made of lead.")]))
    assert reading.left_out == 1
    # A share of the posterior: both terms.
    sets[1] = replace(sets[1], targets=(replace(sets[1].targets[0], holds=0.7),))
    rows = span_drawing(sets, generator.stop_token, trained.settings)("0")
    terms = [("Ada", 0, 1.0), ("the fee", 1, 1.0), ("", 2, 0.3), ("nine crowns", 3, 0.7), ("", 3, 0.3 * 0.3)]
    loss, log_probs = torch.zeros(()), []
    for text, number, weight in terms:
        (own,) = own_sets([OWN[number]])
        table = enumerated(generator, generator.prompt(OWN[number].question, (own.passage,), 0))
        loss = loss - weight * table[text].log()
        log_probs.append(float(table[text].log().detach()))
    (loss / 5).backward()
    weights = trained.weights()
    expected = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
    for weight in weights.values():
        weight.grad = None
    reader = SpanRowReader(trained)
    values = reader.backward(rows, 5)
    assert sorted(values.tolist()) == pytest.approx(sorted(log_probs), rel=1e-4)
    assert reader.log_likelihoods(rows).tolist() == pytest.approx(values.tolist(), rel=1e-4)
    assert len(expected) > 20
    for name, gradient in expected.items():
        torch.testing.assert_close(weights[name].grad, gradient, **TOLERANCE)


def test_a_long_passage_is_read_in_windows() -> None:
    """One softmax over the spans of all windows; the gradient is that of the generator's own distribution."""
    generator = span_generator(seed=2)
    trained = trainable(generator, rows=2)
    text = "ferry costs in May. " * 30 + "Ødegård pays, nine crowns. " + "the fee of ten. " * 30
    prompts = [generator.prompt("Who pays?", (passage(each),), 0) for each in (text, "nine crowns", " ")]
    answers = [generator.answer_tokens(each) for each in ("nine crowns", "", "costs in", "ten")]
    rows = [(prompts[0], answers[0]), (prompts[1], answers[1]), (prompts[0], answers[2]), (prompts[0], answers[3])]
    assert len(generator.windows(prompts[0])) > 3
    table = trained.log_likelihoods([each for each, _ in rows], [answer for _, answer in rows])
    for row, (prompt, answer) in zip(table, rows, strict=True):
        own = generator.log_likelihood([prompt], answer)[0]
        torch.testing.assert_close(row[: len(answer)], own, rtol=1e-4, atol=1e-5)
        assert bool((row[len(answer) :] == 0).all())
    coefficients = [-0.5, -1.0, 0.25, -0.125]
    loss = torch.zeros(())
    for (prompt, answer), c in zip(rows, coefficients, strict=True):
        windows = generator.windows(prompt)
        scores = []
        for window in windows:
            kinds = {"token_type_ids": torch.tensor([window.types])}
            output = generator.model(input_ids=torch.tensor([window.ids]), **kinds)
            scores.append((output.start_logits[0], output.end_logits[0]))
        found = generator.answers_from(prompt, windows, scores)
        chosen = [i for i, each in enumerate(found.texts()) if each == generator.text(answer)]
        loss = loss + c * found.log_probs[chosen].logsumexp(0)
    loss.backward()
    weights = trained.weights()
    expected = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
    for weight in weights.values():
        weight.grad = None
    each = [torch.full((len(answer),), c) for (_, answer), c in zip(rows, coefficients, strict=True)]
    values = trained.backward(
        ScoredRows([one for one, _ in rows], [one for _, one in rows], each, torch.arange(len(rows)))
    )
    assert float(values.sum()) == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, gradient in expected.items():
        torch.testing.assert_close(weights[name].grad, gradient, rtol=1e-3, atol=1e-4)
    nothing = ScoredRows([prompts[2]], [answers[1]], [torch.ones(1)], torch.arange(1))
    assert trained.backward(nothing).tolist() == [0.0], "without a text the empty answer is certain"


def test_weights_that_change_are_seen_at_once() -> None:
    trained = trainable()
    prompt = trained.generator.prompt("Who pays?", (passage("nine crowns"),), 0)
    answer = trained.generator.answer_tokens("nine crowns")
    before = trained.log_likelihoods([prompt], [answer])
    with torch.no_grad():
        for weight in trained.weights().values():
            weight.mul_(0.5)
    assert not torch.equal(trained.log_likelihoods([prompt], [answer]), before)


def test_answers_count_as_the_passage_spells_them() -> None:
    generator = span_generator(longest=10)
    prompt = generator.prompt("what?", (passage("It costs nine\n crowns; Nine."),), 0)
    found = possible_answers(
        generator, prompt, ("NINE CROWNS", "nine", "crown", "ten", "it costs nine crowns; nine.")
    )
    assert [generator.text(tokens) for tokens in found] == ["nine crowns", "nine", "It costs nine crowns; Nine."]
    found = possible_answers(span_generator(longest=3), prompt, ("nine crowns", "it costs nine crowns"))
    assert [generator.text(tokens) for tokens in found] == ["nine crowns"], "a span has so many tokens at most"


def test_what_no_passage_can_answer_changes_nothing(open_rag: OPEN) -> None:
    step, examples = build(open_rag(k=1))
    unknown = replace(examples[0], answers=(step.generator.answer_tokens("ten talms"),))
    learnt = step.learn([unknown], 1)
    assert not learnt.coefficients[0].possible and learnt.backward == 0
    assert all(bool((gradient == 0).all()) for gradient in taken(step).values())
    # One component of prior one: the likelihood is read all the same.
    known = step.learn([replace(examples[0], number=99)], 1)
    assert known.coefficients[0].possible and known.rows == 1 and known.backward == 1


@pytest.mark.parametrize("changes", [{"checkpointing": True}, {"dtype": "bfloat16"}])
def test_less_memory_and_half_precision_have_nearly_the_same_gradient(
    open_rag: OPEN, changes: dict[str, Any]
) -> None:
    found = []
    for each in ({}, changes):
        step, examples = build(open_rag(), method="lora", rank=4, **each)
        step.learn(examples, len(examples))
        own = {name: gradient.flatten() for name, gradient in taken(step).items() if "lora_B" in name}
        assert own
        found.append(torch.cat(list(own.values())))
    share = 0.3 if "dtype" in changes else 1e-3
    assert float((found[0] - found[1]).norm()) <= share * float(found[0].norm())


def test_distillation_follows_the_passages_that_can_answer(open_rag: OPEN) -> None:
    step, examples = build(open_rag(), objective="distill")
    learnt = step.learn(examples, len(examples))
    assert all(each.loss < torch.inf for each in learnt.coefficients)
    assert all(bool(gradient.isfinite().all()) for gradient in taken(step).values())

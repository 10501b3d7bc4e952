"""The step's gradient against one graph over all branches: K rows, full logits, the objective on top."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import ModelError
from mixrag.generator import load_generator
from mixrag.probability import log_any_marginal
from mixrag.rag import RAG
from mixrag.training.examples import Example, examples_from
from mixrag.training.generators import TrainableGenerator
from mixrag.training.step import QuestionTables, TrainingStep
from mixrag.training.trainable_prior import TrainablePrior
from training.conftest import PAIRS

TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}
"""Gradients in float32 whose largest entries are near one; padding changes the order of additions."""
ALL = frozenset({"question-encoder", "temperature", "null"})


def build(
    rag: RAG, folder: Path, retriever: frozenset[str] = ALL, *, generator: bool = True, **changes: object
) -> tuple[TrainingStep, list[Example]]:
    parts = ("generator", *sorted(retriever)) if generator else tuple(sorted(retriever))
    settings = TrainingSettings(**{"parts": parts, "method": "full", "skip": 0.0, **changes})
    trained = None
    if "generator" in settings.parts:
        trained = TrainableGenerator(load_generator(folder, device="cpu"), settings)  # type: ignore[arg-type]
    model = trained.generator if trained else rag.generator
    prior = TrainablePrior(rag.store, rag.encoder, rag.settings, retriever)  # type: ignore[arg-type]
    examples, _ = examples_from(PAIRS, model, 64)
    return TrainingStep(prior, model, trained, settings, rag.settings), examples


def weights(step: TrainingStep) -> dict[str, Tensor]:
    assert step.prior is not None
    trained = step.trained.weights() if step.trained else {}
    return {**trained, **step.prior.weights(), **step.prior.scalars()}


def naive_log_likelihood(step: TrainingStep, question: QuestionTables) -> Tensor:
    """(A, K, T) from the model's own forward over every row, all logits, with its graph."""
    model = step.generator.model
    rows = []
    for answer in question.example.answers:
        per_component = []
        for component in question.components:
            ids = torch.tensor([[*component.prompt.tokens, *answer]])
            log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
            start = len(component.prompt.tokens) - 1
            picked = log_probs[start:-1].gather(-1, torch.tensor(answer)[:, None])[:, 0]
            per_component.append(torch.nn.functional.pad(picked, (0, question.example.length - len(answer))))
        rows.append(torch.stack(per_component))
    return torch.stack(rows).double()


def naive_gradients(step: TrainingStep, examples: list[Example]) -> dict[str, Tensor]:
    """One graph over all rows, one backward."""
    questions = step.questions(examples)
    losses = [
        -log_any_marginal(q.log_prior, naive_log_likelihood(step, q), step.mixture.switch, q.mask)
        for q in questions
    ]
    (torch.stack(losses).sum() / len(examples)).backward()
    return taken(step)


def taken(step: TrainingStep) -> dict[str, Tensor]:
    found = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in weights(step).items()}
    for weight in weights(step).values():
        weight.grad = None
    return found


@pytest.mark.parametrize("objective", ["marginal", "em"])
@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_exact_mode_has_the_gradient_of_naive_training(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], switch: float, objective: str
) -> None:
    step, examples = build(
        open_rag(switch=switch, lexical=0.4, null=0.2), tiny_folder("llama"), objective=objective
    )
    expected = naive_gradients(step, examples)
    step.learn(examples, len(examples))
    found = taken(step)
    assert set(found) == set(expected) and any(name.startswith("question/") for name in found)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    assert all(bool(expected[name].abs().sum() > 0) for name in ("log_temperature", "null"))


@pytest.mark.parametrize("objective", ["marginal", "em"])
def test_a_switch_at_sentences_is_that_of_each_answer(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], objective: str
) -> None:
    settings = {"switch": 0.6, "switch_at": "sentence", "null": 0.2}
    step, examples = build(open_rag(**settings), tiny_folder("llama"), objective=objective)
    long = step.generator.answer_tokens("nine crowns. four crowns. none")
    examples = [replace(each, answers=(each.answers[0], long)) for each in examples]
    losses = []
    for question in (questions := step.questions(examples)):
        table = naive_log_likelihood(step, question)
        switch = torch.zeros(2, question.example.length, dtype=torch.float64)
        for row, answer in zip(switch, question.example.answers, strict=True):
            written = [step.generator.text(answer[:t]) for t in range(len(answer) + 1)]
            for t, (before, text) in enumerate(pairwise(written)):
                row[t] = 0.6 if text.endswith(".") and not before.endswith(".") else 0.0
        assert switch[1].count_nonzero() == 2
        losses.append(-log_any_marginal(question.log_prior, table, switch, question.mask))
    (torch.stack(losses).sum() / len(questions)).backward()
    expected = taken(step)
    step.learn(examples, len(examples))
    found = taken(step)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


def test_half_batches_add_up_to_the_whole(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    step, examples = build(open_rag(), tiny_folder("llama"), frozenset({"question-encoder", "temperature"}))
    step.learn(examples, len(examples))
    whole = taken(step)
    step.learn(examples[0::2], len(examples))
    step.learn(examples[1::2], len(examples))
    halves = taken(step)
    for name in whole:
        torch.testing.assert_close(halves[name], whole[name], **TOLERANCE)


@pytest.mark.parametrize("switch", [0.0, 0.3])
def test_held_responsibilities_give_the_gradient_of_the_e_step_they_come_from(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], switch: float
) -> None:
    rag = open_rag(switch=switch, lexical=0.4)
    step, examples = build(rag, tiny_folder("llama"), ALL - {"null"}, objective="em", e_step_every=2)
    fresh = step.learn(examples, len(examples))
    expected = taken(step)
    cached = step.learn(examples, len(examples), e_step=False)
    found = taken(step)
    assert fresh.rows > 0 and cached.rows == 0 and cached.backward == fresh.backward
    e_step = {
        (component.prompt.tokens, answer)
        for q in fresh.questions
        for component in q.components
        for answer in q.example.answers
    }
    assert fresh.tokens - cached.tokens == sum(len(prompt) + len(answer) - 1 for prompt, answer in e_step)
    assert 0 < cached.tokens <= fresh.tokens - cached.tokens
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE)
    for one, other in zip(cached.coefficients, fresh.coefficients, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_a_frozen_generator_reads_once_goes_nowhere_backward_and_needs_no_held_responsibilities(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    retriever = frozenset({"temperature"})
    step, examples = build(
        open_rag(), tiny_folder("llama"), retriever, generator=False, objective="em", e_step_every=2
    )
    fresh = step.learn(examples, len(examples))
    expected = taken(step)
    again = step.learn(examples, len(examples), e_step=False)
    assert fresh.backward == again.backward == 0 and again.exact
    assert fresh.tokens > 0 and again.tokens == 0, "what was read once is known"
    assert [c.loss for c in again.coefficients] == [c.loss for c in fresh.coefficients]
    assert expected and all(torch.equal(value, expected[name]) for name, value in taken(step).items())


def test_other_candidates_need_a_new_e_step(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    step, examples = build(open_rag(), tiny_folder("llama"), objective="em", e_step_every=2)
    step.learn(examples, len(examples))
    cached = step.e_steps.entries[examples[0].number]
    step.e_steps.entries[examples[0].number] = replace(cached, components=("another", *cached.components[1:]))
    again = step.learn(examples, len(examples), e_step=False)
    assert again.rows == len(cached.components) * len(examples[0].answers)


def test_one_component_needs_no_e_step(open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]) -> None:
    step, examples = build(open_rag(group="all"), tiny_folder("llama"), frozenset())
    single = [example for example in examples if len(example.answers) == 1]
    expected = naive_gradients(step, single)
    nll = [step.coefficients(q).nll for q in step.questions(single)]
    learnt = step.learn(single, len(single))
    found = taken(step)
    assert learnt.rows == 0 and [c.loss for c in learnt.coefficients] == pytest.approx(nll, rel=1e-5)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE)


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("normaliser", ["top-k", "full"])
def test_one_component_under_either_normaliser_has_the_naive_gradient(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], normaliser: str, switch: float
) -> None:
    rag = open_rag(k=1, normaliser=normaliser, switch=switch)
    step, examples = build(rag, tiny_folder("llama"), frozenset({"temperature"}))
    single = [example for example in examples if len(example.answers) == 1]
    expected = naive_gradients(step, single)
    nll = [step.coefficients(q).nll for q in step.questions(single)]
    learnt = step.learn(single, len(single))
    found = taken(step)
    assert [c.loss for c in learnt.coefficients] == pytest.approx(nll, rel=1e-5)
    assert (abs(float(expected["log_temperature"])) > 1e-3) == (normaliser == "full")
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE)


@pytest.mark.parametrize("reverse", [False, True])
def test_distillation_teaches_the_retriever_and_the_marginal_likelihood_the_generator(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], reverse: bool
) -> None:
    settings = {"objective": "distill", "likelihood_temperature": 0.3, "prior_power": 0.5, "reverse": reverse}
    step, examples = build(open_rag(null=0.2), tiny_folder("llama"), **settings)
    total = torch.zeros((), dtype=torch.float64)
    for question in step.questions(examples):
        table = naive_log_likelihood(step, question)
        means = (table * question.mask[:, None]).sum(-1) / question.mask.sum(-1, keepdim=True)
        best = means[means.detach().logsumexp(-1).argmax()].detach()
        log_prior, target = question.log_prior, (0.5 * question.log_prior + best / 0.3).log_softmax(-1).detach()
        one, other = (log_prior, target) if reverse else (target, log_prior)
        divergence = (one.exp() * (one - other)).sum()
        total = total + divergence - log_any_marginal(log_prior.detach(), table, 0.0, question.mask)
    (total / len(examples)).backward()
    expected = taken(step)
    step.learn(examples, len(examples))
    found = taken(step)
    assert all(bool(expected[name].abs().sum() > 0) for name in ("log_temperature", "null"))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **TOLERANCE)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_memory_and_no_gradient(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], method: str, dtype: str
) -> None:
    found = []
    for checkpointing in (False, True):
        changes = {"checkpointing": checkpointing, "dtype": dtype, "method": method, "rank": 4}
        step, examples = build(open_rag(), tiny_folder("llama"), frozenset({"temperature"}), **changes)
        step.learn(examples, len(examples))
        found.append(taken(step))
    share = 0.05 if dtype == "bfloat16" else 1e-3
    for name, one in found[0].items():
        assert float((one - found[1][name]).norm()) <= share * float(one.norm()) + 1e-6, name
    assert any(float(one.norm()) > 0 for one in found[0].values())


@pytest.mark.parametrize("skip", [0.02, 0.2, 0.6])
def test_skipped_branches_change_the_gradient_by_at_most_the_bound(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], skip: float
) -> None:
    step, examples = build(open_rag(k=6), tiny_folder("llama"), frozenset({"temperature"}), skip=skip)
    one = examples[:1]
    expected = naive_gradients(step, one)
    learnt = step.learn(one, 1)
    found = taken(step)
    error = (
        sum(float((found[n] - expected[n]).square().sum()) for n in found if n not in step.prior.scalars()) ** 0.5
    )
    question, coefficients = learnt.questions[0], learnt.coefficients[0]
    largest = max(token_gradient_norms(step, question))
    total = float(coefficients.likelihood.abs().sum())
    assert learnt.backward < learnt.rows and 0 < learnt.skipped <= skip
    assert 0 < error <= learnt.skipped * total * largest * 1.001


def token_gradient_norms(step: TrainingStep, question: QuestionTables) -> list[float]:
    """Norm of the gradient of every single token's log-likelihood."""
    table = naive_log_likelihood(step, question)
    norms = []
    for value in table[question.mask[:, None].expand_as(table)]:
        value.backward(retain_graph=True)
        gradients = taken(step)
        norms.append(sum(float(g.square().sum()) for g in gradients.values()) ** 0.5)
    return norms


def test_a_frozen_generator_is_asked_once(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    step, examples = build(open_rag(), tiny_folder("llama"), frozenset({"temperature"}), generator=False)
    calls: list[int] = []
    score = step.likelihoods.score
    step.likelihoods.score = lambda prompts, answers: (calls.append(len(prompts)), score(prompts, answers))[1]
    first = [step.coefficients(q).nll for q in step.questions(examples)]
    again = [step.coefficients(q).nll for q in step.questions(examples)]
    assert first == again and len(calls) == 1


def test_distillation_moves_the_prior_towards_the_likelihoods(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    step, examples = build(
        open_rag(k=6, temperature=0.02),
        tiny_folder("llama"),
        frozenset({"question-encoder"}),
        objective="distill",
        generator=False,
        likelihood_temperature=0.1,
    )
    optimizer = torch.optim.AdamW(list(weights(step).values()), lr=0.005)
    losses = []
    for _ in range(20):
        learnt = step.learn(examples, len(examples))
        losses.append(sum(c.loss for c in learnt.coefficients))
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.9 * losses[0]


def test_gradient_checkpointing_changes_nothing(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    found = []
    for checkpointing in (False, True):
        step, examples = build(
            open_rag(), tiny_folder("llama"), frozenset({"temperature"}), checkpointing=checkpointing
        )
        step.learn(examples, len(examples))
        found.append(taken(step))
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], **TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler: install g++")
def test_compiled_layers_have_the_gradient_of_plain_ones(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path]
) -> None:
    found = []
    for compiled in (False, True):
        step, examples = build(open_rag(), tiny_folder("llama"), frozenset({"temperature"}), compile=compiled)
        assert step.trained is not None
        layers = step.trained.generator.model.model.layers
        assert all((layer._compiled_call_impl is not None) == compiled for layer in layers)
        step.learn(examples, len(examples))
        found.append(taken(step))
    assert set(found[0]) == set(found[1])
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], **TOLERANCE)


def test_compiling_needs_a_compiler(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ModelError, match=r"no-such-compiler.*install one"):
        build(open_rag(), tiny_folder("llama"), frozenset({"temperature"}), compile=True)


@pytest.mark.parametrize("kind", ["gpt2", "t5", "bart", "llama-chat"])
def test_every_kind_of_model_learns(
    open_rag: Callable[..., RAG], tiny_folder: Callable[[str], Path], kind: str
) -> None:
    step, examples = build(open_rag(kind), tiny_folder(kind), frozenset({"temperature"}), method="lora", rank=4)
    optimizer = torch.optim.AdamW(list(weights(step).values()), lr=0.02)
    losses = []
    for _ in range(8):
        learnt = step.learn(examples, len(examples))
        losses.append(sum(c.loss for c in learnt.coefficients))
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 1

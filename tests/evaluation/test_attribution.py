"""Attribution by several methods: exact against brute force, ContextCite against its definition, calls counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from enumeration import Toy, switches, toys
from mixrag import Answer, Generator, Settings
from mixrag.answers.answer import build_answer
from mixrag.errors import SettingError
from mixrag.evaluation.attribution import (
    LASSO_ALPHA,
    chance,
    concatenation_leave_one_out,
    context_cite,
    leave_one_out,
    leave_one_out_rerun,
    logit,
    posterior,
    prior,
    sparse_weights,
)
from mixrag.generator import Prompt, TableGenerator
from mixrag.inference.mixture import ScoredAnswer, condition
from mixrag.retrieval.retriever import Retrieval
from tables import passage, table_generator, toy_passages

quick = settings(max_examples=40, deadline=None)
TOY = Toy([0.5, 0.3, 0.2], seed=7, vocabulary=3, length=3)
ANSWER = (0, 1, 2)
METHODS = {
    "chance": chance,
    "prior": prior,
    "posterior": posterior,
    "leave-one-out": leave_one_out,
    "again": leave_one_out_rerun,
    "concatenation": concatenation_leave_one_out,
    "ContextCite": partial(context_cite, masks=32),
}


def answered(
    generator: Generator,
    passages: Sequence[Any],
    log_prior: Tensor,
    tokens: Sequence[int],
    *,
    log_null: float | None = None,
    group: int | None = 1,
    switch: float = 0.0,
) -> Answer:
    """A given answer under a mixture, as ``RAG.score`` returns it."""
    retrieval = Retrieval(tuple(passages), log_prior, log_prior, log_null, None, 1.0)
    mixture = condition(generator, "question", passages, log_prior, log_null=log_null, group=group, switch=switch)
    return build_answer(mixture.score_tokens(tokens), retrieval, Settings(switch=switch))


def toy_answer(toy: Toy, tokens: Sequence[int] = ANSWER, mass: float = 1.0, **options: Any) -> Answer:
    """``mass`` is what the prior of passages (and null) adds up to: less than one under the full normaliser."""
    log_null = options.pop("log_null", None)
    passages = mass if log_null is None else mass - math.exp(log_null)
    log_prior = toy.log_prior + math.log(passages)
    return answered(table_generator(toy), toy_passages(toy), log_prior, tokens, log_null=log_null, **options)


@quick
@given(
    toys(),
    switches,
    st.sampled_from([1, 2, None]),
    st.sampled_from([None, math.log(0.2)]),
    st.sampled_from([1.0, 0.7]),
)
def test_running_again_without_each_passage_gives_the_exact_leave_one_out(
    toy: Toy, switch: float, group: int | None, log_null: float | None, mass: float
) -> None:
    options: dict[str, Any] = {"group": group, "log_null": log_null, "mass": mass}
    answer = toy_answer(toy, toy.answers()[-1], switch=switch, **options)
    exact, again = leave_one_out(answer), leave_one_out_rerun(answer)
    torch.testing.assert_close(exact.scores, again.scores, rtol=1e-9, atol=1e-9)
    assert len(exact.scores) == len(toy.prior) and not exact.scores.isnan().any()


@pytest.mark.parametrize("kind", ["llama-chat", "t5"])
@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("log_null", [None, math.log(0.2)])
def test_so_it_does_with_a_transformer(
    kind: str, switch: float, log_null: float | None, tiny_generator: Callable[[str], Generator]
) -> None:
    generator = tiny_generator(kind)
    texts = ("the author wrote the letter", "the city lies on the river", "a name")
    passages = [passage(f"p{i}", text) for i, text in enumerate(texts)]
    log_prior = torch.tensor([0.4, 0.3, 0.1 if log_null else 0.3], dtype=torch.float64).log()
    tokens = generator.answer_tokens("the author")
    answer = answered(generator, passages, log_prior, tokens, switch=switch, log_null=log_null)
    exact, again = leave_one_out(answer).scores, leave_one_out_rerun(answer).scores
    torch.testing.assert_close(exact, again, rtol=1e-4, atol=1e-4)
    assert exact.abs().max() > 0.01


def test_what_the_table_says() -> None:
    answer = toy_answer(TOY)
    likelihood = TOY.log_likelihood(ANSWER).sum(-1).exp()
    joint = torch.tensor(TOY.prior, dtype=torch.float64) * likelihood
    torch.testing.assert_close(prior(answer).scores, torch.tensor(TOY.prior, dtype=torch.float64))
    torch.testing.assert_close(posterior(answer).scores, joint / joint.sum())
    without = [(joint.sum() - joint[j]) / (1 - TOY.prior[j]) for j in range(3)]
    expected = torch.stack([(joint.sum() / rest).log() for rest in without])
    torch.testing.assert_close(leave_one_out(answer).scores, expected)


def test_passages_of_one_prompt_share_what_it_has() -> None:
    answer = toy_answer(Toy([0.4, 0.3, 0.2, 0.1], seed=7, vocabulary=3, length=3), group=2)
    for method in (posterior, leave_one_out, leave_one_out_rerun):
        first, second, third, fourth = method(answer).scores.tolist()
        assert first == second != third == fourth


def test_leaving_one_out_of_a_concatenation_reads_the_others_in_order_of_rank() -> None:
    answer = toy_answer(TOY)
    generator, passages = answer.scored.mixture.generator, toy_passages(TOY)

    def log_prob(kept: Sequence[int]) -> float:
        prompt = generator.prompt("question", [passages[i] for i in kept], 8)
        return float(generator.log_likelihood([prompt], ANSWER).sum())

    expected = [log_prob([0, 1, 2]) - log_prob(kept) for kept in ([1, 2], [0, 2], [0, 1])]
    assert concatenation_leave_one_out(answer).scores.tolist() == pytest.approx(expected)


@dataclass
class Counting:
    """A generator that counts the prompts read with an answer."""

    generator: Any
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        self.calls += len(prompts)
        return self.generator.log_likelihood(prompts, answer)

    def start(self, prompts: Sequence[Prompt]) -> Any:
        raise AssertionError("no method decodes")


CALLS = {
    "chance": 0,
    "prior": 0,
    "posterior": 0,
    "leave-one-out": 0,
    "again": 3 * 2,
    "concatenation": 3 + 1,
    "ContextCite": 7,  # of the eight subsets of three passages 32 masks draw all but one; each is read once
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("log_null", [None, math.log(0.2)])
def test_calls_are_the_prompts_read_beyond_answering(name: str, log_null: float | None) -> None:
    answer = toy_answer(TOY, log_null=log_null, switch=0.3)
    mixture = answer.scored.mixture
    counting = Counting(mixture.generator)
    mixture = replace(mixture, generator=counting)
    counted = replace(answer, scored=ScoredAnswer(mixture, answer.scored.tokens, answer.scored.log_likelihood))
    found = METHODS[name](counted)
    with_null = 3 if name == "again" and log_null is not None else 0  # the null component is in every re-run
    assert found.calls == counting.calls == CALLS[name] + with_null


def planted(wanted: int, others: float = 0.1, size: int = 5) -> Answer:
    """K passages, of which one alone matters: with it in the prompt the answer's word has 0.9, else ``others``."""

    def distribution(passages: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        said = 0.9 if wanted in passages else others
        last = torch.tensor([0.0] * size + [1.0], dtype=torch.float64)
        first = torch.tensor([said] + [0.0] * (size - 1) + [1 - said], dtype=torch.float64)
        return last if answer else first

    generator = TableGenerator((*(f"w{i}" for i in range(size)), "<end>"), distribution)
    passages = [passage(f"p{i}", f"w{i}") for i in range(size)]
    uniform = torch.full((size,), 1 / size, dtype=torch.float64).log()
    return answered(generator, passages, uniform, (0, size))


@pytest.mark.parametrize("wanted", range(5))
def test_every_method_that_reads_the_passages_finds_the_one_that_matters(wanted: int) -> None:
    answer = planted(wanted)
    for name in ("posterior", "leave-one-out", "again", "concatenation", "ContextCite"):
        scores = METHODS[name](answer).scores
        assert scores.argmax() == wanted and scores[wanted] > scores.sort().values[-2], name


@pytest.mark.parametrize("masks", [8, 64])
def test_context_cite_finds_the_weight_less_what_the_penalty_takes(masks: int) -> None:
    """With one passage that matters the LASSO has a closed form: the step in the logit, less T α / σ."""
    weights = context_cite(planted(3), masks=masks, seed=1).scores
    kept = np.random.default_rng(1).random((masks, 5))[:, 3] < 0.5
    step = math.log(0.9 / 0.1) - math.log(0.1 / 0.9)
    assert float(weights[3]) == pytest.approx(step - 2 * LASSO_ALPHA / kept.std(), rel=1e-3)
    assert masks < 64 or weights.nonzero().flatten().tolist() == [3]  # sparse


def test_the_linear_model_is_that_of_the_authors() -> None:
    """Cohen-Wang et al. 2024, their code: masks standardised, logits over the number of tokens, both undone."""
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    source = np.random.default_rng(0)
    kept, logits = source.random((32, 6)) < 0.5, source.normal(0, 5, 32)
    scaler = StandardScaler()
    fitted = Lasso(alpha=0.01, random_state=0).fit(scaler.fit_transform(kept.astype(np.float32)), logits / 7)
    expected = fitted.coef_ / scaler.scale_ * 7
    np.testing.assert_allclose(sparse_weights(kept, logits, 7), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.5


@pytest.mark.parametrize("masks", [1, 2, 32])
@pytest.mark.parametrize("size", [1, 2])
def test_few_passages_and_few_masks_give_numbers(masks: int, size: int) -> None:
    found = context_cite(planted(0, size=size), masks=masks)
    assert found.scores.shape == (size,) and found.scores.isfinite().all()
    assert 1 <= found.calls <= min(masks, 2**size)


def test_masks_that_are_all_alike_say_nothing() -> None:
    for kept in (np.zeros((4, 3), bool), np.ones((4, 3), bool), np.zeros((4, 0), bool)):
        assert sparse_weights(kept, np.arange(4.0), 2).tolist() == [0.0] * kept.shape[1]
    never = np.array([[True, False, False], [False, False, True], [True, False, True]])
    assert sparse_weights(never, np.array([5.0, 0.0, 5.0]), 1)[1] == 0.0
    assert context_cite(planted(0, others=0.9)).scores.tolist() == [0.0] * 5  # nothing changes the answer


def test_at_least_one_mask_is_needed() -> None:
    with pytest.raises(SettingError, match="at least one mask; found 0"):
        context_cite(planted(0), masks=0)


def test_the_only_passage_leaves_nothing_behind() -> None:
    answer = planted(0, size=1)
    assert leave_one_out(answer).scores.tolist() == leave_one_out_rerun(answer).scores.tolist() == [math.inf]
    assert leave_one_out_rerun(answer).calls == 0
    assert posterior(answer).scores.tolist() == prior(answer).scores.tolist() == [1.0]
    # One prompt with no passage is the closed-book model.
    assert concatenation_leave_one_out(answer).scores.tolist() == pytest.approx([math.log(0.9 / 0.1)])


def test_no_passage_has_no_scores() -> None:
    generator = table_generator(TOY)
    answer = answered(generator, (), torch.empty(0, dtype=torch.float64), ANSWER)
    for method in METHODS.values():
        assert method(answer).scores.shape == (0,)


@pytest.mark.parametrize("tokens", [(1, 5), (0, 0)])
@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
def test_an_impossible_answer_gives_no_nan(tokens: tuple[int, ...], switch: float) -> None:
    answer = planted(3)
    scored = replace(answer.scored.mixture, switch=switch).score_tokens(tokens)
    impossible = replace(answer, scored=scored)
    assert scored.log_prob == -math.inf
    for method in METHODS.values():
        assert not method(impossible).scores.isnan().any()
    assert (
        leave_one_out(impossible).scores.tolist() == leave_one_out_rerun(impossible).scores.tolist() == [0.0] * 5
    )


def test_a_passage_without_which_the_answer_is_impossible_has_all_of_it() -> None:
    answer = planted(3, others=0.0)
    for method in (leave_one_out, leave_one_out_rerun, concatenation_leave_one_out):
        scores = method(answer).scores
        assert scores[3] == math.inf and scores[:3].isfinite().all()
    assert context_cite(answer).scores.isfinite().all() and context_cite(answer).scores.argmax() == 3


def test_a_logit_is_finite_at_both_ends() -> None:
    log_p = np.array([-math.inf, math.log(0.2), math.log(0.9), 0.0])
    found = logit(log_p)
    assert found[1:3].tolist() == pytest.approx([math.log(0.2 / 0.8), math.log(0.9 / 0.1)])
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()

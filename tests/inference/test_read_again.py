"""Prompts that are read more than once: the weights stay, and each reading is a distribution by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from inference.test_empty_answer import LENGTH, STOP, TOY, answers, exact
from mixrag.generator import Prompt, TableGenerator
from mixrag.generator.table import TableBranches
from mixrag.inference.mixture import ScoredAnswer, condition
from mixrag.inference.stepwise import each_alone
from mixrag.probability import log_answered_prior
from tables import table_generator, toy_passages


class Noisy(TableGenerator):
    """As in bfloat16: every reading of the prompts finds other last digits, here large ones."""

    def reading(self) -> TableGenerator:
        number = self.__dict__.setdefault("readings", [0])
        number[0] += 1
        scale = 0.5 ** number[0]

        def law(passage: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
            usual = self.next_token(passage, answer)
            rest = usual * scale if not answer else usual
            return torch.cat([rest[:STOP], 1 - rest[:STOP].sum()[None]])

        return replace(TableGenerator(self.words, law), name="noisy")

    def start(self, prompts: Sequence[Prompt]) -> TableBranches:
        return self.reading().start(prompts)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> torch.Tensor:
        return self.reading().log_likelihood(prompts, answer)


def test_what_the_prior_is_made_of_stays_when_the_prompts_are_read_again() -> None:
    table = table_generator(TOY)
    found = condition(
        Noisy(table.words, table.next_token), "q", toy_passages(TOY), TOY.log_prior, empty_answer=True
    )
    first, prior, p_empty = found.log_empty.clone(), found.log_prior.clone(), found.log_p_empty
    written = found.score_tokens((0, STOP))
    before = written.log_prob, written.posterior.tolist()
    for read_again in (
        found.start,
        lambda: found.score("w1"),
        lambda: each_alone(found, LENGTH),
        found.predictive,
    ):
        read_again()
        assert found.log_empty.tolist() == first.tolist() and found.log_p_empty == p_empty
        expected = log_answered_prior(found.unconditioned_log_prior, found.log_answered)
        assert expected.tolist() == prior.tolist() == found.log_prior.tolist()
        assert found.score("").log_prob == pytest.approx(found.log_p_empty)
    again = ScoredAnswer(found, written.tokens, written.log_likelihood)
    assert (again.log_prob, again.posterior.tolist()) == before


def test_each_reading_is_divided_by_what_it_gives_to_the_empty_answer_itself() -> None:
    """Or else an answer might have a probability above one."""
    table = table_generator(TOY)
    found = condition(
        Noisy(table.words, table.next_token), "q", toy_passages(TOY), TOY.log_prior, empty_answer=True
    )
    assert found.log_p_empty < 0
    expected = exact(0.0)
    for answer in answers():  # a_j is half of what it was, and so is every first token
        written = found.score_tokens(answer)
        by_component = [expected.toy.next_token(j, ())[answer[0]] / (1 - expected.empty(j)) for j in range(3)]
        assert written.log_likelihood[:, 0].exp().tolist() == pytest.approx(by_component)
    rows = found.start().log_probs()[0].exp()
    assert rows.sum(-1).tolist() == pytest.approx([1.0] * 3)

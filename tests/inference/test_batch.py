"""Several questions side by side: each gets the answer, and the numbers, that it gets alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from enumeration import Toy
from mixrag.corpus import Passage
from mixrag.generator import Generator
from mixrag.inference.batch import batches_by_rows, greedy_together
from mixrag.inference.continuous import Share
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import greedy, scored
from tables import toy_mixture

LIMIT = 5
TEXTS = ("The river city is old.", "Short.", "Nobody wrote the letter twice. " * 3, "Its name is long.")
QUESTIONS = ("Who wrote it?", "And where does the river go from there?", "Why?")


def toys() -> list[Mixture]:
    """Of one table, with priors, switches and numbers of components of their own."""
    toy = Toy([0.4, 0.3, 0.2, 0.1], seed=23, vocabulary=4, length=LIMIT)
    whole = toy_mixture(toy, 0.0)
    log_prior = torch.tensor([0.1, 0.1, 0.7, 0.1], dtype=torch.float64).log()
    return [
        whole,
        replace(whole, unconditioned_log_prior=log_prior),
        replace(whole, switch=1.0),
        replace(whole, switch=0.2, unconditioned_log_prior=log_prior),
        whole.alone(1),
    ]


@pytest.mark.parametrize("budget", [0.0, 0.3])
def test_each_is_written_as_alone(budget: float) -> None:
    mixtures = toys()
    found = greedy_together(mixtures, LIMIT, budget)
    assert len({len(each.steps) for each in found}) > 1, "answers of this test must end at different times"
    dropped = 0
    for mixture, each in zip(mixtures, found, strict=True):
        pruning = Pruning(budget)
        steps = list(greedy(mixture, LIMIT, pruning))
        assert [step.token for step in each.steps] == [step.token for step in steps]
        dropped += len(each.pruning.dropped)
        assert each.pruning.spent == pytest.approx(pruning.spent)
        for mine, other in zip(each.steps, steps, strict=True):
            assert mine.log_prob == pytest.approx(other.log_prob)
            torch.testing.assert_close(mine.posterior, other.posterior)
        alone = scored(mixture, steps, pruning)
        torch.testing.assert_close(each.scored().log_likelihood, alone.log_likelihood)
    assert (dropped > 0) is (budget > 0)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_questions_of_unlike_length_to_a_real_model(kind: str, tiny_generator: Callable[[str], Generator]) -> None:
    generator = tiny_generator(kind)
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in TEXTS]
    mixtures = [
        condition(generator, question, passages[: 2 + i], torch.full((2 + i,), 1 / (2 + i)).log().double())
        for i, question in enumerate(QUESTIONS)
    ]
    for mixture, each in zip(mixtures, greedy_together(mixtures, 12, 1e-3), strict=True):
        answer, again = each.scored(), scored(mixture, greedy(mixture, 12))
        assert answer.tokens == again.tokens
        torch.testing.assert_close(answer.log_likelihood, again.log_likelihood, rtol=1e-3, atol=1e-3)


def test_batches_hold_at_most_so_many_rows_but_one_question_at_least() -> None:
    mixtures = toys()  # of 4, 4, 4, 4 and 1 components
    for rows, sizes in ((100, [5]), (8, [2, 2, 1]), (9, [2, 3]), (5, [1, 1, 1, 2]), (1, [1] * 5)):
        batches = list(batches_by_rows(mixtures, rows))
        assert [len(batch) for batch in batches] == sizes
        assert [each for batch in batches for each in batch] == mixtures


def test_the_share_of_a_question_goes_on_by_itself(tiny_generator: Callable[[str], Generator]) -> None:
    generator = tiny_generator("llama")
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in TEXTS]
    branches = generator.start([generator.prompt(QUESTIONS[0], [passage], 20) for passage in passages])
    share, rows, tokens = Share(branches, torch.tensor([3, 1])), torch.tensor([1, 1]), torch.tensor([7, 8])
    expected = branches.select(torch.tensor([1, 1])).advance(torch.tensor([0, 1]), tokens).log_probs
    torch.testing.assert_close(share.advance(rows, tokens).log_probs, expected, rtol=1e-4, atol=1e-4)
    read = branches.select(torch.tensor([3, 1])).score((7, 8, 9))
    torch.testing.assert_close(share.score((7, 8, 9)), read, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(share.log_probs, branches.log_probs[[3, 1]])

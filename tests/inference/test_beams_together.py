"""Beam searches of several questions side by side: each finds what it finds alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from enumeration import Toy
from mixrag.corpus import Passage
from mixrag.generator import Generator
from mixrag.inference.beam_search import SearchResult, beam
from mixrag.inference.beams_together import beams_in_batches, beams_together
from mixrag.inference.decoders import Beam
from mixrag.inference.mixture import Mixture, condition
from tables import toy_mixture

LIMIT = 5
TEXTS = ("The river city is old.", "Short.", "Nobody wrote the letter twice. " * 3, "Its name is long.")
QUESTIONS = ("Who wrote it?", "And where does the river go from there?", "Why?")


def toys() -> list[Mixture]:
    """Of one table, with priors, switches, empty answers and numbers of components of their own."""
    whole = toy_mixture(Toy([0.4, 0.3, 0.2, 0.1], seed=23, vocabulary=4, length=LIMIT), 0.0)
    log_prior = torch.tensor([0.1, 0.1, 0.7, 0.1], dtype=torch.float64).log()
    return [
        whole,
        replace(whole, unconditioned_log_prior=log_prior),
        replace(whole, switch=1.0),
        replace(whole, switch=0.2, empty_answer=True),
        whole.alone(1),
    ]


def same(found: SearchResult, alone: SearchResult, tolerance: float = 1e-9) -> None:
    """Equal answers in equal order, with equal numbers."""
    assert [each.tokens for each in found.answers] == [each.tokens for each in alone.answers]
    assert found.certified == alone.certified
    assert found.log_pruned == pytest.approx(alone.log_pruned, abs=tolerance)
    for mine, other in zip(found.answers, alone.answers, strict=True):
        torch.testing.assert_close(mine.log_likelihood, other.log_likelihood, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("width", [1, 2, 6])
def test_each_is_found_as_alone(width: int) -> None:
    found, alone = beams_together(toys(), width, LIMIT), [beam(each, width, LIMIT) for each in toys()]
    assert len({len(each.answers[0].tokens) for each in alone}) > 1, "answers of this test differ in length"
    for mine, other in zip(found, alone, strict=True):
        same(mine, other)


@pytest.mark.parametrize("limit", [1, 2])
def test_answers_that_are_cut_off(limit: int) -> None:
    for mine, each in zip(beams_together(toys(), 3, limit), toys(), strict=True):
        same(mine, beam(each, 3, limit))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_a_real_model(kind: str, tiny_generator: Callable[[str], Generator]) -> None:
    generator = tiny_generator(kind)
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in TEXTS]
    mixtures = [
        condition(generator, question, passages[: 2 + i], torch.full((2 + i,), 1 / (2 + i)).log().double())
        for i, question in enumerate(QUESTIONS)
    ]
    for mine, mixture in zip(beams_in_batches(mixtures, 3, 6), mixtures, strict=True):
        same(mine, beam(mixture, 3, 6), 1e-3)


def test_the_decoder_batches_unless_it_draws_answers() -> None:
    assert Beam(2).batches
    assert not Beam(2, samples=1).batches
    for result, mixture in zip(Beam(2).decode_batch(toys(), LIMIT), toys(), strict=True):
        alone = beam(mixture, 2, LIMIT)
        assert [each.tokens for each in result.answers] == [each.tokens for each in alone.answers]
        assert result.certified == alone.certified

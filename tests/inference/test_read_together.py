"""Several answers after one reading of the prompts: as when each is scored by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mixed_toy import mixed_generator
from mixrag.generator.copying import CopyingGenerator
from mixrag.inference.mixture import Mixture, condition
from tiny_span_model import passage, span_generator

PASSAGES = [passage("The licence costs nine crowns."), passage("Eels sleep by day."), passage("Two guests pay.")]
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
LABELS = ("nine crowns", "no", "The licence costs nine", "Two")


def mixture(generator: Any, **options: Any) -> Mixture:
    return condition(generator, "What does it cost?", PASSAGES, PRIOR, log_null=None, **options)


@pytest.mark.parametrize("empty_answer", [False, True])
@pytest.mark.parametrize("kind", ["llama", "llama-chat", "gpt2", "t5", "bart", "spans", "mixed", "copying"])
def test_scores_are_those_of_one_answer_at_a_time(kind: str, empty_answer: bool, tiny_generator: Any) -> None:
    if kind == "spans":
        generator: Any = span_generator()
    elif kind == "mixed":
        generator = replace(
            mixed_generator(), language_model=tiny_generator("llama-chat"), extractive=span_generator()
        )
    elif kind == "copying":
        generator = CopyingGenerator(tiny_generator("llama"))
    else:
        generator = tiny_generator(kind)
    check(generator, empty_answer=empty_answer)


def test_the_question_is_read_in_the_same_pass(tiny_generator: Any) -> None:
    check(tiny_generator("llama"), question_likelihood=0.5, empty_answer=True)


def check(generator: Any, **options: Any) -> None:
    together = mixture(generator, **options)
    tokens = [generator.answer_tokens(label) for label in LABELS]
    for found, label in zip(together.score_all(tokens), LABELS, strict=True):
        alone = mixture(generator, **options).score(label)
        assert found.text == alone.text and found.tokens == alone.tokens
        torch.testing.assert_close(found.log_likelihood, alone.log_likelihood, rtol=1e-4, atol=1e-4)
        assert found.log_prob == pytest.approx(alone.log_prob, abs=1e-3)
    if options.get("question_likelihood"):
        assert not together.needs_question

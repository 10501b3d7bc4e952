"""The generator that is a table, and that every generator has the members of the protocol."""

from __future__ import annotations

import doctest
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.errors import QuestionError
from mixrag.generator import Branches, Generator, Prompt, TableGenerator, table
from mixrag.inference.mixture import condition
from tiny_models import KINDS

WORDS = ("yes", "no", "<end>")


def next_token(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """Says mostly what the passage says, for two words at most."""
    lead = 0.8 if passage[:1] == (0,) else 0.3
    stop = (0.1, 0.5, 1.0)[len(answer)]
    return torch.tensor([lead * (1 - stop), (1 - lead) * (1 - stop), stop], dtype=torch.float64)


GENERATOR = TableGenerator(WORDS, next_token)


def passage(text: str) -> Passage:
    return Passage(text, text, "/notes.txt", "Notes", 0, len(text))


def test_the_documented_example() -> None:
    found = doctest.DocTestFinder().find(TableGenerator, "TableGenerator", globs=vars(table) | {"torch": torch})
    results = [doctest.DocTestRunner().run(each) for each in found]
    assert sum(result.attempted for result in results) == 2
    assert sum(result.failed for result in results) == 0


def test_prompts_know_passages_by_their_words() -> None:
    prompt = GENERATOR.prompt("yes or no", [passage("no yes"), passage("perhaps")], 5)
    assert prompt == Prompt((), (1, 0, -1), (0, -1, 1))


def test_a_question_beyond_the_context_is_refused() -> None:
    tight = TableGenerator(WORDS, next_token, context_size=6)
    assert tight.prompt("yes no", [], 4).question == (0, 1)
    with pytest.raises(QuestionError):
        tight.prompt("yes no", [], 5)


def test_answers_there_and_back() -> None:
    tokens = GENERATOR.answer_tokens("yes no no")
    assert tokens == (0, 1, 1, 2)
    assert GENERATOR.text(tokens) == "yes no no"


def test_log_likelihood_reads_the_table() -> None:
    prompts = [GENERATOR.prompt("?", [passage(text)], 5) for text in ("yes", "no")]
    found = GENERATOR.log_likelihood(prompts, (0, 1, 2)).exp()
    expected = torch.tensor([[0.9 * 0.8, 0.5 * 0.2, 1.0], [0.9 * 0.3, 0.5 * 0.7, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_steps_equal_the_table_for_moved_rows() -> None:
    prompts = [GENERATOR.prompt("?", [passage(text)], 5) for text in ("yes", "no")]
    branches = GENERATOR.start(prompts).advance(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 0]))
    branches = branches.advance(torch.tensor([2, 0]), torch.tensor([1, 1]))
    assert branches.answers == ((0, 1), (0, 1))
    assert [prompt.passages for prompt in branches.prompts] == [(0,), (1,)]
    expected = torch.stack([next_token((0,), (0, 1)), next_token((1,), (0, 1))])
    torch.testing.assert_close(branches.log_probs.exp(), expected)


@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_probabilities_of_all_answers_add_up_to_one(switch: float) -> None:
    log_prior = torch.tensor([0.7, 0.3], dtype=torch.float64).log()
    mixture = condition(GENERATOR, "?", [passage("yes"), passage("no")], log_prior, switch=switch)
    texts = [text for length in range(3) for text in itertools.product((0, 1), repeat=length)]
    total = sum(math.exp(mixture.score_tokens((*text, 2)).log_prob) for text in texts)
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "table"])
def test_every_generator_has_the_members_of_the_protocol(kind: str, tiny_generator: Callable[[str], Any]) -> None:
    generator: Any = GENERATOR if kind == "table" else tiny_generator(kind)
    branches = generator.start([generator.prompt("Who?", [], 5)])
    for protocol, thing in ((Generator, generator), (Branches, branches)):
        for name, member in vars(protocol).items():
            if name.startswith("_"):
                continue
            found = getattr(thing, name)
            if inspect.isfunction(member):
                wanted = list(inspect.signature(member).parameters)[1:]
                assert list(inspect.signature(found).parameters) == wanted, name
    assert isinstance(generator.name, str)
    assert isinstance(generator.context_size, int)
    assert generator.stop_tokens and isinstance(generator.stop_tokens, frozenset)
    assert all(0 <= token < generator.vocabulary_size for token in generator.stop_tokens)
    assert generator.answer_tokens("yes")[-1] in generator.stop_tokens
    assert generator.text(generator.answer_tokens("yes")) == "yes"
    assert branches.log_probs.shape == (1, generator.vocabulary_size)

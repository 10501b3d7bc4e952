"""Rows that answer one prompt share its states: where only such rows change places, only their ends are copied."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mixrag.generator import CausalGenerator, Generator
from mixrag.generator.causal import CausalBranches
from mixrag.generator.kv_cache import GrowingLayer, empty_states, reorder_ends
from tables import passage

TEXTS = ("A licence to fish cod costs nine crowns.", "Hens lay fewer eggs in winter.", "The ferry leaves at nine.")


@pytest.fixture
def generator(tiny_generator: Callable[[str], Generator]) -> CausalGenerator:
    found = replace(tiny_generator("llama"), prefix_cache_bytes=2**24)  # type: ignore[type-var]
    assert isinstance(found, CausalGenerator)
    return found


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was copied, one word for each layer: "ends" or "all"."""
    done: list[str] = []
    for name, word in (("reorder_cache", "all"), ("reorder_ends", "ends")):
        method = getattr(GrowingLayer, name)

        def noted(*given: Any, inner: Any = method, word: str = word) -> Any:
            done.append(word)
            return inner(*given)

        monkeypatch.setattr(GrowingLayer, name, noted)
    return done


def begun(generator: CausalGenerator, question: str) -> CausalBranches:
    return generator.start([generator.prompt(question, [passage(text[2:5], text)], 8) for text in TEXTS])


def copying_all(branches: CausalBranches) -> CausalBranches:
    """The same rows, of which nothing is known."""
    return replace(branches.select(torch.arange(len(branches.attended))), origins=None)


def beams(parents: list[int], size: int = len(TEXTS)) -> Tensor:
    return torch.tensor([parent * size + place for parent in parents for place in range(size)])


def test_a_layer_has_the_rows_that_a_copy_has() -> None:
    draw = random.Random(0)
    for _ in range(50):
        size, length, ends = draw.randint(1, 6), draw.randint(2, 9), draw.randint(0, 2)
        states = torch.randn(2, 1, 2, length + 3, 4).repeat(1, size, 1, 1, 1)
        states[:, :, :, length - ends : length] = torch.randn(2, size, 2, ends, 4)
        layers = []
        for _ in range(2):
            layer = GrowingLayer()
            layer.fill(states.clone(), length)
            layers.append(layer)
        rows = torch.tensor([draw.randrange(size) for _ in range(draw.randint(1, size))])
        layers[0].reorder_cache(rows)
        layers[1].reorder_ends(rows, ends)
        more = torch.randn(len(rows), 2, 1, 4)
        for one, other in zip(layers[0].update(more, -more), layers[1].update(more, -more), strict=True):
            assert torch.equal(one, other)


def test_what_has_no_such_layers_is_left_as_it_is(generator: CausalGenerator) -> None:
    assert not reorder_ends(object(), torch.arange(1), 0)
    assert not reorder_ends(empty_states(generator.model.config), torch.arange(1), 0), "nothing is read yet"


def test_beams_are_what_they_are_with_copies_of_all(generator: CausalGenerator, copied: list[str]) -> None:
    draw = random.Random(1)
    ours = begun(generator, "What does cod cost?")
    theirs = copying_all(ours)
    copied.clear()
    parents, expected = [0, 0, 0, 0], "all"
    for _ in range(6):
        rows, tokens = beams(parents), torch.tensor([draw.randrange(3, 50) for _ in range(3 * len(parents))])
        ours = ours.advance(rows, tokens)
        layers = len(copied)
        assert set(copied) == {expected}
        theirs = theirs.advance(rows, tokens)
        assert set(copied[layers:]) == {"all"}
        assert torch.allclose(ours.log_probs, theirs.log_probs, atol=1e-5)
        copied.clear()
        before, expected = len(parents), "ends"
        width = draw.randint(max(2, before - 1), before)
        parents = [draw.randrange(before) for _ in range(width)]
        if parents == [*range(before)]:  # nothing changes places
            parents.reverse()
    assert ours.written == 6


def test_answers_that_have_joined_are_too(generator: CausalGenerator, copied: list[str]) -> None:
    first = begun(generator, "What does cod cost?").advance(beams([0, 0]), torch.arange(5, 11))
    second = begun(generator, "When does the ferry leave?")
    joined = first.join(torch.arange(6), [(second, torch.arange(3))])
    theirs = copying_all(joined)
    rows = torch.tensor([3, 4, 5, 0, 1, 2, 6, 7, 8])
    for step in range(3):
        copied.clear()
        tokens = torch.arange(10 + step, 19 + step)
        joined = joined.advance(rows, tokens)
        assert set(copied) == {"ends"}
        theirs = theirs.advance(rows, tokens)
        assert torch.allclose(joined.log_probs, theirs.log_probs, atol=1e-5)
    copied.clear()
    left = joined.advance(torch.arange(6, 9), torch.arange(3))
    assert set(copied) == {"all"}, "rows of another prompt"
    assert torch.allclose(left.log_probs, theirs.advance(torch.arange(6, 9), torch.arange(3)).log_probs, atol=1e-5)

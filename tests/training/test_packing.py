"""A passage read once for several questions: the same log-likelihoods and gradients as rows of their own."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings
from mixrag.generator import CausalGenerator, load_generator
from mixrag.training.generators import TrainableGenerator, undo_compilation
from mixrag.training.packing import Branch, Tree, branches_of, lay_out, pack, separate, size_of
from mixrag.training.row_reader import RowReader, packed_log_probs, reads_packed_rows

LENGTH = 96
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
"""Float32, and another order of additions."""


def tokens(source: random.Random, count: int) -> tuple[int, ...]:
    return tuple(source.randrange(5, 250) for _ in range(count))


def tree(source: random.Random, passage: int, branches: int) -> Tree:
    made = (
        Branch(
            tokens(source, source.randint(1, 6)), tokens(source, source.randint(1, 4)), source.choice((0.5, 1.0))
        )
        for _ in range(branches)
    )
    return Tree(tokens(source, passage), tuple(made))


def some_rows(count: int = 5) -> list[tuple[Tree, ...]]:
    source = random.Random(3)
    return pack([tree(source, source.randint(3, 30), source.randint(1, 5)) for _ in range(count)], LENGTH, source)


def trainable(folder: Path, **changes: Any) -> TrainableGenerator:
    options = {"parts": ("generator",), "method": "full", **changes}
    return TrainableGenerator(load_generator(folder, device="cpu"), TrainingSettings(**options))


def alone(trained: TrainableGenerator, rows: list[tuple[Tree, ...]]) -> Tensor:
    """log p(answer) of each branch by the model's own forward over a row of its own, with all logits and graph."""
    found = []
    for prompt, answer in zip(*separate(rows), strict=True):
        logits = trained.generator.model(input_ids=torch.tensor([[*prompt.tokens, *answer]])).logits[0]
        log_probs = logits.log_softmax(-1)[len(prompt.tokens) - 1 : -1]
        found.append(log_probs.gather(-1, torch.tensor(answer)[:, None]).sum())
    return torch.stack(found)


def gradients(trained: TrainableGenerator) -> dict[str, Tensor]:
    weights = trained.weights()
    found = {name: torch.zeros_like(w) if w.grad is None else w.grad.clone() for name, w in weights.items()}
    for weight in weights.values():
        weight.grad = None
    return found


@given(
    st.lists(st.tuples(st.integers(1, 60), st.lists(st.integers(1, 30), min_size=1)), max_size=40), st.integers()
)
@settings(max_examples=60, deadline=None)
def test_every_branch_is_in_one_row_that_is_not_too_long(made: list[tuple[int, list[int]]], seed: int) -> None:
    numbers = iter(range(10**6))
    trees = [
        Tree((next(numbers),) * passage, tuple(Branch((next(numbers),) * size, (1,)) for size in sizes))
        for passage, sizes in made
    ]
    rows = pack(trees, 90, random.Random(seed))
    assert all(size_of([row]) <= 90 for row in rows)
    passages = {branch.question: tree.passage for tree in trees for branch in tree.branches}
    found = [(branch.question, tree.passage) for row in rows for tree in row for branch in tree.branches]
    assert sorted(found) == sorted(passages.items())


def test_rows_are_filled() -> None:
    source = random.Random(0)
    trees = [tree(source, source.randint(3, 30), source.randint(1, 5)) for _ in range(300)]
    rows = pack(trees, LENGTH, random.Random(1))
    assert size_of(rows) > 0.9 * LENGTH * len(rows)
    assert rows == pack(trees, LENGTH, random.Random(1)) != pack(trees, LENGTH, random.Random(2))


def test_a_branch_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="a branch of 8 tokens behind 5, in a row of 12"):
        pack([Tree((1,) * 5, (Branch((2,) * 7, (3, 4)),))], 12, random.Random(0))


def test_a_token_sees_its_passage_and_its_branch() -> None:
    row = (Tree((1, 2), (Branch((3,), (4, 5)), Branch((6,), (7,)))), Tree((8,), (Branch((9,), (7,)),)))
    layout = lay_out([row], 9)
    assert layout.ids[0].tolist() == [1, 2, 3, 4, 6, 8, 9, 0, 0]
    assert layout.positions[0].tolist() == [0, 1, 2, 3, 2, 0, 1, 0, 0]
    seen = [[place for place in range(9) if layout.attended[0, token, place]] for token in range(7)]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [5], [5, 6]]
    assert layout.places.tolist() == [2, 3, 4, 6] and layout.targets.tolist() == [4, 5, 7, 7]
    assert layout.owners.tolist() == [0, 0, 1, 2] and layout.branches == 3


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_packed_rows_have_the_likelihoods_and_gradients_of_separate_rows(
    tiny_folder: Callable[[str], Path], kind: str, attention: str
) -> None:
    trained, rows = trainable(tiny_folder(kind)), some_rows()
    trained.generator.model.set_attn_implementation(attention)
    weights = torch.tensor([branch.weight for branch in branches_of(rows)])
    expected = alone(trained, rows)
    (-(expected * weights).sum() / 7).backward()
    wanted = gradients(trained)
    reader = RowReader(trained, LENGTH, rows)
    assert reader.packed and len(rows) > 1 and max(map(len, rows)) > 1
    torch.testing.assert_close(reader.log_likelihoods(rows).float(), expected.detach(), **TOLERANCE)
    found = reader.backward(rows, 7)
    torch.testing.assert_close(found.float(), expected.detach(), **TOLERANCE)
    for name, gradient in gradients(trained).items():
        torch.testing.assert_close(gradient, wanted[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    assert any(bool(gradient.abs().sum() > 0) for gradient in wanted.values())


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_model_that_cannot_reads_every_branch_by_itself(
    tiny_folder: Callable[[str], Path],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained, rows = trainable(tiny_folder(kind)), some_rows(3)
    if kind == "llama":
        ignore_masks(trained, monkeypatch)
    with caplog.at_level("WARNING", "mixrag.training"):
        reader = RowReader(trained, LENGTH, rows)
    assert not reader.packed and "every question is read with a passage of its own" in caplog.text
    monkeypatch.undo()
    prompts, answers = separate(rows)
    scored = trained.generator.token_log_probs(prompts, answers).sum(-1)
    weights = torch.tensor([branch.weight for branch in branches_of(rows)])
    (-(scored * weights).sum() / 7).backward()
    wanted = gradients(trained)
    torch.testing.assert_close(reader.log_likelihoods(rows).float(), scored.detach(), **TOLERANCE)
    torch.testing.assert_close(reader.backward(rows, 7).float(), scored.detach(), **TOLERANCE)
    for name, gradient in gradients(trained).items():
        torch.testing.assert_close(gradient, wanted[name], **TOLERANCE)


def ignore_masks(trained: TrainableGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of an own implementation whose attention is causal and nothing else, as fused kernels are."""
    plain = type(trained.generator.model).forward

    def forward(self: Any, **given: Any) -> Any:
        if given.get("attention_mask") is not None and given["attention_mask"].dim() == 4:
            given["attention_mask"] = None
        return plain(self, **given)

    forward.__signature__ = __import__("inspect").signature(plain)  # type: ignore[attr-defined]
    monkeypatch.setattr(type(trained.generator.model), "forward", forward)


@pytest.mark.parametrize("fault", ["mask", "positions", "raises"])
def test_the_trial_sees_a_model_that_ignores_the_mask_or_the_positions_or_refuses(
    tiny_folder: Callable[[str], Path], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_generator(tiny_folder("llama"), device="cpu")
    assert isinstance(generator, CausalGenerator)
    (row, *_) = some_rows()
    assert reads_packed_rows(generator, row, LENGTH)
    plain = type(generator.model).forward

    def forward(self: Any, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **given: Any) -> Any:
        special = attention_mask is not None and attention_mask.dim() == 4
        if special and fault == "raises":
            raise ValueError("a mask of two dimensions")
        if special and fault == "mask":
            attention_mask = None
        if special and fault == "positions":
            position_ids = torch.arange(input_ids.shape[1])[None]
        options = {"attention_mask": attention_mask, "position_ids": position_ids, **given}
        return plain(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(generator.model), "forward", forward)
    assert not reads_packed_rows(generator, row, LENGTH)


def test_padding_and_other_rows_change_nothing(tiny_folder: Callable[[str], Path]) -> None:
    generator, rows = load_generator(tiny_folder("llama"), device="cpu"), some_rows()
    with torch.no_grad():
        together = packed_log_probs(generator, lay_out(rows, LENGTH))  # type: ignore[arg-type]
        one_by_one = [packed_log_probs(generator, lay_out([row], LENGTH + 13)) for row in rows]  # type: ignore[arg-type]
    torch.testing.assert_close(together, torch.cat(one_by_one), **TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler: install g++")
def test_compiled_layers_read_the_same_rows(tiny_folder: Callable[[str], Path]) -> None:
    found = []
    for compiled in (False, True):
        options = {"compile": compiled, "objective": "composite", "rows": 2}
        trained, rows = trainable(tiny_folder("llama"), **options), some_rows()
        reader = RowReader(trained, LENGTH, rows)
        layers = trained.generator.model.model.layers
        assert reader.packed and all((layer._compiled_call_impl is not None) == compiled for layer in layers)
        found.append((reader.log_likelihoods(rows), reader.backward(rows, 7), gradients(trained)))
    undo_compilation(trained.generator.model)
    assert all(layer._compiled_call_impl is None for layer in layers)
    for plain, other in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(other, plain, **TOLERANCE)
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], gradient, **TOLERANCE)

"""Linear layers in eight bits: exact products of rounded values, and distributions as close as rounding allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import mixrag.utils.cpu_features
from mixrag.config.model_config import ModelConfig, models_digest
from mixrag.corpus import Passage
from mixrag.errors import SettingError
from mixrag.generator import CausalGenerator, Generator, load_generator
from mixrag.generator.devices import resolve_dtype
from mixrag.generator.huggingface import ModelGenerator
from mixrag.generator.kernels.int8_linear import ZERO, Int8Linear, rounded_rows, rounded_weight, use_int8
from mixrag.inference.batch import greedy_together
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.stepwise import greedy, scored
from tiny_models import KINDS

TEXTS = ("The river city is old.", "Short.", "Nobody wrote the letter twice. " * 3, "Its name is long.")
SHAPES = ((1, 5, 7), (10, 64, 48), (3, 100, 33))
"""Rows, inputs, outputs."""


def drawn(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """What is read (rows, inputs), with entries of unlike size, and a weight (outputs, inputs)."""
    source = torch.Generator().manual_seed(rows * inputs)
    x = torch.randn(rows, inputs, generator=source) * torch.logspace(-2, 2, rows)[:, None]
    x[:, 0] *= 20
    return x, torch.randn(outputs, inputs, generator=source)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_entry_is_off_by_more_than_half_a_step(shape: tuple[int, int, int]) -> None:
    x, weight = drawn(*shape)
    rounded, scale = rounded_weight(weight)
    assert rounded.dtype == torch.int8 and int(rounded.abs().max()) == 127
    assert bool(((rounded * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all())
    read, step = rounded_rows(x)
    assert read.dtype == torch.uint8 and int(read.min()) >= 1
    assert bool((((read.int() - ZERO) * step - x).abs() <= step * 0.5001).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_product_is_the_exact_one_of_what_was_rounded(shape: tuple[int, int, int], transposed: bool) -> None:
    x, weight = drawn(*shape)
    bias = torch.arange(float(shape[2]))
    layer = Int8Linear(weight.T.contiguous().T if transposed else weight, bias)
    rounded, scale = rounded_weight(weight)
    read, step = rounded_rows(x)
    expected = ((read.long() - ZERO) @ rounded.long().T) * step.double() * scale.double() + bias
    found = layer(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    layer._packed = None  # as on a processor that does not multiply bytes
    torch.testing.assert_close(layer(x), found, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_error_is_within_the_bound_of_rounding(shape: tuple[int, int, int]) -> None:
    x, weight = drawn(*shape)
    found = Int8Linear(weight, None)(x)
    half_w = weight.abs().amax(-1) / 254
    half_x = x.abs().amax(-1) / 254
    bound = x.abs().sum(-1)[:, None] * half_w + half_x[:, None] * weight.abs().sum(-1)
    bound = bound + shape[1] * half_x[:, None] * half_w
    error = (found - x @ weight.T).abs()
    assert bool((error <= 1.001 * bound + 1e-4).all())
    assert float(error.max()) > 0, "nothing was rounded"


def test_a_row_is_the_same_whatever_stands_beside_it() -> None:
    x, weight = drawn(6, 64, 48)
    layer = Int8Linear(weight, None)
    together = layer(x.view(2, 3, 64))
    assert together.shape == (2, 3, 48)
    for row, alone in zip(x, together.view(6, 48), strict=True):
        assert bool((layer(row[None])[0] == alone).all())


def test_zeros_and_nothing_and_half_precision() -> None:
    layer = Int8Linear(torch.zeros(4, 8), torch.ones(4))
    assert layer(torch.zeros(2, 8)).tolist() == [[1.0] * 4] * 2
    assert layer(torch.empty(0, 8)).shape == (0, 4)
    assert layer(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_laws_are_near_those_in_float32(
    kind: str, tiny_folder: Callable[[str], Path], tiny_generator: Callable[[str], Generator]
) -> None:
    """In nats a token, of random models of two layers whose weights are drawn wide."""
    generator = in_int8(kind, tiny_folder)
    assert not [each for each in generator.model.modules() if type(each) in (nn.Linear, Conv1D)]
    exact, rounded = (
        mixture(each).score("the author").log_likelihood for each in (tiny_generator(kind), generator)
    )
    assert 0 < float((exact - rounded).abs().mean()) < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_as_in_one_pass_alone_as_together_with_and_without_cache(
    kind: str, tiny_folder: Callable[[str], Path]
) -> None:
    """What differs is the order of additions in attention, which a rounding to eight bits may carry further."""
    generator = in_int8(kind, tiny_folder)
    given = mixture(generator)
    answer = scored(given, greedy(given, 8))
    again = given.score_tokens(answer.tokens)
    torch.testing.assert_close(answer.log_likelihood, again.log_likelihood, rtol=0.0, atol=0.1)
    for each in greedy_together([given, given], 8):
        together = each.scored().log_likelihood[:, :1]
        torch.testing.assert_close(together, answer.log_likelihood[:, :1], rtol=0.0, atol=0.1)
    if isinstance(generator, CausalGenerator):
        assert generator.prefix_cache is not None
        whole = mixture(load_generator(tiny_folder(kind), dtype="int8", device="cpu", prefix_cache=0))
        without = whole.score_tokens(answer.tokens)
        torch.testing.assert_close(without.log_likelihood, again.log_likelihood, rtol=0.0, atol=0.1)


def in_int8(kind: str, tiny_folder: Callable[[str], Path]) -> ModelGenerator:
    found = load_generator(tiny_folder(kind), dtype="int8", device="cpu")
    assert isinstance(found, ModelGenerator)
    return found


def mixture(generator: Generator) -> Mixture:
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in TEXTS]
    log_prior = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()
    return condition(generator, "Who wrote it?", passages, log_prior, reserve=16)


def test_weights_are_let_go_and_counted_by_the_cache() -> None:
    model = nn.ModuleList([nn.Linear(8, 4), nn.Sequential(nn.Linear(4, 2, bias=False))])
    found = use_int8(model)
    names = {name: tensor.dtype for name, tensor in found.state_dict().items()}
    assert names["0.weight"] == names["1.0.weight"] == torch.int8
    assert names["0.scale"] == torch.float32 and "0.bias" in names and "1.0.bias" not in names


def test_a_confidence_fitted_on_other_numbers_is_not_that_of_int8() -> None:
    assert models_digest(ModelConfig(dtype="bfloat16")) == models_digest(ModelConfig(dtype="float32"))
    assert models_digest(ModelConfig(dtype="int8")) != models_digest(ModelConfig())


def test_auto_is_what_the_processor_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(mixrag.utils.cpu_features, "_has", lambda name, has=has: has)
        assert resolve_dtype("auto", "cpu") == dtype
    assert resolve_dtype("float16", "cpu") == "float16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert resolve_dtype("auto", None) == resolve_dtype("auto", "cuda:0") == dtype
    with pytest.raises(SettingError, match="dtype among auto, float32, bfloat16, float16, int8; found 'int4'"):
        resolve_dtype("int4", "cpu")
    with pytest.raises(SettingError, match="int8 on a processor"):
        load_generator("nowhere", dtype="int8", device="cuda")

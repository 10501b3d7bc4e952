"""Packed weights against torch's own linear layer."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from test_likelihood import ragged
from torch import nn

import tiny_models
from mixrag.generator import Generator
from mixrag.generator.kernels import onednn_linear as packed
from mixrag.generator.kernels.onednn_linear import OneDNNLinear, use_onednn_linears, use_torch_linears
from mixrag.utils.cpu_features import native_bfloat16

pytestmark = pytest.mark.skipif(not packed._available(), reason="torch without oneDNN")


class Model(nn.Module):
    """Two layers, with what a transformers model says of itself."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(24, 40, dtype=dtype), nn.Linear(40, 12, bias=False, dtype=dtype))
        self.dtype, self.device = dtype, torch.device("cpu")


@pytest.fixture
def pair() -> tuple[Any, Any]:
    """A model, and the same with packed weights."""
    torch.manual_seed(0)
    plain = Model()
    fast = deepcopy(plain)
    assert use_onednn_linears(fast)
    return plain, fast


def is_packed(layer: nn.Module) -> bool:
    return layer in packed._PACKED


@pytest.mark.parametrize("shape", [(1, 24), (3, 24), (2, 3, 24), (0, 24), (600, 24)], ids=str)
def test_the_same_product(pair: tuple[Any, Any], shape: tuple[int, ...]) -> None:
    plain, fast = pair
    given = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(fast.layers(given), plain.layers(given))
        turned = torch.randn(24, 5).T
        torch.testing.assert_close(fast.layers(turned), plain.layers(turned))
    assert is_packed(fast.layers[0]) and not is_packed(plain.layers[0])


@pytest.mark.parametrize("change", ["in place", "other memory", "loaded"])
def test_changed_weights_are_packed_again(pair: tuple[Any, Any], change: str) -> None:
    plain, fast = pair
    given = torch.randn(3, 24)
    with torch.inference_mode():
        fast.layers(given)
    with torch.no_grad():
        plain.layers[0].weight.mul_(2.0)
        if change == "in place":
            fast.layers[0].weight.mul_(2.0)
        elif change == "other memory":
            fast.layers[0].weight.data = 2.0 * fast.layers[0].weight.data
        else:
            fast.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(fast.layers(given), plain.layers(given))


def test_plain_again_whatever_changes_the_weights(pair: tuple[Any, Any]) -> None:
    plain, fast = pair
    given = torch.randn(3, 24)
    with torch.inference_mode():
        fast.layers(given)
    use_torch_linears(fast)
    assert type(fast.layers[0]) is nn.Linear and not is_packed(fast.layers[0])
    for model in pair:
        model.layers[0].weight.data.mul_(2.0)  # which torch does not count
    with torch.inference_mode():
        torch.testing.assert_close(fast.layers(given), plain.layers(given))


def test_the_memory_of_a_packed_weight_is_not_given_to_another(pair: tuple[Any, Any]) -> None:
    plain, fast = pair
    given = torch.randn(3, 24)
    for _ in range(20):
        with torch.inference_mode():
            fast.layers(given)
        other = torch.randn(40, 24)
        fast.layers[0].weight.data = torch.empty(0)  # what it was may now be taken by the next
        fast.layers[0].weight.data = other.clone()
        plain.layers[0].weight.data = other
        with torch.inference_mode():
            torch.testing.assert_close(fast.layers(given), plain.layers(given))


def test_gradients_are_those_of_the_plain_layer_and_pack_nothing(pair: tuple[Any, Any]) -> None:
    plain, fast = pair
    given = torch.randn(3, 24)
    for model in pair:
        model.layers(given).square().sum().backward()
    assert torch.equal(fast.layers[0].weight.grad, plain.layers[0].weight.grad)
    assert not is_packed(fast.layers[0])


def test_a_copy_has_weights_of_its_own(pair: tuple[Any, Any]) -> None:
    plain, fast = pair
    given = torch.randn(3, 24)
    with torch.inference_mode():
        fast.layers(given)
    again = deepcopy(fast)
    with torch.no_grad():
        again.layers[0].weight.zero_()
    with torch.inference_mode():
        again.layers(given)
        torch.testing.assert_close(fast.layers(given), plain.layers(given))
    assert again.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.skipif(not native_bfloat16(), reason="a processor without bfloat16")
def test_bfloat16_where_the_processor_has_it() -> None:
    torch.manual_seed(0)
    plain = Model(torch.bfloat16)
    fast = deepcopy(plain)
    assert use_onednn_linears(fast)
    given = torch.randn(5, 24, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(fast.layers(given), plain.layers(given))
        assert fast.layers(given.to(torch.bfloat16)).dtype == torch.bfloat16
    assert is_packed(fast.layers[0])


def test_bfloat16_is_left_alone_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "native_bfloat16", lambda: False)
    assert not use_onednn_linears(Model(torch.bfloat16))


def test_a_model_too_large_to_keep_twice_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGEST", 4 * (24 * 40 + 40 * 12) - 1)
    model = Model()
    assert not use_onednn_linears(model) and type(model.layers[0]) is nn.Linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_number_formats_are_left_alone(dtype: torch.dtype) -> None:
    model = Model(dtype)
    assert not use_onednn_linears(model)
    assert type(model.layers[0]) is nn.Linear


def test_a_model_made_wider_later_takes_the_plain_layer(pair: tuple[Any, Any]) -> None:
    plain, fast = (model.double() for model in pair)
    given = torch.randn(3, 24).double()
    with torch.inference_mode():
        assert torch.equal(fast.layers(given), plain.layers(given))


def test_a_torch_without_these_operators_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_available", lambda dtype: False)
    model = Model()
    assert not use_onednn_linears(model)
    assert type(model.layers[0]) is nn.Linear


@pytest.mark.parametrize("kind", tiny_models.SEQ2SEQ)
def test_a_loaded_seq2seq_model_has_packed_weights_and_its_own_distribution(
    kind: str, tiny_generator: Callable[[str], Generator]
) -> None:
    generator: Any = tiny_generator(kind)
    linears = [layer for layer in generator.model.modules() if isinstance(layer, nn.Linear)]
    assert linears and all(type(layer) is OneDNNLinear for layer in linears)
    found = generator.start(ragged(generator)).log_probs
    assert any(is_packed(layer) for layer in linears)
    plain, _ = tiny_models.build(kind)
    for prompt, row in zip(ragged(generator), found, strict=True):
        ids, read = torch.tensor([prompt.tokens]), torch.tensor([generator.decoder_start])
        with torch.no_grad():
            expected = plain(input_ids=ids, decoder_input_ids=read).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(row, expected, rtol=0.0, atol=1e-4)

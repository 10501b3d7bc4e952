"""Devices and dtypes, as far as they can be tested on a machine that has a CPU alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny_models
from generator.test_model_object import TOLERANCE, scores
from mixrag.errors import MixragError, SettingError
from mixrag.generator import load_generator
from mixrag.generator.devices import default_device, placement, resolve_dtype
from mixrag.generator.huggingface import input_device, output_device
from mixrag.generator.kv_cache import GrowingLayer
from tiny_adapter import save_adapter

Folder = Callable[[str], Path]


def have(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Let torch say that it has GPUs of these kinds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)


@pytest.mark.parametrize(
    ("kinds", "expected"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("mps", "cuda"), "cuda")]
)
def test_the_default_device(kinds: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, *kinds)
    assert default_device() == expected
    assert placement(None, None) == (expected, None)
    assert placement("cpu", "auto") == (expected, "auto"), "a device map takes the place of the device"


@pytest.mark.parametrize(
    ("device_map", "expected"),
    [
        ("cpu", ("cpu", None)),
        (torch.device("cuda", 1), ("cuda:1", None)),
        (1, ("cuda:1", None)),
        ({"": 0}, ("cuda:0", None)),
        ({"": "cpu"}, ("cpu", None)),
        ({"a": "cpu", "b": "cpu"}, ("cpu", None)),
        ({"a": "cpu", "b": 1, "c": 0}, ("cuda:1", {"a": "cpu", "b": 1, "c": 0})),
        ({"": "disk"}, ("cpu", {"": "disk"})),
        ("balanced", ("cuda", "balanced")),
    ],
    ids=str,
)
def test_a_device_map_that_names_one_device_is_that_device(
    device_map: Any, expected: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, "cuda")
    assert placement(None, device_map) == expected


def test_devices_that_there_are_not(tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch)
    for options in ({"device": "cuda"}, {"device": "mps"}, {"device": "gpu"}, {"device_map": "cuda:0"}):
        with pytest.raises(SettingError, match="a device") as caught:
            load_generator(tiny_folder("llama"), **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_dtypes_on_apple_gpus(monkeypatch: pytest.MonkeyPatch, tiny_folder: Folder) -> None:
    have(monkeypatch, "mps")
    assert resolve_dtype("auto", None) == resolve_dtype("auto", "mps") == "float32"
    assert resolve_dtype(torch.bfloat16, "mps") == "bfloat16"
    with pytest.raises(SettingError, match="int8 on a processor"):
        load_generator(tiny_folder("llama"), dtype="int8")
    assert output_device(torch.device("mps")) == torch.device("cpu")
    assert output_device(torch.device("cuda:1")) == torch.device("cuda:1")


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_log_probabilities_may_lie_on_another_device_than_the_model(
    kind: str, tiny_generator: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Apple's GPUs. "meta" stands in for the other device: what is mixed up with it raises."""
    generator: Any = replace(tiny_generator(kind))
    if kind == "llama":
        generator = replace(generator, prefix_cache_bytes=None)
    prompts = [generator.prompt("Who?", [], 5), generator.prompt("Where is it?", [], 5)]
    expected = generator.start(prompts).advance(torch.tensor([1, 0]), torch.tensor([5, 6])).log_probs
    monkeypatch.setattr("mixrag.generator.huggingface.output_device", lambda device: torch.device("meta"))
    rows, tokens = torch.tensor([1, 0]), torch.tensor([5, 6])
    branches = generator.start(prompts).select(torch.tensor([0, 1])).advance(rows, tokens)
    assert branches.log_probs.device.type == "meta" and branches.log_probs.shape == expected.shape
    assert branches.score((7, 8, 9)).device.type == "meta"
    monkeypatch.undo()
    cache = generator.start(prompts).advance(rows, tokens)
    torch.testing.assert_close(cache.log_probs, expected)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bart"])
def test_a_model_whose_weights_are_loaded_when_they_are_used(kind: str, tiny_folder: Folder) -> None:
    """As accelerate does it for what a device map offloads: no weight is there between two passes."""
    from accelerate import cpu_offload

    model, tokenizer = tiny_models.build(kind)
    offloaded = cpu_offload(model, execution_device=torch.device("cpu"))
    assert offloaded.get_input_embeddings().weight.device.type == "meta"
    generator: Any = load_generator(offloaded, tokenizer=tokenizer)
    assert input_device(offloaded) == generator.device == torch.device("cpu")
    named = load_generator(tiny_folder(kind), device="cpu")
    torch.testing.assert_close(scores(generator), scores(named), **TOLERANCE)


def test_a_device_map_is_passed_to_transformers(tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    seen: list[dict[str, Any]] = []
    load = AutoModelForCausalLM.from_pretrained

    def from_pretrained(source: str, **options: Any) -> Any:
        seen.append({name: options.get(name) for name in ("device_map", "revision", "token", "dtype")})
        return load(source, **{name: value for name, value in options.items() if name not in ("device_map",)})

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    device_map = {"model": "cpu", "lm_head": "disk"}
    generator: Any = load_generator(
        tiny_folder("llama"), device_map=device_map, revision="main", token="secret", torch_dtype=torch.float16
    )
    assert seen == [{"device_map": device_map, "revision": "main", "token": "secret", "dtype": torch.float16}]
    assert type(generator.model.lm_head) is nn.Linear, "kernels are for models on one device"


def test_a_device_map_with_what_it_cannot_be_joined_with(tiny_folder: Folder, tmp_path: Path) -> None:
    spread = {"model": "cpu", "lm_head": "disk"}
    adapter = save_adapter("llama", tmp_path / "adapter")
    for options in ({"dtype": "int8"}, {"adapter": adapter}):
        with pytest.raises(MixragError, match=r"expected .*; found .*device"):
            load_generator(tiny_folder("llama"), device_map=spread, **options)  # type: ignore[arg-type]


def test_a_cached_prefix_moves_to_the_device_of_the_layer() -> None:
    layer = GrowingLayer()
    layer.fill(torch.zeros(2, 1, 1, 8, 4), 3)
    keys, _ = layer.update(*torch.zeros(2, 1, 1, 2, 4, device="meta"))
    assert keys.device.type == "meta" and keys.shape == (1, 1, 5, 4)

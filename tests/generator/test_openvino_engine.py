"""OpenVINO as the engine of a causal model: the same numbers as torch's, converted once, refused in one line."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

import tiny_models
from mixrag import RAG, ModelConfig, Settings
from mixrag.corpus.passage import Passage
from mixrag.errors import MissingPackageError, ModelError, SettingError
from mixrag.generator import CausalGenerator, Generator, Prompt, load_generator, loading
from mixrag.generator.openvino import files, runtime, weights
from mixrag.generator.openvino import generator as openvino_module
from mixrag.generator.openvino import model as engine
from mixrag.generator.openvino.generator import OpenVINOGenerator, formats
from mixrag.generator.rounding import rounding_of
from mixrag.inference.batch import Written, greedy_together
from mixrag.inference.beam_search import beam
from mixrag.inference.components import Component
from mixrag.inference.continuous import RunningBatch
from mixrag.inference.decoders import Beam, Greedy, Sample, begun
from mixrag.inference.mixture import Mixture
from mixrag.inference.pruning import Pruning
from mixrag.inference.stepwise import greedy, scored
from mixrag.training.run import _frozen_generator
from tiny_adapter import save_adapter
from tiny_encoder import save_encoder
from tiny_models import CONTEXT
from tiny_span_model import encoder_tokenizer, span_bert

KINDS = ("llama", "gpt2", "qwen")
TOLERANCE = {"rtol": 0.0, "atol": 3e-5}
"""Both compute in float32, in another order."""
TEXTS = ("The river city is old, and its name is long.", "Short.", "", "Nobody wrote the letter twice. " * 3)
QUESTION, OTHER = "Who wrote it?", "And where does the river go from there?"
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.35,
}


def saved(config: Any, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_models.chat_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> dict[str, Path]:
    size = len(tiny_models.chat_tokenizer())
    qwen = saved(Qwen2Config(vocab_size=size, **_SIZES), tmp_path_factory.mktemp("qwen"))
    return {"llama": tiny_folder("llama"), "gpt2": tiny_folder("gpt2"), "qwen": qwen}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The cache folder of this module: each model is converted once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXRAG_CACHE", str(folder))
        yield folder


def by_openvino(folder: Path, **options: Any) -> OpenVINOGenerator:
    found = load_generator(folder, engine="openvino", **options)
    assert isinstance(found, OpenVINOGenerator)
    return found


def by_torch(folder: Path, **options: Any) -> CausalGenerator:
    found = load_generator(folder, device="cpu", **options)
    assert isinstance(found, CausalGenerator) and not isinstance(found, OpenVINOGenerator)
    return found


@pytest.fixture(params=[*KINDS, "llama, uncached"])
def both(request: pytest.FixtureRequest, folder_of: dict[str, Path]) -> tuple[OpenVINOGenerator, CausalGenerator]:
    kind, _, uncached = request.param.partition(", ")
    options = {"prefix_cache": 0} if uncached else {}
    return by_openvino(folder_of[kind], **options), by_torch(folder_of[kind])


def prompts_of(generator: Generator, question: str = QUESTION, texts: tuple[str, ...] = TEXTS) -> list[Prompt]:
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in texts]
    return [*(generator.prompt(question, [each], 40) for each in passages), generator.prompt(question, [], 40)]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, **TOLERANCE)


def test_every_number_is_torchs(both: tuple[OpenVINOGenerator, CausalGenerator]) -> None:
    ours, torchs = both
    prompts, answer = prompts_of(ours), ours.answer_tokens("the author, of course")
    assert len({len(prompt.tokens) for prompt in prompts}) == len(prompts)
    for _ in range(2):  # before and after the passages are read
        close(ours.start(prompts).log_probs, torchs.start(prompts).log_probs)
        close(ours.log_likelihood(prompts, answer), torchs.log_likelihood(prompts, answer))
        close(ours.question_log_likelihood(prompts), torchs.question_log_likelihood(prompts))
        (branches, question), expected = ours.start_with_question(prompts), torchs.start_with_question(prompts)
        close(branches.log_probs, expected[0].log_probs)
        close(question, expected[1])
        close(branches.score(answer), expected[0].score(answer))
    assert ours.vocabulary_size == torchs.vocabulary_size and ours.stop_tokens == torchs.stop_tokens


def test_rows_are_chosen_repeated_dropped_and_continued(
    both: tuple[OpenVINOGenerator, CausalGenerator],
) -> None:
    found, expected = (each.start(prompts_of(each)) for each in both)
    for rows in ([4, 3, 2, 1, 0], [0, 0, 1, 3], [3, 1], [1, 1, 0, 0, 1, 0], [5]):
        chosen, tokens = torch.tensor(rows), torch.arange(3, 3 + len(rows))
        found, expected = found.advance(chosen, tokens), expected.advance(chosen, tokens)
        close(found.log_probs, expected.log_probs)


def test_a_batch_that_is_running_is_not_joined_but_goes_on_beside_others(folder_of: dict[str, Path]) -> None:
    ours, torchs = by_openvino(folder_of["llama"]), by_torch(folder_of["llama"])
    asked = ((QUESTION, TEXTS), (OTHER, TEXTS[:2]))
    drawn, greedily = (begun(each, mixture(ours, *asked[0]), 5) for each in (Sample(prune=0.3), Greedy(prune=0.3)))
    assert isinstance(drawn, Written) and isinstance(greedily, Written)
    assert drawn.pruning.budget == greedily.pruning.budget == 0.0, "rows that are dropped would be copied"
    batch, found = RunningBatch(), list[Any]()
    for question, texts in asked:
        writing = begun(Beam(2), mixture(ours, question, texts), 5)
        assert writing is not None
        found.append(writing)
        batch.add([writing])
        assert not batch.joins
        batch.step()
    while len(batch):
        assert not any(left.error for left in batch.step())
    for writing, (question, texts) in zip(found, asked, strict=True):
        alone = beam(mixture(torchs, question, texts), 2, 5).answers[0]
        best = writing.result().answers[0]
        assert best.tokens == alone.tokens
        torch.testing.assert_close(best.log_likelihood, alone.log_likelihood, rtol=1e-4, atol=1e-4)


def test_what_is_dropped_is_never_read_out_of_the_engine(
    folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, torchs = by_openvino(folder_of["llama"]), by_torch(folder_of["llama"])
    given = mixture(ours, QUESTION, TEXTS)
    given.start()  # the passages are read
    monkeypatch.setattr(engine.OpenVINOStates, "read", lambda _: pytest.fail("states are read out"))
    steps = list(greedy(given, 8, pruning := Pruning(0.6)))
    assert pruning.spent > 0 and len(steps) > 2
    answer = scored(given, steps, pruning)
    expected = mixture(torchs, QUESTION, TEXTS).score_tokens(answer.tokens)
    torch.testing.assert_close(answer.log_likelihood, expected.log_likelihood, rtol=1e-4, atol=1e-4)


def test_selected_rows_are_copies(both: tuple[OpenVINOGenerator, CausalGenerator]) -> None:
    whole, expected = (each.start(prompts_of(each)) for each in both)
    rows, tokens = torch.tensor([3, 1]), torch.tensor([5, 9])
    part, again = whole.select(rows), whole.select(rows).select(torch.tensor([1, 0]))
    torchs, torchs_again = expected.select(rows), expected.select(rows.flip(0))
    longer = part.advance(torch.tensor([1, 0, 1]), torch.tensor([7, 8, 9]))
    torchs_longer = torchs.advance(torch.tensor([1, 0, 1]), torch.tensor([7, 8, 9]))
    close(longer.log_probs, torchs_longer.log_probs)
    five = torch.arange(5)
    whole, expected = whole.advance(five, five), expected.advance(five, five)
    close(whole.log_probs, expected.log_probs)
    close(again.log_probs, torchs_again.log_probs)
    close(again.advance(torch.tensor([0, 1]), tokens).log_probs, torchs_again.advance(five[:2], tokens).log_probs)
    close(longer.score((4, 5, 6)), torchs_longer.score((4, 5, 6)))
    close(whole.advance(five, five).log_probs, expected.advance(five, five).log_probs)


def test_requests_go_back_and_are_used_again(folder_of: dict[str, Path]) -> None:
    ours = by_openvino(folder_of["llama"])
    prompts = prompts_of(ours)
    branches = ours.start(prompts)
    part = branches.select(torch.tensor([0]))
    assert part.cache.request is branches.cache.request, "a copy that is not run needs no memory"
    expected, request = branches.log_probs, branches.cache.request
    part = part.advance(torch.tensor([0]), torch.tensor([4]))
    assert part.cache.request is not request and request.owners == 1
    del branches, part
    assert ours.model._idle and all(each.owners == 0 for each in ours.model._idle)
    idle = {id(each) for each in ours.model._idle}
    again = ours.start(prompts)
    assert id(again.cache.request) in idle, "no memory is asked for where some is free"
    close(again.log_probs, expected)


def test_passages_are_read_once_and_evicted(folder_of: dict[str, Path]) -> None:
    ours, torchs = by_openvino(folder_of["gpt2"]), by_torch(folder_of["gpt2"])
    prompts, others = prompts_of(ours), prompts_of(ours, OTHER)
    ours.start(prompts)
    assert ours.prefix_cache is not None
    misses = ours.prefix_cache.misses
    close(ours.start(others).log_probs, torchs.start(others).log_probs)
    assert ours.prefix_cache.misses == misses and ours.prefix_cache.hits == misses
    one = len(prompts[0].header + prompts[0].passages) * 2 * 2 * 32 * 4  # layers, keys and values, width, bytes
    small = replace(ours, prefix_cache_bytes=one + 1)
    for each in (prompts, others, prompts[:1], others):
        close(small.start(each).log_probs, torchs.start(each).log_probs)
    assert small.prefix_cache is not None and small.prefix_cache.size <= one + 1 < ours.prefix_cache.size


def mixture(generator: Generator, question: str, texts: tuple[str, ...]) -> Mixture:
    prompts = prompts_of(generator, question, texts)
    log_prior = torch.arange(len(prompts), 0, -1).double().log_softmax(0)
    return Mixture(generator, question, tuple(Component((), each) for each in prompts), log_prior, 0.0, None)


def test_several_questions_in_one_batch(folder_of: dict[str, Path]) -> None:
    asked = ((QUESTION, TEXTS), (OTHER, TEXTS[:2]), ("Why?", TEXTS[1:]))
    ours, torchs = by_openvino(folder_of["qwen"]), by_torch(folder_of["qwen"])
    expected = [each.scored() for each in greedy_together([mixture(torchs, *each) for each in asked], 12)]
    found = [each.scored() for each in greedy_together([mixture(ours, *each) for each in asked], 12, 1e-3)]
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens
        close(one.log_likelihood, other.log_likelihood)


def test_threads_have_batches_of_their_own(folder_of: dict[str, Path]) -> None:
    ours, torchs = by_openvino(folder_of["llama"]), by_torch(folder_of["llama"])
    questions = [QUESTION, OTHER, "Why?", "Which city, and what is its name?"]

    def written(generator: Generator, question: str) -> tuple[int, ...]:
        return tuple(step.token for step in greedy(mixture(generator, question, TEXTS), 8))

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda question: written(ours, question), questions)]
    assert found == [written(torchs, question) for question in questions]


def test_an_adapter_is_merged_before_the_conversion(folder_of: dict[str, Path], tmp_path: Path) -> None:
    adapter = save_adapter("llama", tmp_path / "adapter")
    plain, ours = by_openvino(folder_of["llama"]), by_openvino(folder_of["llama"], adapter=adapter)
    prompts, expected = prompts_of(ours), by_torch(folder_of["llama"], adapter=adapter)
    close(ours.start(prompts).log_probs, expected.start(prompts).log_probs)
    assert (ours.start(prompts).log_probs - plain.start(prompts).log_probs).abs().max() > 0.1
    assert ours.name == expected.name and ours.model.digest != plain.model.digest


@pytest.mark.parametrize(("dtype", "largest"), [("bfloat16", 0.05), ("int8", 0.15)])
def test_fewer_bits_round(folder_of: dict[str, Path], dtype: str, largest: float) -> None:
    ours, torchs = by_openvino(folder_of["gpt2"], dtype=dtype), by_torch(folder_of["gpt2"])
    prompts = prompts_of(ours)
    found, expected = ours.start(prompts).log_probs.exp(), torchs.start(prompts).log_probs.exp()
    assert 1e-5 < 0.5 * (found - expected).abs().sum(-1).max() < largest
    assert rounding_of(ours) > 0 == rounding_of(by_openvino(folder_of["gpt2"]))
    again = ours.start(prompts).log_probs.exp()
    torch.testing.assert_close(again, found, rtol=0, atol=1e-6)  # states of cached passages are not rounded again


def test_int8_is_the_model_whose_weights_are_rounded(
    folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed in float32: what is left of the difference is that of the weights, and those are as stated."""
    monkeypatch.setattr(openvino_module, "has_bfloat16", lambda: False)
    monkeypatch.setattr(weights, "SMALLEST", 512)
    monkeypatch.setattr(engine, "GROUP", 0)
    ours, torchs = by_openvino(folder_of["qwen"], dtype="int8"), by_torch(folder_of["qwen"])
    assert (ours.model.weights, ours.model.activations) == ("int8", "float32")
    before = torchs.start(prompts_of(torchs)).log_probs
    for name, weight in torchs.model.named_parameters():
        if weight.dim() == 2:
            values = weight.data.double().numpy()
            low, high = np.minimum(values.min(1, keepdims=True), 0), np.maximum(values.max(1, keepdims=True), 0)
            step = (high - low) / 255
            zero = np.round(-low / step)
            weight.data = torch.from_numpy((np.round(values / step + zero).clip(0, 255) - zero) * step).float()
            assert np.abs(weight.data.numpy() - values).max() <= step.max() * 0.51, name
    rounded = by_torch(folder_of["qwen"])
    rounded.model.load_state_dict(torchs.model.state_dict())
    expected = rounded.start(prompts_of(torchs)).log_probs
    assert (expected - before).abs().max() > 0.01
    torch.testing.assert_close(ours.start(prompts_of(ours)).log_probs, expected, rtol=0, atol=2e-3)


def test_formats_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_module, "has_bfloat16", lambda: True)
    assert formats("auto") == formats("int8") == ("int8", "bfloat16")
    assert formats("bfloat16") == formats(torch.bfloat16) == ("bfloat16", "bfloat16")
    assert formats("float32") == ("float32", "float32")
    monkeypatch.setattr(openvino_module, "has_bfloat16", lambda: False)
    assert formats("auto") == ("int8", "float32")


# The cache folder.


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


def converted(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir() and path.name.startswith("openvino-"))


def no_weights(*_: Any) -> Any:
    raise AssertionError("the weights of the original are read")


def test_a_model_is_converted_once(
    folder_of: dict[str, Path],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    caplog.set_level(logging.INFO, "mixrag.generator")
    expected = by_openvino(folder_of["llama"]).start([Prompt((), (4, 5), (6,))]).log_probs
    assert not [str(each.message) for each in recwarn], "a user sees notices, no warnings of libraries"
    assert sum("for OpenVINO (weights float32), once" in each for each in caplog.messages) == 1
    assert any("converted" in each and str(own_cache) in each for each in caplog.messages)
    (folder,) = converted(own_cache)
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(loading, "_weights", no_weights)
        close(by_openvino(folder_of["llama"]).start([Prompt((), (4, 5), (6,))]).log_probs, expected)
    assert not caplog.messages and converted(own_cache) == [folder]
    by_openvino(folder_of["llama"], dtype="bfloat16")
    assert len(converted(own_cache)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(files, "version", lambda: "2027.0.0")
        close(by_openvino(folder_of["llama"]).start([Prompt((), (4, 5), (6,))]).log_probs, expected)
    assert len(converted(own_cache)) == 3, "that of another version of OpenVINO stays what it is"


def test_a_compiled_model_is_left_where_it_failed_before(
    folder_of: dict[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt((), (4, 5), (6,))]

    def full(file: Any, *options: Any, remembered: Path | None = None) -> Any:
        if remembered is not None:
            raise RuntimeError("No space left on device")
        return engine.compiled(file, *options)

    def unlike(*options: Any) -> Tensor:
        return torch.rand_like(probabilities(*options))

    def blobs() -> list[Path]:
        (folder,) = converted(own_cache)
        return sorted(folder.rglob("*.blob"))

    with monkeypatch.context() as patch:
        patch.setattr(files, "compiled", full)
        expected = by_openvino(folder_of["llama"]).start(prompts).log_probs
    assert not blobs()
    close(by_openvino(folder_of["llama"]).start(prompts).log_probs, expected)
    (blob,) = blobs()
    close(by_openvino(folder_of["llama"]).start(prompts).log_probs, expected)
    assert blobs() == [blob] and not [*blob.parent.parent.glob(".writing*")]
    blob.write_bytes(b"rubbish")
    for _ in range(2):
        close(by_openvino(folder_of["llama"]).start(prompts).log_probs, expected)
    assert len(blobs()) == 1 and blobs()[0].stat().st_size > 100
    files.remove(blob.parent)
    probabilities = files._probabilities
    with monkeypatch.context() as patch:
        patch.setattr(files, "_probabilities", unlike)
        close(by_openvino(folder_of["llama"]).start(prompts).log_probs, expected)
    close(by_openvino(folder_of["llama"]).start(prompts).log_probs, expected)
    assert blob.parent.is_file() and not blobs(), "what computed something else is not tried again"


def test_other_weights_of_the_same_name_are_another_model(own_cache: Path, tmp_path: Path) -> None:
    size, prompts = len(tiny_models.chat_tokenizer()), [Prompt((), (4, 5), (6,))]
    folder = saved(Qwen2Config(vocab_size=size, **_SIZES), tmp_path / "model")
    first = by_openvino(folder).start(prompts).log_probs
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[0].mlp.up_proj.weight.data[3] += 1.0
    model.save_pretrained(folder)
    found = by_openvino(folder).start(prompts).log_probs
    close(found, by_torch(folder).start(prompts).log_probs)
    assert (found - first).abs().max() > 1e-3


@pytest.mark.parametrize("damage", ["cut", "graph", "about", "no about", "rubbish"])
def test_a_damaged_conversion_is_made_again(
    folder_of: dict[str, Path], own_cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = by_openvino(folder_of["llama"]).start([Prompt((), (4, 5), (6,))]).log_probs
    (folder,) = converted(own_cache)
    graph, about, matrices = folder / files.MODEL, folder / files.ABOUT, folder / "model.bin"
    if damage == "cut":
        matrices.write_bytes(matrices.read_bytes()[:-100])
    elif damage == "graph":
        graph.write_text(graph.read_text().replace("MatMul", "MatMum"))
    elif damage == "about":
        about.write_text("[]")
    elif damage == "no about":
        about.unlink()
    else:
        graph.write_text("no XML")
        stated = json.loads(about.read_text())
        changed = {**stated["files"], files.MODEL: graph.stat().st_size}
        about.write_text(json.dumps({**stated, "files": changed, "graph": files.file_digest(graph)}))
    caplog.set_level(logging.INFO, "mixrag.generator")
    close(by_openvino(folder_of["llama"]).start([Prompt((), (4, 5), (6,))]).log_probs, expected)
    assert sum("is damaged" in each for each in caplog.messages) == 1
    assert converted(own_cache) == [folder]


def test_no_space_and_a_folder_that_cannot_be_written_are_one_line(
    folder_of: dict[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
        with pytest.raises(ModelError, match=r"0 MB free in .* where .* are needed; set MIXRAG_CACHE"):
            by_openvino(folder_of["llama"])
    with monkeypatch.context() as patch:
        patch.setattr(files, "_save", lambda *_: (_ for _ in ()).throw(RuntimeError("No space left\non device")))
        with pytest.raises(ModelError, match="found No space left on device; set MIXRAG_CACHE"):
            by_openvino(folder_of["llama"])
    assert not converted(own_cache), "nothing is left of a conversion that failed"
    monkeypatch.setenv("MIXRAG_CACHE", str(folder_of["llama"] / "config.json"))
    with pytest.raises(ModelError, match="set MIXRAG_CACHE"):
        by_openvino(folder_of["llama"])
    found = load_generator(folder_of["llama"], engine="auto", device="cpu")
    assert not isinstance(found, OpenVINOGenerator)


def test_what_does_not_fit_into_memory_is_not_converted(
    folder_of: dict[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "available_memory", lambda: 1000)
    with pytest.raises(ModelError, match=r"takes 0\.0 GB of memory, and 0\.0 GB are free; give engine torch"):
        by_openvino(folder_of["llama"])
    assert not isinstance(load_generator(folder_of["llama"], engine="auto", device="cpu"), OpenVINOGenerator)
    assert "of memory" in caplog.messages[-1] and not converted(own_cache)


# What OpenVINO does not run.


def test_a_model_with_windows_runs_on_torch_and_auto_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = MistralConfig(vocab_size=len(tiny_models.chat_tokenizer()), sliding_window=40, head_dim=8, **_SIZES)
    folder = saved(config, tmp_path / "sliding")
    with pytest.raises(ModelError, match="a window of tokens only; give engine torch"):
        by_openvino(folder)
    caplog.set_level(logging.INFO, "mixrag.generator")
    found = load_generator(folder, engine="auto", device="cpu")
    assert not isinstance(found, OpenVINOGenerator)
    assert any("torch runs" in each and "a window of tokens only" in each for each in caplog.messages)


def test_a_conversion_that_computes_something_else_is_refused(
    folder_of: dict[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixrag.generator.openvino.conversion.MASKED", 0.0)  # every token sees those after it
    with pytest.raises(ModelError, match="its probabilities differ by"):
        by_openvino(folder_of["llama"])
    assert not converted(own_cache)


def test_what_is_no_causal_model_by_name_on_a_processor_is_refused(
    folder_of: dict[str, Path], tiny_folder: Callable[[str], Path]
) -> None:
    llama = folder_of["llama"]
    with pytest.raises(ModelError, match="an encoder-decoder"):
        by_openvino(tiny_folder("t5"))
    assert not isinstance(load_generator(tiny_folder("t5"), engine="auto", device="cpu"), CausalGenerator)
    with pytest.raises(SettingError, match="found a model object; give engine torch"):
        load_generator(tiny_models.build("llama")[0], engine="openvino", tokenizer=str(llama))
    with pytest.raises(SettingError, match="for engine openvino; found device "):
        load_generator(llama, engine="openvino", device_map={"": "cpu", "lm_head": "disk"})
    with pytest.raises(SettingError, match="for OpenVINO; found float16"):
        by_openvino(llama, dtype="float16")
    with pytest.raises(SettingError, match="engine among auto, torch, openvino, llamacpp, vllm; found 'onnx'"):
        load_generator(llama, engine="onnx")
    assert isinstance(load_generator(llama, engine="auto", device="cpu"), OpenVINOGenerator)


def test_without_the_package(folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(runtime, "available", lambda: False)
    with pytest.raises(MissingPackageError, match=r'pip install "mixrag\[openvino\]"'):
        by_openvino(folder_of["llama"])
    found = load_generator(folder_of["llama"], engine="auto", device="cpu")
    assert not isinstance(found, OpenVINOGenerator)


@pytest.mark.parametrize("machine", ["riscv64", "i686"])
def test_a_machine_without_a_wheel_is_named(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(
        MissingPackageError, match=f"wheels for Linux on x86-64 and Arm .* none for Linux on {machine}"
    ):
        runtime.openvino()


def test_nothing_that_reports_to_its_makers_is_imported() -> None:
    code = (
        "import sys\n"
        "from mixrag.generator.openvino.runtime import openvino\n"
        "openvino()\n"
        "from mixrag.generator.openvino import files\n"
        "found = [name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools.ovc')]\n"
        "assert not found, found\n"
        "from openvino.tools import ovc\n"  # others in the process can still use it
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


# The whole pipeline.


def test_a_rag_answers_as_with_torch_and_precomputes(folder_of: dict[str, Path], tmp_path: Path) -> None:
    for name, text in {"cod": "A licence to fish cod costs nine crowns.", "hen": "Hens lay eggs."}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    models = ModelConfig(
        encoder=save_encoder(tmp_path / "encoder"), generator=folder_of["llama"], dtype="float32", device="cpu"
    )

    def opened(engine: Any) -> RAG:
        settings = Settings(k=2, max_tokens=6)
        return RAG.open(tmp_path / "s", create=True, models=replace(models, engine=engine), settings=settings)

    question = "What does a licence cost?"
    with opened("torch") as rag:
        rag.index([tmp_path / "cod.txt", tmp_path / "hen.txt"])
        expected = rag.ask(question)
        rag.precompute()
    with opened("openvino") as rag:
        answer = rag.ask(question)
        assert isinstance(rag.generator, OpenVINOGenerator)
        assert (answer.best_guess, answer.log_prob) == (
            expected.best_guess,
            pytest.approx(expected.log_prob, abs=1e-4),
        )
        assert not isinstance(_frozen_generator(rag), OpenVINOGenerator), "training uses torch"
        assert rag.precompute().read == 2, "states that torch has computed are not taken for these"
    with opened("openvino") as rag:
        assert rag.ask(question).log_prob == pytest.approx(expected.log_prob, abs=1e-4)
        generator: Any = rag.generator
        assert generator.prefix_cache.misses == 0
        assert generator.prefix_cache.hits == 2, "none is dropped, so none is read again"


def test_a_new_process_answers_without_transformers(folder_of: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "cod.txt").write_text("A licence to fish cod costs nine crowns.")
    span_bert().save_pretrained(tmp_path / "spans")
    encoder_tokenizer().save_pretrained(tmp_path / "spans")
    models = {
        "encoder": str(save_encoder(tmp_path / "encoder")),
        "generator": str(folder_of["llama"]),
        "span_reader": str(tmp_path / "spans"),
        "engine": "openvino",
        "device": "cpu",
    }
    question, settings = "What does a licence cost?", {"k": 1, "max_tokens": 6}
    with RAG.open(tmp_path / "s", create=True, models=models, settings=settings) as rag:
        rag.index(tmp_path / "cod.txt")
        expected = rag.ask(question)
    code = (
        "import json, sys\n"
        "from mixrag import RAG\n"
        "place, models, settings, question = json.loads(sys.argv[1])\n"
        "answer = RAG.open(place, models=models, settings=settings).ask(question)\n"
        "slow = ('transformers', 'sentence_transformers', 'peft', 'sklearn', 'sympy', 'huggingface_hub')\n"
        "print(json.dumps([answer.best_guess, answer.log_prob, [name for name in slow if name in sys.modules]]))\n"
    )
    given = json.dumps([str(tmp_path / "s"), models, settings, question])
    command = [sys.executable, "-W", "ignore", "-c", code, given]
    text, log_prob, imported = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert imported == []
    assert (text, log_prob) == (expected.best_guess, pytest.approx(expected.log_prob, abs=1e-3))

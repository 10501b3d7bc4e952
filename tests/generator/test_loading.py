"""From a folder, a name or a GGUF file to a generator, and one line for whatever is none."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

import tiny_models
from mixrag.config.default_models import packaged_generator
from mixrag.corpus.passage import Passage
from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.generator import CausalGenerator, PromptTemplate, Seq2SeqGenerator, gguf, load_generator, loading
from mixrag.utils.hashing import file_digest
from tiny_adapter import adapted, save_adapter
from tiny_models import CAUSAL, SEQ2SEQ

Folder = Callable[[str], Path]


def refusal(error: type[MixragError], name: Any, **options: Any) -> MixragError:
    with pytest.raises(error) as caught:
        load_generator(name, device="cpu", **options)
    text = str(caught.value)
    assert "\n" not in text and text.startswith("expected ") and "; found " in text
    return caught.value


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_folder_gives_a_causal_generator(kind: str, tiny_folder: Folder) -> None:
    generator = load_generator(tiny_folder(kind), device="cpu")
    _, tokenizer = tiny_models.build(kind)
    assert isinstance(generator, CausalGenerator)
    assert generator.name == str(tiny_folder(kind))
    assert generator.vocabulary_size == len(tokenizer)
    assert generator.context_size == tiny_models.CONTEXT
    assert generator.stop_tokens == {generator.stop_token} == {tokenizer.eos_token_id}
    assert not generator.model.training


@pytest.mark.parametrize(("kind", "start"), [("t5", ["<pad>"]), ("bart", ["</s>", "<s>"])])
def test_a_folder_gives_a_seq2seq_generator(kind: str, start: list[str], tiny_folder: Folder) -> None:
    generator = load_generator(str(tiny_folder(kind)), device="cpu")
    assert isinstance(generator, Seq2SeqGenerator)
    assert generator.tokens.tokenizer.convert_ids_to_tokens(list(generator.decoder_start)) == start
    assert generator.tokens.tokenizer.convert_ids_to_tokens([generator.stop_token]) == ["</s>"]
    assert generator.context_size == tiny_models.CONTEXT
    assert not generator.model.training


@pytest.mark.parametrize("kind", CAUSAL + SEQ2SEQ)
def test_saved_and_loaded_weights_are_those_in_memory(kind: str, tiny_folder: Folder) -> None:
    generator: Any = load_generator(tiny_folder(kind), device="cpu")
    model, _ = tiny_models.build(kind)
    loaded = generator.model.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype_is_that_of_the_weights_and_results_stay_float32(dtype: str, tiny_folder: Folder) -> None:
    generator: Any = load_generator(tiny_folder("llama"), dtype=dtype, device="cpu")
    assert generator.model.dtype == getattr(torch, dtype)
    assert generator.start([generator.prompt("Who?", [], 5)]).log_probs.dtype == torch.float32


def test_the_template_is_the_one_given(tiny_folder: Folder) -> None:
    template = PromptTemplate(header="Read.")
    generator: Any = load_generator(tiny_folder("gpt2"), template=template, device="cpu")
    prompt = generator.prompt("Who?", [Passage("p", "text", "d", "t", 0, 4)], 5)
    assert generator.tokens.tokenizer.decode(prompt.header) == "Read."


def test_all_stop_tokens_of_the_generation_settings_count(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = [7, 9]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    generator = load_generator(folder, device="cpu")
    assert isinstance(generator, CausalGenerator)
    assert generator.stop_tokens == {7, 9, generator.tokens.tokenizer.eos_token_id}
    assert generator.stop_token == generator.tokens.tokenizer.eos_token_id


def test_relative_positions_have_no_end(tiny_folder: Folder, tmp_path: Path) -> None:
    """Old T5 configurations state the length that they were trained on; only the tokenizer's limit counts."""
    folder = shutil.copytree(tiny_folder("t5"), tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"n_positions": 16}))
    assert load_generator(folder, device="cpu").context_size == tiny_models.CONTEXT


def test_paths_that_are_missing(tmp_path: Path) -> None:
    for name in (tmp_path / "none", str(tmp_path / "none"), "./none", "~/none-at-all", "a/b/c", "none.gguf"):
        assert "no such path" in refusal(ModelError, name).found


def test_a_hub_name_without_a_network() -> None:
    error = refusal(ModelError, "nobody/no-such-model")
    assert "'nobody/no-such-model'" in error.expected


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no model")
    error = refusal(ModelError, file)
    assert ".gguf file" in error.expected and str(file) in error.found


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "language model" in refusal(ModelError, tmp_path).expected


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "no-such-type"}'])
def test_a_folder_with_a_broken_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert "language model" in refusal(ModelError, tmp_path).expected


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_a_folder_without_weights_or_tokenizer(
    kind: str, missing: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder(kind), tmp_path / "model")
    (folder / missing).unlink()
    assert "language model" in refusal(ModelError, folder).expected


def test_weights_cut_off_in_the_middle(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "language model" in refusal(ModelError, folder).expected


def test_weights_that_are_missing_are_not_made_up(tiny_folder: Folder, tmp_path: Path) -> None:
    """transformers fills a missing output layer with noise; its probabilities would mean nothing."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refusal(ModelError, folder)


def test_an_answer_ends_as_the_chat_format_ends_a_turn(tmp_path: Path) -> None:
    """Not with the tokenizer's end of text, which such a model seldom writes after an answer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_models.chat_tokenizer(special=False)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    generator = load_generator(tmp_path, device="cpu")
    turn_end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert turn_end != tokenizer.eos_token_id
    assert generator.answer_tokens("nine")[-1] == turn_end
    assert generator.stop_tokens == {turn_end, tokenizer.eos_token_id}
    assert generator.text(generator.answer_tokens("nine")) == "nine"


def test_weights_in_a_pickle_are_refused(tiny_folder: Folder, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(tiny_folder("gpt2"), tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refusal(ModelError, folder)


def test_a_text_encoder_is_no_language_model(tmp_path: Path) -> None:
    """A model that sees the words to come gives no p(next token | words so far)."""
    from transformers import BertConfig, BertModel

    _, tokenizer = tiny_models.build("bart")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    refusal(ModelError, tmp_path)


def test_no_token_that_ends_an_answer(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        settings = {key: value for key, value in settings.items() if not key.startswith("eos_token")}
        (folder / name).write_text(json.dumps(settings))
    assert "end-of-text" in refusal(ModelError, folder).expected


@pytest.mark.parametrize("dtype", ["float64", "int4", "", "torch.float64"])
def test_an_unknown_dtype(dtype: str, tmp_path: Path) -> None:
    error = refusal(SettingError, tmp_path, dtype=dtype)
    assert "float32, bfloat16, float16" in error.expected and error.found == repr(dtype)


def folders(cache: Path) -> list[Path]:
    """What was converted; beside it is a file of digests."""
    return [path for path in cache.iterdir() if path.is_dir()]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MIXRAG_CACHE", str(folder))
    return folder


@pytest.mark.parametrize("content", [b"", b"GGUF", b"garbage" * 100, b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_a_gguf_file_of_garbage(content: bytes, cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "GGUF" in refusal(ModelError, file).expected
    assert folders(cache) == []


def test_a_folder_whose_name_ends_in_gguf(cache: Path, tiny_folder: Folder, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "tiny.gguf")
    assert isinstance(load_generator(folder, device="cpu"), CausalGenerator)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    refusal(MixragError, tmp_path / "model.gguf")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stands in for the conversion: the tiny Llama whatever the file says; remembers the files."""
    files: list[Path] = []

    def convert(file: Path, folder: Path) -> None:
        files.append(file)
        tiny_models.save("llama", folder)

    monkeypatch.setattr(gguf, "_convert_gguf", convert)
    return files


def test_a_gguf_is_converted_once_for_each_content(cache: Path, conversions: list[Path], tmp_path: Path) -> None:
    first, same, other = tmp_path / "first.gguf", tmp_path / "same.gguf", tmp_path / "other.gguf"
    first.write_bytes(b"one")
    same.write_bytes(b"one")
    other.write_bytes(b"two")
    for file in (first, first, same, other):
        generator = load_generator(file, device="cpu")
        assert isinstance(generator, CausalGenerator) and generator.name == str(file)
    assert conversions == [first.resolve(), other.resolve()]
    assert len(folders(cache)) == 2


def test_a_file_that_changes_is_converted_again(cache: Path, conversions: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        load_generator(file, device="cpu")
    assert len(conversions) == 2


@pytest.mark.parametrize("interruption", [RuntimeError("the disk\nis full"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(
    interruption: BaseException, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise interruption

    file = tmp_path / "model.gguf"
    file.write_bytes(b"content")
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_convert_gguf", interrupted)
        with pytest.raises((ModelError, KeyboardInterrupt)) as caught:
            load_generator(file, device="cpu")
    if isinstance(interruption, Exception):
        assert caught.type is ModelError and "the disk is full" in str(caught.value)
    assert folders(cache) == []
    monkeypatch.setattr(gguf, "_convert_gguf", lambda _, folder: tiny_models.save("llama", folder))
    assert isinstance(load_generator(file, device="cpu"), CausalGenerator)


def test_a_conversion_that_another_process_won(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(file: Path, folder: Path) -> None:
        tiny_models.save("llama", folder)
        tiny_models.save("llama", cache / f"gguf-{file_digest(file)[:24]}")

    file = tmp_path / "model.gguf"
    file.write_bytes(b"content")
    monkeypatch.setattr(gguf, "_convert_gguf", overtaken)
    assert isinstance(load_generator(file, device="cpu"), CausalGenerator)
    assert [path.name[:5] for path in folders(cache)] == ["gguf-"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MIXRAG_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/mixrag"),
        ({"HOME": "/h"}, "/h/.cache/mixrag"),
        ({"MIXRAG_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/mixrag"),
        ({"MIXRAG_CACHE": "~/a", "HOME": "/h"}, "/h/a"),
    ],
)
def test_where_the_cache_is(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIXRAG_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert gguf.cache_folder() == Path(expected)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """The packaged SmolLM2 and the cache folder that it was converted into."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXRAG_CACHE", str(folder))
        yield load_generator(device="cpu", adapter="none"), folder
    shutil.rmtree(folder)


@pytest.mark.slow
class TestPackagedModel:
    def test_it_is_loaded_from_its_converted_gguf(self, packaged: tuple[Any, Path]) -> None:
        generator, folder = packaged
        assert isinstance(generator, CausalGenerator)
        assert generator.name == "SmolLM2-135M-Instruct"
        assert [path.name[:5] for path in folders(folder)] == ["gguf-"]
        assert generator.tokens.tokenizer.convert_ids_to_tokens([generator.stop_token]) == ["<|im_end|>"]

    def test_the_second_time_it_comes_from_the_cache(
        self, packaged: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator, _ = packaged

        def convert(file: Path, folder: Path) -> None:
            raise AssertionError("converted twice")

        monkeypatch.setattr(gguf, "_convert_gguf", convert)
        again: Any = load_generator(packaged_generator(), device="cpu")
        prompt, answer = generator.prompt("Who?", [], 5), generator.answer_tokens("Paris")
        assert again.prompt("Who?", [], 5) == prompt
        assert torch.equal(again.log_likelihood([prompt], answer), generator.log_likelihood([prompt], answer))

    def test_it_reads_the_passage(self, packaged: tuple[Any, Path]) -> None:
        generator, _ = packaged
        text = "The river Volka flows through the town of Amberley and ends in the lake of Torrin."
        passage = Passage("p", text, "/rivers.txt", "Rivers", 0, len(text))
        question = "Through which town does the river Volka flow?"
        prompts = [generator.prompt(question, given, 20) for given in ([passage], [])]
        read, unread = generator.log_likelihood(prompts, generator.answer_tokens("Amberley")).sum(-1)
        assert read - unread > 5.0

    def test_its_chat_markers_are_letters_in_a_passage(self, packaged: tuple[Any, Path]) -> None:
        generator, _ = packaged
        tokenizer = generator.tokens.tokenizer
        forged = "".join(str(token) for token in tokenizer.added_tokens_decoder.values())
        passage = Passage("p", forged, "/forged.txt", forged, 0, len(forged))
        prompt = generator.prompt(forged, [passage], 20)
        markers = [
            tokenizer.convert_ids_to_tokens(i) for i in prompt.tokens if i in tokenizer.added_tokens_decoder
        ]
        harmless = generator.prompt("Who?", [], 20)
        frame = [
            tokenizer.convert_ids_to_tokens(i) for i in harmless.tokens if i in tokenizer.added_tokens_decoder
        ]
        assert markers == frame and "<|im_start|>" in frame
        assert not set(prompt.passages) & set(tokenizer.added_tokens_decoder)

    def test_answers_there_and_back(self, packaged: tuple[Any, Path]) -> None:
        generator, _ = packaged
        for answer in ("Paris", "naïve café", "東京", "don 't , stop .", "<|im_end|>", "a\nb"):
            assert generator.text(generator.answer_tokens(answer)) == answer

    def test_a_padded_batch_equals_each_prompt_alone(self, packaged: tuple[Any, Path]) -> None:
        generator, _ = packaged
        texts = ("Short.", "The town of Amberley lies on the river Volka. " * 4)
        passages = [Passage("p", text, "/d", "Title", 0, len(text)) for text in texts]
        prompts = [generator.prompt("Which town?", [passage], 20) for passage in passages]
        answer = generator.answer_tokens("Amberley")
        alone = torch.cat([generator.log_likelihood([prompt], answer) for prompt in prompts])
        # Thirty layers of float32: the order of additions alone moves this by about 2e-5.
        torch.testing.assert_close(generator.log_likelihood(prompts, answer), alone, rtol=1e-5, atol=5e-5)


def edited(adapter: Path, **changes: Any) -> Path:
    """The adapter's configuration, changed in place."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    return adapter


def log_likelihoods(generator: Any) -> torch.Tensor:
    passage = Passage("p", "The city lies on the river.", "/d", "Title", 0, 27)
    prompts = [generator.prompt("What is its name?", given, 10) for given in ([passage], [])]
    return generator.log_likelihood(prompts, generator.answer_tokens("the author"))


@pytest.mark.parametrize("kind", CAUSAL + SEQ2SEQ)
def test_a_merged_adapter_gives_the_distribution_of_peft_s_model(
    kind: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    adapter = save_adapter(kind, tmp_path / "adapter")
    plain: Any = load_generator(tiny_folder(kind), device="cpu")
    found: Any = load_generator(tiny_folder(kind), device="cpu", adapter=adapter)
    # Inside peft's wrapper: the model with its layers exchanged, which tells what arguments it takes.
    beside = replace(plain, model=adapted(kind).base_model.model)
    torch.testing.assert_close(log_likelihoods(found), log_likelihoods(beside), rtol=1e-4, atol=1e-4)
    assert (log_likelihoods(found) - log_likelihoods(plain)).abs().max() > 0.01
    assert type(found.model) is type(plain.model) and not found.model.training
    assert set(found.model.state_dict()) == set(plain.model.state_dict())
    assert found.name == f"{tiny_folder(kind)} + {adapter}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", CAUSAL + SEQ2SEQ)
def test_a_merged_model_is_rounded_once_and_as_transformers_does(
    kind: str, dtype: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    adapter = save_adapter(kind, tmp_path / "adapter")
    plain: Any = load_generator(tiny_folder(kind), device="cpu", dtype=dtype)
    exact: Any = load_generator(tiny_folder(kind), device="cpu", adapter=adapter)
    found: Any = load_generator(tiny_folder(kind), device="cpu", dtype=dtype, adapter=adapter)
    kinds = [
        {name: tensor.dtype for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        for model in (plain.model, found.model)
    ]
    assert kinds[0] == kinds[1] and found.model.dtype == plain.model.dtype == found.model.config.dtype
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, exact.model.state_dict()[name].to(tensor.dtype)), name


def test_an_adapter_may_be_in_half_precision_or_replace_layers(tiny_folder: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = save_adapter("llama", tmp_path / "adapter", modules_to_save=["lm_head"])
    weights = load_file(adapter / "adapter_model.safetensors")
    weights["base_model.model.lm_head.weight"].mul_(-1.0)
    halves = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(halves, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    found: Any = load_generator(tiny_folder("llama"), device="cpu", adapter=str(adapter))
    assert all(tensor.dtype == torch.float32 for tensor in found.model.parameters())
    assert torch.equal(found.model.lm_head.weight.bfloat16(), halves["base_model.model.lm_head.weight"])


def test_an_adapter_is_taken_from_its_folder_alone(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever base it names, and with a way to the hub."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    adapter = edited(save_adapter("llama", tmp_path / "adapter"), base_model_name_or_path="someone/some-model")
    assert load_generator(tiny_folder("llama"), device="cpu", adapter=adapter)


def test_none_is_no_adapter(tiny_folder: Folder) -> None:
    generator = load_generator(tiny_folder("llama"), device="cpu", adapter="none")
    assert generator.name == str(tiny_folder("llama"))


def test_peft_waits_until_an_adapter_is_used() -> None:
    """It takes time to import."""
    code = "import sys, mixrag.generator.loading, mixrag.answers.pipeline; sys.exit('peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def misfit(kind: str, adapter: Path, tiny_folder: Folder) -> MixragError:
    return refusal(ModelError, tiny_folder(kind), adapter=adapter)


def test_what_is_no_adapter_folder(tiny_folder: Folder, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for name in (tmp_path / "nowhere", file, "no/such/hub-name"):
        assert "no such folder" in misfit("llama", name, tiny_folder).found
    misfit("llama", Path("~nosuchuser/x"), tiny_folder)
    assert "adapter_config.json" in misfit("llama", tmp_path, tiny_folder).found


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", "[" * 100_000])
def test_a_broken_adapter_configuration(content: str, tiny_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    assert "adapter_config.json" in misfit("llama", tmp_path, tiny_folder).found


@pytest.mark.parametrize(
    "changes", [{"r": "four"}, {"r": 0}, {"target_modules": None}, {"lora_alpha": "x"}], ids=str
)
def test_an_adapter_configuration_with_wrong_values(
    changes: dict[str, Any], tiny_folder: Folder, tmp_path: Path
) -> None:
    adapter = edited(save_adapter("llama", tmp_path / "adapter"), **changes)
    misfit("llama", adapter, tiny_folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"lora_alpha": -8},
        {"lora_alpha": 0},
        {"lora_alpha": True},
        {"lora_alpha": 1e30},
        {"r": -4},
        {"r": 10**30},
        {"r": 4.0},
        {"rank_pattern": {"q_proj": 0}},
        {"alpha_pattern": {"q_proj": float("nan")}},
        {"alpha_pattern": [1]},
    ],
    ids=str,
)
def test_an_adapter_with_numbers_that_none_has(
    changes: dict[str, Any], tiny_folder: Folder, tmp_path: Path
) -> None:
    adapter = edited(save_adapter("llama", tmp_path / "adapter"), **changes)
    error = misfit("llama", adapter, tiny_folder)
    assert "numbers of a LoRA adapter" in error.expected and next(iter(changes)) in error.found


def test_another_kind_of_adapter(tiny_folder: Folder, tmp_path: Path) -> None:
    adapter = edited(save_adapter("llama", tmp_path / "adapter"), peft_type="IA3")
    assert "'IA3'" in misfit("llama", adapter, tiny_folder).found


def test_an_adapter_in_a_pickle(tiny_folder: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    adapter = save_adapter("llama", tmp_path / "adapter")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors" in misfit("llama", adapter, tiny_folder).expected


def test_adapter_weights_cut_off_in_the_middle(tiny_folder: Folder, tmp_path: Path) -> None:
    adapter = save_adapter("llama", tmp_path / "adapter")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    misfit("llama", adapter, tiny_folder)


def test_an_adapter_for_another_architecture(tiny_folder: Folder, tmp_path: Path) -> None:
    adapter = edited(save_adapter("gpt2", tmp_path / "adapter"), base_model_name_or_path="some-gpt2")
    error = misfit("llama", adapter, tiny_folder)
    assert "not found in the base model" in error.found and "names 'some-gpt2' as its base" in error.found
    assert "--adapter none" in error.remedy


def test_an_adapter_for_another_size(tiny_folder: Folder, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(tiny_folder("llama"))
    config.hidden_size = 64
    LlamaForCausalLM(config).save_pretrained(tmp_path / "wide")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder("llama") / name, tmp_path / "wide")
    adapter = save_adapter("llama", tmp_path / "adapter")
    error = refusal(ModelError, tmp_path / "wide", adapter=adapter)
    assert "size mismatch" in error.found


def changed_weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    change(weights)
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    return adapter


B_OF_LAYER_1 = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"


def test_adapter_weights_that_are_missing_or_too_many(tiny_folder: Folder, tmp_path: Path) -> None:
    """peft warns of the first, keeping noise or zeros in their place, and does not speak of the second."""
    lacking = changed_weights(save_adapter("llama", tmp_path / "a"), lambda w: w.pop(B_OF_LAYER_1))
    assert "layers.1.self_attn.q_proj.lora_B" in misfit("llama", lacking, tiny_folder).found
    deeper = B_OF_LAYER_1.replace("layers.1", "layers.9")
    more = changed_weights(
        save_adapter("llama", tmp_path / "b"), lambda w: w.update({deeper: w[B_OF_LAYER_1] + 1})
    )
    assert "layers.9.self_attn.q_proj.lora_B" in misfit("llama", more, tiny_folder).found
    head = "base_model.model.lm_head.weight"
    left_out = save_adapter("llama", tmp_path / "c", modules_to_save=["lm_head"])
    assert head in misfit("llama", changed_weights(left_out, lambda w: w.pop(head)), tiny_folder).found


def test_an_adapter_whose_sum_is_no_number(tiny_folder: Folder, tmp_path: Path) -> None:
    adapter = changed_weights(save_adapter("llama", tmp_path / "a"), lambda w: w[B_OF_LAYER_1].fill_(float("nan")))
    assert "NaN in base_model.model.model.layers.1" in misfit("llama", adapter, tiny_folder).found


def test_an_adapter_on_one_of_two_tied_layers(tiny_folder: Folder, tmp_path: Path) -> None:
    """Added into the weights, it would change the other as well."""
    adapter = save_adapter("gpt2", tmp_path / "adapter", target_modules=["lm_head"], fan_in_fan_out=False)
    assert "share their weights" in misfit("gpt2", adapter, tiny_folder).found


@pytest.fixture
def reader(tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose language model is the tiny Llama, and whose reader is an adapter for it."""
    from mixrag.config.bundle import Bundle, write_bundle

    folder = save_adapter("llama", tmp_path / "reader")
    write_bundle(Bundle(folder, adapter=".", prompt={"header": "READ:\n"}))
    for name in ("default_generator", "packaged_generator"):
        monkeypatch.setattr(loading, name, lambda: tiny_folder("llama"))
    monkeypatch.setattr(loading, "packaged_reader", lambda: folder)
    return folder


def test_the_packaged_model_comes_with_its_reader(reader: Path, tiny_folder: Folder) -> None:
    found: Any = load_generator(device="cpu")
    same: Any = load_generator(tiny_folder("llama"), device="cpu", adapter=reader)
    assert found.name == "SmolLM2-135M-Instruct + reader"
    assert found.tokens.template.header == "READ:\n"
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, same.model.state_dict()[name])
    asked = PromptTemplate(header="ELSE:\n")
    assert load_generator(device="cpu", template=asked).tokens.template == asked
    assert loading.default_prompt(None, None).header == "READ:\n"
    assert loading.default_prompt(None, "none") == loading.default_prompt("other", None) == PromptTemplate()


def test_other_models_and_a_refusal_are_without_the_reader(reader: Path, tiny_folder: Folder) -> None:
    plain, _ = tiny_models.build("llama")
    for found in (
        load_generator(device="cpu", adapter="none"),
        load_generator(tiny_folder("llama"), device="cpu"),
    ):
        assert "reader" not in found.name and found.tokens.template == PromptTemplate()
        for name, tensor in found.model.state_dict().items():
            assert torch.equal(tensor, plain.state_dict()[name])


def test_a_reader_is_there_when_all_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixrag.config import default_models as packaged

    monkeypatch.setattr(packaged, "__file__", str(tmp_path / "config" / "default_models.py"))
    assert packaged.packaged_reader() is None
    folder = tmp_path / "readers" / "language_model"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "mixrag.json"):
        assert packaged.packaged_reader() is None
        (folder / name).write_text("")
    assert packaged.packaged_reader() == folder.resolve()


def test_what_was_loaded_goes_to_the_log(tiny_folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="mixrag")
    load_generator(tiny_folder("gpt2"), device="cpu")
    assert [
        (record.name, record.getMessage()) for record in caplog.records if record.name.startswith("mixrag")
    ] == [("mixrag.generator", f"language model {tiny_folder('gpt2')} on cpu in torch.float32")]


def test_a_hub_name_of_an_adapter_is_downloaded(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, asked = save_adapter("llama", tmp_path / "adapter"), list[tuple[str, Any, Any]]()

    def download(name: str, *, revision: str | None, token: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, token))
        return str(adapter)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    expected: Any = load_generator(tiny_folder("llama"), device="cpu", adapter=adapter)
    for name in ("someone/reader", "someone/reader@v1.0"):
        found: Any = load_generator(tiny_folder("llama"), device="cpu", adapter=name, token="secret")
        assert torch.equal(log_likelihoods(found), log_likelihoods(expected))
    assert asked == [("someone/reader", None, "secret"), ("someone/reader", "v1.0", "secret")]
    monkeypatch.undo()
    assert "someone/reader@v1" in misfit("llama", "someone/reader@v1", tiny_folder).expected  # type: ignore[arg-type]

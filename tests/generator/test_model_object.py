"""A model object in the place of a name: the same numbers, and the object stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_models
from mixrag import RAG, ModelConfig
from mixrag.config.model_config import models_digest
from mixrag.corpus.passage import Passage
from mixrag.errors import MixragError, ModelError, PluginError, SettingError
from mixrag.generator import CausalGenerator, Seq2SeqGenerator, TableGenerator, load_generator
from tiny_adapter import adapted, save_adapter
from tiny_encoder import save_encoder
from tiny_models import KINDS

Folder = Callable[[str], Path]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def scores(generator: Any) -> Tensor:
    """(3, T) for two passages and none, and what follows two steps of writing."""
    texts = ("The city lies on the river.", "The author wrote the letter, and then another one.")
    passages = [[Passage(text, text, "/d", "Title", 0, len(text))] for text in texts]
    prompts = [generator.prompt("What is its name?", given, 10) for given in (*passages, [])]
    branches = generator.start(prompts).advance(torch.tensor([2, 0, 1]), torch.tensor([70, 71, 72]))
    scored = branches.select(torch.tensor([1, 2, 0])).score((73, 74))
    return torch.cat([generator.log_likelihood(prompts, generator.answer_tokens("the author")), scored], -1)


def refusal(error: type[MixragError], model: Any, **options: Any) -> MixragError:
    with pytest.raises(error) as caught:
        load_generator(model, **options)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("expected ")
    return caught.value


def state(model: nn.Module) -> dict[str, Any]:
    """All of a model that mixrag could change: its values, classes, attention and modes."""
    classes = {name: type(module) for name, module in model.named_modules()}
    modes = {name: (module.training, set(vars(module))) for name, module in model.named_modules()}
    gradients = {name: weight.requires_grad for name, weight in model.named_parameters()}
    attention = model.config._attn_implementation  # type: ignore[union-attr]
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return {"classes": classes, "modes": modes, "gradients": gradients, "attention": attention, "values": values}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_gives_the_numbers_of_its_folder_and_stays_as_it_was(
    kind: str, dtype: torch.dtype, tiny_folder: Folder
) -> None:
    model, tokenizer = tiny_models.build(kind)
    model.to(dtype)
    before, ids = state(model), torch.tensor([[5, 6, 7]])
    options = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    expected = model(input_ids=ids, **options).logits
    generator: Any = load_generator(model, tokenizer=tokenizer)
    assert isinstance(generator, Seq2SeqGenerator if options else CausalGenerator) and generator.model is model
    named: Any = load_generator(tiny_folder(kind), device="cpu", dtype=dtype)
    wide = TOLERANCE if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.1}
    torch.testing.assert_close(scores(generator), scores(named), **wide)
    assert type(named.model.get_output_embeddings()) is not nn.Linear or dtype != torch.float32
    after = state(model)
    assert torch.equal(model(input_ids=ids, **options).logits, expected)
    values = [found.pop("values") for found in (before, after)]
    assert before == after
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


@pytest.mark.parametrize("given", ["object", "path", "name of the model"])
def test_where_the_tokenizer_comes_from(given: str, tiny_folder: Folder) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_folder("llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = {"object": AutoTokenizer.from_pretrained(folder), "path": folder}.get(given)
    generator = load_generator(model, tokenizer=tokenizer)
    assert generator.name == str(folder)
    assert generator.text(generator.answer_tokens("a river")) == "a river"


def test_a_named_model_takes_another_tokenizer(tiny_folder: Folder, tmp_path: Path) -> None:
    tiny_models.build("llama-chat")[1].save_pretrained(tmp_path)
    for tokenizer in (tmp_path, str(tmp_path), tiny_models.build("llama-chat")[1]):
        generator: Any = load_generator(tiny_folder("llama"), tokenizer=tokenizer, device="cpu")
        assert "<|im_start|>" in generator.prompt_text(generator.prompt("Who?", [], 5))


def test_an_object_without_a_tokenizer_that_can_be_found(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build("llama")
    assert "tokenizer=AutoTokenizer" in refusal(ModelError, model).remedy
    model.config._name_or_path = str(tmp_path)
    assert "tokenizer" in refusal(ModelError, model).expected
    assert "no such path" in refusal(ModelError, model, tokenizer=tmp_path / "none").found
    assert refusal(ModelError, model, tokenizer=3).found == "a int"
    assert "Tokenizer" in refusal(ModelError, model, tokenizer=tokenizer.backend_tokenizer).found
    tokenizer.add_tokens(["<new>"])
    assert "at most 300 tokens" in refusal(ModelError, model, tokenizer=tokenizer).expected


def test_a_tokenizer_without_an_end_of_text_token() -> None:
    model, tokenizer = tiny_models.build("llama")
    tokenizer.eos_token = None
    assert "end-of-text" in refusal(ModelError, model, tokenizer=tokenizer).expected


def test_objects_that_are_no_language_model() -> None:
    from transformers import BertConfig, BertLMHeadModel

    model, tokenizer = tiny_models.build("llama")
    assert "no output layer" in refusal(ModelError, model.model, tokenizer=tokenizer).found
    assert refusal(ModelError, nn.Linear(2, 2)).found == "a Linear"
    config = BertConfig(vocab_size=300, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    assert "text encoder" in refusal(ModelError, BertLMHeadModel(config).eval(), tokenizer=tokenizer).found
    assert "int without" in refusal(PluginError, 3).found
    assert "the class TableGenerator" in refusal(PluginError, TableGenerator).found
    assert "training mode" in refusal(ModelError, model.train(), tokenizer=tokenizer).found


def test_the_dtype_of_an_object_is_its_own(tiny_folder: Folder) -> None:
    model, tokenizer = tiny_models.build("llama")
    for options in ({"dtype": "auto"}, {"dtype": "float32"}, {"torch_dtype": torch.float32}):
        assert load_generator(model, tokenizer=tokenizer, **options).model is model  # type: ignore[attr-defined]
    for options in ({"dtype": "bfloat16"}, {"torch_dtype": torch.bfloat16}, {"dtype": "int8"}):
        assert "in float32" in refusal(SettingError, model, tokenizer=tokenizer, **options).found
    assert "both" in refusal(SettingError, tiny_folder("llama"), dtype="float32", torch_dtype="auto").found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_is_merged_into_a_copy(dtype: torch.dtype, tiny_folder: Folder, tmp_path: Path) -> None:
    adapter = save_adapter("llama", tmp_path / "adapter")
    model, tokenizer = tiny_models.build("llama")
    before = {name: tensor.clone() for name, tensor in model.to(dtype).state_dict().items()}
    generator: Any = load_generator(model, tokenizer=tokenizer, adapter=adapter)
    if dtype == torch.float32:
        named: Any = load_generator(tiny_folder("llama"), device="cpu", adapter=adapter)
        torch.testing.assert_close(scores(generator), scores(named), **TOLERANCE)
    assert generator.model is not model and generator.model.dtype == dtype and not generator.model.training
    assert set(model.state_dict()) == set(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_model_of_peft_runs_with_its_adapter(tiny_folder: Folder, tmp_path: Path) -> None:
    adapter = save_adapter("llama", tmp_path / "adapter")
    wrapped, tokenizer = adapted("llama").eval(), tiny_models.build("llama")[1]
    named: Any = load_generator(tiny_folder("llama"), device="cpu", adapter=adapter)
    found = load_generator(wrapped, tokenizer=tokenizer)
    torch.testing.assert_close(scores(found), scores(named), **TOLERANCE)
    assert "peft" in refusal(ModelError, wrapped, tokenizer=tokenizer, adapter=adapter).found


def test_prompt_tuning_is_no_adapter_that_can_be_run() -> None:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    model, tokenizer = tiny_models.build("llama")
    tuned = get_peft_model(model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=2)).eval()
    assert "PROMPT_TUNING" in refusal(ModelError, tuned, tokenizer=tokenizer).found


@pytest.fixture
def store(tmp_path: Path, tiny_folder: Folder) -> Callable[..., RAG]:
    (tmp_path / "notes.txt").write_text("The river is long. The author wrote the letter.")
    encoder = save_encoder(tmp_path / "encoder")

    def opened(**options: Any) -> RAG:
        return RAG.open(tmp_path / "store", create=True, encoder=encoder, device="cpu", **options)

    with opened() as rag:
        rag.index([tmp_path / "notes.txt"])
    return opened


def test_a_store_is_asked_with_an_object(store: Callable[..., RAG], tiny_folder: Folder) -> None:
    model, tokenizer = tiny_models.build("llama")
    settings = {"max_tokens": 4}
    with store(generator=tiny_folder("llama"), dtype="float32", settings=settings) as rag:
        expected = rag.ask("Who wrote it?")
    with store(generator=model, tokenizer=tokenizer, torch_dtype=torch.float32, settings=settings) as rag:
        answer = rag.ask("Who wrote it?")
        assert answer.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
        assert rag.generator.model is model  # type: ignore[attr-defined]
    models = ModelConfig(generator="elsewhere", tokenizer=tokenizer)
    with store(generator=model, models=models) as rag:
        assert rag.models.generator is model and rag.models.tokenizer is tokenizer
        assert rag.ask("Who wrote it?", max_tokens=2).passages


def test_objects_are_other_models_to_a_confidence_map(tiny_folder: Folder) -> None:
    model, tokenizer = tiny_models.build("llama")
    folder = str(tiny_folder("llama"))
    model.config._name_or_path = folder
    named = models_digest(ModelConfig(generator=folder))
    assert models_digest(ModelConfig(generator=model, tokenizer=tokenizer)) != named
    assert models_digest(ModelConfig(generator=model)) != named
    assert models_digest(ModelConfig(generator=deepcopy(model))) != named

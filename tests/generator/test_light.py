"""What runs without transformers gives what transformers gives, or is not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertModel, GenerationConfig
from transformers import BertConfig as Config

import tiny_models
from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import ModelError
from mixrag.generator.light import entries, reading, spans
from mixrag.generator.light.bert import Bert, config_of, read_bert, refuse_unknown
from mixrag.generator.light.chat import rendered
from mixrag.generator.light.entries import UnlikeError, about
from mixrag.generator.light.reading import Reading, light_reading, remember_reading
from mixrag.generator.light.tokenizer import LightTokenizer, check_tokenizer
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.span_loading import load_extractive
from mixrag.generator.span_scores import end_scores
from mixrag.generator.span_windows import span_prompt, windows_of
from mixrag.generator.tokenizer import loaded_tokenizer
from tiny_span_model import encoder_tokenizer, passage, span_bert

TEXTS = (
    "The harbour master pays nine crowns in June. 50 of 120 owe a fee!",
    "Zoë wrote <|im_end|> and </s>, then [SEP].",
    "",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def known(folder: Path) -> tuple[LightTokenizer, Any]:
    """The light tokenizer of a model's folder, and that of transformers."""
    reference = AutoTokenizer.from_pretrained(folder)
    config = Config(max_position_embeddings=7)
    remember_reading(folder, Reading(reference, config, GenerationConfig(eos_token_id=[3, 4])))
    found = light_reading(folder, lambda: reference)
    assert found is not None and found.config.max_position_embeddings == 7
    assert found.generation.eos_token_id == [3, 4] and found.config.is_encoder_decoder is False
    return found.tokenizer, reference


@pytest.mark.parametrize("kind", tiny_models.CAUSAL)
@pytest.mark.parametrize("chat", [False, True])
def test_prompts_and_answers_are_those_of_transformers(
    kind: str, chat: bool, tiny_folder: Callable[[str], Path]
) -> None:
    light, reference = known(tiny_folder(kind))
    template = PromptTemplate(header="Read. ", chat=chat)
    own, other = (PromptTokenizer(each, template, 200, keep_suffix=False) for each in (light, reference))
    passages = [passage(text, "A title") for text in TEXTS]
    for question in ("Who pays?", "<|im_start|>user </s>"):
        for some in (passages, passages[:1], []):
            assert own.prompt(question, some, 8) == other.prompt(question, some, 8)
    ids = other.answer_tokens("nine crowns, ödegård", 1)
    assert own.answer_tokens("nine crowns, ödegård", 1) == ids and own.text(ids, {1}) == other.text(ids, {1})
    assert own.never == other.never and own.turn_end({1}) == other.turn_end({1})
    assert own.plain(TEXTS) == other.plain(TEXTS)
    assert len(light) == len(reference) and light.eos_token_id == reference.eos_token_id


def test_whatever_else_is_asked_is_asked_of_transformers(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    light, reference = known(tiny_folder("llama"))
    assert light("a b", return_tensors="pt").input_ids.equal(reference("a b", return_tensors="pt").input_ids)
    assert light.vocab_size == reference.vocab_size
    light.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").get_vocab() == reference.get_vocab()
    assert loaded_tokenizer(light, "", {}) is light


@pytest.mark.parametrize(
    "template",
    [
        tiny_models.CHATML,
        "{{ bos_token }}{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m|tojson }}{% endfor %}",
        "{% if tools %}x{% endif %}{{ messages[0]['content'] | trim }}{% if add_generation_prompt %}:{% endif %}",
        "{% for m in messages %}{{ raise_exception('no') if m.role == 'assistant' else m.content }}{% endfor %}",
    ],
)
def test_chat_templates_are_rendered_alike(template: str) -> None:
    tokenizer: Any = tiny_models.chat_tokenizer()
    messages = [{"role": "user", "content": " Zoë <b>? "}, {"role": "user", "content": "b"}]
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    for prompted in (False, True):
        options = {"chat_template": template, "add_generation_prompt": prompted}
        expected = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        assert rendered(template, messages, special, add_generation_prompt=prompted) == expected


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(Exception, match="unsafe"):
        rendered("{{ messages.__class__.__mro__ }}", [], {})


def test_a_tokenizer_that_reads_otherwise_is_refused(tiny_folder: Callable[[str], Path]) -> None:
    light, _ = known(tiny_folder("llama"))
    with pytest.raises(UnlikeError, match=r"other|another"):
        check_tokenizer(light, AutoTokenizer.from_pretrained(tiny_folder("gpt2")))


def test_an_entry_belongs_to_the_files_and_a_damaged_one_is_none(
    tmp_path: Path, own_cache: Path, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_folder("llama").glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    known(folder)
    (entry,) = own_cache.glob("reading-*")
    original = (folder / "tokenizer_config.json").read_text()
    changed = {**json.loads(original), "model_max_length": 99}
    (folder / "tokenizer_config.json").write_text(json.dumps(changed))
    assert light_reading(folder, lambda: None) is None, "another file, another entry"
    (folder / "tokenizer_config.json").write_text(original)
    for name in ("serialised.json", "about.json"):
        known(folder)
        (entry / name).write_text("{")
        assert light_reading(folder, lambda: None) is None
        assert not entry.exists(), "a damaged entry is deleted"


def test_nothing_is_remembered_where_that_fails(
    tiny_folder: Callable[[str], Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder("llama")
    reference = AutoTokenizer.from_pretrained(folder)
    found = Reading(reference, Config(), GenerationConfig())

    def different(*_: Any) -> None:
        raise UnlikeError("other tokens")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "check_tokenizer", different)
        remember_reading(folder, found)
    assert light_reading(folder, lambda: reference) is None
    assert not [*own_cache.glob("*reading*")], "nothing is left of a trial that failed"
    monkeypatch.setenv("MIXRAG_CACHE", str(folder / "config.json"))
    remember_reading(folder, found)
    assert light_reading(folder, lambda: reference) is None
    assert entries.about(folder / "nothing") is None


# BERT.


def windows(texts: tuple[str, ...] = TEXTS) -> list[Any]:
    from mixrag.generator.span_windows import SpanConfig

    options = SpanConfig(longest=6, window=48, stride=8)
    prompts = [span_prompt("Who pays the fee?", [passage(text)]) for text in texts if text]
    return [window for prompt in prompts for window in windows_of(encoder_tokenizer(), prompt, options)]


def test_a_bert_is_that_of_transformers(tmp_path: Path) -> None:
    reference = span_bert().bert
    reference.save_pretrained(tmp_path)
    found = read_bert(tmp_path, config_of(tmp_path))
    ids = torch.randint(0, reference.config.vocab_size, (3, 11))
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    for row, length in enumerate((11, 4, 7)):
        mask[row, length:], types[row, length // 2 :] = 0, 1
    with torch.inference_mode():
        for chosen in (mask, torch.ones_like(mask)):
            expected = reference(input_ids=ids, attention_mask=chosen, token_type_ids=types).last_hidden_state
            close = {"rtol": 0, "atol": 1e-5}
            torch.testing.assert_close(found.hidden(ids, chosen, types)[chosen > 0], expected[chosen > 0], **close)
            assert not torch.allclose(found.hidden(ids, chosen), expected, atol=1e-2), "segments matter"


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_act", "relu"), ("model_type", "roberta"), ("position_embedding_type", "relative_key")],
)
def test_another_kind_of_bert_is_refused(name: str, value: str) -> None:
    config = span_bert().config.to_dict()
    refuse_unknown(config)
    with pytest.raises(UnlikeError, match=name):
        refuse_unknown({**config, name: value})


def test_a_file_without_the_weights_of_a_bert_is_an_error(tmp_path: Path) -> None:
    config = span_bert().config.to_dict()
    with pytest.raises(FileNotFoundError):
        read_bert(tmp_path, config)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="header"):
        read_bert(tmp_path, config)
    with pytest.raises(KeyError):
        Bert({}, config)


# The extractive reader.


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    folder = tmp_path / "reader"
    span_bert(3).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


def test_a_light_reader_gives_the_same_answers(reader: Path, tiny_folder: Callable[[str], Path]) -> None:
    tokenizer, plain = known(tiny_folder("llama"))
    options: dict[str, Any] = {"template": PromptTemplate(), "dtype": None, "device": "cpu", "hub": {}}
    expected = load_extractive("spans", reader, tokenizer=plain, **options)
    first, second = (load_extractive("spans", reader, tokenizer=tokenizer, **options) for _ in range(2))
    assert isinstance(expected.model, torch.nn.Module) and isinstance(first.model, torch.nn.Module)
    assert isinstance(second.model, spans.SpanBert), "it is known from the second time on"
    passages = [passage(text, "A title") for text in TEXTS] + [passage(" ".join(TEXTS) * 9)]
    for each in passages:
        prompts = [generator.prompt("Who pays the fee?", [each], 4) for generator in (expected, second)]
        assert prompts[0] == prompts[1]
        (ours,), (others,) = (g.finite_answers([prompts[0]]) for g in (second, expected))
        assert ours.texts == others.texts
        torch.testing.assert_close(ours.log_probs, others.log_probs, rtol=0, atol=1e-4)
    assert second.model.num_parameters() == expected.model.num_parameters(), "asked of transformers' own"


def test_a_reader_whose_scores_differ_is_not_light(
    reader: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, _ = known(tiny_folder("llama"))
    options: dict[str, Any] = {"template": PromptTemplate(), "dtype": None, "device": "cpu", "hub": {}}
    hidden = Bert.hidden
    monkeypatch.setattr(Bert, "hidden", lambda self, *given, **named: hidden(self, *given, **named) * 1.001)
    for _ in range(2):
        found = load_extractive("spans", reader, tokenizer=tokenizer, **options)
        assert not isinstance(found.model, spans.SpanBert)


def test_scores_of_windows_are_those_of_transformers(reader: Path) -> None:
    spans.remember_spans(reader, reader, span_bert(3), encoder_tokenizer())
    found = spans.light_spans(reader, reader, lambda: (None, None))
    assert found is not None
    read = windows()
    for own, other in zip(end_scores(found[0], read), end_scores(span_bert(3), read), strict=True):
        for a, b in zip(own, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_model_of_another_kind_is_no_light_reader(reader: Path) -> None:
    other: Any = BertModel(span_bert().config)
    spans.remember_spans(reader, reader, other, encoder_tokenizer())
    assert spans.light_spans(reader, reader, lambda: (None, None)) is None
    assert about(reader) is None


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        entries.entry("spans", [tmp_path / "nothing.json"])

"""What chat templates are given, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, ModelConfig
from mixrag.config.model_config import completed, models_digest
from mixrag.config.prompt_template import PromptTemplate, arguments_of_options
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import ModelError, SettingError
from mixrag.generator import load_generator
from mixrag.training.run import _trainable_generator
from mixrag.training.run_spec import RunSpec
from tiny_models import CHATML, build

TURN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
PARTS = (
    TURN + "{% for part in m['content'] %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
DATED = "Today: {{ strftime_now('%d %b %Y') }}\n" + CHATML


def prompt(chat: str, **template: Any) -> str:
    """The prompt of a question for a model with this chat template."""
    model, tokenizer = build("llama-chat")
    tokenizer.chat_template = chat
    generator = load_generator(model, tokenizer=tokenizer, **template)
    return generator.prompt_text(generator.prompt("Who?", (), 4))


def refusal(chat: str, **template: Any) -> ModelError:
    with pytest.raises(ModelError) as error:
        prompt(chat, **template)
    assert "\n" not in str(error.value)
    return error.value


def test_a_template_that_reads_parts_gets_parts() -> None:
    assert prompt(PARTS) == prompt(CHATML)
    assert "Question: Who?<|im_end|>" in prompt(PARTS)


@pytest.mark.parametrize(
    "content",
    ["", "{{ m['content'] | upper }}", "{{ m['content'] }}{{ m['content'] }}", "{{ m['content'][0]['nothing'] }}"],
)
def test_a_template_that_loses_or_repeats_the_message_is_refused(content: str) -> None:
    chat = TURN + content + "<|im_end|>\n{% endfor %}"
    assert "writes the user's message once" in refusal(chat).expected
    assert "Question: Who?" in prompt(chat, template=PromptTemplate(chat=False))


def test_an_argument_reaches_the_template() -> None:
    assert prompt(THINKING).endswith("assistant\n<think></think>"), "without a thought unless it is asked for"
    assert prompt(THINKING, template_args={"enable_thinking": False}) == prompt(THINKING)
    template = PromptTemplate(template_args={"enable_thinking": False})
    assert prompt(THINKING, template=template).endswith("<think></think>")
    assert "<think>" not in prompt(THINKING, template=template, template_args={"enable_thinking": True})


def test_an_argument_that_the_template_does_not_read_is_refused() -> None:
    assert "enable_thinkin" in refusal(THINKING, template_args={"enable_thinkin": False}).expected


def test_the_date_does_not_change_a_prompt() -> None:
    assert prompt(DATED) == "Today: 26 Jul 2024\n" + prompt(CHATML)
    asked = "{% set now = '%Y-%m-%d' %}{% if strftime_now is defined %}"
    assert prompt(asked + "{{ strftime_now(now) }}{% endif %}" + CHATML) == "2024-07-26" + prompt(CHATML)
    assert prompt('{{ strftime_now("%Y") | int + 1 }}' + CHATML) == "2025" + prompt(CHATML)


def test_arguments_are_read_from_the_command_line() -> None:
    found = arguments_of_options(("a=false", "b=True", "c=3", "d=0.5", "e=low", "f=", "g=null", "h=[1]", "i=x=y"))
    assert found == {
        "a": False, "b": True, "c": 3, "d": 0.5, "e": "low", "f": "", "g": "null", "h": "[1]", "i": "x=y",
    }  # fmt: skip
    for wrong in (("a",), ("=a",), ("a=1", "a=2"), ("messages=1",), ("a b=1",)):
        with pytest.raises(SettingError, match=r"template.arg"):
            arguments_of_options(wrong)


def test_arguments_are_checked_and_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompt.toml").write_text("[template_args]\nenable_thinking = false\neffort = 'low'\n")
    found = PromptTemplate.from_file(tmp_path / "prompt.toml")
    assert found.template_args == {"enable_thinking": False, "effort": "low"}
    for wrong in ({"a": None}, {"a": [1]}, {"messages": "x"}, {"a": float("nan")}, "a=b"):
        with pytest.raises(SettingError, match="template_args"):
            PromptTemplate(template_args=wrong)  # type: ignore[arg-type]


def test_arguments_are_part_of_what_a_calibration_holds_for() -> None:
    plain, thinking = ModelConfig(), ModelConfig(template_args={"enable_thinking": True})
    other = ModelConfig(prompt=PromptTemplate(template_args={"enable_thinking": True}))
    assert len({models_digest(completed(each, None)) for each in (plain, thinking, other)}) == 3
    assert models_digest(ModelConfig(prompt=PromptTemplate())) == models_digest(
        ModelConfig(prompt=PromptTemplate(template_args={}))
    )


def test_a_saved_folder_has_the_arguments(tmp_path: Path) -> None:
    model, tokenizer = build("llama-chat")
    tokenizer.chat_template = THINKING
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    models = {"generator": tmp_path / "model", "template_args": {"enable_thinking": False}}
    with RAG.open(tmp_path / "store", create=True, models=models) as rag:
        rag.save(tmp_path / "saved")
    with RAG.open(tmp_path / "store", model=tmp_path / "saved") as rag:
        assert rag.models.prompt is not None
        assert rag.models.prompt.template_args == {"enable_thinking": False}
        assert rag.generator.prompt_text(rag.generator.prompt("Who?", (), 4)).endswith("<think></think>")


def test_training_reads_the_prompts_that_answers_are_written_from(tmp_path: Path) -> None:
    model, tokenizer = build("llama-chat")
    tokenizer.chat_template = THINKING
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    models = {"generator": tmp_path / "model", "template_args": {"enable_thinking": True}, "device": "cpu"}
    settings = TrainingSettings(parts=("generator",), method="lora", rank=2)
    with RAG.open(tmp_path / "store", create=True, models=models) as rag:
        spec = RunSpec(rag, (), (), settings, tmp_path / "out")
        trained = _trainable_generator(spec, None).generator
        prompts = [each.prompt_text(each.prompt("Who?", (), 4)) for each in (trained, rag.generator)]
    assert prompts[0] == prompts[1] and "<think>" not in prompts[0]

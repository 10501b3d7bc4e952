"""Training a span model: its loss against enumeration, what it learns from, and what it leaves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mixrag.config.bundle import read_bundle
from mixrag.config.span_training import SpanTrainingSettings
from mixrag.errors import CheckpointError, ModelError, PairsError, SettingError
from mixrag.generator import ExtractiveGenerator, load_generator
from mixrag.generator.span_windows import SpanConfig, span_prompt, windows_of
from mixrag.probability import span_loss
from mixrag.training.span_examples import SpanExample, occurrences, read_example, right_spans, span_batch
from mixrag.training.span_training import train_span_model
from mixrag.utils.progress import ProgressEvent
from tiny_models import chat_tokenizer
from tiny_span_model import encoder_tokenizer, passage, reference, span_bert, span_generator

CONFIG = SpanConfig(longest=6, window=96, stride=16)
SETTINGS = SpanTrainingSettings(
    rank=4, batch=4, longest=6, window=96, learning_rate=3e-2, epochs=12, checkpoint_every=7, dropout=0.1
)
EXAMPLES = [
    SpanExample("Who pays the fee?", passage("Åse Ødegård pays the fee of nine crowns."), ("Åse Ødegård",)),
    SpanExample("What is the fee?", passage("Åse Ødegård pays the fee of nine crowns."), ("nine crowns",)),
    SpanExample("What is the fee?", passage("The ferry to Skarv costs ten crowns."), ()),
    SpanExample("Who pays?", passage("The harbour master pays in June.", "Fees"), ("harbour master",)),
    SpanExample("When?", passage("The harbour master pays in June.", "Fees"), ("June", "in June")),
    SpanExample("Who pays the fee?", passage("The ferry costs ten crowns in May."), ()),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder alone, as one comes: without the layer that scores spans."""
    folder = tmp_path_factory.mktemp("encoder")
    span_bert().bert.save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


def test_the_loss_is_that_of_the_generator() -> None:
    generator = span_generator()
    example = SpanExample("Who pays the fee?", passage("nine crowns, ten, nine crowns."), ("nine crowns", "ten"))
    table = reference(generator, example.question, example.passage.text)
    read = read_example(generator.tokenizer, example, CONFIG)
    empty = read_example(generator.tokenizer, SpanExample(example.question, example.passage), CONFIG)
    assert read is not None
    assert empty is not None
    inputs, possible, right = span_batch([read, empty], 6, 64, 0)
    with torch.inference_mode():
        output = generator.model(**inputs)
    losses = span_loss(output.start_logits, output.end_logits, possible, right)
    expected = [-math.log(table["nine crowns"] + table["ten"]), -math.log(table[""])]
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_finite_where_spans_are_impossible() -> None:
    start, end = torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 4, requires_grad=True)
    possible = torch.zeros(1, 4, 3, dtype=torch.bool)
    possible[0, 1, :2] = True
    span_loss(start, end, possible, torch.zeros_like(possible)).sum().backward()
    assert start.grad is not None
    assert start.grad[0].tolist() == pytest.approx([-2 / 3, 2 / 3, 0, 0])


def test_every_occurrence_counts_and_white_space_does_not() -> None:
    prompt = span_prompt("q", [passage("Nine crowns. nine\n crowns, nine crowns", "nine crowns")])
    shift = prompt.regions[0][0]
    assert occurrences(prompt, "nine crowns") == [(shift + 13, shift + 25), (shift + 27, shift + 38)]
    assert len(occurrences(prompt, "NINE  crowns")) == 3
    assert occurrences(prompt, "ten") == occurrences(prompt, " ") == []


def test_an_answer_inside_a_word_is_the_whole_word() -> None:
    text = "the crowns of Ødegård"
    (window,) = windows_of(encoder_tokenizer(), span_prompt("q", [passage(text)]), CONFIG)
    ((first, extra),) = right_spans(window, [(5, 8)], 6)
    assert text[int(window.starts[first]) : int(window.ends[first + extra])] == "crowns"


@pytest.mark.parametrize("answers", [("seven",), ("nine crowns, ten crowns, nine crowns",)])
def test_an_answer_that_is_no_span_is_left_out(answers: tuple[str, ...]) -> None:
    text = passage("nine crowns, ten crowns, nine crowns")
    assert read_example(encoder_tokenizer(), SpanExample("q", text, answers), CONFIG) is None


def test_a_question_without_room_is_left_out() -> None:
    example = SpanExample("nine " * 90, passage("nine"), ("nine",))
    assert read_example(encoder_tokenizer(), example, CONFIG) is None


def test_the_window_with_the_answer_is_read() -> None:
    text = "ferry costs in May. " * 20 + "Ødegård pays"
    read = read_example(encoder_tokenizer(), SpanExample("Who?", passage(text), ("Ødegård",)), CONFIG)
    first = read_example(encoder_tokenizer(), SpanExample("Who?", passage(text)), CONFIG)
    assert read is not None
    assert first is not None
    assert read.right
    assert not torch.equal(read.ids, first.ids)


def test_a_run_learns_and_its_folder_opens(base: Path, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    settings = replace(SETTINGS, epochs=50, learning_rate=1e-2, dropout=0)
    found = train_span_model(EXAMPLES, tmp_path / "out", settings, base=base, progress=events.append)
    losses = [event.values["loss"] for event in events if event.stage == "training" and "loss" in event.values]
    assert len(losses) == found.steps == 100
    tokens = [event.values["tokens"] for event in events if "tokens" in event.values]
    lengths = [len(read_example(encoder_tokenizer(), each, CONFIG).ids) for each in EXAMPLES]
    assert len(tokens) == 100 and tokens[-1] == pytest.approx(sum(lengths) / 2), "two steps are one visit of all"
    assert losses[-1] < losses[0] - 1
    assert not (tmp_path / "out" / "checkpoints").exists()
    reader = tmp_path / "out" / "generator"
    assert {path.name for path in reader.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "extractive.json",
    }
    assert {each.dtype for each in load_file(reader / "adapter_model.safetensors").values()} == {torch.bfloat16}
    bundle = read_bundle(tmp_path / "out").models()
    assert bundle == {"generator": reader, "adapter": "none"}
    generator = load_generator(reader, tokenizer=chat_tokenizer(), adapter="none")
    assert isinstance(generator, ExtractiveGenerator)
    assert generator.config == SpanConfig(longest=6, window=96, stride=128)
    right = [math.exp(_log_prob(generator, example)) for example in EXAMPLES]
    assert sum(right) / len(right) > 0.8


def test_all_weights_and_a_folder_of_transformers(base: Path, tmp_path: Path) -> None:
    settings = SpanTrainingSettings(rank=0, batch=6, longest=6, window=96, steps=2)
    train_span_model(EXAMPLES, tmp_path / "out", settings, base=base)
    generator = load_generator(str(tmp_path / "out" / "generator"), tokenizer=chat_tokenizer())
    assert isinstance(generator, ExtractiveGenerator)
    plain = tmp_path / "plain"
    span_bert().save_pretrained(plain)
    encoder_tokenizer().save_pretrained(plain)
    loaded = load_generator(plain, tokenizer=chat_tokenizer(), dtype="float32")
    assert loaded.config == SpanConfig(window=96)  # type: ignore[attr-defined]
    own = replace(span_generator(), config=SpanConfig(window=96))
    prompts = [own.prompt(each.question, [each.passage], 0) for each in EXAMPLES]
    assert torch.equal(loaded.start(prompts).log_probs, own.start(prompts).log_probs)


def test_a_killed_run_is_continued_to_the_same_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_span_model(EXAMPLES, tmp_path / "whole", SETTINGS, base=base)

    def killing(event: ProgressEvent) -> None:
        if event.stage == "training" and event.done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_span_model(EXAMPLES, tmp_path / "killed", SETTINGS, base=base, progress=killing)
    assert (tmp_path / "killed" / "checkpoints" / "step-000007").is_dir()
    events: list[ProgressEvent] = []
    train_span_model(EXAMPLES, tmp_path / "killed", SETTINGS, base=base, progress=events.append)
    assert min(event.done for event in events if event.stage == "training") == 7
    one, two = (load_file(tmp_path / n / "generator" / "adapter_model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_run_does_not_continue_it(base: Path, tmp_path: Path) -> None:
    def killing(event: ProgressEvent) -> None:
        if event.stage == "training" and event.done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_span_model(EXAMPLES, tmp_path / "out", SETTINGS, base=base, progress=killing)
    with pytest.raises(CheckpointError, match="examples"):
        train_span_model(EXAMPLES[1:], tmp_path / "out", SETTINGS, base=base)


def test_no_usable_example_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(PairsError):
        train_span_model([SpanExample("q", passage("nine"), ("ten",))], tmp_path / "out", SETTINGS, base=base)


@pytest.mark.parametrize(
    ("change", "value"), [("longest", 0), ("window", "wide"), ("whole_words", 1), ("other", 3), ("base", 7)]
)
def test_a_damaged_config_is_refused(change: str, value: Any, tmp_path: Path) -> None:
    span_bert().save_pretrained(tmp_path)
    encoder_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "extractive.json").write_text(json.dumps({"base": None, change: value}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"extractive\.json"):
        load_generator(tmp_path, tokenizer=chat_tokenizer())


def test_what_an_extractive_model_cannot_have(tmp_path: Path) -> None:
    span_bert().save_pretrained(tmp_path)
    encoder_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SettingError, match="adapter"):
        load_generator(tmp_path, tokenizer=chat_tokenizer(), adapter="some")
    with pytest.raises(SettingError, match="int8"):
        load_generator(tmp_path, tokenizer=chat_tokenizer(), dtype="int8")
    with pytest.raises(SettingError, match="device_map"):
        load_generator(tmp_path, tokenizer=chat_tokenizer(), device_map="auto")


def _log_prob(generator: ExtractiveGenerator, example: SpanExample) -> float:
    prompt = generator.prompt(example.question, [example.passage], 0)
    answers = example.answers or ("",)
    scores = [float(generator.log_likelihood([prompt], generator.answer_tokens(each)).sum()) for each in answers]
    return float(torch.tensor(scores).logsumexp(0))


def test_a_reader_is_trained_further(base: Path, tmp_path: Path) -> None:
    trained = train_span_model(EXAMPLES, tmp_path / "one", SETTINGS, base=base).folder
    still = replace(SETTINGS, steps=1, learning_rate=1e-9, weight_decay=0, dropout=0)
    train_span_model(EXAMPLES, tmp_path / "two", still, base=base, start=trained)
    one, two = (load_file(tmp_path / n / "generator" / "adapter_model.safetensors") for n in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)


def test_what_cannot_be_trained_further(base: Path, tmp_path: Path) -> None:
    trained = train_span_model(EXAMPLES, tmp_path / "one", replace(SETTINGS, steps=1), base=base).folder
    other = replace(SETTINGS, rank=SETTINGS.rank + 1)
    for start, settings in ((trained, other), (trained, replace(SETTINGS, rank=0)), (tmp_path / "none", SETTINGS)):
        with pytest.raises(ModelError, match="same encoder and rank"):
            train_span_model(EXAMPLES, tmp_path / "two", settings, base=base, start=start)

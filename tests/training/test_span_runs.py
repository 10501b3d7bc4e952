"""`mixrag train` with an extractive reader: it learns, resumes, goes on from its adapter, refuses in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mixrag import ModelConfig, Settings
from mixrag.config.bundle import read_bundle
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import PairsError, SettingError
from mixrag.generator import load_generator
from mixrag.generator.span_loading import save_extractive
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training.metrics import read_metrics
from mixrag.training.run import train
from mixrag.training.run_spec import RunSpec
from tiny_span_model import passage, span_generator
from training.conftest import PAIRS
from training.recorder import Recorder

QUICK = {
    "parts": ("generator", "question-encoder", "temperature"),
    "rank": 4,
    "batch": 3,
    "epochs": 3.0,
    "learning_rate": 0.02,
    "encoder_rate": 1e-3,
    "checkpoint_every": 2,
}
NEVER = Pair("what does a boat cost", ("ninety crowns",), "cod.txt", {}, "pairs.jsonl:9")
SPELLED = (replace(PAIRS[0], answers=("Nine  Crowns", "9 crowns")), *PAIRS[1:])
ADAPTER = "generator/adapter_model.safetensors"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model with its head, and the tokenizer of its answers."""
    folder = tmp_path_factory.mktemp("reader")
    save_extractive(span_generator(seed=1, longest=16), folder)
    return folder


@pytest.fixture
def open_reader(store_folder: Path, encoder_folder: Path, reader: Path) -> Iterator[Callable[..., RAG]]:
    opened: list[RAG] = []

    def open_one(generator: Path = reader, **changes: Any) -> RAG:
        models = ModelConfig(encoder=encoder_folder, generator=generator, device="cpu")
        settings = Settings(**{"k": 6, "temperature": 0.5, "max_tokens": 16, **changes})
        opened.append(RAG.open(store_folder, models=models, settings=settings))
        return opened[-1]

    yield open_one
    for rag in opened:
        rag.close()


def spec(
    rag: RAG, folder: Path, pairs: Sequence[Pair] = PAIRS, dev: Sequence[Pair] = (), **changes: Any
) -> RunSpec:
    return RunSpec(rag, tuple(pairs), tuple(dev), TrainingSettings(**{**QUICK, **changes}), folder)


def test_it_learns_from_pairs_alone_and_its_folder_opens(open_reader: Callable[..., RAG], tmp_path: Path) -> None:
    recorder, rag = Recorder(), open_reader()
    changes: dict[str, Any] = {"epochs": 50.0, "learning_rate": 1e-2, "keep": "last", "evaluate_every": 25}
    changes |= {"objective": "em", "e_step_every": 2, "checkpoint_every": 50}
    result = train(spec(rag, tmp_path / "out", (*SPELLED, NEVER), (*PAIRS[:2], NEVER), **changes), recorder)
    assert recorder.losses[-1] < 0.5 * recorder.losses[0]
    left = [notice for notice in result.notices if "left out" in notice]
    assert len(left) == 2 and "1 of 3 dev pairs" in left[1] and "of 7 pairs left out" in left[0]
    assert any("--generator language-model" in notice for notice in result.notices)
    assert result.bundle.models()["generator"] == tmp_path / "out" / "generator"
    assert result.bundle.adapter == "none" and result.bundle.question_encoder == "question-encoder"
    files = {path.name for path in (tmp_path / "out" / "generator").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "extractive.json", "answers"}
    lines = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert all(line["tokens"] > 0 for line in lines if line["kind"] == "train")
    assert {"kl", "specific", "temperature"} <= {key for line in lines for key in line}
    assert not (tmp_path / "out" / "checkpoints").exists()
    models = ModelConfig(device="cpu", dtype="float32")
    with RAG.open(rag.store.directory, model=tmp_path / "out", models=models) as opened:
        for pair in PAIRS:
            before, after = (each.answer_distribution(pair.question) for each in (rag, opened))
            assert after.best.text == pair.answers[0] != before.best.text
            assert after.best.probability > 10 * before.probability(pair.answers[0])


def test_a_killed_run_is_resumed_to_the_same_weights(open_reader: Callable[..., RAG], tmp_path: Path) -> None:
    train(spec(open_reader(), tmp_path / "whole", dev=PAIRS[:2]), Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(spec(open_reader(), tmp_path / "parts", dev=PAIRS[:2]), Recorder(die_at=3))
    recorder = Recorder()
    train(spec(open_reader(), tmp_path / "parts", dev=PAIRS[:2]), recorder)
    assert any("resumed at step" in notice for notice in recorder.notices)
    for name in (ADAPTER, "question-encoder/model.safetensors"):
        expected, found = (load_file(tmp_path / folder / name) for folder in ("whole", "parts"))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_training_goes_on_from_the_readers_own_adapter(open_reader: Callable[..., RAG], tmp_path: Path) -> None:
    parts = ("generator",)
    train(spec(open_reader(), tmp_path / "one", parts=parts, steps=2), Recorder())
    own = tmp_path / "one" / "generator"
    still = {"parts": parts, "steps": 1, "learning_rate": 1e-9, "rank": 7}
    train(spec(open_reader(own), tmp_path / "two", **still), Recorder())
    one, two = (load_file(tmp_path / folder / ADAPTER) for folder in ("one", "two"))
    assert one.keys() == two.keys() and any("qa_outputs" in name for name in one)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
    train(spec(open_reader(own), tmp_path / "full", parts=parts, steps=1, method="full", learning_rate=1e-9))
    found = []
    for folder in (own, tmp_path / "full" / "generator"):
        generator: Any = load_generator(folder, device="cpu")
        assert generator.config.longest == 16
        prompt = generator.prompt("who pays", (passage("the harbour master pays nine crowns"),), 0)
        found.append(generator.start([prompt]).log_probs)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("targets", ["matching", "posterior"])
def test_the_composite_objective(open_reader: Callable[..., RAG], tmp_path: Path, targets: str) -> None:
    own = (
        Pair("who came?", ("Ada",), passage="Ada came by boat.", title="Boats"),
        Pair("when did she go?", (), passage="Ada came by boat.", title="Boats"),
        Pair("what is it made of?", ("lead",), passage="It is made of tin."),
    )
    recorder = Recorder()
    changes = {"objective": "composite", "targets": targets, "parts": ("generator", "temperature"), "epochs": 5.0}
    result = train(spec(open_reader(), tmp_path / "out", (*SPELLED, NEVER, *own), PAIRS[:1], **changes), recorder)
    assert sum(recorder.losses[-6:]) < 0.8 * sum(recorder.losses[:6])
    assert result.bundle.settings["empty_answer"] is True and result.calibration is not None
    assert result.calibration.nll_after <= result.calibration.nll_before
    assert any("questions of passages left out: their answers are no span" in each for each in recorder.notices)
    lines = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert any("nll_empty" in line for line in lines) and lines[0]["kind"] == "dev"


def test_a_reader_that_is_not_trained(open_reader: Callable[..., RAG], reader: Path, tmp_path: Path) -> None:
    """Calibration, and the retriever alone: its likelihoods are computed once."""
    result = train(spec(open_reader(), tmp_path / "fit", parts=("temperature",)), Recorder())
    assert result.calibration is not None and result.calibration.nll_after <= result.calibration.nll_before
    assert read_bundle(tmp_path / "fit").models()["generator"] == str(reader)
    recorder = Recorder()
    train(spec(open_reader(), tmp_path / "learn", parts=("question-encoder",), steps=2), recorder)
    assert len(recorder.losses) == 2


@pytest.mark.parametrize(
    ("mixture", "training", "message"),
    [
        ({"switch": 0.5}, {}, "--switch 0"),
        ({"k": 0}, {"parts": ("generator",)}, "-k 1 or more"),
        ({}, {"parts": ("generator", "null")}, "--parts without null"),
        ({}, {"objective": "distill", "reverse": True}, "without --reverse"),
    ],
)
def test_what_an_extractive_reader_cannot_be_trained_with(
    open_reader: Callable[..., RAG], tmp_path: Path, mixture: Any, training: Any, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        train(spec(open_reader(**mixture), tmp_path / "out", **training), Recorder())
    rag = open_reader()
    with_adapter = RAG.open(
        rag.store.directory, models=replace(rag.models, adapter=tmp_path), settings=rag.settings
    )
    with with_adapter, pytest.raises(SettingError, match="no adapter with an extractive model"):
        train(spec(with_adapter, tmp_path / "out"), Recorder())
    assert not (tmp_path / "out").exists()


def test_pairs_and_baselines_that_no_passage_can_answer(open_reader: Callable[..., RAG], tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="1 pairs, none of them so"):
        train(spec(open_reader(), tmp_path / "out", [NEVER]), Recorder())
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": "what does cod cost", "answer": "nine crowns"}\n')
    with pytest.raises(SettingError, match="that read passages for an extractive reader"):
        open_reader().train(
            path, out=tmp_path / "out", dev=path, settings={"batch": 1}, baselines=("closed-book",)
        )
    assert not (tmp_path / "out").exists()


def test_of_two_generators_one_is_trained_and_the_other_is_named(
    store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path], reader: Path, tmp_path: Path
) -> None:
    models = ModelConfig(
        encoder=encoder_folder, generator=tiny_folder("llama-chat"), span_reader=reader, device="cpu"
    )
    with RAG.open(store_folder, models=models, settings=Settings(k=3, temperature=0.5)) as rag:
        result = train(spec(rag, tmp_path / "out", parts=("generator",), steps=1), Recorder())
    assert any("the language model is trained, alone; --generator extractive" in each for each in result.notices)
    assert result.bundle.adapter == "adapter" and result.bundle.span_reader == str(reader)

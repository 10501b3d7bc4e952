"""The composite objective: its gradient, its steps, and a run from pairs to a folder that opens."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mixrag import ModelConfig, Settings
from mixrag.config.bundle import read_bundle
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import CheckpointError, PairsError, SettingError
from mixrag.generator import load_generator
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training.composite import drawing, steps_of
from mixrag.training.generators import TrainableGenerator
from mixrag.training.metrics import read_metrics
from mixrag.training.packing import Row, branches_of
from mixrag.training.reading_sets import ReadableSet, ReadableTarget, SetTokenizer, own_sets
from mixrag.training.row_reader import RowReader
from mixrag.training.run import train
from mixrag.training.run_spec import RunSpec
from training.conftest import PAIRS
from training.recorder import Recorder

OWN = (
    Pair("who came?", ("Ada",), passage="Ada came by boat.", title="Boats"),
    Pair("how did she come?", ("by boat", "boat"), passage="Ada came by boat.", title="Boats"),
    Pair("when did she go?", (), passage="Ada came by boat.", title="Boats"),
    Pair("what is it made of?", ("tin",), passage="It is made of tin."),
)
QUICK = {
    "objective": "composite",
    "parts": ("generator",),
    "rank": 4,
    "batch": 6,
    "epochs": 6.0,
    "row_tokens": 200,
    "learning_rate": 0.02,
    "checkpoint_every": 2,
}


def spec(
    rag: RAG, folder: Path, pairs: Sequence[Pair] = PAIRS, dev: Sequence[Pair] = (), **changes: Any
) -> RunSpec:
    return RunSpec(rag, tuple(pairs), tuple(dev), TrainingSettings(**{**QUICK, **changes}), folder)


def made_sets(count: int) -> list[ReadableSet]:
    source = random.Random(1)
    targets = [
        ReadableTarget((5, number), ((6, number, 2), (7, 2)), source.choice((0.0, 1.0))) for number in range(3)
    ]
    return [ReadableSet((8,) * source.randint(5, 30), tuple(targets)) for _ in range(count)]


def test_the_gradient_is_that_of_the_composite_likelihood(tiny_folder: Callable[[str], Path]) -> None:
    """Σ_j c_j log p(y | x, z_j) + λ (1 - c_j) log p(∅ | x, z_j), each by a forward of its own."""
    settings = TrainingSettings(parts=("generator",), method="full", objective="composite", empty_weight=0.3)
    trained = TrainableGenerator(load_generator(tiny_folder("llama"), device="cpu"), settings)  # type: ignore[arg-type]
    generator = trained.generator
    single = [replace(pair, answers=pair.answers[:1]) for pair in OWN]
    sets = SetTokenizer(generator, 200, 16).readable(own_sets(single))
    rows = drawing(sets, generator.stop_token, settings, 200)("0")
    loss = torch.zeros(())
    for pair in single:
        (reading,) = own_sets([pair])
        tokens = generator.prompt(pair.question, (reading.passage,), 16).tokens
        answer = generator.answer_tokens(pair.answers[0]) if pair.answers else (generator.stop_token,)
        log_probs = generator.model(input_ids=torch.tensor([[*tokens, *answer]])).logits[0].log_softmax(-1)
        picked = log_probs[len(tokens) - 1 : -1].gather(-1, torch.tensor(answer)[:, None]).sum()
        loss = loss - picked * (1.0 if pair.answers else 0.3)
    (loss / len(single)).backward()
    weights = trained.weights()
    expected = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
    for weight in weights.values():
        weight.grad = None
    reader = RowReader(trained, 200, rows)
    reader.backward(rows, len(single))
    assert reader.packed and len(expected) > 5
    for name, gradient in expected.items():
        torch.testing.assert_close(weights[name].grad, gradient, rtol=1e-3, atol=1e-4)


def test_an_epoch_has_every_question_once_and_steps_of_a_batch_or_more() -> None:
    settings = TrainingSettings(**{**QUICK, "batch": 10, "epochs": 2.5})
    draw = drawing(made_sets(40), 2, settings, 100)
    per_epoch, steps = steps_of(draw, settings)
    assert [len(branches_of(step)) >= 10 for step in steps[: per_epoch - 1]] == [True] * (per_epoch - 1)
    assert sum(len(branches_of(step)) for step in steps[:per_epoch]) == 120
    assert abs(len(steps) - 2.5 * per_epoch) <= 3
    assert steps_of(draw, settings) == (per_epoch, steps)
    flat: list[list[Row]] = [steps[0], steps[per_epoch]]
    assert flat[0] != flat[1]
    assert len(steps_of(draw, replace(settings, steps=7))[1]) == 7
    assert len(steps_of(draw, replace(settings, steps=3 * per_epoch))[1]) == 3 * per_epoch


def test_too_few_questions_for_a_batch_are_refused() -> None:
    settings = TrainingSettings(**{**QUICK, "batch": 4})
    with pytest.raises(PairsError, match="lower --batch to 3 or less"):
        steps_of(drawing(made_sets(1), 2, settings, 100), settings)


def p_empty(rag: RAG, question: str, text: str) -> float:
    generator: Any = rag.generator
    (reading,) = own_sets([Pair(question, (), passage=text)])
    prompt = generator.prompt(question, (reading.passage,), 8)
    return float(generator.log_likelihood([prompt], [generator.stop_token]).exp())


def test_it_learns_what_passages_state_and_where_they_state_nothing(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    rag, recorder = open_rag(), Recorder()
    result = train(spec(rag, tmp_path / "out", dev=PAIRS[:2], epochs=20.0, keep="last"), recorder)
    assert recorder.losses[-1] < 0.5 * recorder.losses[0]
    assert result.bundle.settings["empty_answer"] is True
    assert any("passages with 6 questions that they answer" in notice for notice in recorder.notices)
    lines = read_metrics(tmp_path / "out" / "metrics.jsonl")
    steps = [line for line in lines if line["kind"] == "train"]
    assert all(line["tokens"] > 0 and line["rows"] >= 1 for line in steps)
    first, *_, last = [line for line in lines if line["kind"] == "dev"]
    assert last["nll_answer"] < first["nll_answer"] and last["nll_empty"] < first["nll_empty"]
    models = ModelConfig(device="cpu", dtype="float32")
    with RAG.open(rag.store.directory, model=tmp_path / "out", models=models) as opened:
        assert opened.settings.empty_answer
        question = PAIRS[0].question
        stated, elsewhere = (
            p_empty(opened, question, f"a licence to fish {what}")
            for what in ("cod costs nine crowns a year", "eel costs four crowns a season")
        )
        assert stated < elsewhere


def test_a_run_that_stopped_resumes_to_the_same_weights(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    pairs = (*PAIRS, *OWN)
    train(spec(open_rag(), tmp_path / "whole", pairs), Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(spec(open_rag(), tmp_path / "parts", pairs), Recorder(die_at=3))
    assert (tmp_path / "parts" / "checkpoints").exists()
    recorder = Recorder()
    train(spec(open_rag(), tmp_path / "parts", pairs), recorder)
    assert "resumed at step 2" in recorder.notices
    assert not (tmp_path / "parts" / "checkpoints").exists()
    name = "adapter/adapter_model.safetensors"
    expected, found = (load_file(tmp_path / folder / name) for folder in ("whole", "parts"))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_what_of_the_retriever_is_trained_follows(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    parts = ("generator", "temperature")
    result = train(spec(open_rag(), tmp_path / "fit", parts=parts, steps=2), Recorder())
    assert result.calibration is not None and result.calibration.nll_after <= result.calibration.nll_before
    assert result.bundle.settings["temperature"] != 0.5
    recorder = Recorder()
    parts = ("generator", "question-encoder")
    result = train(spec(open_rag(), tmp_path / "learn", parts=parts, steps=2), recorder)
    assert result.bundle.question_encoder == "question-encoder"
    assert {event.stage for event in recorder.events} >= {"training", "learning to retrieve", "finding passages"}
    assert not (tmp_path / "learn" / "retriever" / "checkpoints").exists()


def test_targets_by_the_posterior(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    recorder = Recorder()
    train(spec(open_rag(), tmp_path / "out", targets="posterior", steps=2), recorder)
    assert len(recorder.losses) == 2 and (tmp_path / "out" / "adapter").exists()


def test_pairs_with_passages_need_no_passages_in_the_store(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    models = ModelConfig(generator=tiny_folder("llama"), device="cpu")
    with RAG.open(tmp_path / "store", create=True, models=models, settings=Settings(max_tokens=8)) as rag:
        result = train(spec(rag, tmp_path / "out", OWN, batch=2, steps=3), Recorder())
    assert result.state is not None and result.state.step == 3
    assert read_bundle(tmp_path / "out").settings["empty_answer"] is True


@pytest.mark.parametrize("kind", ["gpt2", "t5", "llama-chat"])
def test_every_kind_of_model_learns(open_rag: Callable[..., RAG], tmp_path: Path, kind: str) -> None:
    recorder = Recorder()
    train(spec(open_rag(kind), tmp_path / "out", OWN, batch=4, epochs=8.0), recorder)
    assert recorder.losses[-1] < recorder.losses[0]
    assert any("a passage of its own" in notice for notice in recorder.notices) == (kind == "t5")


def test_a_finished_run_is_not_trained_again_and_another_is_refused_by_its_settings(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    first = train(spec(open_rag(), tmp_path / "out", OWN, batch=2, steps=2), Recorder())
    recorder = Recorder()
    again = train(spec(open_rag(), tmp_path / "out", OWN, batch=2, steps=2), recorder)
    assert recorder.losses == [] and any("is finished" in notice for notice in recorder.notices)
    assert (again.state, again.bundle.settings) == (first.state, dict(first.bundle.settings))
    with pytest.raises(
        CheckpointError, match=r"another training settings \(empty_weight 1\.0, there 0\.5, rank 8, there 4\)"
    ):
        train(spec(open_rag(), tmp_path / "out", OWN, batch=2, steps=2, rank=8, empty_weight=1.0), Recorder())


def test_what_cannot_be_trained_is_refused(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="generator among the parts"):
        TrainingSettings(objective="composite", parts=("temperature",))
    with pytest.raises(SettingError, match="--group 1"):
        train(spec(open_rag(group=2), tmp_path / "out"), Recorder())
    with pytest.raises(PairsError, match="only pairs with a passage of their own"):
        train(spec(open_rag(), tmp_path / "out", OWN, parts=("generator", "temperature")), Recorder())


def test_pairs_with_passages_are_read_where_they_are_asked_for(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    lines = [
        {"question": p.question, "answers": list(p.answers), "passage": p.passage, "title": p.title} for p in OWN
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    report = open_rag().train(
        path, out=tmp_path / "out", dev=path, settings={**QUICK, "batch": 2, "steps": 2}, evaluate=5
    )
    assert report.scores == {}
    asking = path.parent / "asking.jsonl"
    asking.write_text('{"question": "what do cod cost?", "answers": ["nine crowns"]}')
    for pairs, found in ((path, f"0 of {len(OWN)}"), ([path, asking], f"1 of {len(OWN) + 1}")):
        with pytest.raises(
            PairsError, match=f"2 pairs without a passage of their own .* closed-book; found {found}"
        ):
            settings = {**QUICK, "batch": 2, "steps": 2}
            open_rag().train(
                pairs, out=tmp_path / "none", dev=path, settings=settings, baselines=("closed-book",), evaluate=5
            )
        assert not (tmp_path / "none").exists(), "before anything is trained"
    with pytest.raises(PairsError, match='an answer under "answers"'):
        open_rag().train(path, out=tmp_path / "other", settings={"parts": ("generator",)})

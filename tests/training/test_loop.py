"""The loop as a whole: it learns, resumes, stops, and leaves a folder that opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mixrag.config.model_config import ModelConfig
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import CheckpointError, PairsError, SettingError, TrainingError
from mixrag.rag import RAG
from mixrag.training.loop import Loop
from mixrag.training.metrics import read_metrics
from mixrag.training.run import train
from mixrag.training.run_spec import RunSpec
from tiny_adapter import save_adapter
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


def run_spec(rag: RAG, folder: Path, dev: bool = False, **changes: object) -> RunSpec:
    settings = TrainingSettings(**{**QUICK, **changes})  # type: ignore[arg-type]
    return RunSpec(rag, PAIRS, PAIRS[::2] if dev else (), settings, folder)


def test_an_adapter_that_is_not_trained_goes_along_alone(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    source = save_adapter("llama", tmp_path / "source")
    (source / "mixrag.json").write_text("{}")
    plain = open_rag()
    models = replace(plain.models, adapter=source)
    with RAG.open(plain.store.directory, models=models, settings=plain.settings) as rag:
        result = train(run_spec(rag, tmp_path / "out", parts=("temperature",)), Recorder())
    copied = tmp_path / "out" / "adapter"
    assert result.bundle.adapter == "adapter"
    assert {path.name for path in copied.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert all(path.read_bytes() == (source / path.name).read_bytes() for path in copied.iterdir())


def test_it_learns_and_leaves_a_folder_that_opens(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    rag = open_rag("llama-chat")
    recorder = Recorder()
    result = train(run_spec(rag, tmp_path / "out", dev=True), recorder)
    assert recorder.total == 6 and recorder.losses[-1] < recorder.losses[0]
    assert result.state is not None and result.state.best_step > 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter", "question-encoder", "mixrag.json", "metrics.jsonl", "tensorboard"} <= written
    assert "checkpoints" not in written
    kinds = [line["kind"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl")]
    assert kinds.count("train") == 6 and kinds.count("dev") >= 3
    with RAG.open(
        rag.store.directory, model=tmp_path / "out", models=ModelConfig(device="cpu", dtype="float32")
    ) as opened:
        assert opened.settings.temperature == pytest.approx(result.bundle.settings["temperature"])
        before = -rag.score(PAIRS[0].question, PAIRS[0].answers[0]).log_prob
        after = -opened.score(PAIRS[0].question, PAIRS[0].answers[0]).log_prob
    assert after < before


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_opened_is_what_was_trained(open_rag: Callable[..., RAG], tmp_path: Path, method: str) -> None:
    rag = open_rag("llama", lexical=0.3)
    result = train(run_spec(rag, tmp_path / "out", dev=True, method=method), Recorder())
    (last,) = [line["nll"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl") if line["kind"] == "dev"][
        -1:
    ]
    assert result.state is not None and result.state.best_nll == pytest.approx(last)
    with RAG.open(
        rag.store.directory, model=tmp_path / "out", models=ModelConfig(device="cpu", dtype="float32")
    ) as opened:
        nll = []
        for pair in PAIRS[::2]:
            scored = [opened.score(pair.question, answer).log_prob for answer in pair.answers]
            nll.append(-float(torch.tensor(scored).logsumexp(0)))
    assert sum(nll) / len(nll) == pytest.approx(last, abs=1e-3)


def test_the_second_look_at_the_prior_takes_no_part_and_stays_set(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    plain = train(run_spec(open_rag(), tmp_path / "plain", parts=("temperature",)), Recorder())
    recorder = Recorder()
    spec = run_spec(open_rag("llama", question_likelihood=0.3), tmp_path / "weighed", parts=("temperature",))
    result = train(spec, recorder)
    assert [notice for notice in result.notices if "question_likelihood takes no part" in notice]
    assert any("question_likelihood takes no part" in notice for notice in recorder.notices)
    assert result.bundle.settings == {**plain.bundle.settings, "question_likelihood": 0.3}
    assert result.bundle.settings["temperature"] == plain.bundle.settings["temperature"]
    assert not any("question_likelihood" in notice for notice in plain.notices)


def test_a_stopped_run_resumes_to_the_same_weights(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(run_spec(open_rag(), whole), Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(run_spec(open_rag(), parts), Recorder(die_at=3))
    recorder = Recorder()
    train(run_spec(open_rag(), parts), recorder)
    assert any("resumed at step 2" in notice for notice in recorder.notices) and len(recorder.losses) == 4
    for name in ("adapter/adapter_model.safetensors", "question-encoder/model.safetensors"):
        expected, found = load_file(whole / name), load_file(parts / name)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    steps = [line["step"] for line in read_metrics(parts / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_cached_responsibilities_survive_a_stop(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    changes = {"parts": ("generator", "temperature"), "objective": "em", "e_step_every": 2}
    train(run_spec(open_rag(), tmp_path / "whole", **changes), Recorder())
    scored = [
        line["rows"] for line in read_metrics(tmp_path / "whole" / "metrics.jsonl") if line["kind"] == "train"
    ]
    assert [count > 0 for count in scored] == [True, True, False, False, True, True]
    with pytest.raises(KeyboardInterrupt):
        train(run_spec(open_rag(), tmp_path / "parts", **changes), Recorder(die_at=4))
    train(run_spec(open_rag(), tmp_path / "parts", **changes), Recorder())
    expected, found = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "parts")
    )
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_early_stopping_keeps_the_best_weights(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([3.0, 4.0, 5.0])
    monkeypatch.setattr(Loop, "dev_nll", lambda self: next(values))
    recorder = Recorder()
    result = train(run_spec(open_rag(), tmp_path / "out", dev=True, evaluate_every=1, patience=2), recorder)
    assert result.state is not None and result.state.stopped and result.state.step == 2 < recorder.total
    assert result.state.best_step == 0 and "weights of step 0 are the result" in recorder.notices[-1]
    adapter = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert all(float(tensor.abs().sum()) == 0 for name, tensor in adapter.items() if "lora_B" in name)


def test_the_last_weights_are_kept_where_asked_whatever_the_dev_pairs_say(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "dev_nll", lambda self: 3.0 + self.state.step)
    run = run_spec(open_rag(), tmp_path / "out", dev=True, evaluate_every=1, patience=1, keep="last")
    result = train(run, recorder := Recorder())
    assert result.state is not None and not result.state.stopped
    assert result.state.step == recorder.total and result.state.best_step == 0
    adapter = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert any(float(tensor.abs().sum()) > 0 for name, tensor in adapter.items() if "lora_B" in name)


def test_a_calibration_lowers_the_loss_and_runs_the_model_once(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    rag = open_rag(temperature=2.0, null=0.0)
    result = train(run_spec(rag, tmp_path / "out", parts=("temperature", "null")), Recorder())
    assert result.calibration is not None and result.state is None
    assert result.calibration.nll_after < result.calibration.nll_before
    kept = json.loads((tmp_path / "out" / "mixrag.json").read_text())["settings"]
    assert kept["temperature"] == pytest.approx(result.calibration.temperature) and kept["null"] != 0.0


def test_both_encoders_are_trained_and_the_index_follows(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    recorder = Recorder()
    train(run_spec(open_rag(), tmp_path / "out", parts=("encoder",), refresh_every=2, batch=2), recorder)
    rebuilt = [notice for notice in recorder.notices if notice.startswith("index rebuilt")]
    assert len(rebuilt) == 4 and "after 2 steps" in rebuilt[0]
    assert (tmp_path / "out" / "encoder" / "model.safetensors").exists()


def test_a_resumed_index_is_the_index_of_the_checkpoint(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    changes = {"parts": ("encoder",), "refresh_every": 3, "batch": 2}
    train(run_spec(open_rag(), tmp_path / "whole", **changes), Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(run_spec(open_rag(), tmp_path / "parts", **changes), Recorder(die_at=5))
    train(run_spec(open_rag(), tmp_path / "parts", **changes), Recorder())
    expected = load_file(tmp_path / "whole" / "encoder" / "model.safetensors")
    found = load_file(tmp_path / "parts" / "encoder" / "model.safetensors")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_folder_of_another_run_is_refused(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    one = run_spec(open_rag(), tmp_path / "out")
    train(one, Recorder())
    before = (tmp_path / "out" / "mixrag.json").read_bytes()
    with pytest.raises(CheckpointError, match="training settings"):
        train(replace(one, settings=replace(one.settings, seed=1)), Recorder())
    with pytest.raises(CheckpointError, match="training pairs"):
        train(replace(one, pairs=PAIRS[:4]), Recorder())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="an empty or new folder"):
        train(replace(one, folder=tmp_path / "other"), Recorder())
    assert (tmp_path / "out" / "mixrag.json").read_bytes() == before


def test_what_cannot_be_trained_is_refused(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="lower --batch to 6"):
        train(run_spec(open_rag(), tmp_path / "a", batch=7), Recorder())
    with pytest.raises(SettingError, match="k = 0"):
        train(run_spec(open_rag(k=0), tmp_path / "b"), Recorder())
    with pytest.raises(SettingError, match="group"):
        train(run_spec(open_rag(group="all"), tmp_path / "c"), Recorder())
    with pytest.raises(PairsError, match="--max-answer-tokens"):
        train(run_spec(open_rag(), tmp_path / "d", max_answer_tokens=1), Recorder())


def test_a_loss_that_is_not_finite_stops_the_run(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixrag.training.step import TrainingStep

    learn = TrainingStep.learn
    calls: list[int] = []

    def poisoned(self: TrainingStep, examples: object, total: int, *, e_step: bool) -> object:
        calls.append(1)
        output = learn(self, examples, total, e_step=e_step)  # type: ignore[arg-type]
        if len(calls) == 4:
            first = replace(output.coefficients[0], loss=float("nan"))
            return replace(output, coefficients=[first, *output.coefficients[1:]])
        return output

    monkeypatch.setattr(TrainingStep, "learn", poisoned)
    with pytest.raises(TrainingError, match=r"finite loss.*step 4.*lower the learning rate"):
        train(run_spec(open_rag(), tmp_path / "out"), Recorder())
    assert (tmp_path / "out" / "checkpoints" / "step-000002").exists()
    assert not (tmp_path / "out" / "mixrag.json").exists()


EVERY_STEP = {"dev": True, "evaluate_every": 1, "patience": 99, "checkpoint_every": 1}


def with_dev_nll(monkeypatch: pytest.MonkeyPatch, values: Mapping[int, float]) -> None:
    monkeypatch.setattr(Loop, "dev_nll", lambda self: values[self.state.step])


def damage(folder: Path, step: int) -> None:
    path = folder / "checkpoints" / f"step-{step:06d}" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def test_a_damaged_best_checkpoint_leaves_the_last_weights_and_says_so(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_dev_nll(monkeypatch, {step: 3.0 if step == 1 else 9.0 for step in range(7)})
    with pytest.raises(KeyboardInterrupt):
        train(run_spec(open_rag(), tmp_path / "out", **EVERY_STEP), Recorder(die_at=5))
    damage(tmp_path / "out", 1)
    recorder = Recorder()
    train(run_spec(open_rag(), tmp_path / "out", **EVERY_STEP), recorder)
    assert any("the last weights are the result" in notice for notice in recorder.notices)
    assert (tmp_path / "out" / "mixrag.json").exists()


def test_the_best_checkpoint_of_before_outlives_a_damaged_newer_one(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay need not be bit-equal: step 4, the best before the damage, is not the best after it."""
    values = {0: 9.0, 1: 3.0, 2: 4.0, 3: 4.0, 4: 2.0, 5: 4.0, 6: 5.0}
    with_dev_nll(monkeypatch, values)
    with pytest.raises(KeyboardInterrupt):
        train(run_spec(open_rag(), tmp_path / "out", **EVERY_STEP), Recorder(die_at=5))
    damage(tmp_path / "out", 4)
    values[4] = 3.5
    recorder = Recorder()
    train(run_spec(open_rag(), tmp_path / "out", **EVERY_STEP), recorder)
    assert any("the weights of step 1 are the result" in notice for notice in recorder.notices)


def test_one_question_with_one_component_leaves_the_others_diagnosed(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    rag = open_rag()
    document = rag.store.documents()[0].path
    for alone in range(len(PAIRS)):
        pairs = tuple(replace(p, where={"document": document}) if i == alone else p for i, p in enumerate(PAIRS))
        out = tmp_path / f"out{alone}"
        train(replace(run_spec(rag, out, steps=1, batch=6), pairs=pairs), Recorder())
        (row,) = [row for row in read_metrics(out / "metrics.jsonl") if row["kind"] == "train"]
        assert {"kl", "gold_found", "effective_prior"} <= set(row)


def test_training_goes_on_from_an_adapter_in_bfloat16_and_resumes_bit_for_bit(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    start = save_adapter("llama", tmp_path / "start")

    def rag() -> RAG:
        opened = open_rag()
        opened.models = replace(opened.models, adapter=start)
        return opened

    settings = {"dtype": "bfloat16", "checkpoint_every": 1}
    train(run_spec(rag(), tmp_path / "whole", **settings), Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(run_spec(rag(), tmp_path / "stopped", **settings), Recorder(die_at=3))
    train(run_spec(rag(), tmp_path / "stopped", **settings), Recorder())
    path = "adapter/adapter_model.safetensors"
    whole, stopped = (load_file(tmp_path / name / path) for name in ("whole", "stopped"))
    began = load_file(start / "adapter_model.safetensors")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert set(whole) == set(began) and any(not torch.equal(whole[name], began[name]) for name in whole)


def test_an_adapter_below_the_home_folder_goes_along(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_adapter("llama", tmp_path / "mine")
    for parts in (("temperature",), ("generator",)):
        rag = open_rag()
        rag.models = replace(rag.models, adapter="~/mine")
        train(run_spec(rag, tmp_path / parts[0], parts=parts), Recorder())
        assert (tmp_path / parts[0] / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("changes", [{"k": 1}, {"k": 3, "group": 5}, {"group": "all"}])
@pytest.mark.parametrize("parts", [("temperature",), ("generator", "question-encoder")])
def test_a_retriever_of_one_component_has_nothing_to_learn_from(
    open_rag: Callable[..., RAG], tmp_path: Path, changes: dict[str, object], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingError, match="several components"):
        train(run_spec(open_rag(**changes), tmp_path / "out", parts=parts), Recorder())
    assert not (tmp_path / "out").exists()
    # The full normaliser sees what is left out: the prior of one group is not always 1.
    train(run_spec(open_rag(**changes, normaliser="full"), tmp_path / "full", parts=("temperature",)), Recorder())

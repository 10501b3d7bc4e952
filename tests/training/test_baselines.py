"""Baselines: the same model, pairs and steps, another way to answer; one of them reads passages first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mixrag.errors import SettingError
from mixrag.generator import load_generator
from mixrag.generator.huggingface import ModelGenerator
from mixrag.rag import RAG
from mixrag.training.baselines import BASELINES, baseline_of, named_baselines
from mixrag.training.examples import passage_examples
from mixrag.training.metrics import read_metrics
from mixrag.training.run import train
from training.conftest import TEXTS
from training.recorder import Recorder
from training.test_loop import run_spec

ADAPTER = "adapter/adapter_model.safetensors"


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def text_loss(rag: RAG, folder: Path | None) -> float:
    """Mean -log p of the store's passages as plain text, in nats."""
    models = rag.models
    adapter = "none" if folder is None else folder / "adapter"
    generator = load_generator(models.generator, device="cpu", adapter=adapter)
    assert isinstance(generator, ModelGenerator)
    examples = passage_examples(rag.store.passages(rag.store.vectors()[0]), generator)
    prompts = [example.prompt for example in examples if example.prompt is not None]
    return -float(generator.log_likelihoods(prompts, [example.answers[0] for example in examples]).sum(-1).mean())


def test_unknown_names_are_refused_and_known_ones_keep_their_order() -> None:
    assert list(named_baselines(["frozen", "closed-book"])) == ["frozen", "closed-book"]
    assert named_baselines([]) == {}
    with pytest.raises(SettingError, match=r"closed-book, passages, concatenation, frozen; found open-book"):
        named_baselines(["closed-book", "open-book"])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains_the_generator_alone_on_the_same_pairs_and_steps(
    open_rag: Callable[..., RAG], tmp_path: Path, name: str
) -> None:
    mixture = run_spec(open_rag(null=0.3), tmp_path / "out", dev=True)
    baseline = baseline_of(mixture, name)
    assert (baseline.pairs, baseline.dev) == (mixture.pairs, mixture.dev)
    assert baseline.settings == replace(mixture.settings, parts=("generator",))
    assert baseline.folder == tmp_path / "out" / "baselines" / name
    result = train(baseline, Recorder())
    assert result.state is not None and result.state.step == 6
    written = {path.name for path in baseline.folder.iterdir()}
    assert "adapter" in written and "question-encoder" not in written
    if BASELINES[name].changes.get("k") == 0:
        assert result.bundle.settings["k"] == 0
    if name == "concatenation":
        assert result.bundle.settings["group"] == "all"


def test_every_kind_of_run_has_baselines(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    """What belongs to the mixture's objective alone must not refuse a baseline after hours of training."""
    rag = open_rag()
    kinds = ({"objective": "em", "e_step_every": 3}, {"objective": "distill"}, {"parts": ("temperature", "null")})
    for changes in kinds:
        one = run_spec(rag, tmp_path / "out", **changes)
        # Alike: by expectation-maximisation with cached responsibilities too, where the mixture is.
        objective = "em" if changes.get("objective") == "em" else "marginal"
        settings = [baseline_of(one, name).settings for name in BASELINES]
        assert {s.objective for s in settings} == {objective}
        assert {s.e_step_every for s in settings} == {one.settings.e_step_every}


def test_learning_the_passages_makes_their_text_more_probable(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    rag = open_rag()
    mixture = run_spec(rag, tmp_path / "out", learning_rate=0.005, batch=1, steps=1)
    train(baseline_of(mixture, "passages"), Recorder())
    train(baseline_of(mixture, "closed-book"), Recorder())
    before = text_loss(rag, None)
    pairs_alone = text_loss(rag, tmp_path / "out" / "baselines" / "closed-book")
    passages_first = text_loss(rag, tmp_path / "out" / "baselines" / "passages")
    assert passages_first < before - 5 and passages_first < pairs_alone - 5
    lines = read_metrics(tmp_path / "out" / "baselines" / "passages" / "passages" / "metrics.jsonl")
    assert [line["kind"] for line in lines] == ["train"] * len(TEXTS)


class DiesAtSecondStart(Recorder):
    """A kill between the passages and the pairs: both loops are begun, and the second has saved nothing."""

    begun = 0

    def started(self, step: int, total: int) -> None:
        super().started(step, total)
        self.begun += 1
        if self.begun == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("die", ["in the passages", "between the two", "in the pairs"])
def test_a_run_that_learns_passages_first_resumes_wherever_it_stopped(
    open_rag: Callable[..., RAG], tmp_path: Path, die: str
) -> None:
    def one(folder: str) -> object:
        return baseline_of(run_spec(open_rag(), tmp_path / folder, batch=2, checkpoint_every=1), "passages")

    train(one("whole"), Recorder())
    # Passages are 3 steps of 2, pairs 9 more.
    killed = DiesAtSecondStart() if die == "between the two" else DiesAtStep(2 if die == "in the passages" else 8)
    with pytest.raises(KeyboardInterrupt):
        train(one("killed"), killed)
    again = Recorder()
    train(one("killed"), again)
    assert any("resumed at step" in notice for notice in again.notices)
    assert len(again.losses) == {"in the passages": 2 + 9, "between the two": 9, "in the pairs": 5}[die]
    folders = [tmp_path / name / "baselines" / "passages" for name in ("whole", "killed")]
    assert same_weights(folders[0] / ADAPTER, folders[1] / ADAPTER)


class DiesAtStep(Recorder):
    """A kill in a step, counted over both loops: it is done, but not saved."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def stepped(self, step: int, loss: float) -> None:
        super().stepped(step, loss)
        if len(self.losses) == self.count:
            raise KeyboardInterrupt


def test_a_store_of_fewer_passages_than_a_batch_can_be_learnt(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    rag = open_rag()
    mixture = run_spec(rag, tmp_path / "out", batch=7, steps=1)
    more = replace(
        mixture, pairs=(*mixture.pairs, replace(mixture.pairs[0], question="how much is a cod licence"))
    )
    train(baseline_of(more, "passages"), Recorder())
    assert (tmp_path / "out" / "baselines" / "passages" / "mixrag.json").exists()

"""kill -9 at any instant of a run: the same command goes on, to the weights of a run that nobody killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mixrag.rag import RAG
from mixrag.training.metrics import read_metrics
from mixrag.training.run import train
from training.conftest import PAIRS
from training.recorder import Recorder
from training.test_loop import run_spec
from training.tiny_run import Job, Processes, processes, until

STEPS = 9
TRAINING = {
    "parts": ("generator", "question-encoder", "temperature"),
    "rank": 4,
    "batch": 2,
    "steps": STEPS,
    "learning_rate": 0.02,
    "encoder_rate": 1e-3,
    "checkpoint_every": 1,
    "evaluate_every": 2,
    "patience": 9,
}


def train_steps(folder: Path) -> list[int]:
    return [line["step"] for line in read_metrics(folder / "metrics.jsonl") if line["kind"] == "train"]


def kill(runs: Processes, job: Job, instant: Callable[[], bool], later: float) -> None:
    """Begin or go on, and kill it some time after an instant."""
    process = runs.start(job)
    until(instant)
    time.sleep(later)
    os.kill(process, signal.SIGKILL)
    assert runs.wait(process) == -signal.SIGKILL


def test_a_run_killed_again_and_again_ends_with_the_weights_of_one_that_was_not(
    store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    names = {"store": str(store_folder), "encoder": str(encoder_folder), "generator": str(tiny_folder("llama"))}
    job = Job(**names, out=str(whole), pairs=PAIRS, dev=PAIRS[::2], training=TRAINING)
    chance = random.Random(11)
    with processes() as runs:
        assert runs.wait(runs.start(job)) == 0
        slow = replace(job, out=str(killed), pause=0.1)
        kill(runs, slow, lambda: (killed / "run.json").exists(), chance.uniform(0, 0.3))
        stops = []
        for _ in range(5):
            before = max(train_steps(killed), default=0)
            kill(runs, slow, lambda: max(train_steps(killed), default=0) > before, chance.uniform(0, 0.2))
            stops.append(max(train_steps(killed)))
        kill(runs, slow, lambda: STEPS in train_steps(killed), chance.uniform(0, 0.15))
        assert stops == sorted(set(stops)) and stops[0] > 0 and stops[-1] < STEPS  # kills fell into the run
        assert runs.wait(runs.start(replace(slow, pause=0.0))) == 0
    assert train_steps(killed) == list(range(1, STEPS + 1))
    for name in ("adapter/adapter_model.safetensors", "question-encoder/model.safetensors"):
        expected, found = load_file(whole / name), load_file(killed / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    settings = [json.loads((folder / "mixrag.json").read_text())["settings"] for folder in (whole, killed)]
    assert settings[0] == settings[1] and settings[0]["temperature"] != 0.5
    curves = [
        [(line["kind"], line.get("nll")) for line in read_metrics(f / "metrics.jsonl")] for f in (whole, killed)
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("left", [".writing-run.json", ".writing-adapter/adapter_model.safetensors"])
def test_what_a_kill_left_half_written_is_in_nobodys_way(
    open_rag: Callable[..., RAG], tmp_path: Path, left: str
) -> None:
    """A kill between the making of the folder and its record, or while a part was written."""
    one = run_spec(open_rag(), tmp_path / "out", steps=1)
    if "adapter" in left:
        train(one, Recorder())
    (tmp_path / "out" / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / left).write_bytes(b"half")
    train(one, Recorder())
    assert (tmp_path / "out" / "mixrag.json").exists() and not (tmp_path / "out" / left).exists()

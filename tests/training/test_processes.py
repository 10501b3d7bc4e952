"""Two processes that share every batch are one run: the same losses, the same weights."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mixrag.pairs.pairs import Pair
from mixrag.training.metrics import read_metrics
from training.conftest import PAIRS
from training.tiny_run import Job, Processes, processes

ALL = (*PAIRS, Pair("what is paid in crowns", ("income tax",), "tax.txt", {}, "pairs.jsonl:7"))
"""Seven: batches of 3, 3 and 1, so that a process has two questions, one, or none."""
TRAINING = {
    "parts": ("generator", "question-encoder", "temperature"),
    "rank": 4,
    "batch": 3,
    "epochs": 2.0,
    "learning_rate": 0.01,
    "encoder_rate": 1e-3,
    "skip": 0.0,
    "evaluate_every": 1,
    "patience": 99,
}
CASES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "generator, question encoder and temperature": ({}, {}),
    "temperature and generator": ({"parts": ("generator", "temperature")}, {"null": 0.2}),
    "both encoders": ({"parts": ("encoder", "null"), "refresh_every": 2}, {}),
    "closed book": ({"parts": ("generator",)}, {"k": 0}),
    "composite": (
        {"parts": ("generator",), "objective": "composite", "batch": 8, "row_tokens": 160, "epochs": 4.0},
        {},
    ),
    "cached responsibilities": (
        {"parts": ("generator", "temperature"), "objective": "em", "e_step_every": 3, "epochs": 5.0},
        {},
    ),
}


@pytest.fixture(scope="module")
def runs() -> Iterator[Processes]:
    with processes() as started:
        yield started


def as_launched(port: int, rank: int) -> dict[str, str]:
    """What `accelerate launch --cpu --num_processes 2` and torchrun put into the environment."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"} | {n: str(v) for n, v in numbers.items()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def curve(folder: Path, kind: str, name: str) -> list[tuple[int, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line[name]) for line in lines if line["kind"] == kind]


def both(runs: Processes, job: Job) -> None:
    port = free_port()
    started = [runs.start(replace(job, environment=as_launched(port, rank))) for rank in range(2)]
    assert [runs.wait(process) for process in started] == [0, 0]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_losses_and_weights_of_one(
    runs: Processes,
    store_folder: Path,
    encoder_folder: Path,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    case: str,
) -> None:
    training, mixture = CASES[case]
    names = {"store": str(store_folder), "encoder": str(encoder_folder), "generator": str(tiny_folder("llama"))}
    learning = {"pairs": ALL, "dev": ALL[::2], "training": {**TRAINING, **training}, "mixture": mixture}
    one = Job(**names, out=str(tmp_path / "one"), **learning)
    assert runs.wait(runs.start(one)) == 0
    both(runs, replace(one, out=str(tmp_path / "two")))
    for kind, name in (("train", "loss"), ("dev", "nll")):
        expected, found = (curve(tmp_path / folder, kind, name) for folder in ("one", "two"))
        assert [step for step, _ in found] == [step for step, _ in expected] and len(found) >= 6
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-4)
    assert curve(tmp_path / "two", "train", "rows") == curve(tmp_path / "one", "train", "rows")
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_a_process_that_comes_late_begins_with_the_other(
    runs: Processes, store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """It must not take the other's first checkpoint for one to go on from: both would wait for one another."""
    names = {"store": str(store_folder), "encoder": str(encoder_folder), "generator": str(tiny_folder("llama"))}
    job = Job(**names, out=str(tmp_path / "out"), pairs=ALL, dev=(), training={**TRAINING, "epochs": 1.0})
    port = free_port()
    environments = [as_launched(port, rank) for rank in range(2)]
    started = [runs.start(replace(job, environment=e, late=2.0 * r)) for r, e in enumerate(environments)]
    assert [runs.wait(process) for process in started] == [0, 0]
    assert len(curve(tmp_path / "out", "train", "loss")) == 3


def assert_same_weights(one: Path, two: Path) -> None:
    names = [path.relative_to(one) for part in one.iterdir() if part.name != "checkpoints"
             for path in part.rglob("*.safetensors")]  # fmt: skip
    assert names
    for name in names:
        expected, found = load_file(one / name), load_file(two / name)
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4)
    settings = [json.loads((folder / "mixrag.json").read_text())["settings"] for folder in (one, two)]
    words, numbers = ([{k: v for k, v in each.items() if isinstance(v, str) is text} for each in settings]
                      for text in (True, False))  # fmt: skip
    assert words[1] == words[0]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-4)


def test_the_command_in_two_processes_leaves_one_folder(
    runs: Processes, store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    lines = [json.dumps({"question": p.question, "answers": p.answers, "doc": p.document}) for p in ALL]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[:3]))
    names = {"store": str(store_folder), "encoder": str(encoder_folder), "generator": str(tiny_folder("llama"))}
    options = {
        **names,
        "device": "cpu",
        "dev": tmp_path / "dev.jsonl",
        "out": tmp_path / "out",
        "temperature": 0.5,
    }
    options |= {"max-tokens": 4, "steps": 2, "batch": 3, "rank": 2, "baselines": "closed-book,concatenation"}
    named = [str(each) for name, value in options.items() for each in (f"--{name}", value)]
    job = Job(
        **names, out="", pairs=(), dev=(), training={}, arguments=["train", str(tmp_path / "pairs.jsonl"), *named]
    )
    both(runs, job)
    systems = [
        json.loads(line)["system"] for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    ]
    assert systems == ["start"] * 3 + ["trained"] * 3
    for folder in (tmp_path / "out", tmp_path / "out" / "baselines" / "closed-book"):
        assert [step for step, _ in curve(folder, "train", "loss")] == [1, 2]
        assert {"adapter", "mixrag.json", "curves.png"} <= {path.name for path in folder.iterdir()}
    assert "concatenation, trained alike" in (tmp_path / "out" / "README.md").read_text()
    assert not list((tmp_path / "out").rglob(".*"))  # nothing half written


def test_a_folder_that_is_refused_ends_both_processes(
    runs: Processes, store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    names = {"store": str(store_folder), "encoder": str(encoder_folder), "generator": str(tiny_folder("llama"))}
    job = Job(**names, out=str(tmp_path / "out"), pairs=ALL, dev=(), training=TRAINING)
    port = free_port()
    started = [runs.start(replace(job, environment=as_launched(port, rank))) for rank in range(2)]
    assert [runs.wait(process) for process in started] == [1, 1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]

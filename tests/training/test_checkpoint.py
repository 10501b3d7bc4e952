"""Checkpoints: complete or absent, whatever happens; a resumed run has the weights of an uninterrupted one."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mixrag.errors import CheckpointError, TrainingError
from mixrag.training.checkpoint import (
    Checkpoint,
    checkpoint_at,
    has_checkpoint,
    latest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)

RUN = {"language model": "tiny", "training pairs": "abc", "training settings": "{}"}


def made(step: int, size: int = 5) -> Checkpoint:
    return Checkpoint(step, {"weights/a": torch.full((size,), float(step))}, {"best": 1.5, "worse": step})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Saving and reading ---------------------------------------------------------------------------


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    shared = torch.randn(4, 3)
    tensors = {
        "a": shared,
        "b": shared.T,
        "c": shared[1],
        "half": torch.randn(3).bfloat16(),
        "step": torch.tensor(7.0),
    }
    state = {"progress": {"step": 120, "best_nll": 0.1 + 0.2, "none": float("inf")}, "names": ["ä", None]}

    path = save_checkpoint(tmp_path / "new" / "checkpoints", Checkpoint(120, tensors, state), RUN)
    found = latest_checkpoint(tmp_path / "new" / "checkpoints", RUN)

    assert path.name == "step-000120" and names(path) == ["state.json", "tensors.safetensors"]
    assert found is not None and found.step == 120 and found.state == state and found.notices == ()
    assert set(found.tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and torch.equal(found.tensors[name], tensor), name


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "missing", RUN) is None and not has_checkpoint(tmp_path / "missing")
    (tmp_path / "step-notes").mkdir()
    assert latest_checkpoint(tmp_path, RUN) is None and not has_checkpoint(tmp_path)


def test_the_newest_and_the_protected_stay(tmp_path: Path) -> None:
    for step in (0, 10, 20, 30, 40):
        save_checkpoint(tmp_path, made(step), RUN, keep=2, protect={10})
    assert names(tmp_path) == ["step-000010", "step-000030", "step-000040"]
    save_checkpoint(tmp_path, made(50), RUN, keep=0)
    assert names(tmp_path) == ["step-000050"]


def test_steps_are_ordered_as_numbers_beyond_six_digits(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save_checkpoint(tmp_path, made(step), RUN)
    found = latest_checkpoint(tmp_path, RUN)
    assert found is not None and found.step == 1_000_000


def test_one_step_can_be_asked_for(tmp_path: Path) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, made(step), RUN)
    assert checkpoint_at(tmp_path, 10, RUN).tensors["weights/a"][0] == 10
    with pytest.raises(CheckpointError, match="step 15"):
        checkpoint_at(tmp_path, 15, RUN)


def test_a_step_saved_twice_has_the_later_content(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(10), RUN)
    save_checkpoint(tmp_path, Checkpoint(10, {"b": torch.ones(1)}, {"again": True}), RUN)
    found = latest_checkpoint(tmp_path, RUN)
    assert found is not None and found.state == {"again": True} and names(tmp_path) == ["step-000010"]


# --- Damage ---------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def be_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def be_another_step(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.parent / "step-000010", path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated tensors": lambda p: truncate(p / "tensors.safetensors"),
    "one bit of the tensors": lambda p: flip(p / "tensors.safetensors"),
    "no tensors": lambda p: (p / "tensors.safetensors").unlink(),
    "truncated state": lambda p: truncate(p / "state.json"),
    "no state": lambda p: (p / "state.json").unlink(),
    "zeros as state": lambda p: (p / "state.json").write_bytes(b"\0" * 100),
    "state without keys": lambda p: (p / "state.json").write_text("{}"),
    "state not an object": lambda p: (p / "state.json").write_text("[1]"),
    "deep state": lambda p: (p / "state.json").write_text("[" * 100_000),
    "a file of its name": be_a_file,
    "another step's": be_another_step,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_notice(tmp_path: Path, damage: str) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, made(step), RUN)
    DAMAGES[damage](tmp_path / "step-000020")

    found = latest_checkpoint(tmp_path, RUN)

    assert found is not None and found.step == 10 and found.tensors["weights/a"].tolist() == [10.0] * 5
    assert len(found.notices) == 1 and "step 20 is damaged" in found.notices[0] and "\n" not in found.notices[0]
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint_at(tmp_path, 20, RUN)


def test_after_falling_back_the_damaged_one_makes_way(tmp_path: Path) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, made(step), RUN)
    truncate(tmp_path / "step-000020" / "tensors.safetensors")
    save_checkpoint(tmp_path, made(15), RUN)
    assert names(tmp_path) == ["step-000010", "step-000015"]
    save_checkpoint(tmp_path, made(20), RUN)
    found = latest_checkpoint(tmp_path, RUN)
    assert found is not None and found.step == 20 and found.notices == ()


def test_only_damaged_checkpoints_are_an_error_not_a_new_beginning(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(10), RUN)
    truncate(tmp_path / "step-000010" / "tensors.safetensors")
    with pytest.raises(CheckpointError, match="give another --out"):
        latest_checkpoint(tmp_path, RUN)


def test_another_run_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(10), RUN)
    other = {**RUN, "training pairs": "abd"}
    other["adapter to start from"] = other.pop("language model")
    before = contents(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        latest_checkpoint(tmp_path, other)
    message = str(caught.value)
    assert (
        "another training pairs, adapter to start from, language model in" in message
        and "settings;" not in message
    )
    assert "give another --out" in message and "\n" not in message and contents(tmp_path) == before


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    state = save_checkpoint(tmp_path, made(10), RUN) / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "format": 2}))
    with pytest.raises(CheckpointError, match="upgrade mixrag"):
        latest_checkpoint(tmp_path, RUN)


# --- Full disks and kills -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "after"), [("fsync", 0), ("fsync", 1), ("fsync", 2), ("replace", 0)])
def test_a_failing_disk_leaves_the_older_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, made(step), RUN)
    before, calls = contents(tmp_path), []
    owner = os if name == "fsync" else Path
    real = getattr(owner, name)

    def failing(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > after:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(TrainingError, match=r"room to write .*step-000030; found .*No space") as caught:
            save_checkpoint(tmp_path, made(30), RUN)
    assert not isinstance(caught.value, CheckpointError) and "\n" not in str(caught.value)
    assert contents(tmp_path) == before and names(tmp_path) == ["step-000010", "step-000020"]


def test_a_failure_while_a_checkpoint_is_replaced_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, made(10), RUN)
    real = Path.replace

    def failing(path: Path, target: Path) -> Path:
        if path.name.startswith(".writing"):
            raise OSError(5, "Input/output error")
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(TrainingError):
            save_checkpoint(tmp_path, Checkpoint(10, {}, {"again": True}), RUN)
    assert checkpoint_at(tmp_path, 10, RUN).state == made(10).state


def test_a_file_that_cannot_grow_is_an_error_of_one_line(tmp_path: Path) -> None:
    """As on a full disk; safetensors has its own error for it."""
    save_checkpoint(tmp_path, made(10), RUN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(TrainingError) as caught:
            save_checkpoint(tmp_path, made(20, size=10_000), RUN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "room to write" in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == ["step-000010"]


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="room to write"):
        save_checkpoint(tmp_path / "file" / "checkpoints", made(10), RUN)


def test_leftovers_of_a_killed_process_are_no_checkpoints_and_are_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(10), RUN)
    for name in (".writing-step-000020", ".removed-step-000005", ".replaced-step-000010"):
        shutil.copytree(tmp_path / "step-000010", tmp_path / name)
    found = latest_checkpoint(tmp_path, RUN)
    assert found is not None and found.step == 10
    save_checkpoint(tmp_path, made(20), RUN)
    assert names(tmp_path) == ["step-000010", "step-000020"]


def test_a_kill_while_a_checkpoint_is_replaced_loses_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, made(10), RUN).rename(tmp_path / ".replaced-step-000010")
    found = latest_checkpoint(tmp_path, RUN)
    assert has_checkpoint(tmp_path) and found is not None and found.step == 10
    save_checkpoint(tmp_path, made(20), RUN)
    assert names(tmp_path) == ["step-000010", "step-000020"]


def save_until_killed(folder: str, done: ctypes.c_longlong) -> None:
    found = latest_checkpoint(Path(folder), RUN)
    step = 0 if found is None else found.step
    while True:
        step += 1
        save_checkpoint(Path(folder), made(step, size=200_000), RUN)
        done.value = step


def test_kill_9_at_any_instant_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mixrag.training.checkpoint"])
    chance = random.Random(5)
    done = processes.RawValue("q", 0)  # no lock: a killed process would keep it
    for _ in range(8):
        before = done.value
        process = processes.Process(target=save_until_killed, args=(str(tmp_path), done))
        process.start()
        while done.value == before and process.is_alive():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.join()
        found = latest_checkpoint(tmp_path, RUN)
        assert process.exitcode == -9 and found is not None
        assert found.notices == () and found.step >= done.value > before
        assert torch.equal(found.tensors["weights/a"], torch.full((200_000,), float(found.step)))
        assert found.state["worse"] == found.step


# --- Optimizer ------------------------------------------------------------------------------------


class Run:
    """A model and its optimizer: two groups, and a weight that has no gradient before step 6."""

    def __init__(self, seed: int, names: tuple[str, str, str] = ("in", "out", "late")) -> None:
        torch.manual_seed(seed)
        self.layers = [nn.Linear(6, 8), nn.Linear(8, 3)]
        self.late = nn.Parameter(torch.randn(3))
        self.named: list[tuple[str, Tensor]] = [
            (f"{name}/{part}", weight)
            for name, layer in zip(names, self.layers, strict=False)
            for part, weight in layer.named_parameters()
        ] + [(names[2], self.late)]
        weights = [weight for _, weight in self.named]
        groups = [{"params": weights[:2], "lr": 1e-2, "weight_decay": 0.1}, {"params": weights[2:], "lr": 3e-3}]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            data = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
            hidden = self.layers[1](torch.tanh(self.layers[0](data)))
            loss = (hidden + (self.late if step >= 6 else 0.0)).square().mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.97
            self.optimizer.step()

    def save(self, folder: Path, step: int) -> None:
        tensors, state = optimizer_tensors(self.optimizer, self.named)
        weights = {f"weights/{name}": weight for name, weight in self.named}
        save_checkpoint(folder, Checkpoint(step, {**weights, **tensors}, state), RUN)

    def load(self, folder: Path) -> int:
        found = latest_checkpoint(folder, RUN)
        assert found is not None
        restore_optimizer(self.optimizer, self.named, found.tensors, found.state)
        with torch.no_grad():
            for name, weight in self.named:
                weight.copy_(found.tensors[f"weights/{name}"])
        return found.step


@pytest.mark.parametrize("stop", [5, 9])
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one_bit_for_bit(tmp_path: Path, stop: int) -> None:
    whole = Run(seed=1)
    whole.train(0, 15)

    killed = Run(seed=1)
    killed.train(0, stop)
    killed.save(tmp_path, stop)
    resumed = Run(seed=2)
    resumed.train(0, 1)  # moments of its own, which have to go
    resumed.train(resumed.load(tmp_path), 15)

    for (name, expected), (_, found) in zip(whole.named, resumed.named, strict=True):
        assert torch.equal(expected, found), name
    rates = [[group["lr"] for group in run.optimizer.param_groups] for run in (whole, resumed)]
    assert rates[0] == rates[1] and len(set(rates[0])) == 2


def test_names_of_moments_are_flat_and_state_is_json(tmp_path: Path) -> None:
    run = Run(seed=1)
    run.train(0, 2)
    tensors, state = optimizer_tensors(run.optimizer, run.named)
    assert {"optimizer/in/weight/exp_avg", "optimizer/out/bias/exp_avg_sq", "optimizer/out/bias/step"} <= set(
        tensors
    )
    assert not any("late" in name for name in tensors)  # no gradient yet, no moments
    assert json.loads(json.dumps(state))["optimizer"][1]["names"] == ["out/weight", "out/bias", "late"]


def test_going_on_leaves_the_checkpoint_that_was_read_as_it_is(tmp_path: Path) -> None:
    run = Run(seed=1)
    run.train(0, 7)
    run.save(tmp_path, 7)
    found = latest_checkpoint(tmp_path, RUN)
    assert found is not None
    before = {name: tensor.clone() for name, tensor in found.tensors.items()}
    restore_optimizer(run.optimizer, run.named, found.tensors, found.state)
    run.train(7, 9)
    assert all(torch.equal(before[name], tensor) for name, tensor in found.tensors.items())


def test_an_optimizer_of_other_weights_is_refused(tmp_path: Path) -> None:
    run = Run(seed=1)
    run.train(0, 2)
    tensors, state = optimizer_tensors(run.optimizer, run.named)
    other = Run(seed=1, names=("in", "elsewhere", "late"))
    with pytest.raises(CheckpointError, match="elsewhere/bias"):
        restore_optimizer(other.optimizer, other.named, tensors, state)
    wrong = {**tensors, "optimizer/in/bias/exp_avg": torch.zeros(9)}
    with pytest.raises(CheckpointError, match=r"shape \(8,\); found shape \(9,\)"):
        restore_optimizer(run.optimizer, run.named, wrong, state)

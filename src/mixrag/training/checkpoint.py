"""Checkpoints that are complete or absent, are checked when read, and are refused by another run.

    checkpoints/step-000120/tensors.safetensors   trained weights, moments of the optimizer
    checkpoints/step-000120/state.json            the run's counters, its fingerprint, the digest of the tensors

A folder takes its name only when both files are on the disk (``utils.atomic``). Names with a dot in front are work
in progress; what a killed process left of them is removed by the next save. Reading changes nothing: all processes
of a run may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from mixrag.errors import CheckpointError, TrainingError
from mixrag.utils.atomic import REPLACED, WRITING, remove, replace_atomically
from mixrag.utils.hashing import file_digest

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
REMOVED = ".removed-"
"""Before the name of a checkpoint that is being deleted."""
# A folder that is being replaced counts: its successor of the same step has not taken its place yet.
_NAME = re.compile(rf"(?:{re.escape(REPLACED)})?step-(\d{{6,}})")


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to continue from a step."""

    step: int
    """Optimizer steps done."""
    tensors: Mapping[str, Tensor]
    """Trained weights and moments of the optimizer, by flat names."""
    state: Mapping[str, Any]
    """Everything else, as JSON has it (also infinities, as Python writes them)."""
    notices: tuple[str, ...] = field(default=())
    """Notices for the user about how it was found."""


class _Damaged(Exception):
    """Not a whole checkpoint; the message says why."""


def save_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    fingerprint: Mapping[str, str],
    keep: int = 2,
    protect: Collection[int] = (),
) -> Path:
    """Write folder/step-NNNNNN; only then delete all but the newest ``keep`` and the steps in ``protect``.

    Later steps than this one, left by a run that had to fall back, are deleted too. ``fingerprint`` names what
    makes two runs the same. One process of a run calls this.

    Raises:
        TrainingError: it cannot be written; the checkpoints there before are untouched.
    """
    target = folder / f"step-{checkpoint.step:06d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        replace_atomically(target, lambda path: _fill(path, checkpoint, fingerprint))
    except (OSError, SafetensorError) as error:
        found = " ".join(str(error).split())
        remedy = "free it and run the same command again; older checkpoints stay"
        raise TrainingError(f"room to write {target}", found, remedy) from error
    _prune(folder, checkpoint.step, keep, protect)
    return target


def has_checkpoint(folder: Path) -> bool:
    """True where there is one, be it damaged."""
    return bool(_folders(folder))


def latest_checkpoint(folder: Path, fingerprint: Mapping[str, str]) -> Checkpoint | None:
    """The newest undamaged checkpoint; ``notices`` names damaged ones that were passed over. None: there is none.

    Raises:
        CheckpointError: it belongs to another run or to a newer mixrag, or all are damaged.
    """
    damages: list[str] = []
    for step, path in sorted(_folders(folder).items(), reverse=True):
        try:
            found = _read(path, step, fingerprint)
        except _Damaged as damage:
            damages.append(f"the checkpoint of step {step} is damaged ({damage})")
        else:
            return replace(found, notices=tuple(f"{d}; step {step} is used instead" for d in damages))
    if damages:
        remedy = "give another --out, or delete that folder to begin again"
        raise CheckpointError(f"an undamaged checkpoint in {folder}", "; ".join(damages), remedy)
    return None


def checkpoint_at(folder: Path, step: int, fingerprint: Mapping[str, str]) -> Checkpoint:
    """The checkpoint of one step.

    Raises:
        CheckpointError: it is missing, damaged, or of another run.
    """
    expected, remedy = f"the checkpoint of step {step} in {folder}", "continue from another, or start again"
    path = _folders(folder).get(step)
    if path is None:
        raise CheckpointError(expected, "none of this step", remedy)
    try:
        return _read(path, step, fingerprint)
    except _Damaged as damage:
        raise CheckpointError(expected, f"a damaged one ({damage})", remedy) from damage


def optimizer_tensors(
    optimizer: Optimizer, named: Iterable[tuple[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's moments as "optimizer/NAME/exp_avg", ..., and its groups (learning rates, ...) as JSON.

    ``named`` are its weights with their names. Nothing is copied: save before the next step.
    """
    names = {id(weight): name for name, weight in named}
    tensors = {
        f"optimizer/{names[id(weight)]}/{key}": value
        for weight, moments in optimizer.state.items()
        for key, value in moments.items()
    }
    groups = []
    for group in optimizer.param_groups:
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        plain = {key: value.item() if isinstance(value, Tensor) else value for key, value in options.items()}
        groups.append({"names": [names[id(weight)] for weight in group["params"]], **plain})
    return tensors, {"optimizer": groups}


def restore_optimizer(
    optimizer: Optimizer,
    named: Iterable[tuple[str, Tensor]],
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Undo ``optimizer_tensors`` on an optimizer of the same weights, bit for bit.

    Raises:
        CheckpointError: its weights have other names, groups or shapes.
    """
    names = {id(weight): name for name, weight in named}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    groups, count = [], 0
    for saved, own in zip(_groups_of(state, optimizer, names), optimizer.param_groups, strict=True):
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items() if key != "names"}
        groups.append({**options, "params": list(range(count, count + len(own["params"])))})
        count += len(own["params"])
    moments = {i: _moments(names[id(weight)], weight, tensors) for i, weight in enumerate(weights)}
    optimizer.load_state_dict({"state": {i: m for i, m in moments.items() if m}, "param_groups": groups})


def _groups_of(state: Mapping[str, Any], optimizer: Optimizer, names: Mapping[int, str]) -> list[dict[str, Any]]:
    saved: list[dict[str, Any]] = state["optimizer"]
    found = [group["names"] for group in saved]
    own = [[names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups]
    if found != own:
        others = sorted({*chain(*found)} ^ {*chain(*own)}) or ["the same in another order"]
        raise _other("the trained weights of this run", f"others: {', '.join(others[:3])}")
    return saved


def _moments(name: str, weight: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"optimizer/{name}/"
    # A copy: the optimizer changes its moments in place, the checkpoint stays what was read.
    found = {key.removeprefix(prefix): value.clone() for key, value in tensors.items() if key.startswith(prefix)}
    for key, value in found.items():
        if value.shape not in (weight.shape, ()):
            raise _other(f"{prefix}{key} of shape {tuple(weight.shape)}", f"shape {tuple(value.shape)}")
    return found


def _other(expected: str, found: str) -> CheckpointError:
    return CheckpointError(expected, found, "give another --out, or the original models, pairs and settings")


def _folders(folder: Path) -> dict[int, Path]:
    """Checkpoints by step; a plain name sorts after, and so wins over, one that is being replaced."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {int(match[1]): path for path in paths if (match := _NAME.fullmatch(path.name))}


def _read(path: Path, step: int, fingerprint: Mapping[str, str]) -> Checkpoint:
    try:
        document = json.loads((path / STATE).read_text(encoding="utf-8"))
        _check_run(path, document, fingerprint)
        if document["step"] != step:
            raise _Damaged(f"{STATE} is of step {document['step']}")
        if file_digest(path / TENSORS) != document["sha256"]:
            raise _Damaged(f"{TENSORS} is not the file that was written")
        return Checkpoint(step, load_file(path / TENSORS), dict(document["state"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise _Damaged(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _check_run(path: Path, document: Mapping[str, Any], fingerprint: Mapping[str, str]) -> None:
    if document["format"] > FORMAT:
        raise CheckpointError(
            f"a checkpoint of format {FORMAT}", f"{document['format']} in {path}", "upgrade mixrag"
        )
    found = dict(document["fingerprint"])
    differs = [name for name in {**fingerprint, **found} if found.get(name) != fingerprint.get(name)]
    if differs:
        raise _other("a checkpoint of this run", f"one with another {', '.join(differs)} in {path}")


def _fill(folder: Path, checkpoint: Checkpoint, fingerprint: Mapping[str, str]) -> None:
    folder.mkdir()
    save_file(_plain(checkpoint.tensors), folder / TENSORS)
    document = {
        "format": FORMAT,
        "step": checkpoint.step,
        "sha256": file_digest(folder / TENSORS),
        "fingerprint": dict(fingerprint),
        "state": dict(checkpoint.state),
    }
    (folder / STATE).write_text(json.dumps(document), encoding="utf-8")


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors takes them: on the CPU, contiguous, no two in the same memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return plain


def _sweep(folder: Path) -> None:
    """Clear up after a killed process; a checkpoint whose successor never came gets its name back."""
    for path in folder.iterdir():
        former = path.with_name(path.name.removeprefix(REPLACED))
        if path.name.startswith(REPLACED) and not former.exists():
            path.rename(former)
        elif path.name.startswith((WRITING, REPLACED, REMOVED)):
            remove(path)


def _prune(folder: Path, step: int, keep: int, protect: Collection[int]) -> None:
    folders = _folders(folder)
    wanted = {*sorted(s for s in folders if s <= step)[-max(1, keep) :], *protect}
    for each, path in folders.items():
        if each not in wanted:
            aside = path.with_name(f"{REMOVED}{path.name}")
            with suppress(OSError):  # what cannot be deleted now is only in the way
                path.rename(aside)  # half a checkpoint must not have the name of one
            remove(aside)

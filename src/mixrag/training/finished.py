"""The record that a run has ended well: then its folder needs no checkpoints, and its command trains nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixrag.config.bundle import Bundle, read_bundle
from mixrag.errors import CheckpointError, MixragError, TrainingError
from mixrag.training.calibrate import FittedScalars
from mixrag.training.loop import LoopState
from mixrag.utils.atomic import WRITING, remove, write_atomically

FILE = "finished.json"
CHECKPOINTS = ("checkpoints", "passages/checkpoints", "retriever/checkpoints")
"""Folders of checkpoints below that of a run."""


@dataclass(frozen=True)
class Finished:
    """What a finished run left."""

    bundle: Bundle
    state: LoopState | None
    calibration: FittedScalars | None
    notices: tuple[str, ...] = ()


def finish(folder: Path, fingerprint: Mapping[str, str], left: Finished) -> None:
    """Write the record, then delete the checkpoints.

    Raises:
        TrainingError: it cannot be written.
    """
    document = {
        "fingerprint": dict(fingerprint),
        "state": None if left.state is None else asdict(left.state),
        "calibration": None if left.calibration is None else asdict(left.calibration),
        "notices": list(left.notices),
    }
    try:
        write_atomically(folder / FILE, json.dumps(document, indent=1).encode())
    except OSError as error:
        remedy = "free it and run the same command again"
        raise TrainingError(f"room to write {folder / FILE}", str(error), remedy) from error
    clear(folder)


def clear(folder: Path) -> None:
    """Delete checkpoints, and what killed processes left half written."""
    for name in CHECKPOINTS:
        remove(folder / name)
    for path in folder.glob(f"{WRITING}*"):
        remove(path)


def finished(folder: Path, fingerprint: Mapping[str, str]) -> Finished | None:
    """What the run has left in the folder, if it has ended; None where the record or a part of it is missing.

    Raises:
        CheckpointError: the folder has the result of another run.
    """
    try:
        document: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
        found: Any = document["fingerprint"]
        state = None if document["state"] is None else LoopState(**document["state"])
        calibration = None if document["calibration"] is None else FittedScalars(**document["calibration"])
        notices = tuple(map(str, document["notices"]))
        differs = [name for name in {**fingerprint, **found} if found.get(name) != fingerprint.get(name)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if differs:
        what = f"one with another {', '.join(differs)} in {folder}"
        raise CheckpointError("the result of this run", what, "give another --out")
    try:
        return Finished(read_bundle(folder), state, calibration, notices)
    except MixragError:  # a part was deleted: it is trained again
        return None

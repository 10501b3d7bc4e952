"""What a run measured, step by step: one JSON object a line, and the same figures for TensorBoard.

    {"step": 12, "kind": "train", "loss": 3.21, ...}

Kinds: train, dev, refresh (the index was rebuilt), alarm.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from mixrag.errors import TrainingError
from mixrag.utils.atomic import write_atomically
from mixrag.utils.extras import require

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"


class MetricsLog:
    """Appends to folder/metrics.jsonl and to event files in folder/tensorboard.

    ``resume_step``: steps done at the checkpoint; what a killed run wrote of later steps is cut off, so
    that no step is there twice. None: a new run; all that an earlier one wrote is cut off.

    Raises:
        TrainingError: they cannot be written.
        MissingPackageError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        self.path = folder / METRICS
        last = -1 if resume_step is None else resume_step
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _cut(self.path, last)
            self._lines: BinaryIO = self.path.open("ab")
            self._events = _events(folder / TENSORBOARD, last + 1)
        except OSError as error:
            raise _no_room(self.path, error) from error

    def write(self, step: int, kind: str, values: Mapping[str, float | int | str | None]) -> None:
        """Append one line, at once on its way to the disk; numbers that are not finite become null.

        Raises:
            TrainingError: it cannot be written.
        """
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        line = json.dumps({"step": step, "kind": kind, **finite}, ensure_ascii=False, allow_nan=False)
        try:
            self._lines.write(line.encode() + b"\n")
            self._lines.flush()
            self._events.write_event(_event(step, kind, finite))
            if kind != "train":
                self._events.flush()
        except OSError as error:
            raise _no_room(self.path, error) from error

    def close(self) -> None:
        """Finish both; a second time does nothing.

        What cannot be finished is what ``write`` has complained of, or a tail that the next run cuts off.
        """
        with suppress(OSError, ValueError):  # ValueError: closed before
            self._lines.close()
        with suppress(OSError, ValueError):
            self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file in their order; incomplete ones (a killed run's last) are left out.

    No file: no lines.
    """
    content = path.read_bytes() if path.exists() else b""
    return [entry for line in content.split(b"\n") if (entry := _entry(line)) is not None]


def _cut(path: Path, last: int) -> None:
    """Keep the whole lines of steps up to ``last``."""
    if not path.exists():
        return
    content = path.read_bytes()
    entries = ((line, _entry(line)) for line in content.split(b"\n"))
    whole = b"".join(line + b"\n" for line, entry in entries if entry is not None and entry["step"] <= last)
    if whole != content:
        write_atomically(path, whole)


def _entry(line: bytes) -> dict[str, Any] | None:
    """The object of a line, None where it is not whole."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("step"), int) and isinstance(entry.get("kind"), str)
    return entry if whole else None


# Not tensorboardX.SummaryWriter: it writes from a thread, which a full disk ends without a word; then its queue
# fills, and training would wait forever.
def _events(folder: Path, purge_step: int) -> Any:
    """A new event file; TensorBoard hides what earlier files hold from ``purge_step`` on."""
    writer = require("tensorboardX.event_file_writer", "train", "metrics that TensorBoard shows")
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder.mkdir(exist_ok=True)
    # Two runs within a second would have files of one name.
    events = writer.EventsWriter(str(folder.resolve() / "events"), f".{os.getpid()}.{len(list(folder.iterdir()))}")
    events.write_event(
        Event(wall_time=time.time(), step=purge_step, session_log=SessionLog(status=SessionLog.START))
    )
    events.flush()
    return events


def _event(step: int, kind: str, values: Mapping[str, float | int | str | None]) -> Any:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
    scalars = [Summary.Value(tag=f"{kind}/{name}", simple_value=float(value)) for name, value in numbers.items()]
    return Event(wall_time=time.time(), step=step, summary=Summary(value=scalars))


def _no_room(path: Path, error: OSError) -> TrainingError:
    return TrainingError(f"room to write {path}", str(error), "free it and run the same command again")

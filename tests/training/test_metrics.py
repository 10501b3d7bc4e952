"""The metrics file and TensorBoard's event files: whole lines, no step twice after a resume."""

from __future__ import annotations

import json
import math
import resource
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mixrag.errors import TrainingError
from mixrag.training.metrics import MetricsLog, read_metrics


def lines(folder: Path) -> list[tuple[int, str]]:
    return [(entry["step"], entry["kind"]) for entry in read_metrics(folder / "metrics.jsonl")]


def write_steps(log: MetricsLog, first: int, last: int) -> None:
    for step in range(first, last + 1):
        log.write(step, "train", {"loss": step / 2})


def events(folder: Path) -> list[Event]:
    """Of all event files, in the order in which they were written."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: path.name.rsplit(".", 1)[1]):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("Q", content, start)
            found.append(Event.FromString(content[start + 12 : start + 12 + length]))
            start += 16 + length
    return found


def curve(folder: Path, tag: str) -> dict[int, float]:
    """What TensorBoard shows: a START hides what was there from its step on."""
    shown: dict[int, float] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            shown = {step: value for step, value in shown.items() if step < event.step}
        for value in event.summary.value:
            if value.tag == tag:
                assert event.step not in shown, "a step twice"
                shown[event.step] = value.simple_value
    return shown


def test_every_call_is_a_line_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "new", None)
    log.write(1, "train", {"loss": 2.5, "rows": 24})
    log.write(1, "alarm", {"text": "the prior\nhas become a point ‖"})
    read = (tmp_path / "new" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in read] == [
        {"step": 1, "kind": "train", "loss": 2.5, "rows": 24},
        {"step": 1, "kind": "alarm", "text": "the prior\nhas become a point ‖"},
    ]
    assert read_metrics(tmp_path / "new" / "metrics.jsonl") == [json.loads(line) for line in read]
    log.close()
    log.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_become_null(tmp_path: Path, value: float) -> None:
    log = MetricsLog(tmp_path, None)
    log.write(1, "dev", {"nll": value, "loss": 1.0})
    log.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "kind": "dev", "nll": None, "loss": 1.0}]
    assert curve(tmp_path, "dev/nll") == {} and curve(tmp_path, "dev/loss") == {1: 1.0}


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, None)
    write_steps(log, 1, 3)
    log.write(2, "dev", {"nll": 4.0, "text": "none"})
    log.close()
    assert curve(tmp_path, "train/loss") == {1: 0.5, 2: 1.0, 3: 1.5} and curve(tmp_path, "dev/nll") == {2: 4.0}
    assert events(tmp_path)[0].file_version == "brain.Event:2"


def test_after_a_resume_no_step_is_there_twice(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, None)
    write_steps(log, 1, 6)
    log.write(4, "dev", {"nll": 1.0})
    log.write(6, "dev", {"nll": 1.0})
    log.close()
    resumed = MetricsLog(tmp_path, 4)
    assert lines(tmp_path) == [(1, "train"), (2, "train"), (3, "train"), (4, "train"), (4, "dev")]
    write_steps(resumed, 5, 7)
    resumed.close()
    assert lines(tmp_path)[5:] == [(5, "train"), (6, "train"), (7, "train")]
    assert list(curve(tmp_path, "train/loss")) == [1, 2, 3, 4, 5, 6, 7]
    assert list(curve(tmp_path, "dev/nll")) == [4]


def test_a_new_run_begins_with_an_empty_file(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, None)
    write_steps(log, 0, 2)
    log.close()
    MetricsLog(tmp_path, None).close()
    assert lines(tmp_path) == [] and curve(tmp_path, "train/loss") == {}


@pytest.mark.parametrize(
    "torn", [b'{"step": 3, "ki', b'{"step": 3, "kind": "train", "l\xc3', b"\0" * 50, b"[3]", b"{}"]
)
def test_a_torn_last_line_is_left_out_and_cut_off_on_resume(tmp_path: Path, torn: bytes) -> None:
    log = MetricsLog(tmp_path, None)
    write_steps(log, 1, 2)
    log.close()
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(torn)
    assert lines(tmp_path) == [(1, "train"), (2, "train")]
    resumed = MetricsLog(tmp_path, 2)
    write_steps(resumed, 3, 3)
    resumed.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines()] == [
        1,
        2,
        3,
    ]


def test_a_last_line_that_only_lacks_its_end_is_kept_and_ended(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "train"}')
    log = MetricsLog(tmp_path, 1)
    write_steps(log, 2, 2)
    log.close()
    assert lines(tmp_path) == [(1, "train"), (2, "train")]


def test_without_a_file_there_are_no_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_failed_cut_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path, None)
    write_steps(log, 1, 5)
    log.close()
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match="room to write"):
        MetricsLog(tmp_path, 3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_a_training_error_and_close_stays_quiet(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(TrainingError, match=r"room to write .*metrics\.jsonl"):
            write_steps(log, 1, 200)
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    steps = [step for step, _ in lines(tmp_path)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 10


def test_a_folder_that_cannot_be_made_is_a_training_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="room to write"):
        MetricsLog(tmp_path / "file", None)

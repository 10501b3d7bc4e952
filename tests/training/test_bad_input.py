"""What cannot be trained, or not written: one line that says why, nothing overwritten, checkpoints kept."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mixrag import ModelConfig, Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.errors import CheckpointError, MixragError, PairsError, SettingError, StoreEmptyError, TrainingError
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training import checkpoint, run
from mixrag.training.api import TrainingRequest, run_training
from mixrag.training.run import train
from mixrag.training.run_spec import RunSpec
from training.conftest import PAIRS
from training.recorder import Recorder
from training.test_loop import QUICK, run_spec

ADAPTER = "adapter/adapter_model.safetensors"
GOOD = [json.dumps({"question": p.question, "answers": p.answers, "doc": p.document}) for p in PAIRS]
LONG = " ".join(["crowns"] * 200)
"""More than any tiny model can read."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def request(folder: Path, lines: Sequence[str], *, dev: Sequence[str] = (), **changes: Any) -> TrainingRequest:
    """Pairs in a file, to be trained for two steps."""
    files = {"pairs": list(lines), "dev": list(dev)}
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(content) + "\n")
    training = {**QUICK, "steps": 2, **{k: changes.pop(k) for k in list(changes) if k in QUICK or k == "steps"}}
    asked = TrainingRequest(
        pairs=(folder / "pairs.jsonl",),
        dev=(folder / "dev.jsonl",) if dev else None,
        out=folder / "out",
        settings=TrainingSettings(**training),  # type: ignore[arg-type]
        evaluate=0,
        baselines=(),
        command="mixrag train",
    )
    return replace(asked, **changes)


def refused(error: type[MixragError], call: Callable[..., object], *arguments: object) -> str:
    """The one line of an error."""
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value) and "found ;" not in str(caught.value)
    return str(caught.value)


# --- Pairs ----------------------------------------------------------------------------------------

BAD_LINES = {
    "no answer": ('{"question": "who pays", "answers": []}', r'an answer under "answers"'),
    "blank answers": ('{"question": "who pays", "answers": [" "]}', r'an answer under "answers"'),
    "no question": ('{"answers": ["all"]}', r'strings under "question"'),
    "invalid JSON": ('{"question": "who pays", "answers": ["all"', r"one JSON object a line"),
    "no object": ('["who pays"]', r"a JSON object"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_named_and_what_was_trained_before_stays(
    open_rag: Callable[..., RAG], tmp_path: Path, kind: str
) -> None:
    bad, expected = BAD_LINES[kind]
    rag = open_rag()
    run_training(rag, request(tmp_path, GOOD, dev=GOOD[:2]), Recorder())
    before = contents(tmp_path / "out")
    said = refused(
        PairsError, run_training, rag, request(tmp_path, [*GOOD[:3], bad, *GOOD[3:]], dev=GOOD[:2]), Recorder()
    )
    assert "pairs.jsonl:4: " in said and expected in said
    said = refused(PairsError, run_training, rag, request(tmp_path, GOOD, dev=[*GOOD[:2], bad]), Recorder())
    assert "dev.jsonl:3: " in said and contents(tmp_path / "out") == before


def test_questions_that_come_twice_are_merged_and_the_person_is_told(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    again = json.dumps({"question": PAIRS[0].question, "answers": ["9 crowns"], "doc": PAIRS[0].document})
    recorder = Recorder()
    run_training(open_rag(), request(tmp_path, [*GOOD, again], dev=GOOD[:2]), recorder)
    assert any("1 of 7 pairs repeat a question" in notice for notice in recorder.notices)
    assert "6 training pairs" in (tmp_path / "out" / "README.md").read_text()


def test_fewer_pairs_than_a_batch_leave_nothing_behind_and_a_smaller_batch_does(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    one = request(tmp_path, GOOD, dev=GOOD[:2], batch=8)
    assert "lower --batch to 6 or less" in refused(PairsError, run_training, open_rag(), one, Recorder())
    assert not (tmp_path / "out").exists()
    # The remedy must work as it is said, with the same --out.
    run_training(open_rag(), replace(one, settings=replace(one.settings, batch=6)), Recorder())
    assert (tmp_path / "out" / "mixrag.json").exists()


def test_no_dev_pairs_can_be_split_off_one_document(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    said = refused(PairsError, run_training, open_rag(), request(tmp_path, GOOD[:1], batch=1), Recorder())
    assert "at least 2 documents" in said and not (tmp_path / "out").exists()


def test_answers_that_are_too_long_are_left_out_and_the_person_is_told(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    long = Pair("what is long", (LONG,), None, {}, "long.jsonl:9")
    also = replace(PAIRS[0], answers=(*PAIRS[0].answers, LONG))
    recorder = Recorder()
    train(replace(run_spec(open_rag(), tmp_path / "out", steps=1), pairs=(also, *PAIRS[1:], long)), recorder)
    (notice,) = (notice for notice in recorder.notices if "left out" in notice)
    assert notice.startswith("2 answers of more than 64 tokens left out, and with them 1 pairs")


def words(count: int) -> str:
    """Text of six tokens a word."""
    return " ".join(["crowns"] * count)


@pytest.mark.parametrize(
    ("kind", "question", "answer", "limit"),
    [
        ("llama", words(200), "long", 64),
        ("t5", words(200), "long", 64),
        ("bart", words(200), "long", 64),
        ("llama", words(15), words(22), 180),
        # With its own answer this question fits, with a passage and the room that is kept for answers it does not.
        ("llama", words(28), "long", 64),
    ],
)
def test_a_pair_that_does_not_fit_is_named_before_the_training(
    open_rag: Callable[..., RAG], tmp_path: Path, kind: str, question: str, answer: str, limit: int
) -> None:
    long = Pair(question, (answer,), None, {}, "long.jsonl:9")
    one = run_spec(open_rag(kind), tmp_path / "out", max_answer_tokens=limit)
    recorder = Recorder()
    assert "long.jsonl:9" in refused(PairsError, train, replace(one, pairs=(long, *PAIRS)), recorder)
    assert "long.jsonl:9" in refused(PairsError, train, replace(one, dev=(long, *PAIRS)), recorder)
    assert recorder.losses == [] and not (tmp_path / "out").exists()


def test_dev_pairs_that_cannot_be_scored_do_not_stop_a_run_after_its_training(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    long = json.dumps({"question": "what is long", "answers": [LONG]})
    recorder = Recorder()
    one = request(tmp_path, GOOD, dev=[*GOOD[:2], long], evaluate=5)
    try:
        run_training(open_rag(), one, recorder)
    except PairsError:
        assert recorder.losses == []  # before the training is early enough


# --- Store and folder -----------------------------------------------------------------------------


def test_an_empty_store_is_refused(
    encoder_folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    models = ModelConfig(encoder=encoder_folder, generator=tiny_folder("llama"), device="cpu")
    with RAG.open(tmp_path / "store", create=True, models=models, settings=Settings(k=3)) as rag:
        said = refused(StoreEmptyError, train, run_spec(rag, tmp_path / "out"), Recorder())
    assert "mixrag index" in said and not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_model_is_refused_and_stays(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    train(run_spec(open_rag("llama"), tmp_path / "out", steps=1), Recorder())
    before = contents(tmp_path / "out")
    said = refused(CheckpointError, train, run_spec(open_rag("gpt2"), tmp_path / "out", steps=1), Recorder())
    assert "language model" in said and "--out" in said and contents(tmp_path / "out") == before


def test_checkpoints_of_another_run_below_this_runs_record_are_refused(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    """As where folders were mixed by hand."""
    one = run_spec(open_rag("llama"), tmp_path / "one", steps=1)
    train(one, Recorder())
    train(replace(one, pairs=PAIRS[:4], folder=tmp_path / "two"), Recorder())
    record = (tmp_path / "one" / "run.json").read_bytes()
    (tmp_path / "two" / "run.json").write_bytes(record)
    before = contents(tmp_path / "two")
    assert "training pairs" in refused(CheckpointError, train, replace(one, folder=tmp_path / "two"), Recorder())
    after = contents(tmp_path / "two")
    assert {name: after[name] for name in before if "checkpoints" in name or "adapter" in name} == {
        name: before[name] for name in before if "checkpoints" in name or "adapter" in name
    }


def test_out_that_is_a_file_is_refused(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("thesis")
    said = refused(TrainingError, train, run_spec(open_rag(), tmp_path / "out"), Recorder())
    assert "--out" in said and (tmp_path / "out").read_text() == "thesis"
    below = run_spec(open_rag(), tmp_path / "out" / "below")
    assert "--out" in refused(TrainingError, train, below, Recorder())


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"language model": 1}', "\xff"])
def test_a_damaged_record_is_refused(open_rag: Callable[..., RAG], tmp_path: Path, content: str) -> None:
    one = run_spec(open_rag(), tmp_path / "out", steps=1)
    train(one, Recorder())
    (tmp_path / "out" / "run.json").write_bytes(content.encode("latin-1"))
    before = contents(tmp_path / "out")
    said = refused(CheckpointError, train, one, Recorder())
    assert "--out" in said and contents(tmp_path / "out") == before


# --- Full disks -----------------------------------------------------------------------------------


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_disk_that_is_full_in_the_middle_stops_the_run_and_it_goes_on_later(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"evaluate_every": 99}
    train(run_spec(open_rag(), tmp_path / "whole", **changes), Recorder())
    real, calls = checkpoint.save_file, []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:  # after those of steps 0 and 2
            raise OSError(28, "No space left on device")
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", failing)
        said = refused(TrainingError, train, run_spec(open_rag(), tmp_path / "out", **changes), Recorder())
    assert "room to write" in said and "step-000004" in said and "No space left" in said
    assert sorted(p.name for p in (tmp_path / "out" / "checkpoints").iterdir()) == ["step-000000", "step-000002"]
    assert not (tmp_path / "out" / "mixrag.json").exists()
    recorder = Recorder()
    train(run_spec(open_rag(), tmp_path / "out", **changes), recorder)
    assert "resumed at step 2" in recorder.notices and len(recorder.losses) == 4
    assert same_weights(tmp_path / "whole" / ADAPTER, tmp_path / "out" / ADAPTER)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file can grow beyond a size: as on a full disk, also for libraries that write by themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


OUTPUTS: dict[str, tuple[str, dict[str, object]]] = {
    "an adapter": ("adapter", {"parts": ("generator",)}),
    "all weights": ("generator", {"parts": ("generator",), "method": "full"}),
    "a question encoder": ("question-encoder", {"parts": ("question-encoder",)}),
}


@pytest.mark.parametrize("what", OUTPUTS)
def test_a_disk_that_is_full_at_the_end_loses_nothing(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, changes = OUTPUTS[what]
    one = run_spec(open_rag(), tmp_path / "out", steps=1, **changes)
    real = run.write

    def on_a_full_disk(*arguments: Any) -> Any:
        with small_files(3000):
            return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run, "write", on_a_full_disk)
        said = refused(TrainingError, train, one, Recorder())
    assert "room to write" in said and str(tmp_path / "out" / name) in said
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert name not in found and "mixrag.json" not in found and f".writing-{name}" not in found
    recorder = Recorder()
    train(replace(one, rag=open_rag()), recorder)
    assert recorder.losses == [] and "resumed at step 1" in recorder.notices
    assert (tmp_path / "out" / name).is_dir() and (tmp_path / "out" / "mixrag.json").exists()


def test_a_disk_that_is_full_at_the_end_keeps_what_an_earlier_call_wrote(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_spec(open_rag(), tmp_path / "out", steps=1), Recorder())
    before = (tmp_path / "out" / ADAPTER).read_bytes()
    (tmp_path / "out" / "finished.json").unlink()
    real = run.write

    def on_a_full_disk(*arguments: Any) -> Any:
        with small_files(3000):
            return real(*arguments)

    monkeypatch.setattr(run, "write", on_a_full_disk)
    refused(TrainingError, train, run_spec(open_rag(), tmp_path / "out", steps=1), Recorder())
    assert (tmp_path / "out" / ADAPTER).read_bytes() == before


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": ()},
        {"parts": ("generator", "retriever")},
        {"parts": ("encoder", "question-encoder")},
        *({name: 0} for name in ("rank", "batch", "rows", "e_step_every", "max_answers", "patience", "steps")),
        *({name: float("nan")} for name in ("skip", "epochs", "learning_rate", "clip", "warmup", "weight_decay")),
        *({name: float("nan")} for name in ("encoder_rate", "scalar_rate", "prior_power")),
        {"objective": "sum"},
        {"method": "none"},
        {"dtype": "float16"},
        {"keep": "first"},
        {"objective": "marginal", "e_step_every": 2},
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(changes: dict[str, Any]) -> None:
    refused(SettingError, lambda: TrainingSettings(**changes))


def test_a_number_of_questions_below_none_is_refused_before_the_training(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    one = request(tmp_path, GOOD, dev=GOOD[:2], evaluate=-1)
    assert "evaluate" in refused(SettingError, run_training, open_rag(), one, Recorder())
    assert not (tmp_path / "out").exists()


def test_nothing_to_train_is_refused(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    none = RunSpec(open_rag(), (), (), TrainingSettings(), tmp_path / "out")
    refused(PairsError, train, none, Recorder())
    assert not (tmp_path / "out").exists()

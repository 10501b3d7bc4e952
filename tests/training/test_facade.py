"""rag.train and rag.evaluate: what the command line does, from Python and from pairs in memory."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mixrag import RAG, ModelConfig, Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.corpus import Store
from mixrag.errors import MixragError, ModelError, PairsError, SettingError
from mixrag.evaluation import Record
from mixrag.generator import load_generator
from mixrag.inference import Greedy
from mixrag.retrieval.encoders import load_encoder
from mixrag.utils.progress import ProgressEvent
from training.conftest import PAIRS

QUICK: dict[str, Any] = {"steps": 2, "batch": 2, "rank": 2, "learning_rate": 0.02}
ROWS = [{"question": p.question, "answers": list(p.answers), "doc": p.document} for p in PAIRS]
OPENED = ModelConfig(device="cpu", dtype="float32")


def score(rag: RAG) -> float:
    return rag.score(PAIRS[0].question, PAIRS[0].answers[0]).log_prob


def without_time(records: Any) -> list[Record]:
    return [replace(record, seconds=0.0) for record in records]


def test_what_is_trained_opens_and_the_pipeline_stays_as_it_is(
    open_rag: Callable[..., RAG], tmp_path: Path
) -> None:
    rag, events = open_rag(), list[ProgressEvent]()
    before = score(rag)
    report = rag.train(
        ROWS,
        tmp_path / "out",
        dev=PAIRS[:2],
        settings={**QUICK, "parts": ("generator", "encoder", "temperature")},
        progress=events.append,
    )
    assert score(rag) == before
    assert report.folder == tmp_path / "out" and list(report.scores) == ["before training", "trained"]
    assert report.scores["trained"].n == 2 and report.result.state is not None and report.result.state.step == 2
    store = shutil.copytree(rag.store.directory, tmp_path / "store")
    with RAG.open(store, model=report.folder, models=OPENED) as opened:
        opened.index([], reembed=True)
        assert score(opened) != before
    steps = [event for event in events if event.stage == "training" and event.values]
    assert [(event.done, event.total) for event in steps] == [(1, 2), (2, 2)] and "loss" in steps[0].values
    dev = [event for event in events if event.stage == "dev pairs"]
    assert dev and {"nll", "best"} == set(dev[0].values)
    answered = [event for event in events if event.stage == "answering"]
    assert [(event.detail, event.done, event.total) for event in answered] == [
        ("before training", 2, 2),
        ("trained", 2, 2),
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pairs in memory: 6 training pairs" in card and "## Command" not in card


def test_a_file_and_pairs_in_memory_are_the_same_run(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    settings = TrainingSettings(**QUICK, parts=("temperature",))
    for number, pairs in enumerate((path, str(path), [path], ROWS, PAIRS, iter(PAIRS))):
        open_rag().train(pairs, tmp_path / f"out{number}", dev=PAIRS[:2], settings=settings, evaluate=0)
        run, first = ((tmp_path / f"out{n}" / "run.json").read_text() for n in (number, 0))
        assert run == first


def test_a_broken_progress_callable_breaks_no_run(
    open_rag: Callable[..., RAG], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: ProgressEvent) -> None:
        raise OSError("the window is closed")

    rag = open_rag()
    report = rag.train(ROWS, tmp_path / "out", dev=PAIRS[:2], settings=QUICK, progress=broken)
    assert report.scores["trained"].n == 2 and "the window is closed" in caplog.text
    assert rag.evaluate(PAIRS[:2], systems=["sequence"], progress=broken).summaries["sequence"].n == 2


@pytest.mark.parametrize(
    ("pairs", "settings", "error"),
    [
        ([], {}, PairsError),
        ([{"question": "Who?"}], {}, PairsError),
        ([3], {}, PairsError),
        ({"question": "Who?", "answers": ["Ann"]}, {}, PairsError),
        (7, {}, PairsError),
        ("no-such-file.jsonl", {}, PairsError),
        (ROWS, {"epochs": -1.0}, SettingError),
        (ROWS, {"epoch": 1.0}, SettingError),
        (ROWS, {"batch": "2"}, SettingError),
        (ROWS, "epochs", SettingError),
        (ROWS, 5, SettingError),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(
    open_rag: Callable[..., RAG], tmp_path: Path, pairs: Any, settings: Any, error: type[MixragError]
) -> None:
    with pytest.raises(error) as caught:
        open_rag().train(pairs, tmp_path / "out", settings=settings)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("role", ["generator", "encoder"])
def test_models_given_as_objects_are_refused_before_anything_is_written(
    store_folder: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path], tmp_path: Path, role: str
) -> None:
    own: dict[str, Any] = {"encoder": load_encoder(encoder_folder, device="cpu")}
    if role == "generator":
        own = {"generator": load_generator(tiny_folder("llama"), device="cpu")}
    with (
        RAG(Store.open(store_folder), **own) as rag,
        pytest.raises(ModelError, match=f"a path or name as {role} in training"),
    ):
        rag.train(ROWS, tmp_path / "out", settings=QUICK)
    assert not (tmp_path / "out").exists()


def test_an_evaluation_without_a_folder_writes_nothing_and_says_the_same(
    open_rag: Callable[..., RAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rag, events = open_rag(), list[ProgressEvent]()
    systems = ("closed-book", "sequence")
    found = rag.evaluate(ROWS, systems=systems, progress=events.append)
    assert list(tmp_path.rglob("*.json*")) == []
    written = rag.evaluate(ROWS, "report", systems=systems)
    assert (tmp_path / "report" / "report.json").exists() and (tmp_path / "report" / "answers.jsonl").exists()
    for system in systems:
        assert without_time(found.records[system]) == without_time(written.records[system])
    assert found.sources == ("pairs in memory",) and found.retrieval.mrr == written.retrieval.mrr
    assert [(e.detail, e.done) for e in events] == [("closed-book", 6), ("sequence", 6)]
    assert asdict(rag.settings) == asdict(replace(Settings(), k=3, temperature=0.5, max_tokens=16))


def test_an_application_that_sets_up_no_logging_sees_no_notice(
    open_rag: Callable[..., RAG], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("mixrag").handlers)
    open_rag().train(
        ROWS, tmp_path / "out", dev=PAIRS[:2], settings={**QUICK, "parts": ("temperature",)}, evaluate=0
    )
    assert capsys.readouterr() == ("", "")


class NoCopy(Greedy):
    """A decoder of an application's own, which holds what cannot be copied."""

    def __deepcopy__(self, memo: object) -> None:
        raise TypeError("a decoder must not be copied")


def test_a_users_decoder_is_evaluated_and_trained_beside(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    rag, named = open_rag(decoder=NoCopy()), open_rag(decoder="greedy")
    found = rag.evaluate(ROWS, tmp_path / "report", systems=["mixture"])
    assert found.settings["decoder"].startswith("NoCopy(")
    expected = named.evaluate(ROWS, systems=["mixture"]).records["mixture"]
    assert [record.answer for record in found.records["mixture"]] == [record.answer for record in expected]
    lines = (tmp_path / "report" / "answers.jsonl").read_text()
    rag.evaluate(ROWS, tmp_path / "report", systems=["mixture"])
    assert (tmp_path / "report" / "answers.jsonl").read_text() == lines  # read, not asked again
    report = rag.train(ROWS, tmp_path / "out", dev=PAIRS[:2], settings=QUICK)
    assert report.scores["trained"].n == 2 and "| decoder | NoCopy(" in (report.folder / "README.md").read_text()


@pytest.mark.parametrize("models", ["llama", 5, Settings(), {"generatr": "llama"}, {"device": 5}], ids=str)
def test_models_of_another_type_are_refused_in_one_line(store_folder: Path, tmp_path: Path, models: Any) -> None:
    for opened in (
        lambda: RAG.open(store_folder, models=models),
        lambda: RAG.load(tmp_path, store_folder, token="secret", models=models),
    ):
        with pytest.raises(SettingError, match=r"models|generator|device") as caught:
            opened()
        assert "\n" not in str(caught.value)


def test_models_are_a_mapping_as_well(store_folder: Path, tiny_folder: Callable[[str], Path]) -> None:
    with RAG.open(store_folder, models={"generator": tiny_folder("llama"), "device": "cpu"}) as rag:
        assert rag.models == ModelConfig(generator=tiny_folder("llama"), device="cpu")

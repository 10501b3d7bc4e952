"""Runs whose retrieval is made to collapse say so, once and in plain words; healthy ones keep quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixrag import ModelConfig, Settings
from mixrag.config.training_settings import TrainingSettings
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training.metrics import read_metrics
from mixrag.training.run import train
from mixrag.training.run_spec import RunSpec
from mixrag.training.step import Coefficients, QuestionTables, TrainingStep
from training.recorder import Recorder

WORDS = [a + b + c for a in "bdks" for b in "aeio" for c in "mxz"]
PAIRS = tuple(
    Pair(f"what is {word}", (word[::-1],), f"{word}.txt", {}, f"pairs.jsonl:{line}")
    for line, word in enumerate(WORDS, 1)
)


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("large")
    (root / "files").mkdir()
    for word in WORDS:
        (root / "files" / f"{word}.txt").write_text(f"{word} {word} is {word[::-1]}")
    with RAG.open(root / "store", create=True, models=ModelConfig(encoder=encoder_folder, device="cpu")) as rag:
        rag.index([root / "files"])
    return root / "store"


@pytest.fixture
def rag(large_store: Path, encoder_folder: Path, tiny_folder: Callable[[str], Path]) -> Iterator[RAG]:
    models = ModelConfig(encoder=encoder_folder, generator=tiny_folder("llama"), device="cpu")
    with RAG.open(large_store, models=models, settings=Settings(k=2, temperature=0.003, max_tokens=8)) as opened:
        yield opened


def alarms(rag: RAG, folder: Path, **changes: Any) -> list[str]:
    """Alarms in the metrics; the recorder must have heard the same."""
    settings = {"parts": ("question-encoder",), "batch": 8, "epochs": 6.0, "encoder_rate": 1e-4} | changes
    recorder = Recorder()
    train(RunSpec(rag, PAIRS, (), TrainingSettings(**settings), folder), recorder)
    lines = read_metrics(folder / "metrics.jsonl")
    written = [str(line["text"]) for line in lines if line["kind"] == "alarm"]
    assert [notice for notice in recorder.notices if notice in written] == written
    return written


def towards_one_passage(self: TrainingStep, question: QuestionTables) -> Coefficients:
    """The gradient of an objective that likes the passages of smallest number, whatever the question."""
    found = TrainingStep.honest(self, question)  # type: ignore[attr-defined]
    rank: Tensor = torch.tensor(
        [float(WORDS.index(Path(c.passages[0].document).stem)) for c in question.components], dtype=torch.float64
    )
    found.prior.copy_(rank - rank.mean())
    return found


def test_a_healthy_run_raises_no_alarm(rag: RAG, tmp_path: Path) -> None:
    assert alarms(rag, tmp_path / "out") == []
    specific = [line["specific"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl")]
    assert specific[-1] > 3  # questions do retrieve different passages, so there is something to lose


def test_a_rate_that_is_far_too_high_collapses_retrieval_and_the_run_says_so(rag: RAG, tmp_path: Path) -> None:
    found = alarms(rag, tmp_path / "out", encoder_rate=0.3)
    assert sum("retrieval has collapsed" in text for text in found) == 1
    assert "lower --encoder-rate" in next(text for text in found if "collapsed" in text)


def test_an_objective_that_likes_one_passage_collapses_retrieval_and_the_run_says_so(
    rag: RAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingStep, "honest", TrainingStep.coefficients, raising=False)
    monkeypatch.setattr(TrainingStep, "coefficients", towards_one_passage)
    found = alarms(rag, tmp_path / "out", encoder_rate=5e-3)
    assert any("every question gets the same passages" in text for text in found)


def test_a_language_model_that_ignores_the_passages_is_reported(
    rag: RAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after training that has taught it to answer by heart."""
    monkeypatch.setattr(TrainingStep, "_questions", ignoring(TrainingStep._questions))
    found = alarms(rag, tmp_path / "out", epochs=2.0)
    assert len(found) == 1 and "ignores the passages" in found[0]


def ignoring(questions: Callable[..., list[QuestionTables]]) -> Callable[..., list[QuestionTables]]:
    def alike(self: TrainingStep, asked: Any) -> list[QuestionTables]:
        found = questions(self, asked)
        for question in found:
            question.log_likelihood.copy_(
                question.log_likelihood[:, :1].expand_as(question.log_likelihood).clone()
            )
        return found

    return alike

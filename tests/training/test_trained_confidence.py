"""A trained folder has a confidence, fitted on the answers to held-out pairs, that holds where it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mixrag import RAG, ModelConfig
from mixrag.answers.confidence import FILE, read_calibration
from mixrag.pairs.pairs import Pair
from training.conftest import PAIRS

OPENED = ModelConfig(device="cpu", dtype="float32")


def held_out(rag: RAG, count: int) -> list[Pair]:
    """Questions of which the untrained model answers two of three right: its own answer is the gold one."""
    questions = [f"{PAIRS[i % len(PAIRS)].question} {i}" for i in range(count)]
    answers = [answer.best_guess for answer in rag.ask_many(questions)]
    return [
        Pair(question, (answer if i % 3 and answer.strip() and "\0" not in answer else "never",), None)
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]


def test_a_trained_folder_gets_a_confidence_by_default(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    rag = open_rag(max_tokens=4)
    dev = held_out(rag, 60)
    report = rag.train(PAIRS, tmp_path / "out", dev=dev, settings={"parts": ("temperature",)})
    own = read_calibration(report.folder / FILE)
    assert "out, held-out pairs (60 questions, " in own.fitted_on and own.models and own.settings
    with RAG.open(rag.store.directory, model=report.folder, models=OPENED, settings=rag.settings) as opened:
        opened_so = opened.ask(dev[0].question, temperature=own.settings["temperature"])
        assert opened_so.uncalibrated is None and opened.calibration == own


def test_with_too_few_held_out_pairs_there_is_none(open_rag: Callable[..., RAG], tmp_path: Path) -> None:
    report = open_rag().train(PAIRS, tmp_path / "out", dev=PAIRS[:2], settings={"parts": ("temperature",)})
    assert not (report.folder / FILE).exists()

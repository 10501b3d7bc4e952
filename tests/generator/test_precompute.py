"""Precomputed passages: a new process starts after them, and nothing else changes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mixrag import RAG, ModelConfig, Settings
from mixrag.errors import ModelError, OutputError
from mixrag.generator.precompute import FOLDER, forget
from mixrag.utils.progress import ProgressEvent
from tiny_encoder import save_encoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.txt": "A licence to fish eel costs four crowns a season.",
    "hen.txt": "Hens lay fewer eggs during winter.",
}
QUESTION = "What does a licence for cod cost?"
Opened = Callable[..., RAG]


@pytest.fixture
def opened(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Opened:
    """Opens the store anew, with models that are loaded anew."""
    (tmp_path / "files").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "files" / name).write_text(text)
    models = ModelConfig(
        encoder=save_encoder(tmp_path / "encoder"), generator=tiny_folder("llama"), device="cpu", dtype="float32"
    )

    def again(**changes: Any) -> RAG:
        settings = Settings(k=2, max_tokens=6)
        return RAG.open(tmp_path / "store", create=True, models=replace(models, **changes), settings=settings)

    with again() as rag:
        rag.index([tmp_path / "files"])
    return again


def files(rag: RAG) -> list[Path]:
    return sorted((rag.store.directory / FOLDER).rglob("*.safetensors"))


def counts(rag: RAG) -> tuple[int, int]:
    generator: Any = rag.generator
    return generator.prefix_cache.hits, generator.prefix_cache.misses


def test_a_new_process_reads_no_passage_and_says_the_same(opened: Opened) -> None:
    with opened() as cold:
        expected = cold.ask(QUESTION)
        assert counts(cold) == (0, 2)
        seen: list[ProgressEvent] = []
        found = cold.precompute(progress=seen.append)
        assert (found.passages, found.of, found.read) == (3, 3, 3) and seen[-1] == ProgressEvent(
            "reading passages", 3, 3
        )
        assert cold.info().precomputed == (3, found.bytes)
    with opened() as rag:
        answer = rag.ask(QUESTION)
        assert counts(rag) == (2, 0)
        assert (answer.best_guess, answer.log_prob) == (
            expected.best_guess,
            pytest.approx(expected.log_prob, abs=1e-5),
        )
        assert answer.explain().to_dict()["prefix_cache"] == {"hits": 2, "misses": 0}
        assert rag.precompute().read == 0


def test_other_numbers_and_other_models_find_nothing(opened: Opened, tiny_folder: Callable[[str], Path]) -> None:
    with opened() as rag:
        rag.precompute()
    for changes in ({"dtype": "bfloat16"}, {"generator": tiny_folder("gpt2")}):
        with opened(**changes) as rag:
            rag.ask(QUESTION)
            assert counts(rag) == (0, 2)


def test_same_weights_in_another_configuration_find_nothing(
    opened: Opened, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "copied")
    with opened() as rag:
        rag.precompute()
    with opened(generator=folder) as rag:
        rag.ask(QUESTION)
        assert counts(rag) == (2, 0)  # the place of the model is no part of the name
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-2}))
    with opened(generator=folder) as rag:
        rag.ask(QUESTION)
        assert counts(rag) == (0, 2)


def test_no_more_room_than_is_given(opened: Opened) -> None:
    with opened() as rag:
        one = rag.precompute().bytes // 3
        for file in files(rag):
            file.unlink()
        found = rag.precompute(max_bytes=2 * one + one // 2)
        assert (found.passages, found.of, found.read) == (2, 3, 2) and found.bytes <= 2 * one + one // 2
        generator: Any = rag.generator
        read = generator.prefix_cache.misses
        assert rag.precompute(max_bytes=2 * one + one // 2).read == 0
        assert generator.prefix_cache.misses == read, "what does not fit is not read"
        assert rag.precompute().read == 1


def test_torn_and_foreign_files_are_read_past_and_written_anew(opened: Opened) -> None:
    with opened() as rag:
        expected = rag.ask(QUESTION)
        rag.precompute()
        first, second, third = (path.read_bytes() for path in files(rag))
        for path, content in zip(files(rag), (first[:100], b"", first), strict=True):
            path.write_bytes(content)
    with opened() as rag:
        assert rag.ask(QUESTION).log_prob == pytest.approx(expected.log_prob, abs=1e-5)
        assert counts(rag) == (0, 2)
        assert rag.precompute().read == 3
        assert [path.read_bytes() for path in files(rag)] == [first, second, third]


@pytest.mark.parametrize(
    "states",
    [torch.zeros(1, 2, 2, 9, 8), torch.zeros(2, 2, 2, 9, 8, dtype=torch.float64), torch.zeros(9), None],
    ids=["fewer layers", "other numbers", "other shape", "not finite"],
)
def test_files_of_another_model_are_read_past(opened: Opened, states: torch.Tensor | None) -> None:
    with opened() as rag:
        expected = rag.ask(QUESTION)
        rag.precompute()
        for path in files(rag):
            with safe_open(path, "pt") as file:
                said, own = file.metadata(), file.get_tensor("states")
            wrong = torch.full_like(own, math.nan) if states is None else states
            save_file({"states": wrong}, path, said)
    with opened() as rag:
        assert rag.ask(QUESTION).log_prob == pytest.approx(expected.log_prob, abs=1e-5)
        assert counts(rag) == (0, 2)


def test_a_changed_passage_is_another_file_and_the_old_one_goes(opened: Opened, tmp_path: Path) -> None:
    with opened() as rag:
        rag.precompute()
        (tmp_path / "files" / "cod.txt").write_text("A licence to fish cod costs ten crowns a year.")
        rag.index([tmp_path / "files"])
        assert (rag.precompute().read, rag.info().precomputed[0]) == (1, 3)


def test_files_are_those_of_the_weights_at_hand(opened: Opened) -> None:
    """Of a generator that was given, or changed in place, the names of models say nothing."""
    with opened() as rag:
        rag.precompute()
        generator: Any = rag.generator
        with torch.no_grad():
            for weight in generator.model.parameters():
                weight.mul_(1.1)
        expected = RAG(rag.store, encoder=rag.encoder, generator=replace(generator), settings=rag.settings)
        assert rag.ask(QUESTION).log_prob == pytest.approx(expected.ask(QUESTION).log_prob, abs=1e-5)
        assert rag.precompute().read == 3 and rag.info().precomputed[0] == 6
    with opened() as rag:
        rag.ask(QUESTION)
        assert counts(rag) == (2, 0)


def test_two_at_once_write_the_same_files(opened: Opened) -> None:
    with opened() as one, opened() as other, ThreadPoolExecutor(2) as pool:
        assert one.generator is not other.generator  # loaded here: transformers cannot load two models at once
        found = [pool.submit(rag.precompute) for rag in (one, other)]
        assert [each.result().passages for each in found] == [3, 3]
        assert one.info().precomputed[0] == 3 and not [*(one.store.directory / FOLDER).rglob(".writing-*")]


def test_links_are_not_followed_and_dangling_ones_not_counted(opened: Opened, tmp_path: Path) -> None:
    with opened() as rag:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "mine.safetensors").write_text("mine")
        (rag.store.directory / FOLDER).symlink_to(elsewhere)
        forget(rag.store.directory)
        assert (elsewhere / "mine.safetensors").exists() and not (rag.store.directory / FOLDER).exists()
        rag.precompute()
        (files(rag)[0].parent / "gone.safetensors").symlink_to(tmp_path / "nowhere")
        assert rag.info().precomputed[0] == 3


def test_models_that_keep_nothing_are_refused(opened: Opened, tiny_folder: Callable[[str], Path]) -> None:
    for changes in ({"prefix_cache": 0}, {"generator": tiny_folder("t5")}):
        with opened(**changes) as rag, pytest.raises(ModelError, match="with a prefix cache"):
            rag.precompute()


def test_a_folder_that_cannot_be_is_one_line(opened: Opened) -> None:
    with opened() as rag:
        (rag.store.directory / FOLDER).write_text("a file")
        with pytest.raises(OutputError, match="precomputed files that can be written"):
            rag.precompute()

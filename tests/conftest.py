"""Fixtures for all tests: tiny models on disk, a database, and no way to the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mixrag.generator import Generator
    from postgres_server import PostgresServer

# Both are read when torch and transformers are first imported, so here, before any test module.
# A test that reached for the network fails.
os.environ["HF_HUB_OFFLINE"] = "1"
# Loading bars would mix with what commands print.
os.environ["TQDM_DISABLE"] = "1"
# Numbers are compared with those of torch, the reference; tests of what engine auto chooses remove it.
os.environ.setdefault("MIXRAG_ENGINE", "torch")
# Tiny tensors gain nothing from threads, and tests running side by side lose much.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# With one thread on a processor with AMX, OpenVINO 2026.4 divides by zero when it compiles matrices as small as
# those of the tiny models, and ends the process (docs/how-to/openvino.md). Without AMX it does not.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for each process of a test run: some tests stop theirs."""
    from postgres_server import postgres_server

    with postgres_server(str(os.getpid())) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From one of ``tiny_models.KINDS`` to the folder of that model, saved once."""
    from tiny_models import save

    root = tmp_path_factory.mktemp("tiny")
    return cache(lambda kind: save(kind, root / kind))


@pytest.fixture(scope="session")
def tiny_generator(tiny_folder: Callable[[str], Path]) -> Callable[[str], Generator]:
    """From one of ``tiny_models.KINDS`` to its generator in float32, loaded once."""
    from mixrag.generator import load_generator

    return cache(lambda kind: load_generator(tiny_folder(kind), device="cpu"))

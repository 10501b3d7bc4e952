"""Encoders and parsers at which the process of a worker dies; they are sent to the workers of a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mixrag.corpus import Document
from words_encoder import WordsEncoder


def die(mark: str, home: int) -> None:
    """End this process as a crash would, unless it is the one of the test; with a mark, once only."""
    if os.getpid() == home or (mark and Path(mark).exists()):
        return
    if mark:
        Path(mark).touch()
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DyingEncoder(WordsEncoder):
    """Dies at a text with this word."""

    word: str = "poison"
    mark: str = ""
    """A file: die once, and write it."""
    home: int = -1

    def encode_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if any(self.word in text for text in texts):
            die(self.mark, self.home)
        return super().encode_passages(texts)


@dataclass(frozen=True)
class FailingEncoder(WordsEncoder):
    """Raises in a worker."""

    home: int = -1

    def encode_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if os.getpid() != self.home:
            raise RuntimeError("no memory\nfor this")
        return super().encode_passages(texts)


@dataclass(frozen=True)
class DyingParser:
    """Dies at a file with this word."""

    word: bytes = b"poison"
    mark: str = ""
    home: int = -1
    name: str = "dying"
    suffixes: tuple[str, ...] = (".own",)

    def parse(self, data: bytes, name: str) -> list[Document]:
        if self.word in data:
            die(self.mark, self.home)
        return [Document(data.decode())]


@dataclass(frozen=True)
class FailingSplitter:
    """Raises."""

    name: str = "failing"

    def split(self, text: str) -> list[tuple[int, int]]:
        raise ValueError("no split")

"""The header of a GGUF file: which tensors it has, read without them.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type."""
_STRING, _ARRAY = 8, 9
_DIMENSIONS = 4
"""That a tensor has at most."""


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a GGUF file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no GGUF of these versions, or its header is damaged.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Header(data).shapes()
        except (struct.error, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(f"a damaged header ({type(error).__name__})") from error


def weights_in_gguf(files: Sequence[Path]) -> int:
    """Numbers in the parts of a GGUF model, by their headers; 0 where one of them cannot be read."""
    try:
        return sum(math.prod(shape) for file in files for shape in tensor_shapes(file).values())
    except (OSError, ValueError):
        return 0


class _Header:
    """A place in the bytes of a file, which moves on with each value."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        magic, version, tensors, values = self._next("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("no GGUF file of version 2 or 3")
        for _ in range(values):
            self._string()
            self._skip(*self._next("<I"))
        return dict(self._tensor() for _ in range(tensors))

    def _tensor(self) -> tuple[str, tuple[int, ...]]:
        name, (dimensions,) = self._string(), self._next("<I")
        if dimensions > _DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = self._next(f"<{dimensions}Q")
        self._next("<IQ")  # format and place
        return name.decode("utf-8", "replace"), shape

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            of, count = self._next("<IQ")
            if of in _SIZES:
                self.place += _SIZES[of] * count
            else:
                for _ in range(count):
                    self._skip(of)
        else:
            self.place += _SIZES[kind]

    def _string(self) -> bytes:
        (size,) = self._next("<Q")
        self.place += size
        return self.data[self.place - size : self.place]

    def _next(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.data, self.place)
        self.place += struct.calcsize(form)
        return found

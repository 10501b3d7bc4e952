"""The header of a GGUF file, read without its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader

import tiny_gguf
from mixrag.generator.gguf_header import tensor_shapes, weights_in_gguf


@pytest.mark.parametrize("form", ["F32", "Q4_0"])
def test_it_is_what_the_library_of_the_format_reads(form: str, tmp_path: Path) -> None:
    file = tiny_gguf.save(tmp_path / "model.gguf", "llama-chat", form)
    expected = {each.name: tuple(map(int, each.shape)) for each in GGUFReader(file).tensors}
    assert tensor_shapes(file) == expected and len(expected) > 10
    assert weights_in_gguf([file, file]) == 2 * sum(int(each.n_elements) for each in GGUFReader(file).tensors)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"garbage" * 100,
        b"GGUF\x01\x00\x00\x00" + bytes(16),
        b"GGUF\x03\x00\x00\x00" + b"\xff" * 64,
        b"GGUF\x03\x00\x00\x00" + bytes(8) + b"\1" + bytes(7) + bytes(8) + b"\x63" + bytes(11),
    ],
)
def test_what_is_no_header(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(data)
    with pytest.raises(ValueError):
        tensor_shapes(file)
    assert weights_in_gguf([file]) == 0


def test_a_header_that_ends_early(tmp_path: Path) -> None:
    data = tiny_gguf.save(tmp_path / "model.gguf").read_bytes()
    for size in range(1, 4000, 97):
        (tmp_path / "cut.gguf").write_bytes(data[:size])
        with pytest.raises(ValueError):
            tensor_shapes(tmp_path / "cut.gguf")
    assert weights_in_gguf([tmp_path / "missing.gguf"]) == 0

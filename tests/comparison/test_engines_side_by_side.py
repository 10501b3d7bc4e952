"""Small models by every engine, judged as `benchmarks/engines_side_by_side.py` judges the packaged one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_gguf
from compared_engines import Engine, Sources, engines, float32_file
from engines_side_by_side import TOLERANCE, Record, Records, Reference, ask, report
from mixrag import RAG, ModelConfig
from model_server import Rows
from tiny_encoder import save_encoder

TEXTS = ("A licence to fish cod costs nine crowns.", "Hens lay eggs.", "The harbour is closed when there is ice.")
QUESTIONS = ["What does a licence cost?", "When is the harbour closed?", "Who lays eggs?"]
SETTINGS = {"k": 3, "max_tokens": 5, "kind": "span", "prune": 0.0}
EXACT = ("vLLM's dialect, scores", "OpenVINO, float32", "GGUF in float32, in process")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reference, Sources]]:
    """torch with the weights of a GGUF file in four bits, and what the other engines are made of."""
    folder = tmp_path_factory.mktemp("engines")
    file = tiny_gguf.save(folder / "model.gguf", "llama-chat", "Q4_0")
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text)
    encoder = save_encoder(folder / "encoder")
    models = ModelConfig(encoder=encoder, generator=file, dtype="float32", device="cpu", prefix_cache=0)
    with RAG.open(folder / "store", create=True, models=models) as rag:
        rag.index(sorted(folder.glob("*.txt")))
        yield Reference(rag, SETTINGS), Sources(folder / "store", rag.generator, file, file, folder, 3, encoder)


@pytest.fixture(scope="module")
def found(reference: tuple[Reference, Sources]) -> Records:
    records = Records(None, SETTINGS)
    for engine in engines(reference[1]):
        ask([engine], reference[0], QUESTIONS, records)
    return records


def test_every_engine_says_what_torch_says(
    found: Records, reference: tuple[Reference, Sources], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [each.name for each in engines(reference[1])]
    assert {"lists of 20", "lists of 5", "OpenVINO, int8", "GGUF as it is, in process", *EXACT} <= {*names}
    assert [*report(names, QUESTIONS, found)] == []
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == names
    for name in EXACT:
        for record in found.of(name, QUESTIONS):
            assert record.same and record.log_prob == pytest.approx(record.expected, abs=1e-4)
            assert record.posterior == pytest.approx(record.expected_posterior, abs=1e-4)
    assert all(each.log_prob is None and each.requests for each in found.of("lists of 5", QUESTIONS))


def test_wrong_numbers_are_found_out(found: Records, capsys: pytest.CaptureFixture[str]) -> None:
    (record, *_), name = found.of(EXACT[0], QUESTIONS), EXACT[0]
    expected, (first, *others) = record.expected, record.expected_posterior
    for wrong in (
        replace(record, expected=expected - 2 * TOLERANCE),
        replace(record, expected_posterior=[first + 2 * TOLERANCE, *others]),
    ):
        assert len(wrong.wrong) == 1 and name in wrong.wrong[0]
    assert record.wrong == []
    assert [*report([name], [*QUESTIONS, "another"], found)] == [f"{name}: 3 of 4 questions"]


def test_two_engines_of_one_file_must_agree(capsys: pytest.CaptureFixture[str]) -> None:
    def record(engine: str, log_prob: float) -> Record:
        return Record(
            engine, "Q", "", True, False, -1.0, log_prob, (-1.5, -0.5), (1.0,), (1.0,), ((1.0, 1.0),), 0, 0
        )

    for kind, near, far in (("GGUF in float32", -1.0005, -1.1), ("GGUF as it is", -1.4, -1.6)):
        names = [f"{kind}, in process", f"{kind}, llama.cpp's server"]
        for other, count in ((near, 0), (far, 1)):
            records = Records(None, {})
            for name, value in zip(names, (-1.0, other), strict=True):
                records.add(record(name, value))
            assert len([*report(names, ["Q"], records)]) == count, (kind, other)


def test_records_are_not_asked_for_again(
    found: Records, reference: tuple[Reference, Sources], tmp_path: Path
) -> None:
    file = tmp_path / "records.jsonl"
    records = Records(file, SETTINGS)
    for record in found.of("lists of 5", QUESTIONS):
        records.add(record)
    again = Records(file, SETTINGS)
    assert again.of("lists of 5", QUESTIONS) == [_as_read(each) for each in found.of("lists of 5", QUESTIONS)]

    def unopened(_: Any) -> Any:
        raise AssertionError("nothing is left to ask")

    ask([Engine("lists of 5", unopened)], reference[0], QUESTIONS, again)
    assert Records(file, {**SETTINGS, "k": 2}).found == {}


def _as_read(record: Record) -> Record:
    pairs = [[*each] for each in record.posterior_interval]
    return replace(record, interval=[*record.interval], posterior_interval=pairs)  # type: ignore[arg-type]


def test_the_file_in_float32_has_the_same_weights(reference: tuple[Reference, Sources], tmp_path: Path) -> None:
    from gguf import GGUFReader, dequantize

    assert reference[1].gguf is not None
    made = float32_file(reference[1].gguf, tmp_path)
    one, other = (GGUFReader(each) for each in (reference[1].gguf, made))
    assert [each.name for each in one.tensors] == [each.name for each in other.tensors]
    for before, after in zip(one.tensors, other.tensors, strict=True):
        assert after.tensor_type.name == "F32"
        expected = torch.tensor(dequantize(before.data, before.tensor_type))
        assert torch.equal(torch.tensor(after.data.copy()), expected.reshape(after.data.shape))


def test_rows_that_go_on_are_read_once(
    reference: tuple[Reference, Sources], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = reference[1].generator
    rows, read = Rows(generator), []
    forward = generator.model.forward
    monkeypatch.setattr(
        generator.model, "forward", lambda **given: read.append(given["input_ids"].shape[1]) or forward(**given)
    )
    row = tuple(range(5, 45))
    whole = Rows(generator).places(row)
    for size in (30, 31, 40, 36, 12):
        torch.testing.assert_close(rows.places(row[:size]), whole[:size], rtol=0.0, atol=1e-4)
    rows.next_token((*row[:5], *row[20:]))
    rows.next_token(row[:12])
    assert read == [40, 30, 1, 9, 1, 1, 25], "one with the same header alone is another passage's"

"""llama.cpp in process as the engine of a GGUF file: torch's numbers, nothing inflated, refused in one line."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_gguf
import tiny_models
from mixrag import RAG, ModelConfig, Settings
from mixrag.config.model_config import models_digest
from mixrag.corpus.passage import Passage
from mixrag.errors import MissingPackageError, MixragError, ModelError, QuestionError, SettingError
from mixrag.generator import CausalGenerator, Generator, Prompt, engines, gguf, load_generator
from mixrag.generator.llamacpp import model as model_module
from mixrag.generator.llamacpp import runtime, sequences, trial
from mixrag.generator.llamacpp.generator import GGUFGenerator
from mixrag.generator.llamacpp.model import states_for
from mixrag.generator.llamacpp.sequences import Row, Sequences
from mixrag.generator.rounding import rounding_of
from mixrag.inference.batch import greedy_together
from mixrag.inference.beam_search import beam
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture
from mixrag.training.run import _frozen_generator
from tiny_adapter import save_adapter
from tiny_encoder import save_encoder
from tiny_models import CONTEXT

KINDS = ("llama", "llama-chat")
TOLERANCE = {"rtol": 0.0, "atol": 3e-5}
"""Both compute in float32, in another order."""
TEXTS = ("The river city is old, and its name is long.", "Short.", "", "Nobody wrote the letter twice. " * 3)
QUESTION, OTHER = "Who wrote it?", "And where does the river go from there?"
Both = tuple[GGUFGenerator, CausalGenerator]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The cache folder of this module, where torch's conversions and tokenizers go."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXRAG_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """GGUF files by the kind of model and the format of their matrices."""
    folder = tmp_path_factory.mktemp("gguf")
    made = [(kind, "F32") for kind in KINDS] + [("llama-chat", "Q8_0"), ("llama-chat", "Q4_0")]
    return {f"{kind} {form}": tiny_gguf.save(folder / f"{kind}-{form}.gguf", kind, form) for kind, form in made}


def by_llamacpp(file: Path, **options: Any) -> GGUFGenerator:
    found = load_generator(file, engine="llamacpp", **options)
    assert isinstance(found, GGUFGenerator)
    return found


def by_torch(file: Path, **options: Any) -> CausalGenerator:
    found = load_generator(file, device="cpu", **options)
    assert isinstance(found, CausalGenerator)
    return found


@pytest.fixture(params=[*KINDS, "llama, uncached"])
def both(request: pytest.FixtureRequest, files: dict[str, Path]) -> Both:
    kind, _, uncached = request.param.partition(", ")
    file = files[f"{kind} F32"]
    return by_llamacpp(file, **({"prefix_cache": 0} if uncached else {})), by_torch(file)


def prompts_of(generator: Generator, question: str = QUESTION, texts: tuple[str, ...] = TEXTS) -> list[Prompt]:
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in texts]
    return [*(generator.prompt(question, [each], 40) for each in passages), generator.prompt(question, [], 40)]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, **TOLERANCE)


def refusal(error: type[MixragError], model: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        load_generator(model, engine="llamacpp", **options)
    text = str(caught.value)
    assert "\n" not in text and text.startswith("expected ") and "; found " in text
    return text


# The same numbers as torch.


def test_every_number_is_torchs(both: Both) -> None:
    ours, torchs = both
    prompts, answer = prompts_of(ours), ours.answer_tokens("the author, of course")
    assert prompts == prompts_of(torchs) and len({len(prompt.tokens) for prompt in prompts}) == len(prompts)
    for _ in range(2):  # before and after the passages are read
        close(ours.start(prompts).log_probs, torchs.start(prompts).log_probs)
        close(ours.log_likelihood(prompts, answer), torchs.log_likelihood(prompts, answer))
        torch.testing.assert_close(
            ours.question_log_likelihood(prompts), torchs.question_log_likelihood(prompts), rtol=0, atol=1e-4
        )
        close(ours.start(prompts).score(answer), torchs.start(prompts).score(answer))
    assert (ours.vocabulary_size, ours.stop_tokens, ours.stop_token, ours.context_size, rounding_of(ours)) == (
        torchs.vocabulary_size,
        torchs.stop_tokens,
        torchs.stop_token,
        torchs.context_size,
        0.0,
    )


def test_rows_are_chosen_repeated_dropped_and_continued(both: Both) -> None:
    found, expected = (each.start(prompts_of(each)) for each in both)
    for rows in ([4, 3, 2, 1, 0], [0, 0, 1, 3], [3, 1], [1, 1, 0, 0, 1, 0], [5]):
        chosen, tokens = torch.tensor(rows), torch.arange(3, 3 + len(rows))
        found, expected = found.advance(chosen, tokens), expected.advance(chosen, tokens)
        close(found.log_probs, expected.log_probs)


def test_rows_join_others_and_go_on(both: Both) -> None:
    found = []
    for generator in both:
        longer, shorter = prompts_of(generator, OTHER), prompts_of(generator)[:2]
        one = generator.start(longer).advance(torch.tensor([0, 3, 3]), torch.tensor([5, 6, 7]))
        two, before = generator.start(shorter), one.log_probs.clone()
        joined: Any = one.join(torch.tensor([2, 0]), [(two, torch.tensor([1, 1, 0])), (one, torch.tensor([1]))])
        close(joined.log_probs, torch.cat([one.log_probs[[2, 0]], two.log_probs[[1, 1, 0]], one.log_probs[[1]]]))
        after = joined.advance(torch.tensor([0, 1, 2, 4, 5]), torch.tensor([8, 9, 10, 11, 12]))
        close(one.log_probs, before)
        rows = (torch.tensor([1, 0]), torch.tensor([12, 9]))
        close(after.log_probs[[4, 1]], one.advance(*rows).log_probs)
        found.append(after.advance(torch.tensor([4, 3, 2, 2]), torch.tensor([13, 14, 15, 16])).log_probs)
    close(*found)


def test_selected_rows_are_copies(both: Both) -> None:
    whole, expected = (each.start(prompts_of(each)) for each in both)
    rows = torch.tensor([3, 1])
    part, torchs = whole.select(rows), expected.select(rows)
    longer, torchs_longer = (
        each.advance(torch.tensor([1, 0, 1]), torch.tensor([7, 8, 9])) for each in (part, torchs)
    )
    close(longer.log_probs, torchs_longer.log_probs)
    close(part.log_probs, expected.select(rows).log_probs)
    five = torch.arange(5)
    close(whole.advance(five, five).log_probs, expected.advance(five, five).log_probs)
    close(longer.score((4, 5, 6)), torchs_longer.score((4, 5, 6)))


def test_equal_rows_are_read_once(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = by_llamacpp(files["llama F32"])
    prompts, read = prompts_of(ours), list[int]()
    expected = ours.start(prompts).log_probs
    original = Sequences.read
    monkeypatch.setattr(
        Sequences, "read", lambda self, rows, found: (read.append(len(rows)), original(self, rows, found))
    )
    close(ours.start([*prompts, *prompts[::-1]]).log_probs, torch.cat([expected, expected.flip(0)]))
    assert read == [len(prompts)]


def mixture(generator: Generator, question: str = QUESTION, texts: tuple[str, ...] = TEXTS) -> Mixture:
    prompts = prompts_of(generator, question, texts)
    log_prior = torch.arange(len(prompts), 0, -1).double().log_softmax(0)
    return Mixture(generator, question, tuple(Component((), each) for each in prompts), log_prior, 0.0, None)


def test_mixtures_are_torchs(files: dict[str, Path]) -> None:
    ours, torchs = by_llamacpp(files["llama F32"]), by_torch(files["llama F32"])
    found, expected = (beam(mixture(each), 3, 8) for each in (ours, torchs))
    assert found.certified == expected.certified
    for one, other in zip(found.answers, expected.answers, strict=True):
        assert one.tokens == other.tokens and one.log_prob == pytest.approx(other.log_prob, abs=1e-4)
        torch.testing.assert_close(one.posterior, other.posterior, rtol=0, atol=1e-4)
    asked = ((QUESTION, TEXTS), (OTHER, TEXTS[:2]), ("Why?", TEXTS[1:]))
    theirs = [each.scored() for each in greedy_together([mixture(torchs, *each) for each in asked], 12)]
    own = [each.scored() for each in greedy_together([mixture(ours, *each) for each in asked], 12, 1e-3)]
    for one, other in zip(own, theirs, strict=True):
        assert one.tokens == other.tokens
        torch.testing.assert_close(one.log_likelihood, other.log_likelihood, rtol=0, atol=1e-4)


def test_threads_take_turns(files: dict[str, Path]) -> None:
    ours, torchs = by_llamacpp(files["llama F32"]), by_torch(files["llama F32"])
    questions = [QUESTION, OTHER, "Why?", "Which city, and what is its name?"]

    def written(generator: Generator, question: str) -> list[tuple[int, ...]]:
        return [each.scored().tokens for each in greedy_together([mixture(generator, question)], 8)]

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda question: written(ours, question), questions)]
    assert found == [written(torchs, question) for question in questions]


# Memory: what was read, what is dropped, what is read again.


def test_passages_are_read_once_and_evicted(files: dict[str, Path]) -> None:
    ours, torchs = by_llamacpp(files["llama F32"]), by_torch(files["llama F32"])
    prompts, others = prompts_of(ours), prompts_of(ours, OTHER)
    ours.start(prompts)
    assert ours.prefix_cache is not None
    misses = ours.prefix_cache.misses
    for forget in (False, True):
        if forget:
            ours.sequences.forget()
        close(ours.start(others).log_probs, torchs.start(others).log_probs)
        ours.start(prompts)
    assert ours.prefix_cache.misses == misses and ours.prefix_cache.hits == 4 * misses
    one = ours.prefix_cache.size // misses
    small = replace(ours, prefix_cache_bytes=one)
    for each in (prompts, others, prompts[:1], others):
        small.sequences.forget()
        close(small.start(each).log_probs, torchs.start(each).log_probs)
    assert small.prefix_cache is not None and 0 < small.prefix_cache.size <= one


def test_stored_states_of_a_passage_are_used(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, read = by_llamacpp(files["llama F32"]), list[int]()
    prompts = prompts_of(ours)
    expected = ours.start(prompts).log_probs
    ours.sequences.forget()
    original = Sequences._decode

    def counted(self: Sequences, wanted: Any, found: Any) -> None:
        read.append(sum(len(tokens) - before for _, tokens, before, _ in wanted))
        original(self, wanted, found)

    monkeypatch.setattr(Sequences, "_decode", counted)
    close(ours.start(prompts).log_probs, expected)
    assert read == [0, sum(len(prompt.question) for prompt in prompts)]
    monkeypatch.setattr(Sequences, "_restored", lambda *_: False)
    ours.sequences.forget()
    close(ours.start(prompts).log_probs, expected)
    assert read[2] == sum(len(prompt.header + prompt.passages) for prompt in prompts)


@pytest.mark.parametrize(("most", "at_once"), [(8, 3), (13, 6), (256, 96)])
def test_more_rows_than_fit(
    files: dict[str, Path], most: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "SEQUENCES", most)
    monkeypatch.setattr(sequences, "ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(sequences, "SPARE", 0)
    found, expected = (each(files["llama F32"]) for each in (by_llamacpp, by_torch))
    ours, torchs = (each.start(prompts_of(each)) for each in (found, expected))
    for count in (12, 300, 40):
        rows, tokens = torch.arange(count) % len(ours.rows), torch.arange(count) * 7 % 290
        ours, torchs = ours.advance(rows, tokens), torchs.advance(rows, tokens)
        close(ours.log_probs, torchs.log_probs)
    close(ours.score((4, 5, 6)), torchs.score((4, 5, 6)))


def test_cells_and_sequences_are_given_back(files: dict[str, Path]) -> None:
    ours = by_llamacpp(files["llama F32"])
    branches = ours.start(prompts_of(ours))
    for rows in ([0, 0, 1, 4], [3, 3, 2], [2, 0]):
        branches = branches.advance(torch.tensor(rows), torch.arange(5, 5 + len(rows)))
    held, counts = ours.sequences, dict[int, int]()
    for sequence in held._known.values():
        cells: Any = sequence.cells
        while cells is not None:
            counts[id(cells)], cells = cells.count, cells.before
    assert sum(counts.values()) == held._used < sum(map(len, held._known)), "what is shared counts once"
    numbers = [each.number for each in held._known.values()]
    assert sorted(numbers + held._free) == [*range(sequences.SEQUENCES)]
    for tokens in [*held._known]:
        held._end(held._known.pop(tokens))
    assert held._used == 0 and len(held._free) == sequences.SEQUENCES


def test_a_call_that_fails_leaves_nothing_half_read(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = by_llamacpp(files["llama F32"])
    prompts = prompts_of(ours)
    expected = ours.start(prompts).log_probs
    with monkeypatch.context() as patch:
        patch.setattr(Sequences, "_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ours.start(prompts_of(ours, OTHER))
    close(ours.start(prompts).log_probs, expected)
    with pytest.raises(ModelError, match=r"to read 1 tokens; found .*; give engine torch"):
        ours.next_log_probs([((5000,), 0)])
    close(ours.start(prompts).log_probs, expected)


def test_long_answers_are_read_in_parts(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "OUTPUTS_AT_ONCE", 7)
    ours, torchs = by_llamacpp(files["llama F32"]), by_torch(files["llama F32"])
    answer = tuple(range(3, 40))
    close(ours.log_likelihood(prompts_of(ours), answer), torchs.log_likelihood(prompts_of(torchs), answer))
    assert ours.log_likelihood(prompts_of(ours), ()).shape == (5, 0)


# Quantised weights stay quantised.


@pytest.mark.parametrize("form", ["Q8_0", "Q4_0"])
def test_quantised_weights_are_run_as_they_are(
    form: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = files[f"llama-chat {form}"]
    torchs = by_torch(file)  # the same weights in float32
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path))
    monkeypatch.setattr(gguf, "_convert_gguf", lambda *_: pytest.fail("de-quantised"))
    ours = by_llamacpp(file, dtype="auto")
    assert {each.name.rpartition("-")[0] for each in tmp_path.iterdir() if each.is_dir()} == {"gguf-tokenizer"}
    assert ours.model.native.size <= file.stat().st_size, "its weights take what the file has"
    prompts = prompts_of(ours)
    found, expected = (each.start(prompts).log_probs.double() for each in (ours, torchs))
    assert 1e-4 < 0.5 * (found.exp() - expected.exp()).abs().sum(-1).max() < 0.1
    odds, exact = (each - torch.log1p(-each.exp()) for each in (found, expected))
    likely = (expected.exp() > 1e-3) & (expected.exp() < 0.999)
    assert 0 < (odds - exact)[likely].abs().max() < rounding_of(ours)


def test_what_the_file_and_the_dtype_say_of_rounding(files: dict[str, Path]) -> None:
    exact, halves = (by_llamacpp(files["llama F32"], dtype=dtype) for dtype in ("float32", "auto"))
    quantised = by_llamacpp(files["llama-chat Q8_0"])
    assert (rounding_of(exact), rounding_of(halves), rounding_of(quantised)) == (0.0, 0.1, 1.5)
    assert (exact.model.dtype, halves.model.dtype) == (torch.float32, torch.float16)
    prompts = prompts_of(exact)
    difference = (exact.start(prompts).log_probs - halves.start(prompts).log_probs).exp().sub(1).abs().max()
    assert 1e-4 < difference < rounding_of(halves)
    assert states_for(torch.float16) == states_for("auto") == "float16"


def test_a_tokenizer_is_converted_once(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path))
    made: list[Path] = []
    original = gguf._convert_tokenizer
    monkeypatch.setattr(
        gguf, "_convert_tokenizer", lambda file, folder: (made.append(file), original(file, folder))
    )
    for _ in range(2):
        by_llamacpp(files["llama F32"])
    assert made == [files["llama F32"]]
    by_torch(files["llama-chat F32"])
    by_llamacpp(files["llama-chat F32"])
    assert made == [files["llama F32"]], "what torch's conversion has is used"


# What it is for.


def test_auto_runs_a_gguf_that_is_named_as_it_is(files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    file = files["llama-chat Q4_0"]
    assert isinstance(load_generator(file, engine="auto", dtype="auto", device="cpu"), GGUFGenerator)
    assert not isinstance(load_generator(file, engine="auto", device="cpu"), GGUFGenerator), (
        "float32 was asked for"
    )
    broken = file.parent / "auto.gguf"
    broken.write_bytes(file.read_bytes().replace(b"gpt-2", b"gpt-9"))
    caplog.set_level(logging.INFO, "mixrag.generator")
    found = load_generator(broken, engine="auto", dtype="auto", device="cpu")
    assert isinstance(found, CausalGenerator)
    assert any("llama.cpp does not run" in each and "gpt-9" in each for each in caplog.messages)


def test_what_is_no_gguf_without_an_adapter_on_a_processor_is_refused(
    files: dict[str, Path], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    file, folder = files["llama F32"], tiny_folder("llama")
    assert "a GGUF file on a processor, without an adapter, for engine llamacpp" in refusal(SettingError, folder)
    assert "found a model object" in refusal(SettingError, tiny_models.build("llama")[0], tokenizer=str(folder))
    assert "found device " in refusal(SettingError, file, device_map={"": "cpu", "lm_head": "disk"})
    found = refusal(SettingError, file, adapter=save_adapter("llama", tmp_path / "adapter"))
    assert "with an adapter; give adapter none, or engine torch" in found
    for dtype in ("bfloat16", "int8"):
        assert f"found {dtype}; choose one of them" in refusal(SettingError, file, dtype=dtype)


def test_its_answers_are_told_from_those_of_torch_by_a_digest() -> None:
    models = ModelConfig(generator="a.gguf", dtype="float32")
    assert models_digest(models) != models_digest(replace(models, engine="llamacpp"))


# Bad input.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1000], "data is not within the file bounds"),
        (lambda data: data[:3000], "failed to load model"),
        (lambda data: data.replace(b"llama", b"lhama"), "unknown model architecture: 'lhama'"),
        (lambda data: data.replace(b"gpt-2", b"gpt-9"), "unknown pre-tokenizer type: 'gpt-9'"),
        (lambda data: data.replace(b"attn_q", b"attn_p"), "attn_q.weight"),
        (lambda data: b"", "empty"),
        (lambda data: b"garbage" * 100, "GGUF"),
        (lambda data: b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, "corrupt"),
    ],
)
def test_a_damaged_or_unknown_file_is_one_line(
    change: Callable[[bytes], bytes], reason: str, files: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(change(files["llama F32"].read_bytes()))
    text = refusal(ModelError, file)
    assert "a GGUF file that llama.cpp can run" in text and reason in text.partition("; found ")[2]
    assert str(tmp_path) in text and "Failed to load model from file" not in text


def test_a_file_that_ends_the_process_of_llama_cpp_is_one_line(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = files["llama F32"].read_bytes()
    name = b"blk.1.attn_v.weight"
    place = data.index(name) + len(name) + 4 + 8  # behind the number of dimensions, and the first of two
    file = tmp_path / "model.gguf"
    file.write_bytes(data[:place] + bytes(8) + data[place + 8 :])
    text = refusal(ModelError, file)
    assert "found one at which llama.cpp ends its process (SIG" in text
    by_llamacpp(files["llama F32"])
    with monkeypatch.context() as patch:
        patch.setattr(trial, "LOADING", "import os; os.kill(os.getpid(), 9)")
        by_llamacpp(files["llama F32"])  # was tried before
        file.write_bytes(data + b"\0")
        assert "(SIGKILL)" in refusal(ModelError, file)
        patch.setattr(trial, "LOADING", "import time; time.sleep(60)")
        patch.setattr(trial, "LONGEST", 0.1)
        assert "does not load within 0.1 seconds" in refusal(ModelError, file)
    by_llamacpp(file)


def test_weights_that_are_no_numbers_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    data = files["llama F32"].read_bytes()
    file = tmp_path / "model.gguf"
    file.write_bytes(data[:-4096] + b"\xff\xff\xff\x7f" * 1024)  # NaN
    assert "probabilities that differ by nan" in refusal(ModelError, file)


def test_a_question_longer_than_the_context(files: dict[str, Path]) -> None:
    ours = by_llamacpp(files["llama F32"])
    with pytest.raises(QuestionError, match=f"within {CONTEXT} tokens"):
        ours.prompt("why " * CONTEXT, [], 10)
    text = "Nobody wrote the letter twice. " * 40
    prompt = ours.prompt(QUESTION, [Passage(text, text, "/notes.txt", "Notes", 0, len(text))], 40)
    assert prompt.shortened and len(prompt.tokens) == CONTEXT - 40
    torchs = by_torch(files["llama F32"])
    close(ours.start([prompt]).log_probs, torchs.start([prompt]).log_probs)


def test_another_tokenizer_is_refused(files: dict[str, Path]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    other = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=other, eos_token="</s>", unk_token="<unk>")
    assert "splits them otherwise; give the tokenizer" in refusal(ModelError, files["llama F32"], tokenizer=words)
    own = by_torch(files["llama F32"]).tokens.tokenizer
    assert by_llamacpp(files["llama F32"], tokenizer=own).tokens.tokenizer is own


def test_a_tokenizer_that_transformers_cannot_read(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXRAG_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr("transformers.AutoTokenizer.from_pretrained", raising)
        assert "give the tokenizer of the model (--tokenizer)" in refusal(ModelError, files["llama F32"])
    assert not [each for each in (tmp_path / "cache").iterdir() if each.is_dir()]
    monkeypatch.setenv("MIXRAG_CACHE", str(files["llama F32"]))
    assert "set MIXRAG_CACHE" in refusal(ModelError, files["llama F32"])


def raising(*_: Any, **__: Any) -> None:
    raise ValueError("GGUF model with architecture\nx is not supported yet.")


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"has_encoder": True}, "an encoder-decoder"),
        ({"causal": "false"}, "a text encoder"),
        ({"is_recurrent": True}, "other states than keys and values"),
        ({"is_hybrid": True}, "other states than keys and values"),
        ({}, None),
    ],
)
def test_models_that_are_not_for_this_engine(members: dict[str, Any], found: str | None) -> None:
    stated = {"general.architecture": "some", "some.attention.causal": members.pop("causal", "true")}
    facts = {"has_encoder": False, "has_decoder": True, "is_recurrent": False, "is_hybrid": False, **members}
    native = SimpleNamespace(meta_val_str=stated.__getitem__, n_ctx_train=100)
    vars(native).update({name: lambda value=value: value for name, value in facts.items()})
    reason = model_module._unusable(model_module.GGUFModel("some", native, "float32"))
    assert reason is None if found is None else found in str(reason)


def test_positions_that_depend_on_the_size_of_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny_gguf.save(tmp_path / "long.gguf", "llama", long_rope=(4.0, True))
    text = refusal(ModelError, file)
    assert "for engine llamacpp; found LongRoPE, whose positions depend on the length" in text
    assert isinstance(load_generator(file, engine="auto", dtype="auto", device="cpu"), CausalGenerator)
    assert any("llama.cpp does not run" in each and "LongRoPE" in each for each in caplog.messages)
    monkeypatch.setattr(model_module, "_scaled_by_length", lambda *_: None)
    ours = by_llamacpp(file)  # the reason: the same row has another distribution once the memory has grown
    row = (tuple(range(3, 43)), 0)
    before = ours.next_log_probs([row]).exp()
    ours.next_log_probs([(tuple((place * 7 + of) % 290 for place in range(100)), 0) for of in range(12)])
    assert (ours.next_log_probs([row]).exp() - before).abs().sum() > 0.1


def test_long_rope_is_stated_or_is_in_any_part_of_a_file(files: dict[str, Path], tmp_path: Path) -> None:
    plain = files["llama F32"].read_bytes()
    model, parts = by_llamacpp(files["llama F32"]).model, [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(plain)
    assert model_module._scaled_by_length(model, parts[0]) is None
    stated = SimpleNamespace(
        meta_val_str={"general.architecture": "some", "some.rope.scaling.type": "longrope"}.__getitem__
    )
    scaled = replace(model, native=stated)
    assert "LongRoPE" in str(model_module._scaled_by_length(scaled, parts[0]))
    tiny_gguf.save(parts[1], "llama", long_rope=(4.0, False))  # as files of Phi have it
    assert "LongRoPE" in str(model_module._scaled_by_length(model, parts[0]))
    parts[1].write_bytes(plain[:50])
    assert "a header that cannot be read" in str(model_module._scaled_by_length(model, parts[0]))


def test_a_scaledmething_else_of_rows_read_in_parts_is_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Sequences._begin

    def empty(self: Sequences, parent: tuple[int, ...], length: int) -> Any:
        found = original(self, parent, length)
        self._context.memory_seq_rm(found.number, -1, -1)
        return found

    monkeypatch.setattr(Sequences, "_begin", empty)
    assert "however it was read; found probabilities that differ" in refusal(ModelError, files["llama F32"])


def test_no_memory_is_one_line(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = by_llamacpp(files["llama F32"])
    original = runtime.llama()
    without = SimpleNamespace(LlamaContextParams=original.LlamaContextParams, LlamaContext=raising)
    monkeypatch.setattr(model_module, "llama", lambda: without)
    with pytest.raises(ModelError, match=r"memory for \d+ tokens .*; found .*; lower k"):
        ours.sequences.read([Row(tuple(range(3, 200)) * 9, 0)], lambda *_: None)


def test_without_the_package(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.llama.cache_clear()
    monkeypatch.setitem(sys.modules, "cyllama.llama.llama_cpp", None)
    monkeypatch.setattr(runtime, "available", lambda: False)
    assert 'pip install "mixrag[gguf]"' in refusal(MissingPackageError, files["llama F32"])
    assert isinstance(load_generator(files["llama F32"], engine="auto", dtype="auto"), CausalGenerator)


def test_a_package_that_cannot_be_imported(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(runtime, "llama", failing)
    assert "found libgomp.so.1: cannot open" in refusal(ModelError, files["llama F32"])
    found = engines.with_llamacpp("tiny", files["llama F32"], "auto")
    assert found is None


def test_llama_cpp_writes_nothing(files: dict[str, Path]) -> None:
    """Neither while it loads and answers, nor where it fails, nor when the process ends."""
    code = (
        "import sys\n"
        "from mixrag.errors import ModelError\n"
        "from mixrag.generator import load_generator\n"
        "found = load_generator(sys.argv[1], engine='llamacpp')\n"
        "found.start([found.prompt('Who?', [], 5)])\n"
        "try:\n    load_generator(__import__('mixrag').__file__, engine='llamacpp')\nexcept ModelError: pass\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, files["llama F32"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# The whole pipeline.


def test_a_rag_answers_as_with_torch_and_is_saved(files: dict[str, Path], tmp_path: Path) -> None:
    for name, text in {"cod": "A licence to fish cod costs nine crowns.", "hen": "Hens lay eggs."}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    models = ModelConfig(
        encoder=save_encoder(tmp_path / "encoder"),
        generator=files["llama F32"],
        dtype="float32",
        device="cpu",
    )

    def opened(engine: Any, **options: Any) -> RAG:
        settings = Settings(k=2, max_tokens=6)
        return RAG.open(
            tmp_path / "s", create=True, models=replace(models, engine=engine, **options), settings=settings
        )

    question = "What does a licence cost?"
    with opened("torch") as rag:
        rag.index([tmp_path / "cod.txt", tmp_path / "hen.txt"])
        expected = rag.ask(question)
    with opened("llamacpp") as rag:
        answer = rag.ask(question)
        assert isinstance(rag.generator, GGUFGenerator)
        assert (answer.best_guess, answer.log_prob) == (
            expected.best_guess,
            pytest.approx(expected.log_prob, abs=1e-4),
        )
        for found, theirs in zip(answer.passages, expected.passages, strict=True):
            assert found.posterior == pytest.approx(theirs.posterior, abs=1e-4)
        assert rag.generator.prefix_cache is not None and rag.generator.prefix_cache.misses == 2
        assert isinstance(_frozen_generator(rag), CausalGenerator), "training uses torch"
        with pytest.raises(ModelError, match="a causal model with a prefix cache"):
            rag.precompute()
        rag.save(tmp_path / "saved")
        loaded = rag.generator
    alone = replace(models, generator=loaded, dtype="auto", device=None)
    with (
        RAG.open(tmp_path / "s", models=alone) as rag,
        pytest.raises(MixragError, match="generator"),
    ):
        rag.save(tmp_path / "object")
    with RAG.open(tmp_path / "s", model=tmp_path / "saved", dtype="float32", device="cpu") as rag:
        assert rag.ask(question, k=2, max_tokens=6).log_prob == pytest.approx(expected.log_prob, abs=1e-4)


def test_a_machine_without_a_wheel_is_named(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.llama.cache_clear()
    monkeypatch.setitem(sys.modules, "cyllama.llama.llama_cpp", None)
    monkeypatch.setattr(runtime.platform, "system", lambda: "Linux")
    monkeypatch.setattr(runtime.platform, "machine", lambda: "aarch64")
    found = refusal(MissingPackageError, files["llama F32"])
    assert "wheels for x86-64 on Linux; found none for Linux on aarch64; compile it" in found

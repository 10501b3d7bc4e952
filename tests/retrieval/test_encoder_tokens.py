"""The tokens of an encoder: where they begin, how many are read, and passages that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixrag import RAG, Document, load_encoder
from mixrag.corpus.splitters.encoder_tokens import EncoderTokens, SlowTokens
from mixrag.corpus.splitters.tokens import ESTIMATED, WORDS, filled
from mixrag.retrieval.encoders.sentence import SentenceEncoder
from mixrag.retrieval.encoders.tokens import tokens_of
from tiny_encoder import save_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), seed=1)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceEncoder:
    return load_encoder(folder, device="cpu")


class Slow:
    """A tokenizer that tells nothing but its tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def tokenize(self, text: str) -> list[str]:
        return self._tokenizer.tokenize(text)

    def get_vocab(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()

    def num_special_tokens_to_add(self) -> int:
        return 2


class Model:
    max_seq_length = 64

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer


def test_the_limit_leaves_out_special_tokens_and_the_prompt(encoder: SentenceEncoder) -> None:
    assert encoder.tokens.limit == 64 - 2
    assert tokens_of(encoder.passage_model, "passage: ").limit == 64 - 2 - len("passage:")
    assert tokens_of(Model(Slow(encoder.passage_model.tokenizer)), "passage: ").limit == 64 - 2 - len("passage:")
    model = Model(encoder.passage_model.tokenizer)
    model.max_seq_length = None  # type: ignore[assignment]
    assert tokens_of(model, None).limit is None
    assert tokens_of(Model(object()), None) is ESTIMATED


def test_starts_and_counts_are_those_of_the_tokenizer(encoder: SentenceEncoder) -> None:
    starts, none = encoder.tokens.starts(["ab c", ""])
    assert starts.tolist() == [0, 1, 3] and none.tolist() == []
    assert encoder.tokens.counts(["ab c", "x" * 90, ""]) == [3, 90, 0]
    slow = SlowTokens(encoder.passage_model.tokenizer, None)
    assert slow.starts(["ab c"])[0].tolist() == [0, 1, 3] and slow.counts(["ab c"]) == [3]


def test_truncation_and_padding_of_the_model_are_no_concern(encoder: SentenceEncoder) -> None:
    encoder.encode_passages(["a", "b c d" * 90])  # sets both on the tokenizer itself
    assert encoder.tokens.counts(["x" * 90, "y"]) == [90, 1]


def test_the_name_changes_with_tokenizer_and_limit(encoder: SentenceEncoder) -> None:
    backend = encoder.passage_model.tokenizer.backend_tokenizer
    names = {EncoderTokens(backend, limit).name for limit in (62, 63, None)}
    assert len(names) == 3 and encoder.tokens.name in names
    slow = {SlowTokens(encoder.passage_model.tokenizer, limit).name for limit in (1, 2)}
    assert len(slow) == 2 and not slow & names


def test_long_stretches_without_a_token_count_as_several(encoder: SentenceEncoder) -> None:
    unknown = "é" * 150  # one unknown token
    assert encoder.tokens.counts([unknown]) == [1]
    assert len(encoder.tokens.starts([unknown])[0]) == 38
    assert filled(np.array([0, 10, 30]), 33).tolist() == [0, 10, 30]
    assert filled(np.array([0, 30]), 31).tolist() == [0, *range(4, 30, 4), 30]
    assert filled(np.array([], np.int64), 30).tolist() == list(range(4, 30, 4))
    assert WORDS.starts(["y" * 90])[0].tolist() == [0]


@settings(max_examples=30, deadline=None)
@example(["00\x1f:"], 1)
@given(st.lists(st.text(st.characters(codec="ascii"), max_size=40), max_size=20), st.integers(1, 90))
def test_no_passage_is_longer_than_the_encoder_reads(
    encoder: SentenceEncoder, parts: list[str], size: int
) -> None:
    from mixrag.corpus import StructureSplitter

    document = Document(" ".join(parts), title="Fees and dues")
    for start, end in StructureSplitter(size, encoder.tokens).split_document(document):
        embedded = encoder.passage_text(document.title, document.text[start:end])
        assert encoder.tokens.counts([embedded])[0] <= 62
        assert encoder.tokens.counts([document.text[start:end]])[0] <= size


def test_a_pipeline_measures_with_the_tokens_of_its_encoder(tmp_path: Path, folder: Path) -> None:
    with RAG.open(tmp_path / "store", create=True, encoder=folder, device="cpu") as rag:
        text = "The end of every word is heard far from the river. " * 9
        report = rag.add([Document(text, id="a", title="T")])
        assert report.passages > 5 and report.too_long == 0 and report.token_limit == 62
        assert rag.info().splitter == f"structure:200 {rag.encoder.tokens.name}"  # type: ignore[attr-defined]
        (tmp_path / "a.txt").write_text(text)
        from mixrag.corpus import WordSplitter

        assert rag.index(tmp_path / "a.txt", splitter=WordSplitter(100)).too_long == 1


def test_the_fingerprint_does_not_change_with_the_way_titles_are_joined(folder: Path) -> None:
    one, pair = load_encoder(folder, device="cpu"), load_encoder(folder, question=folder, device="cpu")
    trained = load_encoder(folder, question=folder, titles=False, device="cpu")
    assert one.passage_text("Title", "text") == trained.passage_text("Title", "text") == "Title\ntext"
    assert pair.passage_text("Title", "text") == "Title [SEP] text" and pair.passage_text("", "text") == "text"
    assert one.fingerprint == trained.fingerprint != pair.fingerprint

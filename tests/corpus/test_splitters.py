import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.corpus import SentenceSplitter, StructureSplitter, WordSplitter, splitter_named, splitter_stored
from mixrag.corpus.splitters import CONTEXTS, count_words, stored_name
from mixrag.errors import SettingError

texts = st.lists(
    st.sampled_from(
        ["word", "Dr.", "It ended. ", "\n\n", "\n", " ", "\t", "\x1c", "é", "😀", "日本語", "don't", "\u2003"]
    )
    | st.text(max_size=6),
    max_size=60,
).map("".join)
splitters = st.builds(
    lambda kind, words: kind(words), st.sampled_from([WordSplitter, SentenceSplitter]), st.integers(1, 12)
)


@settings(max_examples=300, deadline=None)
@given(texts, splitters)
def test_spans_cover_all_but_whitespace(text, splitter):
    spans = splitter.split(text)
    bounds = [0] + [offset for span in spans for offset in span] + [len(text)]
    assert bounds == sorted(bounds)
    assert all(not text[a:b].strip() for a, b in zip(bounds[::2], bounds[1::2]))
    for start, end in spans:
        passage = text[start:end]
        assert passage and passage == passage.strip() and count_words(passage) <= splitter.words


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abc.,", min_size=1, max_size=8), max_size=50), st.integers(1, 12))
def test_every_word_is_in_exactly_one_passage(words, size):
    text = " \n".join(words)
    passages = [text[a:b].split() for a, b in WordSplitter(size).split(text)]
    assert [word for passage in passages for word in passage] == words
    assert all(len(passage) == size for passage in passages[:-1])


def test_sentences_stay_whole():
    text = "One two three. Four five six. Seven eight nine."
    assert [text[a:b] for a, b in SentenceSplitter(4).split(text)] == [
        "One two three.",
        "Four five six.",
        "Seven eight nine.",
    ]


def test_text_without_spaces_is_split_too():
    assert [b - a for a, b in WordSplitter(100).split("日" * 250)] == [100, 100, 50]
    assert max(b - a for a, b in WordSplitter(10).split("x" * 5000)) == 1000


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", ["structure:150", "words:100", "sentences:7"])
def test_a_stored_name_says_which_splitter_it_was(name, context):
    splitter = splitter_named(name, context)
    assert splitter_stored(stored_name(splitter)) == splitter


def test_a_stored_name_may_say_which_tokens_were_counted():
    tokens = types.SimpleNamespace(name="tokenizer of minishlab/potion, 0f3a")
    measured = StructureSplitter(150, tokens=tokens, context="title")
    assert stored_name(measured).startswith("structure:150 tokenizer")
    assert splitter_stored(stored_name(measured)) == StructureSplitter(150, context="title")


@pytest.mark.parametrize("name", ["", "paragraphs", "words:", "words:5x", "words:9999999", "own structure:5"])
def test_a_splitter_of_ones_own_is_not_known_by_its_name(name):
    assert splitter_stored(name) is None


@pytest.mark.parametrize("name", ["words:100", "sentences:7"])
def test_name_round_trip(name):
    assert splitter_named(name).name == name


@pytest.mark.parametrize(
    "name", ["words", "words:0", "words:-1", "tokens:100", "words:1e3", "", "sentences:0", "words:٣"]
)
def test_bad_names(name):
    with pytest.raises(SettingError):
        splitter_named(name)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixrag.corpus import SentenceSplitter, WordSplitter, splitter_named
from mixrag.corpus.splitters import count_words
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


@pytest.mark.parametrize("name", ["words:100", "sentences:7"])
def test_name_round_trip(name):
    assert splitter_named(name).name == name


@pytest.mark.parametrize(
    "name", ["words", "words:0", "words:-1", "tokens:100", "words:1e3", "", "sentences:0", "words:٣"]
)
def test_bad_names(name):
    with pytest.raises(SettingError):
        splitter_named(name)

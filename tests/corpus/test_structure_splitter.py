"""The splitter by structure: what holds for every document, and each rule by an example."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mixrag.corpus import Document, StructureSplitter
from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.passage import Block
from mixrag.corpus.splitters.tokens import ESTIMATED, PatternTokens
from mixrag.errors import SettingError

WORDS = PatternTokens(re.compile(r"\S+"))


def passages(document: Document | str, size: int, tokens: PatternTokens = WORDS, **options: str) -> list[str]:
    given = Document(document) if isinstance(document, str) else document
    spans = StructureSplitter(size, tokens, **options).split_document(given)  # type: ignore[arg-type]
    return [given.text[start:end] for start, end in spans]


def built(*parts: tuple) -> Document:
    """A document of ("heading", text, level), ("page", number), ("table", rows), ("list", items), paragraphs."""
    builder = DocumentBuilder()
    for part in parts:
        kind, *given = (part,) if isinstance(part, str) else part
        match kind, given:
            case "heading", [text, level]:
                builder.heading(text, level)
            case "page", [number]:
                builder.at(f"page {number}", number)
            case "table", [rows]:
                builder.table([[cell] for cell in rows], header_rows=0)
            case "list", [items]:
                builder.items(items)
            case "code", [lines]:
                builder.code(lines)
            case text, []:
                builder.paragraph(text)
    return builder.document("Title")


words = st.sampled_from(["cod", "eel", "ferry", "費用", "12.5", "Dr.", "e.g.", "x" * 40, "it's", "क", "😀"])
sentences = st.lists(words, min_size=1, max_size=9).map(lambda found: " ".join(found) + ".")
paragraphs = st.lists(sentences, min_size=1, max_size=5).map(" ".join)
lines = st.lists(st.lists(words, min_size=1, max_size=5).map(" | ".join), min_size=1, max_size=6)
parts = st.one_of(
    st.tuples(st.just("heading"), st.lists(words, min_size=1, max_size=3).map(" ".join), st.integers(1, 4)),
    st.tuples(st.just("page"), st.integers(1, 3)),
    st.tuples(st.just("table"), lines),
    st.tuples(st.just("list"), lines),
    st.tuples(st.just("code"), lines.map("\n".join)),
    paragraphs,
    st.text(min_size=1, max_size=30).filter(str.strip),
)
documents = st.lists(parts, max_size=14).map(lambda found: built(*found))


@settings(max_examples=300, deadline=None)
@given(documents, st.integers(1, 40), st.sampled_from([WORDS, ESTIMATED]))
def test_spans_are_disjoint_bounded_and_leave_out_nothing_but_whitespace(document, size, tokens):
    text = document.text
    spans = StructureSplitter(size, tokens).split_document(document)
    bounds = [0] + [offset for span in spans for offset in span] + [len(text)]
    assert bounds == sorted(bounds)
    assert not any(text[a:b].strip() for a, b in zip(bounds[::2], bounds[1::2]))
    for start, end in spans:
        passage = text[start:end]
        assert passage and passage == passage.strip() and tokens.counts([passage]) <= [size]


def fit_together(document: Document, size: int) -> bool:
    """Whether headings in a row, and the longest line that follows them, are within ``size``."""
    headings = 0
    for block in document.blocks:
        content = document.text[block.start : block.end]
        if block.kind == "heading":
            headings += ESTIMATED.counts([content])[0]
            fits = headings <= size
        else:
            lines = [] if block.kind == "text" else content.split("\n")
            fits = headings + max(ESTIMATED.counts(lines), default=0) <= size
            headings = 0
        if not fits:
            return False
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(documents)
def test_rows_items_and_headings_are_whole_and_a_heading_is_not_alone(document):
    text, size = document.text, 60
    # Headings that fill a passage leave no room for what they are about: something has to be divided.
    assume(fit_together(document, size - 10))
    spans = StructureSplitter(size, ESTIMATED).split_document(document)
    starts, ends = {start for start, _ in spans}, {end for _, end in spans}
    last = max((end for _, end in spans), default=0)
    for number, block in enumerate(document.blocks):
        assert block.kind != "heading" or block.end not in ends or block.end == last
        if block.kind == "heading":
            before = document.blocks[number - 1].kind if number else ""
            assert block.start in starts or before == "heading"
        if block.kind in ("list", "table", "code"):
            inside = {place for place in starts if block.start < place < block.end}
            assert all(text[:place].rstrip(" ").endswith("\n") for place in inside)


@settings(max_examples=300, deadline=None)
@given(st.lists(parts, max_size=14))
def test_a_passage_ends_with_its_page_unless_a_sentence_or_a_heading_goes_on(given_parts):
    document = built(*given_parts)
    for start, end in StructureSplitter(30, ESTIMATED).split_document(document):
        inside = [block for block in document.blocks if block.start < end and block.end > start]
        for first, second in pairwise(block for block in inside if block.kind != "heading"):
            if first.page == second.page:
                continue
            assert first.kind == second.kind == "text"
            assert not document.text[first.start : first.end].endswith(".")
            assert end <= second.end


def test_sentences_are_whole_and_passages_about_as_long_as_each_other():
    text = "One two three four. Five six seven eight. Nine ten eleven twelve. Last one here now."
    assert passages(text, 12) == [text[:41], text[42:]]
    assert passages(text, 4) == [each.strip() + "." for each in text.split(".") if each]


def test_a_passage_ends_with_a_paragraph_where_that_leaves_it_half_full():
    text = (
        "One two three. Four five six.\n\nSeven eight nine. Ten eleven twelve.\n\nThe end of it. And more to say."
    )
    assert passages(text, 9) == [
        "One two three. Four five six.",
        "Seven eight nine. Ten eleven twelve.",
        text[69:],
    ]


def test_small_blocks_under_one_heading_are_joined_and_a_heading_begins_a_passage():
    document = built(("heading", "Fees", 1), "Nine crowns.", "Ten marks.", ("heading", "Times", 1), "At six.")
    assert passages(document, 50) == ["Fees\n\nNine crowns.\n\nTen marks.", "Times\n\nAt six."]


def test_headings_in_a_row_stay_with_what_follows_even_on_the_next_page():
    document = built(
        "Before.", ("heading", "Part one", 1), ("heading", "Fees", 2), ("page", 2), "Nine crowns a year."
    )
    assert passages(document, 50) == ["Before.", "Part one\n\nFees\n\nNine crowns a year."]


def test_a_heading_is_not_alone_before_a_sentence_that_hardly_fits():
    document = built(("heading", "The fees", 1), "one two three four five, six seven eight nine ten.")
    assert passages(document, 11) == ["The fees\n\none two three four five,", "six seven eight nine ten."]


def test_a_line_like_a_heading_and_a_line_with_a_colon_stay_with_what_follows():
    before = "one two three four. five six seven eight."
    text = f"{before}\n\nFees of the harbour\n\nnine ten eleven twelve. one two three."
    assert passages(text, 12) == [text[:41], text[43:]]
    rows = ("table", ["a | 1", "b | 2"])
    document = built("one two three four. five six seven eight.", "These are due:", rows)
    assert passages(document, 12) == [document.text[:41], document.text[43:]]
    lines = "\n\n".join(f"line number {i}" for i in range(8))
    assert [len(each.split()) for each in passages(lines, 9)] == [9, 6, 9]


def test_rows_are_divided_only_where_one_is_too_long():
    rows = ["Ferry | 2023: 12", "Pilot | 2023: 40", "Tug | 2023: 7", " | ".join(f"c{i}" for i in range(30))]
    found = passages(built(("table", rows)), 11)
    assert found[0] == "\n".join(rows[:2]) and found[1].startswith(rows[2])
    assert [word for each in found for word in each.split()] == " ".join(rows).split()


def test_a_passage_ends_with_its_page_and_a_sentence_across_pages_is_whole():
    document = built(("page", 1), "The levy is due", ("page", 2), "on the first of May. It is paid in cash.")
    assert passages(document, 50) == ["The levy is due\n\non the first of May.", "It is paid in cash."]
    document = built(("page", 1), "Contents", ("page", 2), "On the first of May.")
    assert passages(document, 50) == ["Contents", "On the first of May."]
    document = built(("page", 1), "It ends.", ("page", 2), "on the first of May.")
    assert passages(document, 50) == ["It ends.", "on the first of May."]


def test_sheets_are_not_joined():
    builder = DocumentBuilder()
    for sheet in ("Fees", "Times"):
        builder.at(f"sheet {sheet}")
        builder.table([["a", "1"]], header_rows=0)
    assert passages(builder.document(), 50) == ["a | 1", "a | 1"]


def test_text_between_blocks_and_overlapping_blocks_are_no_obstacle():
    text = "one two\n\nthree four\n\nfive"
    blocks = (Block(0, 3), Block(2, 14, "heading", 1), Block(14, 999))
    found = passages(Document(text, blocks=blocks), 3)
    assert " ".join(found).split() == text.split()


class Limited(PatternTokens):
    limit = 30
    name = "limited"


def test_title_and_context_leave_room_for_the_rest_of_what_the_encoder_reads():
    limited = Limited(re.compile(r"\S+"))
    text = " ".join(f"w{i}" for i in range(100))
    document = Document(text, title="a title of six words here")
    longest = [
        max(len(each.split()) for each in passages(document, 200, limited, context=c)) for c in ("full", "none")
    ]
    assert longest == [20, 25]  # 100 words as 5 and as 4 of equal length, of at most 30 - 6 - 4 and 30
    assert max(len(each.split()) for each in passages(document, 7, limited)) == 7
    assert StructureSplitter(7, limited).name == "structure:7 limited"
    assert StructureSplitter(7, ESTIMATED).name == StructureSplitter(7).name == "structure:7"


@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "word " * 200_000, "費" * 300_000, "." * 1_000_000, "a\n" * 300_000, " " * 999_999 + "x"],
)
def test_long_texts_without_boundaries_are_divided(text):
    found = passages(text, 200, ESTIMATED)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert max(ESTIMATED.counts(found)) <= 200
    assert len(found) <= 1 + 1.6 * ESTIMATED.counts([text])[0] / 200


def test_bad_sizes_and_contexts_are_refused():
    with pytest.raises(SettingError, match="at least 1 token a passage"):
        StructureSplitter(0)
    with pytest.raises(SettingError, match="a context among full, title, none"):
        StructureSplitter(context="all")  # type: ignore[arg-type]

"""No text from strangers steers a terminal, breaks a page, ends a cell or forges a line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixrag.utils.text import is_unicode, markdown_cell, printable, printable_name, strict_json, unicode_path

STEERING = "a\x00b\x1bc\x85d\u202ee\u2066f\ufdd0g\ufffeh\U0010ffffi\ud800j\x0ck\x7fl"


def test_each_forbidden_character_is_replaced_by_one() -> None:
    assert printable(STEERING) == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg\ufffdh\ufffdi\ufffdj\ufffdk\ufffdl"
    assert printable("one\r\ntwo\rthree\n\tfour") == "one\ntwo\nthree\n\tfour"


@pytest.mark.parametrize("text", ["naïve 東京 עברית \U0001f44d\u200d", "nbsp\u00a0", "e\u0301"])
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text and printable_name(text) == text and unicode_path(text) == text


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_shown_can_be_encoded_and_is_one_line_where_it_should_be(text: str) -> None:
    assert "\x1b" not in printable(text).encode().decode()
    assert len(printable_name(text).splitlines()) <= 1
    unicode_path(text).encode()
    assert len(markdown_cell(text).splitlines()) <= 1


def test_a_name_that_is_no_text_or_holds_line_ends_is_one_line() -> None:
    assert printable_name(Path("a\nb\tc.txt")) == "a\\nb\\tc.txt"
    assert printable_name("bad\udcff\u202e.txt") == "bad\\udcff\\u202e.txt"
    assert unicode_path(Path("a\nbad\udcff")) == "a\nbad\\udcff"


def test_a_cell_of_a_table_holds_no_markup() -> None:
    assert markdown_cell("a | b\n<script> `c` *d* [e] \\") == r"a \| b \<script\> \`c\` \*d\* \[e\] \\"


def test_infinity_is_null_in_json() -> None:
    document = {"a": [1.0, -math.inf, (math.nan, "ü")], "b": {"c": math.inf}}
    assert json.loads(strict_json(document)) == {"a": [1.0, None, [None, "ü"]], "b": {"c": None}}


@pytest.mark.parametrize("text", ["", "née", "\U0001f600", "n\udce9e", "\ud800", "a\udfff"])
def test_unicode_is_what_can_be_encoded(text: str) -> None:
    try:
        encodable = bool(text.encode()) or not text
    except UnicodeEncodeError:
        encodable = False
    assert is_unicode(text) is encodable

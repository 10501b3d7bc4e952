import json

import pytest

from mixrag.corpus.parsers.notebook import read_notebook
from mixrag.corpus.parsers.plain import read_code, read_text
from mixrag.corpus.parsers.result import UnreadableError
from mixrag.corpus.parsers.rst import read_rst


def blocks(result):
    (document,) = result.documents
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def text(source):
    return read_text(source if isinstance(source, bytes) else source.encode(), "a.txt")


def rst(source):
    return blocks(read_rst(source.encode(), "a.rst"))


# text


def test_paragraphs_keep_their_lines():
    assert blocks(text("\ufeffOne\r\ntwo  \r\n \r\n\r\nThree\rfour\n")) == [
        ("text", "One\ntwo"),
        ("text", "Three\nfour"),
    ]


def test_underlined_titles_are_headings():
    source = (
        "Dues\n====\n\nShips\n-----\nA raft.\n\nQuays\n-----\n\na -- b\n\n-----\n\nx\n----------------------\n"
    )
    result = text(source)
    assert blocks(result) == [
        *(
            ("heading", "Dues"),
            ("heading", "Ships"),
            ("text", "A raft."),
            ("heading", "Quays"),
            ("text", "a -- b"),
        ),
        *(("text", "-----"), ("text", "x\n----------------------")),
    ]
    assert [block.level for block in result.documents[0].blocks if block.kind == "heading"] == [1, 2, 2]


def test_form_feeds_part_pages():
    (document,) = text("One\n\fTwo\n\nThree\n").documents
    assert [(block.page, block.place) for block in document.blocks] == [
        (1, "page 1"),
        (2, "page 2"),
        (2, "page 2"),
    ]


def test_other_encodings_are_said():
    result = text("Fähre für Schüler – täglich".encode("cp1252"))
    assert result.documents[0].text == "Fähre für Schüler – täglich"
    assert [(notice.kind, notice.detail) for notice in result.notices] == [
        ("guessed encodings", "read as windows-1252")
    ]


@pytest.mark.parametrize("read", [read_text, read_rst, read_code])
@pytest.mark.parametrize("data", [b"abc\n\0def", b" \n\t"])
def test_binary_and_blank_files_are_refused(read, data):
    with pytest.raises(UnreadableError):
        read(data, "a")


# source code


def test_code_is_parted_before_what_is_not_indented():
    source = "import x\n\n\ndef f():\n\tpass\n\n\tmore()\n\n\nclass C:\n    y = 1\n\n}\n"
    result = read_code(source.encode(), "a.py")
    assert blocks(result) == [
        ("code", "import x"),
        ("code", "def f():\n    pass\n\n    more()"),
        ("code", "class C:\n    y = 1\n\n}"),
    ]
    assert [block.place for block in result.documents[0].blocks] == ["line 1", "line 4", "line 10"]


def test_long_code_is_parted_too():
    result = read_code(("  entry\n" * 150).encode(), "a.log")
    assert [block.place for block in result.documents[0].blocks] == ["line 1", "line 61", "line 121"]
    assert result.documents[0].text.count("entry") == 150


def test_indentation_of_the_first_line_stays():
    assert blocks(read_code(b"    x\n  y", "a.c")) == [("code", "    x\n  y")]


# notebooks


def test_notebook():
    cells = [
        {"cell_type": "markdown", "source": ["# Dues\n", "*Nine* crowns"]},
        {
            "cell_type": "code",
            "source": "print(9)",
            "outputs": [
                {"output_type": "stream", "text": ["9\n"]},
                {"data": {"text/plain": "<Figure>", "image/png": "iVBOR"}},
                None,
            ],
        },
    ]
    result = read_notebook(json.dumps({"cells": cells}).encode(), "a.ipynb")
    assert blocks(result) == [
        *(("heading", "Dues"), ("text", "Nine crowns"), ("code", "print(9)"), ("code", "9"), ("code", "<Figure>")),
    ]
    assert result.documents[0].title == "Dues" and result.documents[0].blocks[2].place == "cell 2"
    assert [(notice.kind, notice.count) for notice in result.notices] == [("images", 1)]


@pytest.mark.parametrize("source", ['{"cells": [{"x": "y"}]}', '{"a": "b"}', "no json"])
def test_what_is_no_notebook_is_read_as_json(source):
    assert read_notebook(source.encode(), "a.ipynb").documents[0].text


# reStructuredText


def test_rst_structure():
    source = (
        "====\nDues\n====\n\n.. _target:\n.. a comment\n   over two lines\n\nPaid *once* per **year**; see"
        " :ref:`the quay <quay>`, ``fee()`` and `the site <http://x>`__.\n\nShips\n-----\n\n"
        "- raft\n  of logs\n- cutter\n\n"
        ".. note:: Wet.\n   Very `wet`_.\n\nExample::\n\n    x = 1\n\n      y\n\nafter\n\n.. code-block:: py\n"
        "   :linenos:\n\n   z = 2\n\n.. image:: a.png\n   :alt: no\n\n.. [1] A foot note.\n\nlast"
    )
    assert rst(source) == [
        ("heading", "Dues"),
        ("text", "Paid once per year; see the quay, fee() and the site."),
        ("heading", "Ships"),
        ("list", "- raft of logs\n- cutter"),
        ("text", "Wet."),
        ("text", "Very wet."),
        ("text", "Example:"),
        ("code", "x = 1\n\n  y"),
        ("text", "after"),
        ("code", "z = 2"),
        ("text", "a.png"),
        ("text", "[1] A foot note."),
        ("text", "last"),
    ]
    assert read_rst(source.encode(), "a.rst").documents[0].title == "Dues"


def test_rst_tables_keep_their_columns():
    source = "+---+----+\n| a | 12 |\n+---+----+\n\n===  ==\nb    13\n===  ==\n"
    assert [kind for kind, _ in rst(source)] == ["code", "code"]
    assert "| a | 12 |" in rst(source)[0][1] and "b    13" in rst(source)[1][1]

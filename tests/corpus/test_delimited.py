"""CSV files as people and spreadsheets write them: no row is lost, and what was mended is said."""

import pytest

from mixrag.corpus.parsers.delimited import find_delimiter, read_rows
from mixrag.corpus.parsers.records import read_csv


def texts(source):
    return [document.text for document in parsed(source).documents]


def parsed(source):
    return read_csv(source if isinstance(source, bytes) else source.encode(), "a.csv")


def notices(source):
    return {notice.kind: notice.count for notice in parsed(source).notices}


@pytest.mark.parametrize(
    ("source", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
        ("a\tb, c\n1\tx, y, z\n", "\t"),
        ("a|b|c\n1|2, 3|4\n", "|"),
        ('"Town, country";"Fee; kr"\n"Bergen, N";"1; 2"\n', ";"),
        ("town;fee in kr, with tax\nBergen;12\n", ";"),
        ("note\nCheap, but wet.\nDear; dry.\n", "\x1f"),
        ("", "\x1f"),
    ],
)
def test_the_delimiter_makes_rows_equally_long(source, delimiter):
    assert find_delimiter(source) == delimiter


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end):
    assert read_rows(end.join(["a;b", '1;"two', 'lines"', "", "3;4", ""])).rows == [
        (1, ["a", "b"]),
        (2, ["1", f"two{end}lines"]),
        (5, ["3", "4"]),
    ]


def test_a_first_line_names_the_delimiter():
    assert texts("sep=|\nname|fee\nRaft, old|9\n") == ["name: Raft, old\nfee: 9"]
    assert parsed('"sep=\t"\r\nname\tfee\r\nRaft\t9\r\n').documents[0].id == "3"


def test_one_column():
    assert texts("text\nNine crowns, a year.\nPaid in May, or June; never later.\n") == [
        "Nine crowns, a year.",
        "Paid in May, or June; never later.",
    ]


def test_spaces_before_quotes():
    assert texts('name, note\nRaft, "old, wet"\n') == ["name: Raft\nnote: old, wet"]


def test_trailing_delimiters_cost_no_row():
    assert texts("name,fee,,\nRaft,9,,\nCutter,12,,,,\nYawl\n") == [
        "name: Raft\nfee: 9",
        "name: Cutter\nfee: 12",
        "name: Yawl",
    ]


def test_values_beyond_the_header_are_kept_and_said():
    source = "name,fee\nRaft,9,wet\nCutter,12\n"
    assert texts(source)[0] == "name: Raft\nfee: 9\ncolumn 3: wet"
    assert notices(source) == {"rows longer than their header": 1}
    assert texts("id,text\n7,Nine crowns, a year\n8,Ten\n9,Six\n") == ["Nine crowns, a year", "Ten", "Six"]


def test_repeated_ids_and_names_get_numbers():
    source = "id,ship,ship\n7,Raft,x\n7,Cutter,y\n7 (2),Yawl,z\n7,Hulk,\n"
    documents = parsed(source).documents
    assert [document.id for document in documents] == ["7", "7 (2)", "7 (2) (2)", "7 (3)"]
    assert documents[0].text == "id: 7\nship: Raft\nship (2): x"
    assert notices(source) == {"repeated ids": 3, "repeated names of columns": 1}


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ('a,b\n1,"x\n2,y\n3,z\n', [["1", '"x'], ["2", "y"], ["3", "z"]]),
        ('a,b\n1,"x\n2,"y"\n3,z\n', [["1", '"x'], ["2", "y"], ["3", "z"]]),
        ('a,b\n1,5" pipe\n2,6" pipe\n', [["1", '5" pipe'], ["2", '6" pipe']]),
        ('a,b\n1,"old" boat\n2,y\n', [["1", "old boat"], ["2", "y"]]),
    ],
)
def test_quotes_that_are_not_closed_cost_no_row(source, rows):
    assert [values for _, values in read_rows(source).rows][1:] == rows


def test_a_quote_that_is_never_closed_is_said():
    (notice,) = parsed('a,b\n1,x\n2,"y\n').notices
    assert (notice.kind, notice.count) == ("quotes never closed", 1) and "line 3" in notice.detail


def test_columns_are_metadata():
    (document,) = parsed("id,title,year,note\n7,Dues,2023,\n").documents
    assert (document.id, document.title) == ("7", "Dues")
    assert document.metadata == {"year": "2023", "note": ""}


def test_a_file_without_names_of_columns():
    source = "Raft,9\nCutter,12\n"
    assert texts(source) == ["column 1: Raft\ncolumn 2: 9", "column 1: Cutter\ncolumn 2: 12"]
    assert notices(source) == {"files without names of columns": 1}
    assert texts("ship,2022,2023\nRaft,9,10\n") == ["ship: Raft\n2022: 9\n2023: 10"]


def test_a_title_above_the_header():
    source = "Dues of the harbour\n\nship,fee,crew\n" + "Raft,9,1\n" * 5
    assert texts(source)[:2] == ["Dues of the harbour", "ship: Raft\nfee: 9\ncrew: 1"]


def test_a_single_line_is_read():
    assert texts("name,fee\n") == ["name | fee"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig", "cp1252"])
def test_encodings(codec):
    assert texts("name;fee\nFähre;9\n".encode(codec)) == ["name: Fähre\nfee: 9"]

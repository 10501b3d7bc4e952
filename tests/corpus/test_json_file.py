import json

import pytest

from mixrag.corpus.parsers.json_file import read_json
from mixrag.corpus.parsers.result import UnreadableError


def parsed(value):
    return read_json((value if isinstance(value, str) else json.dumps(value)).encode(), "a.json")


def texts(value):
    return [document.text for document in parsed(value).documents]


def test_an_array_of_records_reads_as_jsonl():
    first, second = parsed([{"id": "a", "text": "one", "year": 2023}, {"text": "two", "title": "T"}]).documents
    assert (first.id, first.text, first.metadata) == ("a", "one", {"year": 2023})
    assert (second.id, second.text, second.title) == ("2", "two", "T")


def test_objects_without_text_are_documents_with_metadata():
    first, second = parsed(
        [{"name": "Raft", "fee": {"kr": 9, "crew": [1, 2]}}, {"name": "Cutter", "open": True}]
    ).documents
    assert (first.title, first.text) == ("Raft", "name: Raft\n\nfee.kr: 9\nfee.crew: 1, 2")
    assert first.metadata == {"name": "Raft"} and second.metadata == {"name": "Cutter", "open": True}


def test_other_values_are_paths():
    value = {
        "title": "Dues",
        "harbour": {"quay": {"depth": 4, "names": ["n", "s"]}},
        "open": None,
        "list": [1, [2, {"a": 3}]],
    }
    (document,) = parsed(value).documents
    assert document.title == "Dues"
    assert document.text == (
        "title: Dues\n\nharbour.quay.depth: 4\nharbour.quay.names: n, s\n\nopen: null\n\n"
        "list.1: 1\nlist.2.1: 2\nlist.2.2.a: 3"
    )
    assert {block.kind for block in document.blocks} == {"list"}


def test_arrays_of_plain_objects_are_tables():
    (document,) = parsed({"ships": [{"name": "Raft", "fee": 9}, {"name": "Cutter", "crew": 2}]}).documents
    assert document.text == "ships\nname: Raft | fee: 9\nname: Cutter | crew: 2"
    assert document.blocks[0].kind == "table"


def test_json_lines_under_another_name():
    result = parsed('{"text": "one"}\n{"text": "two"}\n')
    assert [document.text for document in result.documents] == ["one", "two"]


def test_what_is_no_json_is_text():
    result = parsed("{'text': 'single quotes'}")
    assert result.documents[0].text == "{'text': 'single quotes'}"
    assert (
        result.notices[0].kind == "files of another format than their name says"
        and "line 1" in result.notices[0].detail
    )


@pytest.mark.parametrize("depth", [150, 900, 100_000])
def test_deep_values_are_refused(depth):
    with pytest.raises(UnreadableError, match="at most 100 levels"):
        parsed("[" * depth + "1" + "]" * depth)
    deep = '{"a": ' * depth + "1" + "}" * depth
    with pytest.raises(UnreadableError):
        parsed(deep)


def test_a_deep_record_costs_itself_alone():
    deep = '{"a": ' * 150 + "1" + "}" * 150
    result = parsed(f'[{{"text": "one"}}, {deep}, {{"name": "three"}}]')
    assert [document.text for document in result.documents] == ["one", "name: three"]
    assert "at most 100 levels" in result.skipped[0].reason


@pytest.mark.parametrize("value", ["[]", "{}", '""', " "])
def test_nothing_to_read(value):
    with pytest.raises(UnreadableError):
        parsed(value)

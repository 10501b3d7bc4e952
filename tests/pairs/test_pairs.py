"""Pairs: what files give, what is refused and with which words, and what is held out."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixrag.errors import PairsError
from mixrag.pairs.pairs import (
    Pair,
    Pairs,
    as_lines,
    digest,
    pairs_from,
    question_digest,
    read_pairs,
    split_pairs,
)


def written(tmp_path: Path, *rows: object, name: str = "pairs.jsonl") -> Path:
    path = tmp_path / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(tmp_path: Path, *rows: object) -> Pairs:
    return read_pairs([written(tmp_path, *rows)])


def many(documents: int = 5, each: int = 4) -> list[Pair]:
    return [Pair(f"q{d}.{i}", (f"a{d}.{i}",), f"d{d}") for d in range(documents) for i in range(each)]


def test_a_line_becomes_a_pair(tmp_path: Path) -> None:
    row = {"question": " Who?\n", "answers": ["Ann", "Bo"], "doc": "a.txt", "where": {"year": "2016"}, "id": 7}
    (pair,) = read(tmp_path, row).pairs
    assert (pair.question, pair.answers, pair.document) == ("Who?", ("Ann", "Bo"), "a.txt")
    assert pair.where == {"year": "2016"}
    assert pair.source == f"{tmp_path / 'pairs.jsonl'}:1"
    assert hash(pair) == hash(pair)


def test_what_may_be_missing_may_be_missing_or_null(tmp_path: Path) -> None:
    (bare,) = read(tmp_path, {"question": "Who?", "answer": "Ann"}).pairs
    (null,) = read(tmp_path, {"question": "Who?", "answers": ["Ann"], "doc": None, "where": None}).pairs
    (blank,) = read(tmp_path, {"question": "Who?", "answers": ["Ann"], "answer": None, "doc": " "}).pairs
    assert bare == null == blank == Pair("Who?", ("Ann",), None, {})


def test_one_answer_and_a_list_of_them_are_united(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, {"question": "Who?", "answer": "Ann", "answers": ["Bo", "Ann"]}).pairs
    assert pair.answers == ("Ann", "Bo")


def test_blank_answers_and_those_that_differ_in_white_space_are_not_counted(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, {"question": "q", "answers": [" ", "New  York", "", "New York ", "york"]}).pairs
    assert pair.answers == ("New  York", "york")


def test_byte_order_mark_blank_lines_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "q", "answer": "a"}\r\n \r\n\n{"question": "r", "answer": "b"}')
    assert [(pair.question, pair.source[-2:]) for pair in read_pairs([path]).pairs] == [("q", ":1"), ("r", ":4")]


def test_unicode_line_separators_inside_a_string_do_not_end_the_line(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, {"question": "one\u2028two\x85three", "answer": "a"}).pairs
    assert pair.question == "one\u2028two\x85three"


def test_repeated_questions_become_one_with_the_answers_of_all(tmp_path: Path) -> None:
    first = written(
        tmp_path,
        {"question": "Who  won?", "answers": ["Ann"], "doc": "a"},
        {"question": "Who won?", "answers": ["Bo"], "doc": "b"},
        {"question": "Who won?", "answers": ["Cy"], "doc": "a", "where": {"year": "1"}},
    )
    second = written(tmp_path, {"question": "Who won? ", "answers": ["Di", "Ann "], "doc": "a"}, name="more.jsonl")
    result = read_pairs([first, second])
    assert [pair.answers for pair in result.pairs] == [("Ann", "Di"), ("Bo",), ("Cy",)]
    assert result.pairs[0].source.endswith("pairs.jsonl:1")
    assert result.notices == ("1 of 4 pairs repeat a question and were merged with it",)
    assert read(tmp_path, {"question": "q", "answer": "a"}).notices == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "q"', "JSON object a line"),
        ("[" * 100_000, "JSON object a line"),
        ('{"question": "q", "answer": "a", "n": ' + "9" * 5000 + "}", "JSON object a line"),
        ("[1]", "found .*a list"),
        ("3", "found .*a number"),
        ({"answer": "a"}, 'strings under "question"; found .*nothing'),
        ({"question": " ", "answer": "a"}, "an empty one"),
        ({"question": 3, "answer": "a"}, 'strings under "question"; found .*a number'),
        ({"question": "q"}, "an answer.*none"),
        ({"question": "q", "answers": []}, "an answer.*none"),
        ({"question": "q", "answers": ["", " \t"]}, "an answer.*none"),
        ({"question": "q", "answers": "a"}, '"answers" to be a list of strings; found .*a string'),
        ({"question": "q", "answers": {"text": ["a"]}}, "found .*an object"),
        ({"question": "q", "answers": ["a", 1]}, 'strings under "answers"; found .*a number'),
        ({"question": "q", "answers": ["a", None]}, 'strings under "answers"; found .*nothing'),
        ({"question": "q", "answer": True}, 'strings under "answer"; found .*true or false'),
        ({"question": "q", "answer": "a", "doc": 3}, 'strings under "doc"'),
        ({"question": "q", "answer": "a", "where": ["x"]}, '"where" to be an object'),
        ({"question": "q", "answer": "a", "where": {"year": {}}}, "where 'year' to be text, a number"),
        ('{"question": "q\\u0000", "answer": "a"}', 'text under "question"; found .*a NUL'),
        ('{"question": "q", "answer": "\\ud800"}', "half a surrogate pair"),
        ('{"question": "q", "answer": "a", "where": {"\\udfff": "x"}}', "half a surrogate pair"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(PairsError, match=message) as caught:
        read(tmp_path, {"question": "fine", "answer": "a"}, "", line)
    assert f"{tmp_path / 'pairs.jsonl'}:3: " in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_surrogate_pair_is_the_character_it_stands_for(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, '{"question": "q", "answer": "\\ud83d\\ude00"}').pairs
    assert pair.answers == ("\U0001f600",)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match=r"nowhere.jsonl: No such file"):
        read_pairs([tmp_path / "nowhere.jsonl"])
    with pytest.raises(PairsError, match="directory"):
        read_pairs([tmp_path])
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"question": "q", "answer": "a"}\n{"question": "caf\xe9", "answer": "a"}\n')
    with pytest.raises(PairsError, match=r"latin.jsonl:2: byte 0xe9"):
        read_pairs([latin])
    with pytest.raises(PairsError, match=r"bad\\n name\.jsonl: No such") as caught:
        read_pairs([tmp_path / "bad\n name.jsonl"])
    assert "\n" not in str(caught.value)


def test_no_pair_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match=r"at least one question-answer pair; found none in .*empty\.jsonl"):
        read_pairs([written(tmp_path, "", " ", name="empty.jsonl")])
    with pytest.raises(PairsError, match="none in no file"):
        read_pairs([])


def test_whole_documents_are_held_out() -> None:
    pairs = many(documents=10, each=3)
    train, dev = split_pairs(pairs, 0.3, seed=1)
    assert len(dev) == 9 and set(train) | set(dev) == set(pairs) and not set(train) & set(dev)
    assert not {pair.document for pair in train} & {pair.document for pair in dev}


def test_without_documents_questions_are_held_out() -> None:
    pairs = [Pair(f"q{i}", ("a",)) for i in range(17)] + [Pair("q18", ("a",), "d"), Pair("q18", ("a",), "e")]
    pairs += [Pair("both", ("a",), where={"n": str(i)}) for i in range(3)]
    for seed in range(20):
        train, dev = split_pairs(pairs, 0.25, seed)
        assert 4 <= len(dev) <= 7 and len(train) + len(dev) == len(pairs)
        assert not {pair.question for pair in train} & {pair.question for pair in dev}


def test_the_split_depends_on_the_pairs_and_the_seed_alone() -> None:
    pairs = many(documents=12)
    again = random.Random(0).sample(pairs, len(pairs))
    assert split_pairs(pairs, 0.3, 5) == split_pairs(again, 0.3, 5)
    assert len({split_pairs(pairs, 0.3, seed)[1] for seed in range(10)}) > 5


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("sizes", [[1, 1], [9, 1], [50, 2], [3, 40, 5], [1] * 7])
def test_no_side_is_ever_empty(sizes: list[int], share: float) -> None:
    pairs = [Pair(f"q{d}.{i}", ("a",), f"d{d}") for d, size in enumerate(sizes) for i in range(size)]
    for seed in range(5):
        train, dev = split_pairs(pairs, share, seed)
        assert train and dev and len(train) + len(dev) == len(pairs)


def test_what_cannot_be_split_says_what_is_needed() -> None:
    with pytest.raises(PairsError, match="at least 2 documents to hold some out; found 1"):
        split_pairs(many(documents=1), 0.2, 0)
    with pytest.raises(PairsError, match="at least 2 questions to hold some out; found 1"):
        split_pairs([Pair("q", ("a",))], 0.2, 0)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(PairsError, match="between 0 and 1"):
            split_pairs(many(), share, 0)


def test_the_digest_is_that_of_content_and_order() -> None:
    pair = Pair("q", ("a", "b"), "d", {"x": "1", "y": "2"}, source="one:1")
    same = Pair("q", ("a", "b"), "d", {"y": "2", "x": "1"}, source="two:9")
    assert digest([pair]) == digest([same]) and len(digest([pair])) == 64
    others = [
        [Pair("q", ("a b",), "d", pair.where)],
        [Pair("q", ("a", "b"), None, pair.where)],
        [Pair("q", ("a", "b"), "d")],
        [Pair("Q", ("a", "b"), "d", pair.where)],
        [pair, pair],
        [],
    ]
    assert len({digest(pairs) for pairs in [[pair], *others]}) == 7
    assert digest(many()) != digest(many()[::-1])


def squad(*entries: object) -> str:
    return json.dumps(
        {"version": "1.1", "data": [{"title": "T", "paragraphs": [{"context": "c", "qas": entries}]}]}
    )


def test_squad_s_json_is_read(tmp_path: Path) -> None:
    first = {"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 3}, {"text": "Ann B"}]}
    second = {"id": "2", "question": "When?", "answers": [], "is_impossible": True}
    path = tmp_path / "squad.json"
    path.write_text(squad(first, second))
    found = read_pairs([path])
    assert found.pairs == (Pair("Who?", ("Ann", "Ann B")),) and found.pairs[0].document is None
    assert found.pairs[0].source.endswith("data[0].paragraphs[0].qas[0]")
    assert found.notices == (f"1 questions of {path} have no answer and were left out",)


def test_nq_open_s_lines_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, {"question": "who sang it", "answer": ["Ann", "Ann B"]})
    assert read_pairs([path]).pairs == (Pair("who sang it", ("Ann", "Ann B")),)


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"data": 3}', "a list"),
        ('{"data": [{"title": "x"}]}', '"paragraphs"'),
        (squad({"question": "Who?"}), '"answers"'),
        (squad({"answers": [{"text": "Ann"}]}), '"question"'),
        (squad({"question": "Who?", "answers": [{}]}), '"text"'),
        (squad({"question": "Who?", "answers": [{"text": 3}]}), "strings"),
        (squad({"question": " ", "answers": [{"text": "Ann"}]}), "question"),
        (squad(), "at least one"),
    ],
)
def test_what_is_not_quite_squad_s_json_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "squad.json"
    path.write_text(content)
    with pytest.raises(PairsError, match=message) as caught:
        read_pairs([path])
    assert "squad.json" in str(caught.value) and "\n" not in str(caught.value)


# --- Pairs in memory ------------------------------------------------------------------------------

ROW = {"question": " Who?\n", "answers": ["Ann", "Ann ", "Bo"], "doc": "a.txt", "where": {"year": "2016"}}
READ = Pair("Who?", ("Ann", "Bo"), "a.txt", {"year": "2016"})


@pytest.mark.parametrize(
    "items",
    [
        [ROW],
        (ROW,),
        iter([ROW]),
        [{**ROW, "answers": ("Ann", "Bo")}],
        [replace(READ, answers=("Ann", "Ann ", "Bo"))],
    ],
)
def test_pairs_in_memory_are_read_as_lines_are(items: Any) -> None:
    found = pairs_from(items)
    assert found.pairs == (READ,) and found.sources == ("pairs in memory",)


def test_files_by_one_name_or_several(tmp_path: Path) -> None:
    paths = [written(tmp_path, {**ROW, "question": name}, name=f"{name}.jsonl") for name in ("a", "b")]
    assert pairs_from(paths[0]) == pairs_from(str(paths[0])) == pairs_from([paths[0]]) == read_pairs(paths[:1])
    assert pairs_from(iter(map(str, paths))) == read_pairs(paths)
    assert pairs_from(paths).sources == ("a.jsonl", "b.jsonl")


def test_rows_of_a_data_frame() -> None:
    class Frame:
        """What of a DataFrame is used."""

        def to_dict(self, orient: str) -> list[dict[str, Any]]:
            return [ROW] if orient == "records" else []

        def __iter__(self) -> Iterator[str]:
            return iter(ROW)

    assert pairs_from(Frame()).pairs == (READ,)  # type: ignore[arg-type]


def test_a_question_twice_is_merged_and_a_pair_says_where_it_is_from() -> None:
    found = pairs_from([Pair("q", ("a",), source="mine:3"), {"question": "q", "answer": "b"}])
    assert found.pairs == (Pair("q", ("a", "b")),) and found.pairs[0].source == "mine:3"
    assert found.notices == ("1 of 2 pairs repeat a question and were merged with it",)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "at least one question-answer pair"),
        (ROW, "give a list of pairs"),
        (7, "give a list of pairs"),
        ([ROW, 7], r"pairs\[1\]: a number"),
        ([ROW, "pairs.jsonl"], r"pairs\[1\]: a string"),
        ([{"question": "q"}], r"pairs\[0\]: none"),
        ([{"question": "q", "answers": "a"}], r'"answers" to be a list.*pairs\[0\]: a string'),
        ([{"question": 3, "answers": ["a"]}], r'strings under "question".*pairs\[0\]: a number'),
        ([{**ROW, "where": ["year"]}], r'"where" to be an object'),
        ([Pair("q", ())], r"pairs\[0\]: none"),
        ([Pair("q", ("half \udc00",))], "half a surrogate pair"),
        ([{"question": "q", "answers": [object()]}], r"pairs\[0\]: a object"),
    ],
)
def test_what_in_memory_is_no_pair_is_one_line(items: Any, said: str) -> None:
    with pytest.raises(PairsError, match=said) as caught:
        pairs_from(items)
    assert "\n" not in str(caught.value)


OWN = {"question": "Who?", "answers": [], "passage": " Ann wrote it. ", "title": "Letters"}


def test_a_line_may_have_a_passage_of_its_own_and_then_no_answer(tmp_path: Path) -> None:
    path = written(
        tmp_path, OWN, {**OWN, "title": ""}, {**OWN, "answers": ["Ann"]}, {"question": "q", "answer": "a"}
    )
    found = read_pairs([path], passages=True)
    assert [(p.answers, p.passage, p.title) for p in found.pairs] == [
        (("Ann",), "Ann wrote it.", "Letters"),  # the first and the third, merged
        ((), "Ann wrote it.", ""),
        (("a",), None, ""),
    ]
    again = written(tmp_path, *as_lines(found.pairs).splitlines(), name="again.jsonl")
    assert read_pairs([again], passages=True).pairs == found.pairs == pairs_from(found.pairs, passages=True).pairs
    assert digest(found.pairs[:1]) != digest([replace(found.pairs[0], passage=None)])


def test_where_passages_are_not_asked_for_the_key_is_ignored(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, {**OWN, "answers": ["Ann"], "passage": 7}).pairs
    assert pair.passage is None
    with pytest.raises(PairsError, match='an answer under "answers"'):
        read(tmp_path, OWN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"passage": 7}, 'strings under "passage"'),
        ({"passage": "  "}, 'text under "passage"'),
        ({"title": ["a"]}, 'strings under "title"'),
        ({"passage": None}, 'an answer under "answers"'),
    ],
)
def test_a_passage_is_text(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PairsError, match=said):
        pairs_from([{**OWN, **changes}], passages=True)


def test_pairs_with_passages_are_held_out_by_passage() -> None:
    own = [Pair(f"q{i}", (), passage=f"text {i % 4}") for i in range(40)]
    train, dev = split_pairs([*own, *many()], 0.3, 0)
    assert not {p.passage for p in train} & {p.passage for p in dev} - {None}
    assert not {p.document for p in train} & {p.document for p in dev} - {None}
    assert any(p.passage for p in dev) or any(p.document for p in dev)


def test_questions_that_differ_in_form_alone_have_one_digest() -> None:
    same = {
        question_digest(each)
        for each in ("Who issues the licence?", "  who issues LICENCE", "Who issues a licence")
    }
    assert len(same) == 1 and question_digest("Who issues the permit?") not in same
    assert question_digest("?") != question_digest("!") and len(question_digest("")) == 16


def test_questions_without_an_answer_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{"question": "Who?", "answers": []}, {"question": "Where?", "answer": " "}, {"question": "When?"}]
    path = written(tmp_path, *rows)
    for found in (pairs_from(path, unanswerable=True), pairs_from(rows, unanswerable=True)):
        assert [(pair.question, pair.answers) for pair in found.pairs] == [(row["question"], ()) for row in rows]
    assert pairs_from([path], unanswerable=True).digests == (hashlib.sha256(path.read_bytes()).hexdigest(),)
    with pytest.raises(PairsError, match='an answer under "answers"'):
        pairs_from(path)
    qas = [{"question": "Who?", "answers": []}, {"question": "When?", "answers": [{"text": "now"}]}]
    squad = written(tmp_path, {"data": [{"paragraphs": [{"qas": qas}]}]}, name="squad.json")
    assert [pair.answers for pair in pairs_from(squad, unanswerable=True).pairs] == [(), ("now",)]
    assert not pairs_from(squad, unanswerable=True).notices and len(pairs_from(squad).notices) == 1

"""Which passages a filter lets through."""

import datetime
import itertools
import json
import unicodedata

import pytest

from fake_corpus import FakeEncoder, run
from mixrag.corpus import Document, WordSplitter, add_documents
from mixrag.corpus.passage import Block
from mixrag.errors import SettingError

RECORDS = [
    {"id": "a", "text": "a", "year": 2019, "when": "2019-12-31", "tags": ["blue", "deep sea"], "open": True},
    {"id": "b", "text": "b", "year": 2020.0, "when": "2020-05-01T12:30:00", "tags": ["red"], "open": False},
    {"id": "c", "text": "c", "year": "2021", "when": "2020-06", "tags": [7, 12], "open": None},
    {"id": "d", "text": "d", "year": "-3.5", "when": "spring", "tags": "blue", "open": "TRUE"},
    {"id": "e", "text": "e", "year": "about 2020", "tags": ["2020-05-02"], "code": "007", "v": "1.10"},
]


@pytest.fixture
def found(store, folder):
    (folder / "r.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    run(store, folder)

    def find(**filters):
        return "".join(sorted(p.text for p in store.passages(store.rows_where(filters))))

    return find


@pytest.mark.parametrize(
    ("condition", "texts"),
    [
        (2019, "a"),
        ("2020", "b"),
        (2020, "b"),
        (-3.5, "d"),
        ([2019, "2021"], "ac"),
        ("[2019, 2020]", "ab"),
        (">=2020", "bc"),
        (">2020", "c"),
        ("<2020", "ad"),
        ("<= 2019", "ad"),
        (">=2019 <2021", "ab"),
        ("2019..2020", "ab"),
        ((2019, 2020), "ab"),
        ((None, 2019), "ad"),
        ("2021..", "c"),
        ("-4..0", "d"),
        ([(None, 0), 2019], "ad"),
        ("about 2020", "e"),
        ("2019-06..2021-01", "ac"),
    ],
)
def test_numbers(found, condition, texts):
    assert found(year=condition) == texts


@pytest.mark.parametrize(
    ("condition", "texts"),
    [
        (">=2020-05-01", "bc"),
        (">2020-05-01", "c"),
        ("2020", ""),
        ("2020..2020", "bc"),
        ("<2020", "a"),
        ("<=2020-05", "ab"),
        ((datetime.date(2019, 12, 31), datetime.date(2020, 5, 1)), "ab"),
        (("2019-01-01", "2019-12-31"), "a"),
        (">=2020-05-01 12:00", "bc"),
        (">2020-05-01 12:31", "c"),
        (datetime.date(2019, 12, 31), "a"),
        ("spring", "d"),
    ],
)
def test_dates(found, condition, texts):
    assert found(when=condition) == texts


def test_truth_values_in_any_case(found):
    assert found(open=True) == "ad" and found(open="True") == "ad" and found(open=False) == "b"
    assert found(open=None) == "c" and found(open=[True, False]) == "abd"


def test_lists_match_by_member(found):
    assert found(tags="blue") == "ad" and found(tags="deep sea") == "a" and found(tags="deep") == ""
    assert found(tags=["red", 7]) == "bc" and found(tags=">=8") == "c" and found(tags="2020..2021") == "e"
    assert found(tags='["deep sea", "red"]') == "ab"


def test_codes_and_versions_are_texts(found):
    assert found(code="7") == "" and found(code="007") == "e" and found(v="1.1") == "" and found(v="1.10") == "e"
    assert found(code="0..9") == ""


def test_a_sign_of_equality_takes_the_rest_as_it_is(store):
    documents = [Document(each, id=each, metadata={"x": each}) for each in (">=1", "2..3", "[1]", "=")]
    encoder = FakeEncoder()
    options = {"encoder_fingerprint": "1", "encoder_name": "n", "splitter": WordSplitter(5)}
    add_documents(store, documents, embed=encoder, **options)
    for each in (">=1", "2..3", "[1]", "="):
        (passage,) = store.passages(store.rows_where({"x": f"={each}"}))
        assert passage.text == each
        (passage,) = store.passages(store.rows_where({"document": each}))
        assert passage.text == each


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        (">=soon", ">= with a number or an ISO date after it; found '>=soon'"),
        (">=1 >=2", "a comparison such as"),
        (">=1 x", "a comparison such as"),
        ("3..1", "a range that goes upwards"),
        ((2021, 2019), "a range that goes upwards"),
        (("a", "b"), "or a list for any of its members"),
        ((1, 2, 3), "or a list for any of its members"),
        ((None, None), "or a list for any of its members"),
        ("1..2020-05-01", "a range of two numbers or two ISO dates"),
        (">=2020-02-31", "ISO date"),
        ([], "at least one value"),
        ([[1]], "none of them a list"),
        (float("nan"), "a finite number"),
        ({"from": 1}, "text, a number, true, false, a date"),
        ("n\udce9e", "text in UTF-8"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(store, condition, part):
    with pytest.raises(SettingError) as error:
        store.rows_where({"year": condition})
    assert part in str(error.value) and "where 'year' to be" in str(error.value) and "\n" not in str(error.value)


def test_brackets_in_a_name_are_letters(store, folder):
    (folder / "dir").mkdir()
    for name in ("a [1].txt", "a 1.txt", "b.txt"):
        (folder / "dir" / name).write_text(name)
    run(store, folder)

    def found(name, key="document"):
        return sorted(p.text for p in store.passages(store.rows_where({key: name})))

    assert found("dir/a [1].txt") == ["a [1].txt"] == found("a [1].txt") == found("a [?].txt", "file")
    assert found(str(folder / "dir/a [1].txt")) == ["a [1].txt"] and found("dir/a [12].txt") == []
    assert found("a*") == ["a 1.txt", "a [1].txt"] and found("[ab]*") == []
    assert found(["b.txt", "a [1].txt"], "file") == ["a [1].txt", "b.txt"]
    assert found("?.txt") == ["b.txt"] and found("B.txt") == []


def test_composed_and_decomposed_names_are_the_same(store, folder):
    one, other = (unicodedata.normalize(form, "Büro é/Änderung") for form in ("NFD", "NFC"))
    (folder / one).mkdir(parents=True)
    (folder / one / "é [1].jsonl").write_text(json.dumps({"id": one, "text": "t", "title": one, one: other}))
    (folder / "plain.txt").write_text("plain")
    run(store, folder)
    for spelling in (one, other):
        for filters in (
            {"document": f"{spelling}/é [1].jsonl"},
            {"document": f"{spelling}/?*.jsonl#{spelling}"},
            {"document": f"*{spelling}*"},
            {"title": spelling},
            {spelling: spelling},
        ):
            assert [p.text for p in store.passages(store.rows_where(filters))] == ["t"], filters
    assert store.remove(folder / other).documents == 1
    assert store.counts().documents == 1


def test_names_of_two_spellings_that_are_both_there_stay_apart_for_removal(store, folder):
    for form in ("NFC", "NFD"):
        (folder / unicodedata.normalize(form, "é.txt")).write_text(form)
    run(store, folder)
    assert store.remove(folder / unicodedata.normalize("NFD", "é.txt")).documents == 1
    assert [p.text for p in store.passages(store.rows_where({}))] == ["NFC"]


def test_pages(store, folder):
    pieces = [" ".join(f"one{word}" for word in range(first, first + 5)) for first in range(0, 20, 5)]
    text, starts = " ".join(pieces), [0, *itertools.accumulate(len(piece) + 1 for piece in pieces)]
    blocks = tuple(
        Block(at, at + len(piece), page=n) for n, (at, piece) in enumerate(zip(starts, pieces, strict=False), 1)
    )
    paged = Document(text, id="one.txt", blocks=blocks)
    (folder / "two.txt").write_text(" ".join(f"two{word}" for word in range(20)))
    (folder / "r.jsonl").write_text(json.dumps({"text": "of a column", "page": 3}))
    run(store, folder)
    encoder = FakeEncoder()
    add_documents(
        store,
        [paged],
        embed=encoder,
        encoder_fingerprint=encoder.fingerprint,
        encoder_name="name",
        splitter=WordSplitter(5),
    )

    def found(**filters):
        return [p.text.split()[0] for p in store.passages(store.rows_where(filters))]

    assert found(page=2) == ["one5"] and found(page="2") == ["one5"] and found(page=[1, 4]) == ["one0", "one15"]
    assert found(page="2..3") == ["of", "one5", "one10"] or sorted(found(page="2..3")) == ["of", "one10", "one5"]
    assert found(page=">=3", document="one.txt") == ["one10", "one15"]
    assert found(page=3, file="two.txt") == [] and found(page="last") == [] and found(page=10**30) == []

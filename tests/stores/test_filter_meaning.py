"""A backend's filters and those in Python (``matching``) let the same passages through, whatever is asked."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import replace
from typing import Any

import pytest

from mixrag.config.filters import conditions, filter_texts
from mixrag.corpus import Document, Store
from mixrag.corpus.store.matching import Described, documents_meeting
from mixrag.corpus.store.prepared import NewPassage, ParsedFile, SplitDocument, text_hash
from mixrag.corpus.store.sources import MEMORY
from mixrag.errors import SettingError
from store_backends import Backend

VALUES: list[Any] = [
    *(2019, 2020, 2020.0, 2020.5, -3.5, 0, 7, 1e20, 10**30, 0.1 + 0.2, True, False, None),
    *(
        "2019",
        "2020",
        "2020.0",
        "007",
        "-3.5",
        "1e3",
        "2020 ",
        "about 2020",
        "true",
        "TRUE",
        "null",
        "",
        "[",
        "[1",
    ),
    *("2019-12-31", "2020-05", "2020-05-01T12:30:00", "2020-05-01 12:30", "2020-06", "2020-13-45", "20200"),
    *(
        '["blue", "deep sea"]',
        '["2020-05-02", 7]',
        "[7, 12.50]",
        '[true, null, [1, 2], {"a": 1}]',
        "[1e400]",
        "[NaN]",
    ),
    *("blue", "red", "[0.3, 1e20, 5e-324]", "café", unicodedata.normalize("NFD", "café"), "naïve"),
]
KEYS = ("year", "when", "page", "title", "document", "naïve", unicodedata.normalize("NFD", "naïve"))
PATHS = [
    *("/data/a.txt", "/data/b.txt", "/data/sub/a.txt", "/data/a [1].txt", "/data/a#1.jsonl", "/x/café.md"),
    *("/data/r.jsonl", "/data/r.jsonl#1", f"/y/{unicodedata.normalize('NFD', 'café')}.md", "/data/the-plan_b.txt"),
]
RECORDS = ["", "", "1", "two#b", "café", "3*"]
TITLES = ["", "", "Fees", "the plan b", "café", unicodedata.normalize("NFD", "café"), "a", "2020"]
NAMES = [
    *(
        "a.txt",
        "*.txt",
        "a*",
        "data/*",
        "sub/a.txt",
        "/data/a.txt",
        "a [1].txt",
        "a ?1?.txt",
        "?.txt",
        "*",
        "r.jsonl",
    ),
    *("r.jsonl#1", "*.jsonl#1", "r.jsonl#two#b", "a#1.jsonl", "café.md", "caf?.md", "CAFÉ.md", "note-1", "note-*"),
    *(unicodedata.normalize("NFD", "café.md"), "nothing", "#1", "r.jsonl#", "no*#1", "#", "note?1", "x" * 9000),
]
RANGES = [
    *(
        ">=2020",
        "<2020",
        ">2019 <=2020",
        "2019..2020",
        "..0",
        "-4..",
        "2020-01..2020-05",
        ">2020-05",
        "2020..2020-06",
    ),
    *(
        "<=2020-05-01",
        ">=2020-05-01T12:00",
        "0.3..0.4",
        ">=1e19",
        "1..3",
        ">2",
        "=2019..2021",
        "..2020-05-01 12:30",
    ),
]


def described(draw: random.Random, number: int) -> Described:
    kept = draw.sample(KEYS, draw.randint(0, 4))
    sources = {
        (MEMORY, f"note-{number}") if draw.random() < 0.2 else (draw.choice(PATHS), draw.choice(RECORDS))
        for _ in range(draw.choice((1, 1, 1, 2, 3)))
    }
    return Described(draw.choice(TITLES), {key: draw.choice(VALUES) for key in kept}, sorted(sources))


def fill(store: Store, draw: random.Random, number: int) -> tuple[dict[int, Described], dict[str, int | None]]:
    """Random documents in the store: what they are by number, and the page of each passage by its id."""
    made = {n: described(draw, n) for n in range(number)}
    taken: set[tuple[str, str]] = set()
    for n, each in made.items():  # a source has one document
        made[n] = replace(each, sources=[source for source in each.sources if source not in taken])
        taken.update(each.sources)
    made = {n: each for n, each in made.items() if each.sources}
    pages: dict[str, int | None] = {}
    files: dict[str, list[SplitDocument]] = {}
    for n, each in made.items():
        hash_ = text_hash(str(n)).hex()
        some = [draw.choice((None, 1, 2, 3, 2020)) for _ in range(draw.randint(0, 3))]
        pages |= {f"{hash_[:16]}:{place}": page for place, page in enumerate(some)}
        passages = tuple(
            NewPassage(at, at + 1, "x", text_hash(f"{n} {at}"), page, "", "") for at, page in enumerate(some)
        )
        for path, record in each.sources:
            document = Document("xxx", id=record, title=each.title, metadata=each.metadata)
            files.setdefault(path, []).append(SplitDocument(document, hash_, passages))
    with store.writing():
        for path, split in files.items():
            store.put(split if path == MEMORY else [ParsedFile(path, "", "none", tuple(split))])
    return made, pages


def a_filter(draw: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in draw.sample((*KEYS, "file"), draw.choice((1, 1, 1, 2))):
        pool = (
            NAMES if key in ("document", "file") else [*TITLES, *VALUES] if key == "title" else [*VALUES, *RANGES]
        )
        found[key] = draw.choice(pool)
        if draw.random() < 0.2:
            found[key] = [draw.choice(pool), draw.choice(pool)]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_random_filters_mean_the_same_in_python(store: Store, backend: Backend, seed: int) -> None:
    draw = random.Random(seed)
    made, pages = fill(store, draw, 60)
    rows = store.rows_where({}).tolist()
    ids = dict(zip(rows, (passage.id for passage in store.passages(rows)), strict=True))
    assert sorted(ids.values()) == sorted(pages)
    documents = {text_hash(str(n)).hex()[:16]: n for n in made}
    compared = met = 0
    trials = round(250 * backend.trials)
    while compared < trials:
        where = a_filter(draw)
        try:
            texts = filter_texts(where)
        except SettingError:
            continue
        tests = documents_meeting({key: conditions(key, text) for key, text in texts.items()}, made)
        never = lambda _: False  # noqa: E731
        expected = [row for row in rows if tests.get(documents[ids[row].split(":")[0]], never)(pages[ids[row]])]
        assert store.rows_where(where).tolist() == expected, where
        compared, met = compared + 1, met + bool(expected)
    assert 0.1 * trials < met < 0.96 * trials

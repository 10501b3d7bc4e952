"""Indexing parts of a corpus by themselves, and joining them to a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listening import listening
from mixrag import RAG
from mixrag.corpus import Part
from mixrag.corpus.store.location import without_password
from mixrag.errors import (
    EncoderMismatchError,
    MixragError,
    SettingError,
    StoreBusyError,
    StoreError,
    StoreMissingError,
)
from mixrag.retrieval.shards.joining import join
from mixrag.retrieval.shards.locations import places
from mixrag.retrieval.shards.manifest import read_manifest
from mixrag.retrieval.shards.naming import is_sharded, parted
from mixrag.server.app import make_app
from sharded_demo import CORPUS, SHARDS, Open, served
from words_encoder import WordsEncoder

QUESTION = "how much is the quarry levy"


def test_every_file_is_in_one_part(stores: list[str], opened: Open, one: RAG) -> None:
    found = list[str]()
    for number, location in enumerate(stores, 1):
        with opened(location) as rag:
            found += [each.path for each in rag.store.documents()]
            assert rag.store.part == f"{number}/{SHARDS}"
    assert sorted(found) == [each.path for each in one.store.documents()]


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3), st.integers(1, 7))
def test_a_part_is_of_the_path_below_the_folder_alone(name: list[str], of: int) -> None:
    """Machines that see the folder under other paths agree."""
    owners = []
    for root in (Path("/srv/acts"), Path("/mnt/elsewhere")):
        owners.append([n for n in range(1, of + 1) if Part(n, of).has(root.joinpath(*name), root)])
    assert owners[0] == owners[1] and len(owners[0]) == 1


@given(st.lists(st.text("aéüợが한", min_size=1, max_size=6), min_size=1, max_size=3), st.integers(1, 7))
def test_a_part_does_not_depend_on_how_accents_are_written(name: list[str], of: int) -> None:
    """Of a name that one machine sees decomposed, the composed form counts."""
    root, owners = Path("/srv/acts"), []
    for form in ("NFC", "NFD"):
        path = root.joinpath(*(unicodedata.normalize(form, each) for each in name))
        owners.append([n for n in range(1, of + 1) if Part(n, of).has(path, root)])
    written = hashlib.sha256(unicodedata.normalize("NFC", "/".join(name)).encode()).digest()
    assert owners == [[int.from_bytes(written[:8], "big") % of + 1]] * 2


@pytest.mark.parametrize(
    "text", ["", "0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5", "1/99999", "99999999/99999999"]
)
def test_what_is_no_part_is_refused(text: str, tmp_path: Path, opened: Open) -> None:
    with opened(tmp_path / "store", create=True) as rag, pytest.raises(SettingError, match="a part i/n"):
        rag.index([CORPUS], shard=text)


def test_a_part_may_have_no_file(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("one file in many parts")
    found = []
    for number in range(1, 6):
        with opened(tmp_path / str(number), create=True) as rag:
            found.append(rag.index([tmp_path / "files"], shard=f"{number}/5").passages)
    assert sorted(found) == [0, 0, 0, 0, 1]
    manifest = join(tmp_path / "all.shards.json", [str(tmp_path / str(n)) for n in range(1, 6)])
    assert sum(entry.shard.passages for entry in manifest.shards) == 1
    with opened(str(tmp_path / "all.shards.json")) as rag:
        assert rag.passages("many parts").passages[0].text == "one file in many parts"


def test_a_changed_file_stays_in_its_part_and_a_store_is_one_part(tmp_path: Path, opened: Open) -> None:
    shutil.copytree(CORPUS / "law", tmp_path / "law")
    with opened(tmp_path / "store", create=True) as rag:
        first = rag.index([tmp_path / "law"], shard="1/2")
        again = rag.index([tmp_path / "law"], shard="1/2")
        assert again.unchanged == first.documents and again.added == again.removed == 0
        with pytest.raises(SettingError, match=r"the store of shard 2/2; found that of shard 1/2"):
            rag.index([tmp_path / "law"], shard="2/2")


def test_a_part_and_all_of_a_corpus_are_not_mixed(tmp_path: Path, opened: Open) -> None:
    """Without --shard all files would come in, and with it most would go."""
    with opened(tmp_path / "part", create=True) as rag:
        first = rag.index([CORPUS / "law"], shard="1/3")
        with pytest.raises(SettingError, match=r"files of shard 1/3 alone.*give --shard 1/3"):
            rag.index([CORPUS / "law"])
        assert rag.info().counts.documents == first.documents
        rag.index([], reembed=True)  # no file is read
    with opened(tmp_path / "whole", create=True) as rag:
        all_of_it = rag.index([CORPUS / "law"])
        with pytest.raises(SettingError, match="an empty store, or one of shard 1/2"):
            rag.index([CORPUS / "law"], shard="1/2")
        assert rag.info().counts.documents == all_of_it.documents and rag.store.part is None


def test_a_part_is_claimed_by_whoever_may_write(tmp_path: Path, opened: Open) -> None:
    with opened(tmp_path / "store", create=True) as rag, opened(tmp_path / "store") as other:
        other.store.timeout = 0.1
        with rag.store.writing(), pytest.raises(StoreBusyError):
            other.index([CORPUS / "law"], shard="2/2")
        assert rag.store.part is None


def test_a_manifest_asks_all_shards(stores: list[str], opened: Open, parts: RAG, tmp_path: Path) -> None:
    shuffled = [*stores[5:], *stores[:5]]
    found = join(tmp_path / "demo.shards.json", shuffled)
    assert [entry.number for entry in found.shards] == [*range(1, SHARDS + 1)]
    assert found == read_manifest(tmp_path / "demo.shards.json")
    assert all(entry.shard.words and entry.shard.largest_norm == pytest.approx(1.0) for entry in found.shards)
    with opened(str(tmp_path / "demo.shards.json")) as rag:
        a, b = rag.passages(QUESTION), parts.passages(QUESTION)
        assert a.passages == b.passages and a.log_prior.tolist() == pytest.approx(b.log_prior.tolist(), abs=1e-12)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert not Path(found.shards[0].location).is_absolute()
    shutil.copytree(Path(stores[0]).parent, moved / "copied")
    join(moved / "own.shards.json", [str(moved / "copied" / Path(each).name) for each in stores])
    moved.rename(tmp_path / "renamed")  # with its shards, since locations are below it
    with opened(str(tmp_path / "renamed" / "own.shards.json")) as rag:
        assert rag.passages(QUESTION).passages == parts.passages(QUESTION).passages


def test_a_served_shard_says_which_part_it_is(stores: list[str], opened: Open, tmp_path: Path) -> None:
    with listening(make_app(served(opened(stores[3])))) as address:
        found = join(tmp_path / "demo.shards.json", [*stores[:3], f"{address}/part", *stores[4:]])
        assert found.shards[3].location == f"{address}/part" and found.shards[3].shard.part == "4/10"


def _stored(opened: Open, where: Path, shard: str | None = None, **options: Any) -> str:
    with opened(where, create=True) as rag:
        rag.index([CORPUS / "law"], shard=shard, **options)
    return str(where)


def test_what_cannot_be_joined(stores: list[str], opened: Open, tmp_path: Path) -> None:
    from mixrag.corpus import WordSplitter

    out = tmp_path / "x.shards.json"
    whole = _stored(opened, tmp_path / "whole")
    half = _stored(opened, tmp_path / "half", "1/2")
    words = _stored(opened, tmp_path / "words", "2/2", splitter=WordSplitter())
    for given_, match in (
        (stores[:9], "no shard 10/10"),
        ([*stores[:9], stores[0]], "shard 1/10 twice"),
        ([*stores, whole], "without it"),
        ([*stores, half], "shards of one division"),
        ([half, words], "the splitter of the other shards"),
        ([str(out)], "the manifest"),
    ):
        with pytest.raises(SettingError, match=match):
            join(out, given_)
    with pytest.raises(SettingError, match=r"ends in \.shards\.json"):
        join(tmp_path / "x.json", stores)
    with pytest.raises(StoreMissingError):
        join(out, [str(tmp_path / "nowhere")])
    assert not out.exists()


def test_shards_of_other_encoders_are_not_joined(opened: Open, tmp_path: Path) -> None:
    from dataclasses import replace

    first = _stored(opened, tmp_path / "first", "1/2")
    with opened(tmp_path / "second", create=True) as rag:
        rag._encoder = replace(WordsEncoder(), fingerprint="words-2")
        rag.index([CORPUS / "law"], shard="2/2")
    with pytest.raises(EncoderMismatchError, match="the encoder of the other shards, words"):
        join(tmp_path / "x.shards.json", [first, str(tmp_path / "second")])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["shards"].pop(2), "no shard 3 of 10"),
        (lambda d: d["shards"].pop(), "no shard 10 of 10"),
        (lambda d: d.update(shards=d["shards"][:9], of=9), "shard 1 of 9, which was indexed as 1/10"),
        (lambda d: d["shards"][1]["shard"].update(part="3/10"), "shard 2 of 10, which was indexed as 3/10"),
        (lambda d: d["shards"][1].update(number=1), "shard 1 twice"),
        (lambda d: d["shards"][1]["shard"].update(encoder="another"), "shard 2 of another encoder"),
        (lambda d: d.update(format=2), "format"),
        (lambda d: d.update(unknown=1), "unknown"),
        (lambda d: d["shards"][0]["shard"].update(passages=-1), "passages"),
        (lambda d: d["shards"][0]["shard"].pop("state"), "state"),
        (lambda d: d.clear(), "format"),
    ],
)
def test_a_manifest_that_is_wrong(
    stores: list[str], tmp_path: Path, opened: Open, change: Callable[[Any], Any], match: str
) -> None:
    path = tmp_path / "x.shards.json"
    join(path, stores)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=match):
        opened(str(path))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b'{"shards": ' + b"[" * 5000])
def test_a_file_that_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.shards.json").write_bytes(content)
    with pytest.raises(StoreError, match="a manifest of all shards"):
        read_manifest(tmp_path / "x.shards.json")


def test_a_missing_manifest_and_a_missing_store(tmp_path: Path, stores: list[str], opened: Open) -> None:
    for location in (f"{tmp_path}/none.shards.json", f"{stores[0]},{tmp_path / 'nowhere'}"):
        with pytest.raises(StoreMissingError):
            opened(location)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("a,b", ["a", "b"]),
        ("a", ["a"]),
        ("postgresql://h1,h2/db", ["postgresql://h1,h2/db"]),
        ("postgresql://h/db,lance:x", ["postgresql://h/db", "lance:x"]),
        ("postgresql://u@h1,h2:5/db, http://x:1/y", ["postgresql://u@h1,h2:5/db", " http://x:1/y"]),
    ],
)
def test_commas_between_locations(location: str, expected: list[str]) -> None:
    assert parted(location) == expected
    assert is_sharded(location) == (len(expected) > 1)


def test_which_names_mean_shards(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    assert not is_sharded(str(tmp_path / "a,b")) and not is_sharded(Path("a,b")) and not is_sharded("x\0y")
    assert is_sharded("http://h:1") and is_sharded("x.shards.json") and not is_sharded("lance:x")
    for wrong, match in (("a,,b", "locations with commas"), ("a,b,a", "a twice"), ("a,./a", "twice")):
        with pytest.raises(SettingError, match=match):
            places(wrong)


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://ann:secret@db/acts,postgresql://ann:secret@db/acts",
        "postgres://ann:secret@db/acts,postgresql://ann:other@db/acts",
        "postgresql://ann:secret@db/acts,,b",
        "b,postgresql://ann:s/e,secret@db/acts,,b",
    ],
)
def test_no_message_about_locations_shows_a_password(location: str) -> None:
    with pytest.raises(SettingError) as found:
        places(location)
    assert "secret" not in str(found.value) and "ann:***@db/acts" in str(found.value)


@pytest.mark.parametrize("again", ["./acts", "acts/", str(Path("acts").absolute()), "x/../acts"])
def test_one_folder_under_two_names_is_one_shard_twice(again: str) -> None:
    with pytest.raises(SettingError, match="acts twice"):
        places(f"acts,{again}")


def test_each_database_of_a_list_is_shown_without_its_password() -> None:
    both = "postgresql://a:p@h1/db1,postgresql://b:q@h2/db2"
    assert without_password(both) == "postgresql://a:***@h1/db1,postgresql://b:***@h2/db2"
    assert without_password("postgresql://a:p,q@h1,h2/db,acts") == "postgresql://a:***@h1,h2/db,acts"


def test_a_shard_under_two_names_is_refused(stores: list[str], opened: Open, tmp_path: Path) -> None:
    with (
        listening(make_app(served(opened(stores[0])))) as address,
        pytest.raises(SettingError, match=f"each shard once; found .*shard-0 and {address}"),
    ):
        opened(f"{stores[0]},{stores[1]},{address}")
    (tmp_path / "link").symlink_to(stores[0])
    with pytest.raises(SettingError, match="one store, or a copy"):
        opened(f"{stores[0]},{tmp_path / 'link'}")


def test_a_part_that_is_there_twice_is_refused(stores: list[str], opened: Open, tmp_path: Path) -> None:
    again = tmp_path / "again"
    with opened(again, create=True) as rag:
        rag.index([CORPUS / "law"], shard="1/10")
        rag.add([{"text": "so that it differs"}])
    with pytest.raises(SettingError, match="both shard 1/10"):
        opened(f"{stores[0]},{again}")


def test_another_part_than_the_manifest_says_is_refused(stores: list[str], opened: Open, tmp_path: Path) -> None:
    shutil.copytree(Path(stores[0]).parent, tmp_path / "copied")
    join(tmp_path / "x.shards.json", [str(tmp_path / "copied" / Path(each).name) for each in stores])
    with opened(tmp_path / "copied" / "shard-1") as rag, rag.store.writing():
        rag.store.claim_part("2/11")
    with pytest.raises(SettingError, match=r"shard 2/10 .*found shard 2/11"):
        opened(str(tmp_path / "x.shards.json"))


def test_shards_are_made_one_by_one(stores: list[str], opened: Open) -> None:
    with pytest.raises(SettingError, match="one store, to change it"):
        opened(",".join(stores), create=True)
    with pytest.raises(MixragError):
        opened(f"{stores[0]},ftp://x/y")

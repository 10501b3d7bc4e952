"""A shard that does not answer is named, and its part of the prior is bounded or said to be unknown."""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from listening import listening
from mixrag.errors import (
    EncoderMismatchError,
    ServerError,
    SettingError,
    ShardMissingError,
    StoreBusyError,
    StoreError,
)
from mixrag.retrieval.index import ExactIndex
from mixrag.retrieval.shards import remote
from mixrag.retrieval.shards.joining import join
from mixrag.retrieval.shards.protocol import ShardChangedError
from mixrag.server.app import make_app
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security
from sharded_demo import Open, served

QUESTION = "what does a licence for cod cost"
TEXTS = {
    "cod": "a licence to fish cod costs nine crowns a year",
    "eel": "a licence to fish eel costs four crowns a season",
    "tax": "income tax is due in march and paid in crowns",
    "hen": "hens lay fewer eggs during winter",
    "law": "the tenancy law protects tenants during winter",
}


def stored(opened: Open, location: Path, names: list[str]) -> str:
    with opened(location, create=True) as rag:
        rag.add([{"text": TEXTS[name], "id": name} for name in names])
    return str(location)


@pytest.fixture
def here(tmp_path: Path, opened: Open) -> str:
    """A shard of this machine."""
    return stored(opened, tmp_path / "here", ["eel", "tax", "hen"])


@pytest.fixture
def there(tmp_path: Path, opened: Open) -> str:
    """One that is served."""
    return stored(opened, tmp_path / "there", ["cod", "law"])


@contextmanager
def serving(opened: Open, location: str, security: Security | None = None) -> Iterator[str]:
    with listening(make_app(served(opened(location)), security)) as address:
        yield address


def test_a_shard_that_goes_down_is_named_with_its_bound(opened: Open, here: str, there: str) -> None:
    dense: dict[str, Any] = {"lexical": 0.0, "temperature": 0.5}
    with serving(opened, there) as address:
        rag = opened(f"{here},{address}")
        whole = rag.passages(QUESTION, k="all", **dense)
        assert whole.notices == () and whole.outside == 0.0
        both = zip(whole.log_prior.exp().tolist(), whole.passages, strict=True)
        share = math.fsum(p for p, each in both if each.document in ("cod", "law"))
    found = rag.passages(QUESTION, k=2, **dense)
    assert [each.document for each in found.passages] == ["eel", "tax"]
    assert float(found.log_prior.exp().sum()) == pytest.approx(1.0)
    (notice,) = found.notices
    assert address in notice and "its 2 passages are not among these" in notice
    most = float(notice.partition("at most ")[2].split()[0])
    # Z_s <= n e^{max}: both vectors have length one, and so has the question's.
    weights = [math.exp(float(each) / 0.5) for each in rag.passages(QUESTION, k=3, **dense).inner_products]
    assert share < most == pytest.approx(2 * math.exp(2) / (2 * math.exp(2) + sum(weights)), rel=1e-3)
    inside = math.fsum(weights[:2])
    assert found.outside is None and found.outside_bounds is not None
    low, high = 1 - inside / sum(weights), 1 - inside / (sum(weights) + 2 * math.exp(2))
    assert found.outside_bounds == pytest.approx((low, high))
    answer = rag.ask(QUESTION, k=2, **dense)
    assert answer.notices == found.notices and answer.to_dict()["notices"] == [notice]
    assert answer.outside is None and answer.log_bounds is None and answer.outside_bounds == found.outside_bounds
    assert rag.shards_known()[1] == {
        "shard": address,
        "passages": 2,
        "missing": notice.split("(")[1].split(")")[0],
    }
    rag.close()


def test_a_shard_is_bounded_whatever_its_index_knows(opened: Open, here: str, there: str) -> None:
    """The store has noted the largest norm, of which an index of its own engine says nothing."""

    class Plain:
        def __init__(self, rows: Any, vectors: Any) -> None:
            self.inner = ExactIndex(rows, vectors)

        def search(self, question: Any, k: int, allowed: Any = None) -> Any:
            return self.inner.search(question, k, allowed)

    with listening(make_app(served(opened(there, index=Plain)))) as address:
        rag = opened(f"{here},{address}")
        assert rag.passages(QUESTION, k=2).notices == ()
    with rag:
        found = rag.passages(QUESTION, k=2)
        assert found.outside_bounds is not None and found.outside_bounds[1] < 1.0
        assert "may have at most" in found.notices[0]


def test_word_frequencies_are_those_of_the_others(opened: Open, here: str, there: str) -> None:
    with serving(opened, there) as address:
        rag = opened(f"{here},{address}")
        rag.passages("winter")
    found = rag.passages(QUESTION, k=3)
    with opened(here) as alone:
        wanted = alone.passages(QUESTION, k=3)
    assert found.passages == wanted.passages
    np.testing.assert_allclose(found.log_prior, wanted.log_prior, atol=1e-12)
    assert "word frequencies are those of the others" in found.notices[0]
    assert found.outside_bounds is not None and found.outside_bounds[1] < 1.0
    rag.close()


def test_a_manifest_bounds_a_shard_that_was_never_reached(
    opened: Open, here: str, there: str, tmp_path: Path
) -> None:
    with serving(opened, there) as address:
        join(tmp_path / "both.shards.json", [here, f"{address}/part"])
    with opened(str(tmp_path / "both.shards.json")) as rag:
        found = rag.passages(QUESTION)
        assert found.outside_bounds is not None and found.outside_bounds[1] < 1.0
        assert "its 2 passages" in found.notices[0]
        assert rag.info().counts.passages == 5
    with opened(f"{here},{address}") as rag:  # without it nothing is known
        found = rag.passages(QUESTION)
        assert found.outside_bounds is not None and found.outside_bounds[1] == 1.0
        assert "any part of the prior mass" in found.notices[0]


@pytest.mark.parametrize("asked", [{"normaliser": "full"}, {"k": "all"}, {"max_outside": 0.2}], ids=str)
def test_what_needs_every_shard_is_refused(opened: Open, here: str, there: str, asked: dict[str, Any]) -> None:
    with serving(opened, there) as address:
        rag = opened(f"{here},{address}")
    with rag, pytest.raises(ShardMissingError, match=re.escape(f"no {address}")):
        rag.passages(QUESTION, **asked)


def test_a_filter_that_only_the_missing_may_meet(opened: Open, here: str, there: str) -> None:
    with serving(opened, there) as address:
        rag = opened(f"{here},{address}")
        assert rag.passages(QUESTION, where={"document": "cod"}).passages[0].document == "cod"
    with rag, pytest.raises(ShardMissingError, match="passages in a shard that answers"):
        rag.passages(QUESTION, where={"document": "cod"})


def test_a_late_shard_is_missing(opened: Open, here: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(f"{here},{there}", shard_seconds=0.3) as rag:
        waiting = threading.Event()
        late = rag._snapshots.shards[1]
        monkeypatch.setattr(late, "search", lambda request: waiting.wait(20))
        found = rag.passages(QUESTION)
        waiting.set()
        assert "no answer within 0." in found.notices[0] and there in found.notices[0]
        monkeypatch.undo()
        assert rag.passages(QUESTION).notices == ()  # it is back


def test_a_shard_that_is_late_with_its_words_leaves_the_others_time(
    opened: Open, here: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(f"{here},{there}", shard_seconds=4.0) as rag:
        waiting = threading.Event()
        monkeypatch.setattr(rag._snapshots.shards[1], "statistics", lambda request: waiting.wait(60))
        found = rag.passages(QUESTION)
        waiting.set()
        assert [each.document for each in found.passages][:1] == ["eel"]
        (notice,) = found.notices
        assert there in notice and "no answer within 2 s" in notice


def test_words_that_are_forgotten_while_others_are_asked_for_are_asked_for_again(
    opened: Open, here: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another thread notes a new state between the question to a shard and its reply."""
    with opened(f"{here},{there}") as rag:
        wanted = rag.passages("licence for cod in winter")
    with opened(f"{here},{there}") as rag:
        rag.passages("licence")
        shard, known = rag._snapshots.shards[1], rag._snapshots._known[1]
        statistics = shard.statistics

        def forgetting(request: Any) -> Any:
            known.forget()
            return statistics(request)

        monkeypatch.setattr(shard, "statistics", forgetting)
        with contextlib.suppress(StoreBusyError):
            rag.passages("licence for cod in winter")
        monkeypatch.undo()
        found = rag.passages("licence for cod in winter")
        np.testing.assert_allclose(found.log_prior, wanted.log_prior, atol=1e-12)


def test_a_broken_store_is_missing(opened: Open, here: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(f"{here},{there}") as rag:

        def broken(_: Any) -> Any:
            raise StoreError("a usable store", "a broken one", "mend it")

        monkeypatch.setattr(rag._snapshots.shards[1], "search", broken)
        assert "found a broken one" in rag.passages(QUESTION).notices[0]
        monkeypatch.setattr(rag._snapshots.shards[0], "search", broken)
        with pytest.raises(ShardMissingError, match="nor of 1 others"):
            rag.passages(QUESTION)


def test_a_filter_that_is_too_long_for_shards_is_an_error_of_the_question(
    opened: Open, here: str, there: str
) -> None:
    with opened(f"{here},{there}") as rag, pytest.raises(SettingError, match="a question that shards") as found:
        rag.passages(QUESTION, where={"document": "x" * 1001})
    assert "\n" not in str(found.value) and "where" in str(found.value)


def test_no_shard_at_all(opened: Open) -> None:
    with pytest.raises(ShardMissingError, match="a shard that answers"):
        opened("http://127.0.0.1:9,http://127.0.0.1:10", shard_seconds=2.0)


def test_a_shard_that_changes_is_asked_again(opened: Open, here: str, there: str) -> None:
    with opened(f"{here},{there}") as rag, opened(there) as writer:
        before = rag.passages(QUESTION)
        writer.add([{"text": "a licence for cod at sea costs ten crowns", "id": "sea"}])
        after = rag.passages(QUESTION)
        assert "sea" in {each.document for each in after.passages} - {each.document for each in before.passages}
        with opened(here) as other:  # the numbers are those of one store again
            other.add([{"text": "crowns and cod", "id": "more"}])
        whole = rag.passages(QUESTION, normaliser="full", k="all")
        assert float(whole.log_prior.exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_a_shard_that_never_stays_is_said_to(opened: Open, here: str, there: str, monkeypatch: Any) -> None:
    with opened(f"{here},{there}") as rag:

        def changed(_: Any) -> Any:
            raise ShardChangedError(there)

        monkeypatch.setattr(rag._snapshots.shards[1], "search", changed)
        with pytest.raises(StoreBusyError, match="shards that stay as they are"):
            rag.passages(QUESTION)


def test_a_shard_that_has_changed_since_the_manifest_is_read_again(
    opened: Open, here: str, there: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    join(tmp_path / "both.shards.json", [here, there])
    with opened(there) as writer:
        writer.add([{"text": "a licence for cod at sea costs ten crowns", "id": "sea"}])
    with opened(str(tmp_path / "both.shards.json")) as rag:
        assert "has changed since the manifest was written" in caplog.text and "3 passages" in caplog.text
        assert "sea" in {each.document for each in rag.passages(QUESTION).passages}


def test_a_document_in_two_shards_is_two_passages(opened: Open, here: str, tmp_path: Path) -> None:
    twice = stored(opened, tmp_path / "twice", ["eel", "cod"])
    with opened(f"{here},{twice}") as rag:
        found = rag.passages(QUESTION)
        assert [each.document for each in found.passages].count("eel") == 2
        assert "in several shards, and have a share for each: 1" in found.notices[0]


def test_a_shard_of_another_encoder_is_refused(opened: Open, here: str, tmp_path: Path) -> None:
    class Other:
        name, fingerprint, temperature, dimension = "other", "other-1", 0.1, 256

        def __getattr__(self, name: str) -> Any:
            from words_encoder import WordsEncoder

            return getattr(WordsEncoder(), name)

    with opened(tmp_path / "other", create=True) as rag:
        rag._encoder = Other()
        rag.add([{"text": TEXTS["cod"]}])
    with pytest.raises(EncoderMismatchError, match="other shards, words"):
        opened(f"{here},{tmp_path / 'other'}")
    with opened(f"{here},{stored(opened, tmp_path / 'same', ['cod'])}") as rag:
        rag._encoder = Other()
        with pytest.raises(EncoderMismatchError, match="that made the vectors of shard"):
            rag.passages(QUESTION)


def test_a_key_is_needed_and_sent_to_servers_alone(
    opened: Open, here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFile(tmp_path / "keys")
    monkeypatch.setenv("SHARD_KEY", keys.add("asker"))
    monkeypatch.setenv("WRONG_KEY", "mixrag-of-nobody")
    with serving(opened, there, Security(keys=keys)) as address:
        with opened(f"{here},{address}", shard_key_env="SHARD_KEY") as rag:
            assert rag.passages(QUESTION).notices == ()
        for given in ({}, {"shard_key_env": "WRONG_KEY"}):
            with pytest.raises(ServerError, match="--shard-key-env"):
                opened(f"{here},{address}", **given)
        with pytest.raises(SettingError, match="NO_SUCH_KEY"):
            opened(f"{here},{address}", shard_key_env="NO_SUCH_KEY")


@pytest.mark.parametrize(
    "location",
    [
        "http://",
        "http://user:secret@host:1",
        "http://host:0/x",
        "http://host:1/a/b",
        "http://host:99999",
        "https://h?q=1",
    ],
)
def test_addresses_that_are_none(location: str) -> None:
    with pytest.raises(SettingError, match="http://HOST:PORT") as found:
        remote.RemoteShard(location)
    assert "secret" not in str(found.value)


def test_a_server_that_is_no_shard(opened: Open, here: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body = b'{"shard": {"state": "a"}, "frequencies": []}'
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": body})

    with listening(app) as address, opened(f"{here},{address}") as rag:
        found = rag.passages(QUESTION)
        assert "the reply of a shard" in found.notices[0]

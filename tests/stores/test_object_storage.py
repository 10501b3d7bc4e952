"""Stores in a bucket: the lock of a holder that died or is slow, and all that can be wrong with a server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from made_documents import put, split, texts_in
from mixrag.corpus import Store, has_store
from mixrag.corpus.store.lance import lease
from mixrag.corpus.store.lance.base import Transaction
from mixrag.corpus.store.lance.bucket import BucketPlace
from mixrag.corpus.store.lance.lease import Lease
from mixrag.corpus.store.lance.store import LanceStore
from mixrag.corpus.store.location import parse_location
from mixrag.errors import SettingError, StoreBusyError, StoreError
from store_backends import S3Backend


@pytest.fixture
def place(s3_backend: S3Backend) -> BucketPlace:
    return BucketPlace(parse_location(s3_backend.location))


def a_lease(place: BucketPlace, timeout: float = 20.0) -> Lease:
    return Lease(place, place.objects, timeout)


def test_the_lock_of_a_holder_that_died_is_taken_after_its_lease(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE", 0.5)
    place.objects.put(place.objects.key("lock"), b"of a process that was killed")
    with pytest.raises(StoreBusyError):
        a_lease(place, 0.1).acquire()
    start = time.monotonic()
    taken = a_lease(place)
    taken.acquire()
    assert time.monotonic() - start > 0.5
    taken.check()
    taken.release()
    assert place.objects.get(place.objects.key("lock")) is None


def test_a_holder_that_renews_its_lock_has_it(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEWED", 0.05)
    holder = a_lease(place)
    holder.acquire()
    tags = {holder._tag}
    until = time.monotonic() + 20
    while len(tags) < 4 and time.monotonic() < until:
        tags.add(place.objects.tag(place.objects.key("lock")))
        time.sleep(0.02)
    assert len(tags) == 4
    holder.check()
    holder.release()


def test_a_holder_that_stood_still_notices_before_it_commits(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE", 0.3)
    monkeypatch.setattr(lease, "_RENEWED", 3600)
    slow, quick = a_lease(place), a_lease(place)
    slow.acquire()
    quick.acquire()
    with pytest.raises(StoreBusyError, match="run this again"):
        slow.check()
    slow.release()
    assert place.objects.tag(place.objects.key("lock")) == quick._tag
    quick.release()


def test_of_many_waiters_one_at_a_time_has_the_lock(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", 0.5)
    monkeypatch.setattr(lease, "_RENEWED", 0.05)
    place.objects.put(place.objects.key("lock"), b"of a process that was killed")
    holders, most, failures = [0], [0], list[BaseException]()

    def hold() -> None:
        try:
            own = a_lease(place, 60.0)
            own.acquire()
            holders[0] += 1
            most[0] = max(most[0], holders[0])
            time.sleep(0.1)
            holders[0] -= 1
            own.release()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and most == [1]


def test_a_second_creator_is_not_taken_for_a_server_that_overwrites(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, first = BucketPlace(place.location), place.objects.put

    def put_while_another_does(key: str, content: bytes, **condition: str) -> str | None:
        if condition:
            other.prepare()  # it removes what it has tried
        return first(key, content, **condition)

    monkeypatch.setattr(place.objects, "put", put_while_another_does)
    place.prepare()
    assert place.entries() == []


def test_of_two_equal_commits_one_is_refused(s3_backend: S3Backend) -> None:
    one, other = s3_backend.open(), s3_backend.reopen()
    assert isinstance(one, LanceStore) and isinstance(other, LanceStore)
    changes = [Transaction(store.log.latest()) for store in (one, other)]
    for change in changes:
        change.set(splitter="same")
    one.log.commit(changes[0].draft, changes[0].operations, lambda: None)
    with pytest.raises(StoreBusyError, match="run this again"):
        other.log.commit(changes[1].draft, changes[1].operations, lambda: None)


def test_the_clock_is_that_of_the_server(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert abs(place.now() - now) < 60


# what can be wrong


def refused(location: str, match: str) -> str:
    with pytest.raises(StoreError, match=match) as error:
        Store.open(location, create=True)
    with pytest.raises(StoreError, match=match):
        has_store(location)
    text = str(error.value)
    assert "\n" not in text and "test-secret" not in text and "test-key" not in text and len(text) < 600
    return text


def test_no_bucket(s3_backend: S3Backend) -> None:
    assert "create it" in refused("s3://there-is-none/a", "a bucket there-is-none; found none at http")


def test_a_bucket_that_vanishes_while_it_is_written_to(s3_backend: S3Backend) -> None:
    import boto3

    bucket = boto3.resource("s3").create_bucket(Bucket="vanishes")
    with Store.open("s3://vanishes", create=True, timeout=1) as store:
        put(store, split(["one"], "n"))
        with pytest.raises(StoreError, match="a bucket vanishes; found none") as error, store.writing():
            bucket.objects.delete()
            bucket.delete()
            store.put([split(["two"], "m")])
        assert "\n" not in str(error.value)
        with pytest.raises(StoreError, match="a bucket vanishes; found none"):
            texts_in(store)


def test_a_server_that_is_not_there(s3_backend: S3Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert "AWS_ENDPOINT_URL" in refused("s3://bucket/a", f"a server of objects at {address}")


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"<Error><Code>SignatureDoesNotMatch</Code><Message>test-secret\n</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_wrong_credentials(s3_backend: S3Backend, refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", refusing)
    found = refused("s3://bucket/a", "the right to use s3://bucket/a; found SignatureDoesNotMatch")
    assert "AWS_SECRET_ACCESS_KEY" in found


def test_a_name_with_more_than_bucket_and_prefix(s3_backend: S3Backend) -> None:
    for location in ("s3://", "s3:///a", "s3://user:word@bucket/a", "s3://bucket/a?b=c"):
        with pytest.raises(SettingError, match="s3://BUCKET/PREFIX"):
            Store.open(location, create=True)


def test_stores_of_one_bucket_are_apart(s3_backend: S3Backend) -> None:
    with (
        Store.open(f"s3://{s3_backend.bucket}", create=True) as whole,
        Store.open(f"s3://{s3_backend.bucket}/a", create=True) as part,
        Store.open(f"s3://{s3_backend.bucket}/ab/", create=True) as other,
    ):
        put(part, split(["part"], "n"))
        assert texts_in(part) == ["part"] and texts_in(whole) == [] == texts_in(other)

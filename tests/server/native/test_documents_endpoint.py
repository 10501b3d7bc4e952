"""``/v1/documents``: upload, list, read, delete, while questions are answered; and what can go wrong with each."""

from __future__ import annotations

import errno
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from served import QUESTION, listening, wait_until

from mixrag import RAG
from mixrag.corpus import WordSplitter
from mixrag.corpus.splitters import stored_name
from mixrag.corpus.store.locks import exclusive
from mixrag.server.app import make_app
from mixrag.server.native.uploads import Uploads
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from mixrag.server.writers import WriterLimits, Writers
from pdf_writer import Pages

DOG = "A licence to walk a dog costs six crowns a week."


def upload(client: Any, *files: tuple[str, str | bytes], **query: Any) -> Any:
    """Send files, each a name and its content."""
    form = [("files", (name, content)) for name, content in files]
    return client.post("/v1/documents", files=form, params=query)


def listed(client: Any, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/documents", params=query).json()
    return found


def uploaded(client: Any) -> list[str]:
    return [Path(each["document"]).name for each in listed(client)["data"] if each["uploaded"]]


def delete(client: Any, document: str) -> Any:
    return client.delete("/v1/documents", params={"document": document})


def test_an_uploaded_file_answers_the_next_question(client: TestClient, rag: RAG) -> None:
    before = client.post("/v1/passages", json={"question": "What does it cost to walk a dog?"}).json()
    report = upload(client, ("dog.txt", DOG), ("notes.xyz", "of no known kind")).json()
    after = client.post("/v1/passages", json={"question": "What does it cost to walk a dog?"}).json()
    path = rag.store.directory / "uploads" / "dog.txt"
    assert path.read_text() == DOG and not (path.parent / "notes.xyz").exists()
    assert (report["added"], report["documents"]) == (1, 4)
    assert report["files"][0] == {"name": "dog.txt", "document": str(path), "stored": True}
    assert report["files"][1]["name"] == "notes.xyz" and "'.xyz'" in report["files"][1]["reason"]
    assert DOG not in json.dumps(before)
    assert after["passages"][0]["text"] == DOG


@pytest.mark.parametrize(
    ("splitter", "texts"),
    [
        (WordSplitter(5), ["A licence to walk a", "dog costs six crowns a", "week."]),
        (WordSplitter(7, context="none"), ["A licence to walk a dog costs", "six crowns a week."]),
        (None, [DOG]),
    ],
)
def test_an_upload_is_split_as_the_store_was(
    client: TestClient, rag: RAG, splitter: WordSplitter | None, texts: list[str]
) -> None:
    rag.index([rag.store.directory.parent / "files"], splitter=splitter)
    assert upload(client, ("dog.txt", DOG)).status_code == 200
    row = rag.store.document_row(str(rag.store.directory / "uploads" / "dog.txt"))
    assert row is not None
    passages = rag.store.passages_of(row)
    assert [each.text for each in passages] == texts
    assert stored_name(rag.splitter) == rag.store.splitter


def test_a_splitter_that_was_given_goes_before_that_of_the_store(rag: RAG) -> None:
    own = RAG(rag.store, encoder=rag.encoder, splitter=WordSplitter(3))
    rag.index([rag.store.directory.parent / "files"], splitter=WordSplitter(5))
    assert (rag.splitter, own.splitter) == (WordSplitter(5), WordSplitter(3))


def test_nothing_that_can_be_read_is_a_report_too(client: TestClient) -> None:
    found = upload(client, ("a.xyz", "1"), ("b.txt", b""), ("c.txt", b"\0\1" * 50))
    assert found.status_code == 200
    assert [each["stored"] for each in found.json()["files"]] == [False, False, False]
    assert all("expected" in each["reason"] for each in found.json()["files"])
    assert (uploaded(client), listed(client)["pending"]) == ([], [])


def test_a_file_of_the_same_name_is_replaced(client: TestClient) -> None:
    upload(client, ("dog.txt", DOG))
    again = upload(client, ("dog.txt", DOG)).json()
    assert (again["added"], again["unchanged"]) == (0, 1)
    changed = upload(client, ("dog.txt", DOG.replace("six", "seven"))).json()
    assert (changed["added"], changed["removed"]) == (1, 1)
    broken = upload(client, ("dog.txt", b"\0\1" * 50)).json()
    assert broken["files"][0]["stored"] is False
    assert uploaded(client) == ["dog.txt"]
    document = listed(client, contains="DOG")["data"][0]["document"]
    assert "seven" in Path(document).read_text()


def test_progress_comes_as_events(client: TestClient) -> None:
    response = upload(client, ("dog.txt", DOG), stream=True)
    blocks = [block.splitlines() for block in response.text.replace("\r\n", "\n").split("\n\n") if block]
    names = [block[0].removeprefix("event: ") for block in blocks]
    data = [json.loads(block[1].removeprefix("data: ")) for block in blocks]
    assert set(names[:-1]) == {"progress"} and names[-1] == "report"
    assert data[-1]["added"] == 1
    assert {each["what"] for each in data[:-1]} == {"reading files", "embedding"}
    assert "dog.txt" in {each["document"] for each in data[:-1]}


def test_names_are_names(client: TestClient, rag: RAG) -> None:
    folder = rag.store.directory / "uploads"
    names = ["../../escaped.txt", "/etc/cron.txt", ".lock", "..", "con.txt", "a\u202egnp.txt", "x" * 400 + ".txt"]
    for name in names:
        assert upload(client, (name, f"Text of {name!r}.")).status_code == 200
    here = {each.resolve() for each in rag.store.directory.rglob("*.txt")}
    assert all(each.parent == folder.resolve() for each in here)
    assert not (rag.store.directory.parent / "escaped.txt").exists()
    assert {each.name for each in here} > {"escaped.txt", "etc__cron.txt", "_con.txt", "agnp.txt"}
    assert len(here) == 5  # ".lock" and ".." become names without a suffix, which no parser reads


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\ntext\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data"),
        (b"--x--\r\n", f"multipart/form-data; boundary={'x' * 500}"),
        (b"{}", "application/json"),
        (
            b'--x\r\nContent-Disposition: form-data; name="store"\r\n\r\nother\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nthe end is missing',
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_what_is_no_form_of_files(client: TestClient, rag: RAG, content: bytes, kind: str) -> None:
    found = client.post("/v1/documents", content=content, headers={"Content-Type": kind})
    assert (found.status_code, found.json()["error"]["param"]) == (400, "files"), found.text
    assert left_behind(rag) == []


def left_behind(rag: RAG) -> list[Path]:
    """Files of uploads that are not uploaded files."""
    return [
        each for each in (rag.store.directory / "uploads").rglob("*") if each.is_file() and each.name != ".lock"
    ]


@pytest.fixture
def small(rag: RAG) -> Any:
    """A client of a server that takes little."""
    limits = WriterLimits(file_bytes=1000, files=2, waiting=1, seconds=0.2)
    service = Service(Stores([Served("demo", rag)]), writers=Writers(limits))
    with listening(make_app(service)) as address, connected(address) as found:
        yield found


def connected(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=120)


def test_limits_of_size_and_number(small: httpx.Client, rag: RAG) -> None:
    assert upload(small, ("a.txt", "x" * 1000)).status_code == 200
    for files in ([("b.txt", "x" * 1001)], [(f"{n}.txt", "x") for n in range(3)]):
        found = upload(small, *files)
        assert (found.status_code, found.json()["error"]["code"]) == (413, "too_large")
    assert upload(small, ("c.txt", "1"), ("c.txt", "2")).status_code == 400
    assert [each.name for each in left_behind(rag)] == ["a.txt"]


def test_changes_that_would_wait_too_long_are_refused(small: httpx.Client, rag: RAG) -> None:
    release = threading.Event()
    original = rag.index

    def slow(*given: Any, **named: Any) -> Any:
        release.wait()
        return original(*given, **named)

    rag.index = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(upload, small, ("first.txt", "The first file."))
        wait_until(lambda: any(each.name == "first.txt" for each in left_behind(rag)))
        found = upload(small, ("second.txt", "The second file."))
        assert (found.status_code, found.json()["error"]["code"]) == (409, "store_busy")
        assert client_answers(small)
        release.set()
        assert first.result().json()["files"][0]["stored"]
    assert [each.name for each in left_behind(rag)] == ["first.txt"]


def client_answers(client: Any) -> bool:
    return bool(client.post("/v1/answers", json={"question": QUESTION}).json()["answer"] == "nine crowns")


def test_a_store_that_another_process_writes_to(client: TestClient, rag: RAG) -> None:
    rag.store.timeout = 0.1
    with exclusive(rag.store.directory / "index.lock", 1.0):
        for found in (upload(client, ("dog.txt", DOG)), delete(client, listed(client)["data"][0]["document"])):
            assert (found.status_code, found.json()["error"]["code"]) == (409, "store_busy")
        event = upload(client, ("dog.txt", DOG), stream=True)
        assert "event: error" in event.text and "store_busy" in event.text
    assert left_behind(rag) == []
    assert upload(client, ("dog.txt", DOG)).json()["added"] == 1


def test_a_full_disk_while_a_file_arrives(client: TestClient, rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mixrag.server.native.receiving.os.fsync", full)
    found = upload(client, ("dog.txt", DOG))
    assert (found.status_code, found.json()["error"]["code"]) == (507, "disk_full")
    monkeypatch.undo()
    assert left_behind(rag) == [] and client_answers(client)


def test_a_full_disk_while_it_is_indexed(client: TestClient, rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, take = int(rag.store.query("PRAGMA page_count")[0][0]), rag.store._connections._take

    def limited() -> Any:
        connection = take()
        connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite calls a full disk
        return connection

    monkeypatch.setattr(rag.store._connections, "_take", limited)
    text = "\n\n".join(f"Paragraph {n} of a long file about nothing at all." for n in range(3000))
    found = upload(client, ("long.txt", text))
    assert (found.status_code, found.json()["error"]["code"]) == (507, "disk_full"), found.text
    assert client_answers(client)
    pages = 1_000_000
    assert upload(client, ("dog.txt", DOG)).json()["files"][0]["stored"]
    stored = {each["document"] for each in listed(client)["data"] if each["uploaded"]}
    assert stored == {str(each) for each in left_behind(rag)} and listed(client)["pending"] == []


def test_a_store_that_cannot_be_written_to(client: TestClient, rag: RAG, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    found = upload(client, ("dog.txt", DOG))
    assert (found.status_code, found.json()["error"]["code"]) == (409, "store_read_only")


def test_what_was_not_indexed_is_indexed_at_the_next_start(rag: RAG, service: Service) -> None:
    uploads = Uploads(rag)
    for name in ("one.txt", "two.txt"):
        arrived = uploads.new_file()
        arrived.write_text(f"This is file {name}.")
        uploads._place(name, arrived)  # as far as a process came that was killed then
    assert uploads.pending() == ["one.txt", "two.txt"]
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        wait_until(lambda: uploaded(client) == ["one.txt", "two.txt"])
        assert listed(client)["pending"] == []


def test_what_was_not_indexed_is_indexed_with_the_next_upload(client: TestClient, rag: RAG) -> None:
    wait_until(lambda: not client.app.state.service.writers._running)  # type: ignore[attr-defined]
    uploads = Uploads(rag)
    arrived = uploads.new_file()
    arrived.write_text("This is the first file.")
    uploads._place("first.txt", arrived)
    assert listed(client)["pending"] == ["first.txt"]
    report = upload(client, ("second.txt", "This is the second file.")).json()
    assert [each["name"] for each in report["files"]] == ["second.txt"]
    assert uploaded(client) == ["first.txt", "second.txt"] and listed(client)["pending"] == []


def test_the_same_file_from_many_clients_at_once(address: str, rag: RAG) -> None:
    def send(n: int) -> Any:
        with connected(address) as client:
            return upload(client, ("dog.txt", DOG), (f"own-{n}.txt", f"File of client {n}.")).json()

    with ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(send, range(8)))
    assert sum(each["added"] for each in reports) == 9
    assert all(file["stored"] for each in reports for file in each["files"])
    with connected(address) as client:
        assert uploaded(client) == sorted(["dog.txt", *(f"own-{n}.txt" for n in range(8))])


def test_a_client_that_goes_away_while_it_sends_leaves_nothing(address: str, rag: RAG) -> None:
    def endless() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        yield b"x" * 70_000
        wait_until(lambda: any(each.stat().st_size for each in left_behind(rag)))
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        httpx.post(
            f"{address}/v1/documents",
            content=endless(),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
    wait_until(lambda: left_behind(rag) == [])


def test_the_list(client: TestClient, rag: RAG) -> None:
    upload(client, ("dog.txt", DOG))
    found = listed(client)
    assert (found["store"], found["documents"], found["passages"]) == ("demo", 4, 4)
    assert {Path(each["document"]).name: each["uploaded"] for each in found["data"]} == {
        "cod.txt": False,
        "dog.txt": True,
        "eel.txt": False,
        "hen.txt": False,
    }
    assert all(each["bytes"] == Path(each["document"]).stat().st_size for each in found["data"])
    assert [each["document"] for each in listed(client, offset=1, limit=2)["data"]] == [
        each["document"] for each in found["data"][1:3]
    ]
    assert listed(client, contains="dog.TXT")["matching"] == 1
    assert client.get("/v1/documents", params={"store": "other"}).status_code == 404
    assert client.get("/v1/documents", params={"limit": 0}).status_code == 400
    assert client.get("/v1/documents", params={"offset": 2**80}).status_code == 400


def content(client: Any, **query: Any) -> Any:
    return client.get("/v1/documents/content", params=query)


def test_a_document_is_read_at_an_offset(client: TestClient, rag: RAG) -> None:
    text = "\n\n".join(f"Paragraph {n}: {'word ' * 60}end." for n in range(60))
    upload(client, ("long.txt", text))
    document = str(rag.store.directory / "uploads" / "long.txt")
    read, part = "", content(client, document=document, limit=7).json()
    while True:
        assert part["text"] == text[part["start"] : part["end"]]
        read = read.ljust(part["start"], "\n") + part["text"]
        if part["next"] is None:
            break
        part = content(client, document=document, offset=part["next"], limit=7).json()
    assert read == text and part["end"] == part["length"] == len(text)
    middle = content(client, document=document, offset=len(text) // 2).json()
    assert middle["start"] <= len(text) // 2 < middle["passages"][0]["end"]
    wider = content(client, document=document, offset=len(text) // 2, before=2).json()
    assert wider["passages"][2]["id"] == middle["passages"][0]["id"]
    beyond = content(client, document=document, offset=10**9).json()
    assert (beyond["text"], beyond["passages"], beyond["next"]) == ("", [], None)


def test_a_document_is_read_at_a_page(client: TestClient, rag: RAG) -> None:
    pages = Pages()
    pages.put(72, 72, "Page one is about cats.")
    pages.new_page()
    pages.put(72, 72, "Page two is about dogs.")
    upload(client, ("pages.pdf", pages.bytes()))
    document = str(rag.store.directory / "uploads" / "pages.pdf")
    assert listed(client, contains="pages.pdf")["data"][0]["pages"] == 2
    for number, word in ((1, "cats"), (2, "dogs")):
        part = content(client, document=document, page=number).json()
        assert (part["page"], part["pages"]) == (number, 2)
        assert word in part["text"]
    assert content(client, document=document, page=3).status_code == 404
    plain = listed(client, contains="cod.txt")["data"][0]["document"]
    assert content(client, document=plain, page=1).status_code == 404
    assert content(client, document=plain).json()["text"] == Path(plain).read_text()


def test_a_page_on_which_nothing_begins_is_where_the_next_one_begins(client: TestClient, rag: RAG) -> None:
    pages = Pages()
    pages.put(72, 72, "Page one is about cats.")
    pages.new_page()
    pages.new_page()
    pages.new_page()
    pages.put(72, 72, "Page four is about dogs.")
    upload(client, ("gap.pdf", pages.bytes()))
    document = str(rag.store.directory / "uploads" / "gap.pdf")
    last = content(client, document=document, page=4).json()
    for number in (2, 3):
        part = content(client, document=document, page=number).json()
        assert (part["page"], part["text"], part["passages"]) == (number, "", [])
        assert part["start"] == part["end"] == part["next"] == last["start"] > 0


def test_the_list_says_what_an_upload_may_have(client: TestClient) -> None:
    limits = listed(client)["limits"]
    assert limits == {"files": 100, "file_bytes": 25 * 2**20, "bytes": 100 * 2**20}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../etc/passwd", "cod.txt", "*", "memory:", "%", "a\0b", "x" * 5000]
)
def test_only_documents_of_the_store_are_read_or_deleted(client: TestClient, name: str) -> None:
    for found in (content(client, document=name), delete(client, name)):
        assert (found.status_code, found.json()["error"]["code"]) == (404, "not_found"), found.text
    assert listed(client)["documents"] == 3


def test_deletion(client: TestClient, rag: RAG) -> None:
    upload(client, ("dog.txt", DOG))
    for each in listed(client)["data"]:
        found = delete(client, each["document"])
        assert found.json()["files_deleted"] == (["dog.txt"] if each["uploaded"] else [])
        assert Path(each["document"]).exists() is not each["uploaded"]
        assert delete(client, each["document"]).status_code == 404
        assert content(client, document=each["document"]).status_code == 404
    assert listed(client)["documents"] == 0
    empty = client.post("/v1/answers", json={"question": QUESTION})
    assert (empty.status_code, empty.json()["error"]["code"]) == (409, "store_empty")
    assert upload(client, ("dog.txt", DOG)).json()["added"] == 1


def test_the_file_of_several_records_goes_with_the_last_of_them(client: TestClient, rag: RAG) -> None:
    records = "\n".join(json.dumps({"id": name, "text": f"Record {name}."}) for name in ("one", "two"))
    upload(client, ("records.jsonl", records))
    path = rag.store.directory / "uploads" / "records.jsonl"
    assert all(each["uploaded"] for each in listed(client, contains="records")["data"])
    assert delete(client, f"{path}#one").json()["files_deleted"] == [] and path.exists()
    assert delete(client, f"{path}#two").json()["files_deleted"] == ["records.jsonl"] and not path.exists()


def test_what_is_being_read_may_be_deleted(client: TestClient, rag: RAG) -> None:
    stream = rag.stream(QUESTION, decoder="greedy")
    token = next(stream)
    for each in listed(client)["data"]:
        assert delete(client, each["document"]).status_code == 200
    assert token.text + "".join(each.text for each in stream) == "nine crowns"


def test_questions_uploads_and_deletions_at_once(address: str, rag: RAG) -> None:
    def work(n: int) -> list[int]:
        with connected(address) as client:
            found = []
            for turn in range(3):
                name = f"own-{n}.txt"
                found.append(upload(client, (name, f"File {n} of turn {turn}.")).status_code)
                found.append(client.post("/v1/answers", json={"question": QUESTION}).status_code)
                path = str(rag.store.directory / "uploads" / name)
                assert f"turn {turn}" in content(client, document=path).json()["text"]
                found.append(delete(client, path).status_code)
            return found

    with ThreadPoolExecutor(6) as threads:
        assert {status for each in threads.map(work, range(6)) for status in each} == {200}
    assert rag.store.counts().documents == 3 and left_behind(rag) == []


def test_a_deletion_that_was_cut_short_is_finished_by_the_next_upload(client: TestClient, rag: RAG) -> None:
    upload(client, ("dog.txt", b"A dog costs three crowns."))
    folder = rag.store.directory / "uploads"
    rag.remove(folder / "dog.txt")
    (folder / ".deleted").mkdir(exist_ok=True)
    (folder / ".deleted" / "dog.txt").touch()  # killed before the file was deleted
    upload(client, ("cat.txt", b"A cat costs two crowns."))
    assert not (folder / "dog.txt").exists()
    assert uploaded(client) == ["cat.txt"]

"""``/v1/shard/…`` as JSON, and what a server over shards says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from listening import listening
from mixrag import RAG
from mixrag.answers import open_store
from mixrag.errors import ServerError, SettingError
from mixrag.generator.remote.client import Refused
from mixrag.retrieval.shards.exchange import SearchRequest, StatisticsRequest
from mixrag.retrieval.shards.remote import RemoteShard
from mixrag.server.app import make_app
from mixrag.server.security.keys import KeyFile
from mixrag.server.security.policy import Security
from sharded_demo import CORPUS, Open, served

SEARCH: dict[str, Any] = {"vector": [0.0] * 256, "k": 3, "temperature": 0.1}


@pytest.fixture
def rag(tmp_path: Path, opened: Open) -> Iterator[RAG]:
    with opened(tmp_path / "store", create=True) as found:
        found.index([CORPUS / "finance"])
        yield found


@pytest.fixture
def client(rag: RAG) -> Iterator[TestClient]:
    with TestClient(make_app(served(rag)), base_url="http://127.0.0.1", raise_server_exceptions=False) as found:
        yield found


def test_statistics_are_those_of_the_lexical_index(rag: RAG, client: TestClient) -> None:
    asked = {"words": ["loan", "croft", "nowhere", "laon"], "near": True}
    found = client.post("/v1/shard/statistics", json=asked).json()
    shard, counts = found["shard"], rag.store.counts()
    assert (shard["passages"], shard["documents"], shard["share"]) == (
        counts.passages,
        counts.documents,
        "documents",
    )
    assert shard["encoder"] == "words-1" and shard["state"] == rag.store.state and shard["words"] > 1000
    assert shard["largest_norm"] == pytest.approx(1.0) and shard["part"] is None
    assert set(found["frequencies"]) == {"loan", "croft"}
    assert [1, "loan", found["frequencies"]["loan"]] in found["near"]["laon"]
    light = client.post("/v1/shard/statistics", json={}).json()["shard"]
    assert light == shard | {"words": None}
    measured = client.post("/v1/shard/statistics", json={"measured": True}).json()
    assert measured["shard"] == shard and measured["frequencies"] == {}


def test_a_search_has_the_products_and_log_z(rag: RAG, client: TestClient) -> None:
    vector = rag.encoder.encode_questions(["who gives loans for a croft"])[0]
    found = client.post("/v1/shard/search", json={**SEARCH, "vector": vector.tolist()}).json()
    rows, vectors = rag.store.vectors()
    products = vectors.astype(float) @ vector.astype(float)
    best = np.argsort(-products, kind="stable")[:3]
    assert found["rows"] == rows[best].tolist()
    assert found["inner_products"] == pytest.approx(products[best].tolist(), abs=1e-12)
    log_z = float(np.logaddexp.reduce(products / 0.1))
    assert found["log_z"] == pytest.approx([log_z, log_z], abs=1e-9) and found["log_z_dense"] is None
    assert found["count"] == len(rows) and found["matches"] is False and found["bm25"] is None
    passages = rag.store.passages(rows[best])
    assert [each["text"] for each in found["passages"]] == [each.text for each in passages]
    hybrid = {**SEARCH, "vector": vector.tolist(), "lexical": 0.5, "words": [["zzzz", 1.0, 7]], "k": None}
    found = client.post("/v1/shard/search", json=hybrid).json()
    assert found["matches"] is False and len(found["rows"]) == len(rows) and set(found["bm25"]) == {0.0}
    half = float(np.logaddexp.reduce(0.5 * products / 0.1))
    assert found["log_z"][0] == pytest.approx(half) and found["log_z_dense"][0] == pytest.approx(log_z)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("statistics", {"words": ["x" * 65]}, 400),
        ("statistics", {"words": "x"}, 400),
        ("statistics", {"other": 1}, 400),
        ("statistics", {"model": "nowhere"}, 404),
        ("search", {**SEARCH, "vector": [1.0]}, 400),
        ("search", {**SEARCH, "vector": []}, 400),
        ("search", {**SEARCH, "vector": ["a"] * 256}, 400),
        ("search", {**SEARCH, "temperature": 0.0}, 400),
        ("search", {**SEARCH, "k": 0}, 400),
        ("search", {**SEARCH, "lexical": 1.5}, 400),
        ("search", {**SEARCH, "state": "another"}, 409),
        ("search", {**SEARCH, "words": [["a", 1.0]]}, 400),
        ("likelihoods", {}, 400),
    ],
    ids=range(13),
)
def test_requests_that_cannot_be_carried_out(client: TestClient, path: str, body: Any, status: int) -> None:
    found = client.post(f"/v1/shard/{path}", json=body)
    assert found.status_code == status, found.text
    assert "\n" not in found.json()["error"]["message"]


def test_a_server_gives_so_many_passages_and_no_more(
    rag: RAG, client: TestClient, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_store, "MOST_PASSAGES", 3)
    passages = rag.store.counts().passages
    vector = rag.encoder.encode_questions(["who gives loans"])[0].tolist()
    for k, found in ((4, 4), (10**9, passages), (None, passages)):
        refused = client.post("/v1/shard/search", json={**SEARCH, "vector": vector, "k": k})
        said = (
            f"expected at most 3 passages in one reply of part; found {found}; "
            "take a smaller number k, a filter, or more shards of up to 3 passages"
        )
        assert refused.status_code == 400 and refused.json()["error"]["message"] == said
    assert len(client.post("/v1/shard/search", json={**SEARCH, "vector": vector}).json()["rows"]) == 3
    with opened(tmp_path / "here", create=True) as here:
        here.add([{"text": f"loan number {each}"} for each in range(5)])
    with listening(make_app(served(rag))) as address, opened(f"{tmp_path / 'here'},{address}") as both:
        assert len(both.passages("who gives loans", k=3).passages) == 3
        with pytest.raises(SettingError, match=r"at most 3 passages .* take a smaller number k") as error:
            both.passages("who gives loans", k="all")
        assert address in str(error.value)
    with opened(f"{tmp_path / 'here'},{rag.store.name}") as local:  # a store of this machine has no such limit
        assert len(local.passages("who gives loans", k="all").passages) == passages + 5


def test_all_of_a_reasonable_number_of_passages_come_over_the_network(tmp_path: Path, opened: Open) -> None:
    with opened(tmp_path / "large", create=True) as large:
        large.add([{"text": f"parcel {each} lies at the north wall", "id": f"{each}"} for each in range(3000)])
        with listening(make_app(served(large))) as address, opened(address) as parts:
            found = parts.passages("where is parcel 17", k="all")
            assert len(found.passages) == 3000 and found.outside == 0.0 and found.notices == ()


def test_a_filter_without_passages_and_an_empty_store(client: TestClient, tmp_path: Path, opened: Open) -> None:
    found = client.post("/v1/shard/search", json={**SEARCH, "where": {"document": "*/law/*"}}).json()
    assert found["count"] == 0 and found["rows"] == [] and found["log_z"] is None
    with opened(tmp_path / "empty", create=True) as empty, TestClient(make_app(served(empty))) as other:
        found = other.post("http://127.0.0.1/v1/shard/search", json=SEARCH).json()
        assert found["count"] == 0 and found["shard"]["encoder"] is None


def test_keys_are_asked_for(rag: RAG, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys")
    key = keys.add("asker")
    with TestClient(make_app(served(rag), Security(keys=keys)), base_url="http://127.0.0.1") as client:
        assert client.post("/v1/shard/statistics", json={}).status_code == 401
        given = {"Authorization": f"Bearer {key}"}
        assert client.post("/v1/shard/statistics", json={}, headers=given).status_code == 200


def test_a_server_over_shards(stores: list[str], opened: Open) -> None:
    with opened(f"{stores[0]},{stores[1]}") as rag:
        name = rag.store.shards[0].name
        with TestClient(make_app(served(rag)), base_url="http://127.0.0.1") as client:
            found = client.post("/v1/passages", json={"question": "who gives loans"}).json()
            assert found["passages"] and found["notices"] == []
            ready = client.get("/health/ready").json()
            assert next(each["shard"] for each in ready["shards"]["part"]) == name
            assert ready["shards"]["part"][0]["missing"] is None
            listed = client.get("/v1/documents").json()
            assert listed["documents"] == rag.store.counts().documents == len(listed["data"])
            some = listed["data"][0]["document"]
            read = client.get("/v1/documents/content", params={"document": some, "limit": 200}).json()
            assert read["text"] and read["document"] == some
            for path, kind in (("/v1/shard/statistics", {}), ("/v1/shard/search", SEARCH)):
                assert client.post(path, json=kind).status_code == 400
            refused = client.post("/v1/documents", files={"files": ("a.txt", b"text")})
            assert refused.status_code == 400 and "one store, to change it" in refused.text
            assert client.delete("/v1/documents", params={"document": some}).status_code == 400


class _Lying:
    """A server whose replies are not what was asked for."""

    def __init__(self, change: Any, rag: RAG) -> None:
        self.change, self.inner = change, rag.shard("part")

    def reply(self, request: SearchRequest) -> Any:
        document = self.inner.search(request).model_dump(mode="json")
        self.change(document)
        return document


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["rows"].pop(),
        lambda d: d["inner_products"].append(1.0),
        lambda d: d["passages"].pop(),
        lambda d: d.update(bm25=None),
        lambda d: d.update(log_z=[2.0, 1.0]),
        lambda d: d.update(count=1),
        lambda d: d.update(rows=[], inner_products=[], bm25=[], passages=[]),
        lambda d: d.update(inner_products=["NaN"] * 3),
        lambda d: d.update(log_z=[1e308, 1e308]),
        lambda d: d.pop("shard"),
    ],
)
def test_replies_that_do_not_fit_are_refused(rag: RAG, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lying, shard = _Lying(change, rag), RemoteShard("http://127.0.0.1:1")
    request = SearchRequest(**{**SEARCH, "lexical": 0.5, "words": [("loan", 1.0, 3)]})
    monkeypatch.setattr(shard._client, "one", lambda url, document: lying.reply(request))
    with pytest.raises(ServerError, match="serve it with this mixrag"):
        shard.search(request)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(log_z=[1.0, 2.0]),
        lambda d: d.update(log_z_dense=[1.0, 2.0]),
        lambda d: d.update(log_z_dense=None),
    ],
)
def test_a_reply_that_is_not_exact_is_no_reply_to_an_exact_request(
    rag: RAG, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying, shard = _Lying(change, rag), RemoteShard("http://127.0.0.1:1")
    request = SearchRequest(**{**SEARCH, "lexical": 0.5, "words": [("zzzz", 1.0, 3)], "exact": True})
    monkeypatch.setattr(shard._client, "one", lambda url, document: lying.reply(request))
    with pytest.raises(ServerError, match="an exact log Z"):
        shard.search(request)
    lying.change = lambda d: None
    assert shard.search(request).matches is False


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_question_that_a_server_refuses_is_no_missing_shard(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = RemoteShard("http://127.0.0.1:1")

    def refused(url: str, document: Any) -> Any:
        raise Refused("a request that fits", "another", "change it", status)

    monkeypatch.setattr(shard._client, "one", refused)
    with pytest.raises(SettingError, match="a question that shard"):
        shard.search(SearchRequest(**SEARCH))


def test_words_that_were_not_asked_for_are_refused(monkeypatch: pytest.MonkeyPatch, rag: RAG) -> None:
    shard = RemoteShard("http://127.0.0.1:1/part")
    found = rag.shard("part").statistics(StatisticsRequest(words=["loan"])).model_dump(mode="json")
    monkeypatch.setattr(shard._client, "one", lambda url, document: found)
    assert shard.statistics(StatisticsRequest(words=["loan"])).frequencies
    with pytest.raises(ServerError, match="frequencies of the words asked for"):
        shard.statistics(StatisticsRequest(words=["croft"]))


def test_two_servers_over_one_store(rag: RAG, tmp_path: Path, opened: Open) -> None:
    """Behind a load balancer: what one process indexes, the others see."""
    import httpx

    with (
        opened(tmp_path / "store") as second,
        listening(make_app(served(rag))) as one,
        listening(make_app(served(second))) as two,
        httpx.Client() as client,
    ):
        question = {"question": "what is the toll of the new tunnel"}

        def texts(address: str) -> str:
            return client.post(f"{address}/v1/passages", json=question).text

        assert "zeppelin" not in texts(one) and "zeppelin" not in texts(two)
        upload = {"files": ("tunnel.txt", b"The toll of the new tunnel is one zeppelin.")}
        assert client.post(f"{one}/v1/documents", files=upload).status_code == 200
        assert "zeppelin" in texts(two) and texts(one) == texts(two)
        names = [each["document"] for each in client.get(f"{two}/v1/documents").json()["data"]]
        uploaded = next(each for each in names if each.endswith("tunnel.txt"))
        assert client.delete(f"{two}/v1/documents", params={"document": uploaded}).status_code == 200
        assert "zeppelin" not in texts(one)
        key = {"question": "x", "settings": {"k": 1}}
        assert (
            client.post(f"{one}/v1/passages", json=key).json()
            == client.post(f"{two}/v1/passages", json=key).json()
        )


def test_a_retriever_of_the_callers_own_is_no_shard(rag: RAG) -> None:
    with RAG(rag.store, retriever=rag.retriever) as other, pytest.raises(SettingError, match="a store of its own"):
        other.shard("x")

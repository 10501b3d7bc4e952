"""Chat answers in kind: lists, yes or no, extracts, and answers that no passage wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.server.app import make_app
from mixrag.server.service import Service
from mixrag.server.stores import Served, Stores
from scripted import scripted
from words_encoder import WordsEncoder

TEXTS = {
    "board.txt": "The board has three members. They are Ann Lee, Bo Ray and Cy Fox. It meets in March.",
    "hens.txt": "Hens lay fewer eggs during winter.",
}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[TestClient]:
    files = tmp_path / "files"
    files.mkdir()
    for name, text in TEXTS.items():
        (files / name).write_text(text)
    laws = {"board": {"Ann Lee": 0.8, "yes": 0.15, "no": 0.01}, "": {"Ann Lee": 0.3, "Zed": 0.6}}
    rag = RAG(
        Store.open(tmp_path / "store", create=True),
        encoder=WordsEncoder(),
        generator=scripted(laws),
        settings=Settings(max_tokens=6, k=2),
    )
    with rag:
        rag.index([files])
        app = make_app(Service(Stores([Served("demo", rag)])))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            yield client


def asked(client: TestClient, **settings: Any) -> Any:
    body = {
        "messages": [{"role": "user", "content": "Who are the members of the board?"}],
        "settings": settings,
        "logprobs": True,
    }
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code == 200, found.text
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(pieces) == found.json()["choices"][0]["message"]["content"]
    return found.json()


def cited(document: Any) -> list[tuple[str, str]]:
    """The stretches of the text that are cited, each with the title of the source."""
    message = document["choices"][0]["message"]
    found = [each["url_citation"] for each in message["annotations"]]
    return [(message["content"][each["start_index"] : each["end_index"]], each["title"]) for each in found]


def test_items_of_a_list_cite_where_they_stand(board: TestClient) -> None:
    found = asked(board, kind="list")
    assert found["choices"][0]["message"]["content"] == "Ann Lee, Bo Ray, Cy Fox"
    assert cited(found) == [(name, "board") for name in ("Ann Lee", "Bo Ray", "Cy Fox")]
    assert found["choices"][0]["logprobs"] is None, "the tokens are those of the span"
    assert found["mixrag"]["kind"] == "list" and found["mixrag"]["best_guess"] == "Ann Lee"


def test_sentences_of_an_extract_cite_their_passage(board: TestClient) -> None:
    found = asked(board, kind="extract")
    text = found["choices"][0]["message"]["content"]
    assert found["mixrag"]["kind"] == "extract"
    assert all(sentence in text and len(sentence) > 10 for sentence, _ in cited(found)) and cited(found)
    assert {title for _, title in cited(found)} <= {"board", "hens"}
    assert found["usage"]["prompt_tokens"] == 0, "no language model read anything"


def test_yes_or_no_cites_what_says_so(board: TestClient) -> None:
    found = asked(board, kind="yes-no")
    assert found["mixrag"]["kind"] == "yes-no"
    assert cited(found)[0] == (found["choices"][0]["message"]["content"], "board")
    tokens = found["choices"][0]["logprobs"]["content"]
    assert math.exp(sum(each["logprob"] for each in tokens)) == pytest.approx(found["mixrag"]["probability"])


def test_what_no_passage_wrote_cites_none(board: TestClient) -> None:
    found = asked(board, kind="span", null=50.0)
    assert (found["choices"][0]["message"]["content"], cited(found)) == ("Zed", [])


def test_a_closed_book_has_no_passages(board: TestClient) -> None:
    found = asked(board, k=0)
    assert (found["mixrag"]["passages"], cited(found)) == ([], [])

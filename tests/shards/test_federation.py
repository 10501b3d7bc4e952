"""Owners who share likelihoods alone: the numbers are those of one store, and no text of a document is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from fastapi.testclient import TestClient

from listening import listening
from mixrag import RAG, Settings
from mixrag.answers import federated
from mixrag.errors import ModelError, SettingError, ShardMissingError, StoreError
from mixrag.generator import PromptTemplate
from mixrag.retrieval.shards import exchange
from mixrag.retrieval.shards.exchange import LikelihoodsRequest
from mixrag.server.app import make_app
from scripted import scripted
from sharded_demo import Open, opener, served
from words_encoder import WordsEncoder

QUESTION = "what does a licence for cod cost"
SECRET = "the reserve is guarded by brother Anselm and the licence for cod costs nine crowns"
OWN = {
    "eel": "a licence to fish eel costs four crowns a season",
    "tax": "income tax is due in march and paid in crowns",
}
THEIRS = {"cod": SECRET, "hen": "hens lay fewer eggs during winter"}
LAWS = {
    "cod": {"nine crowns": 0.9, "four crowns": 0.05},
    "eel": {"four crowns": 0.5, "nine crowns": 0.4},
    "": {"four crowns": 0.3, "nine crowns": 0.3},
}


def texts(documents: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"text": text, "id": name, "title": f"title of {name}", "owner": "abbey"}
        for name, text in documents.items()
    ]


@contextmanager
def federation(open_: Open, root: Path, **options: Any) -> Iterator[tuple[RAG, RAG, str]]:
    """One store of all documents; the shards of two owners, of which one shares no documents; and its address."""
    for name, documents in {"whole": {**OWN, **THEIRS}, "own": OWN, "theirs": THEIRS}.items():
        with open_(root / name, create=True) as rag:
            rag.add(texts(documents))
    app = make_app(served(open_(root / "theirs"), share="likelihoods"))
    with (
        listening(app) as address,
        open_(root / "whole", **options) as whole,
        open_(f"{root / 'own'},{address}", **options) as both,
    ):
        yield whole, both, address


@pytest.mark.parametrize(
    "settings",
    [
        Settings(lexical=0.5, max_tokens=8),
        Settings(max_tokens=8, empty_answer=True, abstain_below=0.0, k=3),
        Settings(max_tokens=8, switch=0.4, normaliser="full", k=3, null=0.5),
    ],
    ids=["plain", "with an empty answer", "switch, null and full normaliser"],
)
def test_scores_are_those_of_one_store(tmp_path: Path, settings: Settings) -> None:
    with federation(opener(scripted(LAWS)), tmp_path, settings=settings) as (whole, both, address):
        for answer in ("nine crowns", "four", ""):
            compared(whole, both, address, answer, 1e-9)
        with pytest.raises(ModelError, match="passages with their text"):
            both.score(QUESTION, "nine crowns").explain()


def test_scores_with_the_settings_of_the_packaged_reader(opened: Open, tmp_path: Path) -> None:
    """The rows of a model in float32 depend on how many are read at once."""
    settings = Settings(lexical=0.5, max_tokens=8, empty_answer=True, question_likelihood=0.5, abstain_below=0.0)
    with federation(opened, tmp_path, settings=settings) as (whole, both, address):
        for answer in ("nine crowns", ""):
            compared(whole, both, address, answer, 1e-4)


def test_rounding_that_an_owner_does_not_know_is_not_known_of_the_answer(tmp_path: Path) -> None:
    """As of a model behind a server, whose numbers may be rounded."""
    plain = opener(scripted(LAWS))

    def open_(location: str | Path, **options: Any) -> RAG:
        rag = plain(location, **options)
        if Path(location).name == "theirs":
            rag._generator = scripted(LAWS)
            object.__setattr__(rag._generator, "rounding", None)
        return rag

    with federation(open_, tmp_path, settings=Settings(lexical=0.5, max_tokens=8)) as (whole, both, _):
        scored = both.score(QUESTION, "nine crowns")
        assert scored.log_prob == pytest.approx(whole.score(QUESTION, "nine crowns").log_prob, abs=1e-9)
        assert scored.rounding is None
        assert whole.score(QUESTION, "nine crowns").rounding == 0.0


def compared(whole: RAG, both: RAG, address: str, answer: str, within: float) -> None:
    a, b = whole.score(QUESTION, answer), both.score(QUESTION, answer)
    assert b.log_prob == pytest.approx(a.log_prob, abs=within)
    assert b.log_bounds == (a.log_bounds and pytest.approx(a.log_bounds, abs=within))
    assert b.p_empty == (a.p_empty and pytest.approx(a.p_empty, abs=within))
    assert [p.prior for p in b.passages] == pytest.approx([p.prior for p in a.passages], abs=1e-12)
    assert [p.posterior for p in b.passages] == pytest.approx([p.posterior for p in a.passages], abs=within)
    shown = {p.document for p in b.passages}
    assert address in shown and "cod" not in shown


def test_the_best_candidate_over_all_passages_is_the_answer(tmp_path: Path) -> None:
    """Of what is answered from the own passages, the passages that are not shared decide."""
    open_ = opener(scripted(LAWS))
    options = {"settings": Settings(lexical=0.5, max_tokens=4, decoder="beam", beams=3, k=4)}
    with federation(open_, tmp_path, **options) as (whole, both, address):
        answer, wanted = both.ask(QUESTION), whole.score(QUESTION, "nine crowns")
        assert answer.text == whole.ask(QUESTION).text == "nine crowns"
        assert answer.log_prob == pytest.approx(wanted.log_prob, abs=1e-9)
        best = max(answer.passages, key=lambda each: each.posterior)
        assert best.document == address and best.text == ""
        with open_(tmp_path / "own", **options) as alone:  # what it would have answered by itself
            assert alone.ask(QUESTION).text == "four crowns"


def test_no_text_of_a_document_is_sent(tmp_path: Path) -> None:
    sent = list[str]()
    open_ = opener(scripted(LAWS))
    with federation(open_, tmp_path, settings=Settings(lexical=0.5, typos=True, max_tokens=4, k=4)) as (
        _,
        both,
        address,
    ):
        with httpx.Client(base_url=address) as client:

            def note(method: str, path: str, body: Any = None) -> httpx.Response:
                reply = client.request(method, path, json=body)
                sent.append(f"{reply.headers} {reply.text}")
                return reply

            found = note(
                "POST", "/v1/shard/statistics", {"words": ["licenc", "guadred", "ansel", "cod"], "near": True}
            )
            assert found.json()["frequencies"] == {"licenc": 1, "cod": 1} and found.json()["near"] == {}
            vector = both.encoder.encode_questions([SECRET])[0].tolist()
            search = {"vector": vector, "k": 9, "temperature": 0.1, "lexical": 0.5, "words": [["cod", 1.0, 1]]}
            found = note("POST", "/v1/shard/search", search)
            assert found.json()["passages"] is None and len(found.json()["rows"]) == 2
            tokens = both.generator.answer_tokens("nine crowns")
            scored = {
                "question": QUESTION,
                "rows": found.json()["rows"],
                "answers": [list(tokens)],
                "texts": ["nine crowns"],
                "reserve": 4,
                "state": found.json()["shard"]["state"],
            }
            assert note("POST", "/v1/shard/likelihoods", scored).status_code == 200
            note("POST", "/v1/shard/likelihoods", {**scored, "rows": [99]})
            note("POST", "/v1/shard/likelihoods", {**scored, "state": "another"})
            note("POST", "/v1/shard/search", {**search, "vector": [1.0]})
            refused = [
                note("POST", "/v1/shard/search", {**search, "where": where})
                for where in ({"owner": "abbey"}, {"owner": "nobody"}, {"document": "cod"}, {"nothing": "x"})
            ]
            assert {each.status_code for each in refused} == {400} and len({each.text for each in refused}) == 1
            assert "no filter, since part shares likelihoods alone" in refused[0].text
            for method, path, body in (
                ("POST", "/v1/answers", {"question": QUESTION}),
                ("POST", "/v1/passages", {"question": QUESTION}),
                ("POST", "/v1/score", {"question": QUESTION, "answer": "x"}),
                (
                    "POST",
                    "/v1/chat/completions",
                    {"model": "part", "messages": [{"role": "user", "content": "x"}]},
                ),
                ("GET", "/v1/documents", None),
                ("GET", "/v1/documents/content?document=cod", None),
                ("POST", "/mcp", {}),
                ("GET", "/", None),
                ("GET", "/v1/models", None),
            ):
                assert note(method, path, body).status_code == 404, path
            note("GET", "/health/ready")
            note("GET", "/metrics")
            note("GET", "/openapi.json")
        said = "\n".join(sent).lower()
        for word in (
            "anselm",
            "guarded",
            "reserve is",
            "hens",
            "eggs",
            "title of",
            "abbey",
            "brother",
            str(tmp_path),
        ):
            assert word not in said, word
        answer = both.ask(QUESTION)
        assert "anselm" not in json.dumps(answer.to_dict()).lower()


def test_what_needs_the_text_is_refused(opened: Open, tmp_path: Path) -> None:
    with federation(opened, tmp_path, settings=Settings(max_tokens=4)) as (_, both, address):
        with pytest.raises(SettingError, match="shares likelihoods alone"):
            both.condition(QUESTION)
        with pytest.raises(SettingError, match="shares likelihoods alone"):
            both.decide(QUESTION)
        with pytest.raises(SettingError, match="group 1"):
            both.score(QUESTION, "nine", group=2)
        with opened(address) as alone, pytest.raises(SettingError, match="a passage with its text"):
            alone.ask(QUESTION)
        with opened(address) as alone:  # with the closed-book model as a component there are candidates
            assert alone.ask(QUESTION, null=0.0).best_guess is not None


def test_owners_need_the_same_tokens(opened: Open, tmp_path: Path) -> None:
    with federation(opened, tmp_path, settings=Settings(max_tokens=4)) as (_, both, _):
        both._generator = scripted(LAWS)
        with pytest.raises(SettingError, match="tokens of the owner's language model"):
            both.score(QUESTION, "nine crowns")


def test_an_owner_that_changes_or_goes_is_said_to(opened: Open, tmp_path: Path) -> None:
    with federation(opened, tmp_path, settings=Settings(max_tokens=4)) as (_, both, address):
        request = LikelihoodsRequest(
            question=QUESTION, rows=[1], answers=[[3]], texts=["x"], reserve=4, state="of before"
        )
        with pytest.raises(StoreError, match="in the state that was asked about"):
            both._snapshots.shards[1].likelihoods(request)
        shard = both._snapshots.shards[1]
        object.__setattr__(shard, "likelihoods", lambda _: shard.likelihoods_gone())
        with pytest.raises(ShardMissingError, match=f"likelihoods from {address}".replace(".", r"\.")):
            both.score(QUESTION, "nine crowns")


def test_likelihoods_are_one_row_for_each_passage(opened: Open, tmp_path: Path) -> None:
    with federation(opened, tmp_path, settings=Settings(max_tokens=4)) as (whole, both, _):
        found = both.passages(QUESTION)
        place = next(j for j, each in enumerate(found.withheld) if each is not None)
        owner = found.withheld[place]
        assert owner is not None
        tokens = both.generator.answer_tokens("nine")
        reply = owner.shard.likelihoods(
            LikelihoodsRequest(
                question=QUESTION,
                rows=[owner.row],
                answers=[list(tokens)],
                texts=["nine"],
                reserve=4,
                state=owner.state,
            )
        )
        wanted = whole.condition(QUESTION).score("nine").log_likelihood[place]
        torch.testing.assert_close(torch.tensor(reply.tables[0][0]).double(), wanted, rtol=0, atol=1e-6)
        assert reply.log_empty is None and reply.log_question is None


def test_many_passages_are_asked_about_in_several_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MOST_ROWS", 1)
    open_ = opener(scripted(LAWS))
    with federation(open_, tmp_path, settings=Settings(lexical=0.5, max_tokens=8)) as (whole, both, address):
        shard, often = both._snapshots.shards[1], list[int]()
        likelihoods = shard.likelihoods
        monkeypatch.setattr(shard, "likelihoods", lambda r: often.append(len(r.rows)) or likelihoods(r))
        compared(whole, both, address, "nine crowns", 1e-9)
        assert often == [1, 1]


def test_a_request_has_so_many_likelihoods_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for more at once is refused; an asker that knows the limit asks several times."""
    with federation(opener(scripted(LAWS)), tmp_path, settings=Settings(max_tokens=8)) as (whole, both, address):
        tokens = [*both.generator.answer_tokens("nine crowns")]
        monkeypatch.setattr(exchange, "MOST_LIKELIHOODS", 2 * len(tokens))
        with httpx.Client(base_url=address) as client:
            state = client.post("/v1/shard/statistics", json={}).json()["shard"]["state"]
            asked = {"question": QUESTION, "rows": [1, 2], "reserve": 4, "state": state}

            def refused(many: int, **changes: Any) -> str:
                request = {**asked, "answers": [tokens] * many, "texts": ["nine crowns"] * many, **changes}
                reply = client.post("/v1/shard/likelihoods", json=request)
                return "" if reply.status_code == 200 else reply.json()["error"]["message"]

            assert refused(1) == "" and refused(3, rows=[1]) == ""  # one passage always fits
            said = f"at most 1 passages in a request with {2 * len(tokens)} tokens of answers; found 2 passages"
            assert said in refused(2)
            for changes, where in (
                ({"rows": [1] * 1001}, "rows"),
                ({"answers": [tokens] * 65}, "answers"),
                ({"answers": [[1] * 4097]}, "answers.0"),
                ({"texts": ["x" * 20_001]}, "texts.0"),
                ({"question": "x" * 20_001}, "question"),
            ):
                assert f"found {where}: " in refused(1, **changes)
        compared(whole, both, address, "nine crowns", 1e-9)
        shard, often = both._snapshots.shards[1], list[int]()
        likelihoods = shard.likelihoods
        monkeypatch.setattr(shard, "likelihoods", lambda r: often.append(len(r.rows)) or likelihoods(r))
        monkeypatch.setattr(exchange, "MOST_LIKELIHOODS", len(tokens))
        compared(whole, both, address, "nine crowns", 1e-9)
        assert often == [1, 1]


def test_a_filter_is_refused_by_an_owner_who_shares_no_documents(tmp_path: Path) -> None:
    with federation(opener(scripted(LAWS)), tmp_path, settings=Settings(max_tokens=8)) as (_, both, address):
        with pytest.raises(SettingError, match=r"no filter, since part shares likelihoods alone.*leave") as error:
            both.score(QUESTION, "nine crowns", where={"owner": "abbey"})
        assert address in str(error.value)


def test_owners_need_the_same_model(tmp_path: Path) -> None:
    """Tokens of two models may be equal where their likelihoods are not."""
    open_ = opener(scripted(LAWS))
    with federation(open_, tmp_path, settings=Settings(max_tokens=8)) as (_, both, address):
        name, own = both.generator.name, both.generator_fingerprint
        both.score(QUESTION, "nine crowns")
        other = PromptTemplate(passage="Read this: {text}\n")
        both.models = replace(both.models, prompt=other)
        assert both.generator_fingerprint != own
        wanted = f"expected the language model of whoever asks, {name} ({both.generator_fingerprint}); "
        for ask in (both.ask, lambda question: both.score(question, "nine crowns")):
            with pytest.raises(SettingError) as error:
                ask(QUESTION)
            said = f"{wanted}found {name} ({own}) at {address}; compare dtype and engine (dtype auto is int8 with"
            assert str(error.value).startswith(said)


def test_an_answer_that_is_too_long_for_owners_is_an_error_of_the_question(tmp_path: Path) -> None:
    with federation(opener(scripted(LAWS)), tmp_path, settings=Settings(max_tokens=8)) as (_, both, _):
        found = both.passages(QUESTION)
        asked = federated.Federation(both.generator, "of the model", QUESTION, found, both.settings)
        with pytest.raises(SettingError, match="a question that shards can be asked; found answers"):
            asked.scored([(1,) * 4097])


def test_no_path_of_an_owner_is_sent(tmp_path: Path) -> None:
    class Local:
        name = str(tmp_path / "models" / "encoder")

        def __getattr__(self, name: str) -> Any:
            return getattr(WordsEncoder(), name)

    with opener(scripted(LAWS))(tmp_path / "theirs", create=True) as rag:
        rag._encoder = Local()
        rag.add(texts(THEIRS))
        object.__setattr__(rag.generator, "name", str(tmp_path / "models" / "writer"))
        client = TestClient(make_app(served(rag, share="likelihoods")), base_url="http://127.0.0.1")

        def asked(path: str, body: Any) -> httpx.Response:
            reply = client.post(f"/v1/shard/{path}", json=body)
            assert str(tmp_path) not in reply.text, reply.text
            return reply

        found = asked("statistics", {}).json()["shard"]
        assert found["encoder_name"] == "encoder"
        scored = {"question": QUESTION, "rows": [1], "answers": [[3]], "reserve": 4, "state": found["state"]}
        assert asked("likelihoods", {**scored, "texts": ["other"]}).status_code == 400
        given = {**scored, "texts": [rag.generator.text([3])]}
        assert asked("likelihoods", given).json()["generator"] == "writer"
        assert asked("likelihoods", {**given, "rows": [99]}).status_code == 500
        with rag.store.writing(), pytest.MonkeyPatch.context() as patched:

            def broken(_: Any) -> Any:
                raise StoreError(f"a usable store in {tmp_path}", "none", "mend it")

            patched.setattr(type(rag.store), "passages", broken)
            patched.setattr(type(rag.store), "counts", broken)
            assert "ask its owner" in asked("statistics", {}).text

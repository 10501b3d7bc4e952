"""Evaluation over shards has the numbers of one store, or is refused in one line; training is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from test_shards_equal_one_store import same

from evaluation.test_scoring import WORDS, distribution
from listening import listening
from mixrag import RAG, Answer, Settings
from mixrag.answers import open_store
from mixrag.answers.applied_calibration import guaranteed_conditions
from mixrag.answers.confidence import ConfidenceMap
from mixrag.answers.guarantee import CertifiedGroup, Guarantee, calibration_digest
from mixrag.answers.how_sure import how_sure
from mixrag.cli import main
from mixrag.errors import SettingError, ShardMissingError
from mixrag.evaluation import diagnose
from mixrag.evaluation.analysis import Evaluation
from mixrag.evaluation.guarantee import _group
from mixrag.evaluation.relevance import relevant
from mixrag.evaluation.scoring import score_pairs
from mixrag.generator import TableGenerator
from mixrag.pairs.pairs import Pair, read_pairs
from mixrag.server.app import make_app
from sharded_demo import SETTINGS, Open, served

DEMO = Path(__file__).parents[2] / "demo"
WORDING = "in words that no passage has"


def pairs() -> list[Pair]:
    """Answers in a passage, answers that no passage of the document has, and a question without an answer."""
    some = read_pairs([DEMO / "questions.jsonl"]).pairs[::20]
    free = [Pair(each.question, (WORDING,), each.document) for each in some]
    return [*some, *free, Pair("what is the moon made of", ())]


def evaluated(rag: RAG, out: Path | None = None, **settings: Any) -> Evaluation:
    chosen = {"systems": ["closed-book", "concat", "mixture"], **settings}
    return rag.evaluate(pairs(), out, **chosen)


def test_numbers_are_those_of_one_store(one: RAG, parts: RAG) -> None:
    a, b = evaluated(one), evaluated(parts)
    assert [*a.summaries] == [*b.summaries]
    timed = {"seconds": None}
    for name, mine in a.records.items():
        assert any(any(each.relevant) for each in mine) or name == "closed-book"
        for one_, other in zip(mine, b.records[name], strict=True):
            same({**asdict(one_), **timed}, {**asdict(other), **timed}, f"{name}: {one_.question}")
    same(a.adaptive_k, b.adaptive_k)


def test_whether_an_answer_is_a_span_is_known_of_documents_behind_servers(one: RAG, parts: RAG) -> None:
    """Where another passage of the document has the answer, being from the document is not enough."""
    here, known = {each.path for each in parts.store.documents()}, set[bool]()
    for each in one.store.documents():
        passages = one.store.passages(one.store.rows_where({"document": each.path}))
        first, last = passages[0], passages[-1]
        answer = " ".join(last.text.split()[-6:])
        if first.id == last.id or answer in first.text:
            continue
        known.add(each.path in here)
        for store in (one.store, parts.store):
            question, name = "what is at the end", Path(each.path).name
            assert relevant(store, Pair(question, (answer,), name), [first]) == (False,), each.path
            assert relevant(store, Pair(question, (WORDING,), name), [first]) == (True,), each.path
    assert known == {True, False}


def test_a_document_from_memory_is_named_by_the_end_of_its_id(opened: Open, tmp_path: Path) -> None:
    """As for files: whether another passage of it has the answer is the same in one store and behind a server."""
    filler = "the river and the hill and the mill " * 40
    texts = {
        "wiki/Paris": f"{filler} the rent is nine crowns",
        "wiki/Rome#2": f"{filler} the toll is six crowns",
        "Rome": filler,
    }
    for at, (name, text) in enumerate(texts.items()):
        for location in (tmp_path / "one", tmp_path / f"part{at}"):
            with opened(location, create=True) as rag:
                rag.add([{"text": text, "id": name}])
    known = dict[str, Any]()
    with listening(make_app(served(opened(tmp_path / "part0")))) as first:
        several = f"{first},{tmp_path / 'part1'},{tmp_path / 'part2'}"
        with opened(tmp_path / "one") as one, opened(several) as parts:
            passages = one.store.passages(one.store.rows_where({}))
            assert len(passages) > len(texts)
            for name in ("Paris", "wiki/Paris", "Rome", "2", "Rome#2"):
                for answer in ("nine crowns", "six crowns", WORDING):
                    pair = Pair("what is it", (answer,), name)
                    some = [each for each in passages if not each.text.endswith("crowns")]
                    known[f"{name} {answer}"] = relevant(one.store, pair, some)
                    assert relevant(parts.store, pair, some) == known[f"{name} {answer}"], pair
    assert not any(known["Paris nine crowns"]) and any(known["Paris six crowns"])


@pytest.fixture
def limited(opened: Open, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[RAG]:
    """A shard behind a server that gives so many passages in a reply as recall is measured among, and has more."""
    here, there = two
    with opened(there) as rag:
        rag.add([{"text": "hens lay eggs in the yard by the mill " * 600, "id": "hens"}])
    monkeypatch.setattr(open_store, "MOST_PASSAGES", 20)
    settings = replace(SETTINGS, k=1)
    app = make_app(served(opened(there)))
    with listening(app) as address, opened(f"{here},{address}", settings=settings) as rag:
        yield rag


def test_more_passages_than_a_server_gives_leave_a_notice_instead_of_the_adaptive_k(limited: RAG) -> None:
    found = limited.evaluate(ASKED, systems=["mixture"])
    (notice,) = (each for each in found.notices if "adaptive k" in each)
    assert found.adaptive_k == {} and "at most 20 passages in one reply" in notice


def test_distractors_among_more_passages_than_a_server_gives_say_what_to_do(limited: RAG) -> None:
    with pytest.raises(SettingError, match=r"at most 20 passages.*leave --distractors out"):
        limited.evaluate(ASKED, systems=["mixture"], distractors=(1,))


def test_a_document_of_more_passages_than_a_server_gives_says_what_to_do(limited: RAG) -> None:
    passage = limited.passages("hens in the yard").passages[0]
    assert passage.document == "hens"
    with pytest.raises(SettingError, match="name the store itself in the place of its server"):
        relevant(limited.store, Pair("q", ("words of none",), passage.document), [passage])


def test_numbers_with_distractors_are_those_of_one_store(one: RAG, parts: RAG) -> None:
    a, b = (evaluated(rag, distractors=(2,), questions=3, systems=["mixture"]) for rag in (one, parts))
    adversarial = [each.distractors["adversarial"]["mixture"][2] for each in (a, b)]
    for mine, other in zip(*adversarial, strict=True):
        same(mine.posteriors, other.posteriors, mine.question)
        assert (mine.relevant, mine.rank) == (other.relevant, other.rank)


def stored(opened: Open, location: Path, *texts: str) -> str:
    with opened(location, create=True) as rag:
        rag.add([{"text": text, "id": f"{location.name}{at}"} for at, text in enumerate(texts)])
    return str(location)


@pytest.fixture
def two(tmp_path: Path, opened: Open) -> tuple[str, str]:
    here = stored(opened, tmp_path / "here", "a licence for eel costs four crowns", "income tax is due in march")
    return here, stored(opened, tmp_path / "there", "a licence for cod costs nine crowns")


ASKED = [Pair("what does a licence for cod cost", ("nine crowns",)), Pair("when is tax due", ("march",))]


def test_an_evaluation_without_a_shard_is_refused(opened: Open, two: tuple[str, str], tmp_path: Path) -> None:
    """Else its numbers would be taken for those of the whole store."""
    here, there = two
    with listening(make_app(served(opened(there)))) as address:
        rag = opened(f"{here},{address}", shard_seconds=2.0)
        rag.evaluate(ASKED, tmp_path / "out", systems=["mixture"])
    with rag:
        before = (tmp_path / "out" / "answers.jsonl").read_text()
        with pytest.raises(ShardMissingError, match=f"all shards, for an evaluation; found no {address}"):
            rag.evaluate([*ASKED, Pair("which tax", ("income",))], tmp_path / "out", systems=["mixture"])
        assert (tmp_path / "out" / "answers.jsonl").read_text() == before
        assert rag.ask("when is tax due").notices  # to be asked, it does


def test_a_shard_that_goes_down_meanwhile_ends_it(
    opened: Open, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(",".join(two)) as rag:
        shard = rag._snapshots.shards[1]

        def gone(_: Any) -> Any:
            raise ShardMissingError("it", "none", "start it")

        monkeypatch.setattr(shard, "search", gone)
        with pytest.raises(ShardMissingError, match="all shards, for an evaluation"):
            rag.evaluate(ASKED, systems=["mixture"])


def test_an_owner_who_shares_no_documents_cannot_be_evaluated(opened: Open, two: tuple[str, str]) -> None:
    app = make_app(served(opened(two[1]), share="likelihoods"))
    with listening(app) as address, opened(f"{two[0]},{address}") as rag:
        with pytest.raises(SettingError, match=f"share their documents.*found {address}") as error:
            rag.evaluate(ASKED, systems=["closed-book", "mixture"])
        assert "\n" not in str(error.value)


def test_a_guarantee_over_shards_is_of_their_documents(opened: Open, two: tuple[str, str]) -> None:
    with opened(",".join(two)) as rag, opened(two[1]) as writer:
        before = rag.documents_digest
        assert before and rag.documents_digest == before
        writer.add([{"text": "another document"}])
        assert rag.documents_digest != before


def guaranteed(rag: RAG) -> None:
    """A guarantee that covers every finished answer over these documents."""
    rag._generator = TableGenerator(WORDS, distribution)
    rag.calibration = ConfidenceMap("temperature", fitted_on="other pairs")
    rag.guarantee = Guarantee(
        risk=0.1,
        delta=0.05,
        groups=(CertifiedGroup("", 212, 90, 0.0, 100, 4),),
        settings=guaranteed_conditions(rag.settings),
        models=rag.models_digest,
        calibration=calibration_digest(rag.calibration),
        documents=rag.documents_digest,
    )


@pytest.mark.parametrize("together", [False, True], ids=["ask", "ask_many"])
def test_no_answer_without_a_shard_is_covered_by_a_guarantee(
    opened: Open, two: tuple[str, str], *, together: bool
) -> None:
    """Also where the state of the missing shard is the last that is known of it."""
    here, there = two

    def asked(rag: RAG, **changes: Any) -> Answer:
        question = ASKED[0].question
        return rag.ask_many([question], **changes)[0] if together else rag.ask(question, **changes)

    with listening(make_app(served(opened(there)))) as address:
        settings = Settings(k=2, temperature=0.05, max_tokens=4)
        rag = opened(f"{here},{address}", shard_seconds=2.0, settings=settings)
        guaranteed(rag)
        before = rag.documents_digest
        assert asked(rag).guarantee and asked(rag).not_covered is None
        assert not asked(rag, guaranteed_only=True).abstains
    with rag:
        assert rag.documents_digest == before
        answer = asked(rag)
        assert answer.notices and answer.confidence
        assert answer.guarantee is None and answer.not_covered == "a shard is missing"
        only = asked(rag, guaranteed_only=True)
        assert only.abstains and how_sure(only) == "no guarantee covers it: a shard is missing"


def test_kinds_of_document_for_a_guarantee_are_those_of_all_shards(opened: Open, two: tuple[str, str]) -> None:
    """Else the places of the passages would be others than those of the record."""
    here, there = two
    with listening(make_app(served(opened(there)))) as address:
        rag = opened(f"{here},{address}", shard_seconds=2.0)
        (record,) = score_pairs(rag, ASKED[:1], {})
    with rag, pytest.raises(ShardMissingError, match="all shards, for an evaluation"):
        _group(rag, ASKED[0], record, "kind")


def test_a_diagnosis_over_shards_is_refused(
    opened: Open, two: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents behind servers are not listed here: they would be said not to be indexed."""
    here, there = two
    wanted = "expected one store, to change it or to read all of it; found 2 shards; name that of one shard"
    with listening(make_app(served(opened(there)))) as address:
        with opened(f"{here},{address}") as rag, pytest.raises(SettingError) as error:
            diagnose(rag, ASKED[0].question, ["nine crowns"], document="there0")
        assert str(error.value).startswith(wanted)
        arguments = ["diagnose", ASKED[0].question, "--expected", "nine crowns", "--document", "there0"]
        monkeypatch.setattr("sys.argv", ["mixrag", *arguments, "--store", f"{here},{address}"])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert stopped.value.code == 1 and f"mixrag: {wanted}" in capsys.readouterr().err


def test_training_over_shards_is_refused(opened: Open, two: tuple[str, str], tmp_path: Path) -> None:
    with opened(",".join(two)) as rag, pytest.raises(SettingError) as error:
        rag.train(ASKED, tmp_path / "trained")
    wanted = "expected one store, to change it or to read all of it; found 2 shards; name that of one shard"
    assert str(error.value).startswith(wanted) and not (tmp_path / "trained").exists()


@pytest.mark.parametrize("more", [[], ["--objective", "composite", "--parts", "generator"]], ids=str)
def test_the_command_for_training_says_the_same(
    two: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, more: list[str]
) -> None:
    """Also where all pairs have passages of their own, which need no store."""
    lines = [{"question": each.question, "answers": each.answers, "passage": "a text"} for each in ASKED]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    arguments = [tmp_path / "pairs.jsonl", "--store", ",".join(two), "--out", tmp_path / "new", *more]
    monkeypatch.setattr("sys.argv", ["mixrag", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1 and not (tmp_path / "new").exists()
    *_, said = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("mixrag: expected one store, to change it or to read all of it; found 2 shards; ")

"""Ten shards on several backends, of which two are served, give the numbers of one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
from test_shards_equal_one_store import QUESTIONS, numbers, same

from listening import listening
from mixrag import RAG
from mixrag.corpus.store.lance.store import LanceStore
from mixrag.corpus.store.postgres.store import PostgresStore
from mixrag.corpus.store.sqlite.store import SqliteStore
from mixrag.retrieval.shards.joining import join
from mixrag.server.app import make_app
from moto_server import environment, serving
from postgres_server import PostgresBackend, PostgresServer
from sharded_demo import Open, indexed, locations, served

LANCE, S3, POSTGRES, SERVED_POSTGRES, SERVED_FOLDER = 2, 3, 5, 8, 9


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory, opened: Open, postgres: PostgresServer
) -> Iterator[tuple[RAG, list[str]]]:
    """The ten shards as one, and their locations."""
    root = tmp_path_factory.mktemp("mixed")
    databases = {number: PostgresBackend(postgres) for number in (POSTGRES, SERVED_POSTGRES)}
    others = {number: each.location for number, each in databases.items()}
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        patched.setenv("MIXRAG_CACHE", str(root / "cache"))
        for name, value in environment(stack.enter_context(serving())).items():
            patched.setenv(name, value)
        boto3.resource("s3").create_bucket(Bucket="acts")
        for database in databases.values():
            stack.callback(database.destroy)
        places = locations(root, {**others, LANCE: f"lance:{root / 'tables'}", S3: "s3://acts/part"})
        indexed(opened, places)
        for number in (SERVED_POSTGRES, SERVED_FOLDER):
            owner = stack.enter_context(opened(places[number]))
            places[number] = f"{stack.enter_context(listening(make_app(served(owner))))}/part"
        yield stack.enter_context(opened(",".join(places))), places


def test_ten_shards_on_mixed_backends_are_opened_as_such(mixed: tuple[RAG, list[str]]) -> None:
    stores = [type(getattr(shard, "store", None)) for shard in mixed[0]._snapshots.shards]
    assert stores.count(SqliteStore) == 5 and stores[SERVED_POSTGRES:] == [type(None)] * 2
    assert (stores[LANCE], stores[S3], stores[POSTGRES]) == (LanceStore, LanceStore, PostgresStore)
    assert mixed[1][S3] == "s3://acts/part"


@pytest.mark.parametrize(
    ("changes", "every"),
    [
        ({}, 1),
        ({"normaliser": "full", "null": 1.0}, 1),
        ({"lexical": 0.0}, 4),
        ({"max_outside": 0.3, "k": 20}, 4),
        ({"where": {"document": "*/law/*"}}, 4),
    ],
    ids=str,
)
def test_ten_shards_on_mixed_backends_have_the_priors_of_one_store(
    one: RAG, mixed: tuple[RAG, list[str]], changes: dict[str, Any], every: int
) -> None:
    for question in QUESTIONS[::every]:
        a, b = one.passages(question, **changes), mixed[0].passages(question, **changes)
        assert a.passages == b.passages, question
        same(numbers(a), numbers(b), question)


def test_ten_shards_on_mixed_backends_have_the_answers_of_one_store(
    one: RAG, mixed: tuple[RAG, list[str]]
) -> None:
    for question in QUESTIONS[::4]:
        a, b = one.score(question, "nine crowns"), mixed[0].score(question, "nine crowns")
        assert a.log_bounds is not None
        same(a.to_dict(), b.to_dict(), question)
    same(one.ask(QUESTIONS[3]).to_dict(), mixed[0].ask(QUESTIONS[3]).to_dict())


def test_a_manifest_of_mixed_backends(
    mixed: tuple[RAG, list[str]], opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rag, places = mixed
    path = tmp_path_factory.mktemp("manifest") / "mixed.shards.json"
    found = join(path, places[::-1])
    norms = [entry.shard.largest_norm for entry in found.shards]
    assert norms == pytest.approx([1.0] * 10, rel=1e-6) and min(norms) >= 1.0 - 1e-7
    assert [entry.shard.part for entry in found.shards] == [f"{number}/10" for number in range(1, 11)]
    with opened(str(path)) as joined:
        same(numbers(joined.passages(QUESTIONS[1])), numbers(rag.passages(QUESTIONS[1])))

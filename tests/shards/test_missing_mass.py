"""What is said of a missing shard is true of the prior with all shards, whatever words it has."""

from __future__ import annotations

import itertools
import math
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mixrag import RAG
from mixrag.answers.read_sentences import given_a_passage
from mixrag.errors import ShardMissingError, StoreEmptyError, StoreError
from mixrag.retrieval.left_out import leave_out
from mixrag.retrieval.retriever import Retrieval
from mixrag.retrieval.shards.joining import join
from sharded_demo import Open

COMMON = ("the", "crown", "fee", "harbour", "market", "licence")
THEIRS = ("cod", "harbor", "marked", "quota")
"""Words of the missing shard alone; two of them are near one that others have."""
texts = st.lists(st.lists(st.sampled_from(COMMON), min_size=1, max_size=6), min_size=1, max_size=3)
lost_texts = st.lists(
    st.lists(st.sampled_from((*COMMON, *THEIRS)), min_size=1, max_size=12), min_size=1, max_size=4
)
questions = st.lists(st.sampled_from((*COMMON, *THEIRS, "quotaa")), min_size=1, max_size=4, unique=True)
OPTIONS = [
    {"lexical": lexical, "temperature": temperature, "typos": typos, "null": null, "where": where}
    for (lexical, temperature), (typos, null, where) in zip(
        itertools.product([0.3, 0.5, 1.0], [0.5, 1.0, 2.0]),
        itertools.cycle([(False, None, {}), (True, 0.5, {}), (True, None, {"document": "*1"}), (False, 0.5, {})]),
        strict=False,
    )
]


def broken(_: Any) -> Any:
    raise StoreError("a usable store", "a broken one", "mend it")


def both(opened: Open, root: Path, shards: list[list[list[str]]]) -> Path:
    """A manifest of stores of these texts; the ids of a shard's documents begin with its number."""
    places = [str(root / f"{s}") for s in range(len(shards))]
    for s, own in enumerate(shards):
        with opened(places[s], create=True) as rag:
            # A word of its own makes each text, and so each store, another one.
            texts = [" ".join([*each, f"{'pqr'[s]}{'uvwxyz'[n]}"]) for n, each in enumerate(own)]
            rag.add([{"text": text, "id": f"{s}-{n}-{n % 2}"} for n, text in enumerate(texts)])
    join(root / "all.shards.json", places)
    return root / "all.shards.json"


def stated(found: Retrieval) -> float:
    """The share of the missing shard according to the notice."""
    said = found.notices[0]
    if "any part" in said:
        return 1.0
    words = said.partition("at most ")[2].split()
    return 1.0 - float(words[2]) if words[1] == "-" else float(words[0])


def shares(whole: Retrieval) -> dict[str, float]:
    return dict(
        zip((each.document for each in whole.passages), whole.log_prior.exp().tolist(), strict=True),
    )


def within(value: float, bounds: tuple[float, float] | None) -> bool:
    return bounds is not None and bounds[0] - 1e-9 <= value <= bounds[1] + 1e-9


def check(found: Retrieval, whole: Retrieval, lost: str) -> None:
    prior = shares(whole)
    listed = [each.document for each in found.passages]
    mass = math.fsum(prior[each] for each in listed)
    every = math.fsum(prior.values())
    assert math.fsum(share for name, share in prior.items() if name.startswith(lost)) <= stated(found) + 1e-9
    assert found.outside is None and within(every - mass, found.outside_bounds)
    first = prior[listed[0]]
    assert within(1.0 - first / every, given_a_passage(found, 1).outside_bounds)
    if len(listed) > 1:
        left = leave_out(found, [found.passages[0].id])
        assert within((every - mass) / (1.0 - first), left.outside_bounds)


def ask(rag: RAG, question: str, **options: Any) -> Retrieval | None:
    try:
        return rag.passages(question, **options)
    except (ShardMissingError, StoreEmptyError):  # the filter lets no passage through
        return None


@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(texts, min_size=1, max_size=2), lost_texts, questions)
def test_the_mass_of_a_missing_shard_is_within_what_is_said(
    opened: Open, shards: list[list[list[str]]], lost: list[list[str]], asked: list[str]
) -> None:
    question, gone = " ".join(asked), len(shards)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        manifest = both(opened, Path(folder), [*shards, lost])
        rag = stack.enter_context(opened(str(manifest)))
        cold = [stack.enter_context(opened(str(manifest))) for _ in range(2)]
        shard = rag._snapshots.shards[gone]
        for each in cold:  # one knows of the shard what the manifest says, the other one not how long it is
            each._snapshots.shards[gone].statistics = each._snapshots.shards[gone].search = broken
        cold[1]._snapshots._known[gone].description = shard.statistics.__self__._unopened()
        for options in OPTIONS:
            whole = ask(rag, question, k=100, **options)
            if whole is None:
                continue
            search, shard.search = shard.search, broken
            warm = ask(rag, question, k=2, **options)
            shard.search = search
            for found in (warm, *(ask(each, question, k=2, **options) for each in cold)):
                if found is not None:
                    check(found, whole, f"{gone}-")


def test_rare_words_that_only_the_missing_shard_has(opened: Open, tmp_path: Path) -> None:
    """Its passages have what is asked for, and the others next to nothing."""
    shards = [
        ["a licence to fish eel costs four crowns", "income tax is due in march", "hens lay fewer eggs"],
        ["quota cod haddock", "quota cod haddock whiting"],
    ]
    manifest = both(opened, tmp_path, [[text.split() for text in own] for own in shards])
    question = "quota cod haddock whiting for a licence"
    with opened(str(manifest)) as rag, opened(str(manifest)) as cold:
        whole = {T: rag.passages(question, k=100, temperature=T) for T in (1.0, 2.0)}
        cold._snapshots.shards[1].statistics = broken
        for temperature in (1.0, 2.0):
            check(cold.passages(question, k=2, temperature=temperature), whole[temperature], "1-")


@pytest.mark.parametrize(
    ("question", "lexical", "share"),
    [("quota", 0.5, None), ("quota", 0.0, 0.9), ("crown", 0.5, 0.999)],
)
def test_a_bound_is_no_more_than_it_must_be(
    opened: Open, tmp_path: Path, question: str, lexical: float, share: float | None
) -> None:
    """It says something where words are counted or not used at all, or others have them; else nothing."""
    manifest = both(opened, tmp_path, [[["crown", "fee"], ["crown", "market"]], [["harbour", "quota"]]])
    with opened(str(manifest)) as rag:
        rag._snapshots.shards[1].statistics = rag._snapshots.shards[1].search = broken
        found = rag.passages(question, k=1, lexical=lexical, temperature=2.0, typos=False)
        assert found.outside_bounds is not None
        assert ("any part" in found.notices[0]) == (share is None) or stated(found) < 1.0
        if share is not None:
            assert stated(found) < share

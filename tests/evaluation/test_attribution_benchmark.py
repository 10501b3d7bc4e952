"""How often an attribution names the relevant passage: ties, records that resume, tables."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixrag import RAG, Settings
from mixrag.corpus import Store
from mixrag.errors import MixragError, StoreEmptyError
from mixrag.evaluation import (
    Agreement,
    AttributedQuestion,
    Attribution,
    attribute_pair,
    attribute_pairs,
    difference_table,
    method_table,
    score_pairs,
    summarise_methods,
)
from mixrag.evaluation.attribution import chance, leave_one_out, posterior, prior
from mixrag.evaluation.attribution_benchmark import reciprocal_rank, top_share
from mixrag.generator import TableGenerator
from mixrag.pairs.pairs import Pair
from mixrag.utils.progress import ProgressEvent
from words_encoder import WordsEncoder

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns.",
    "hen.txt": "Hens lay fewer eggs during winter.",
    "price.txt": "What does a licence cost? A licence for cod does cost four crowns here.",
}
COD = Pair("What does a licence for cod cost?", ("nine crowns",), "cod.txt")
HEN = Pair("When do hens lay fewer eggs?", ("winter",), "hen.txt")
NONE = Pair("When do hens lay fewer eggs?", ("summer",), "missing.txt")
FREE = {"chance": chance, "prior": prior, "posterior": posterior}


def distribution(passages: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """Says "nine crowns" from the passage that has it, and else anything."""
    said = (0, 2, 4)[min(len(answer), 2)]
    likely, others = (0.96, 0.01) if 0 in passages else (0.2, 0.2)
    return torch.tensor([likely if word == said else others for word in range(5)], dtype=torch.float64)


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    generator = TableGenerator(("nine", "four", "crowns", "yes", "<end>"), distribution)
    settings = Settings(k=3, max_tokens=4, temperature=2.0)
    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=settings) as rag:
        rag.index([folder])
        yield rag


SCORES = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, math.inf]), st.booleans()), min_size=1, max_size=5)


@given(SCORES)
def test_equal_scores_stand_in_random_order(listed: list[tuple[float, bool]]) -> None:
    """Against the mean over all orders in which equal scores can stand."""
    scores, flags = zip(*listed, strict=True)
    tops, ranks = [], []
    for order in itertools.permutations(range(len(scores))):
        sorted_flags = [flags[i] for i in sorted(order, key=lambda i: -scores[i])]
        tops.append(float(sorted_flags[0]))
        ranks.append(1 / (sorted_flags.index(True) + 1) if any(flags) else 0.0)
    assert top_share(torch.tensor(scores), flags) == pytest.approx(sum(tops) / len(tops))
    assert reciprocal_rank(torch.tensor(scores), flags) == pytest.approx(sum(ranks) / len(ranks))


def test_an_answer_is_attributed_and_held_against_the_relevant_passage(rag: RAG) -> None:
    ranked = [Path(p.document).name for p in rag.passages(COD.question).passages]
    assert ranked == ["price.txt", "cod.txt", "hen.txt"]
    found = attribute_pair(rag, COD, {}, {**FREE, "leave-one-out": leave_one_out})
    assert (found.answer, found.exact, found.relevant) == ("nine crowns", 1.0, (False, True, False))
    values = {name: (each.top, each.reciprocal_rank, each.calls) for name, each in found.methods.items()}
    # Chance: first, second or third, each as likely.
    assert values == {
        "chance": (pytest.approx(1 / 3), pytest.approx((1 + 1 / 2 + 1 / 3) / 3), 0),
        "prior": (0.0, 0.5, 0),
        "posterior": (1.0, 1.0, 0),
        "leave-one-out": (1.0, 1.0, 0),
    }
    assert all(each.seconds >= 0 for each in found.methods.values())


def test_where_no_relevant_passage_was_retrieved_nothing_is_measured(rag: RAG) -> None:
    for pair, changes in ((NONE, {}), (COD, {"k": 1}), (COD, {"k": 0})):
        found = attribute_pair(rag, pair, changes, FREE)
        assert found.methods == {} and not any(found.relevant)


def test_the_filter_of_a_pair_counts(rag: RAG) -> None:
    found = attribute_pair(rag, replace(COD, where={"document": "cod.txt"}), {}, FREE)
    assert found.relevant == (True,) and found.methods["prior"].top == 1.0
    with pytest.raises(StoreEmptyError):
        attribute_pair(rag, replace(COD, where={"document": "none.txt"}), {}, FREE)


def test_records_resume_and_a_torn_line_is_written_again(rag: RAG, tmp_path: Path) -> None:
    out, asked = tmp_path / "attribution.jsonl", list[str]()

    def watched(answer: object) -> Attribution:
        asked.append(answer.question)  # type: ignore[attr-defined]
        return posterior(answer)  # type: ignore[arg-type]

    seen = list[ProgressEvent]()
    pairs, methods = [COD, NONE, HEN], {"watched": watched}
    first = attribute_pairs(rag, pairs, {}, methods, out=out, system="s", progress=seen.append)
    assert seen == [ProgressEvent("answering", done, 3, "s") for done in (1, 2, 3)] and asked == [
        COD.question,
        HEN.question,
    ]
    assert attribute_pairs(rag, pairs, {}, methods, out=out, system="s") == first and len(asked) == 2
    lines = out.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["question"] for line in lines] == [pair.question for pair in pairs]
    out.write_bytes(lines[0] + lines[1] + lines[2][:40])
    again = attribute_pairs(rag, pairs, {}, methods, out=out, system="s")
    assert asked == [COD.question, HEN.question, HEN.question]
    assert [record.methods.keys() for record in again] == [record.methods.keys() for record in first]
    assert len(out.read_bytes().splitlines()) == 3
    attribute_pairs(rag, [COD], {"switch": 1.0}, methods, out=out, system="s")
    assert len(asked) == 4


def test_a_file_of_other_scores_is_left_as_it_is(rag: RAG, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    score_pairs(rag, [COD], {}, out=out)
    before = out.read_bytes()
    with pytest.raises(MixragError, match="something else on line 1"):
        attribute_pairs(rag, [COD], {}, FREE, out=out)
    assert out.read_bytes() == before
    attributed = tmp_path / "attribution.jsonl"
    attribute_pairs(rag, [COD], {}, FREE, out=attributed)
    with pytest.raises(MixragError, match="something else on line 1"):
        score_pairs(rag, [COD], {}, out=attributed)


def question(exact: float, **methods: tuple[float, float, int]) -> AttributedQuestion:
    measured = {name: Agreement(*values, seconds=values[2] / 10) for name, values in methods.items()}
    return AttributedQuestion("q", "a", exact, (True, False), measured)


RECORDS = [
    question(1.0, posterior=(1.0, 1.0, 0), again=(1.0, 1.0, 20)),
    question(0.0, posterior=(1.0, 1.0, 0), again=(0.0, 0.5, 20)),
    question(0.0, posterior=(0.0, 0.5, 0), again=(0.0, 0.25, 6)),
    question(1.0),
]


def test_a_summary_is_over_questions_with_a_relevant_passage() -> None:
    found = summarise_methods(RECORDS)
    assert list(found) == ["posterior", "again"]
    assert found["posterior"].top.mean == pytest.approx(2 / 3) and found["posterior"].top.n == 3
    assert found["again"].mrr.mean == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert (found["again"].calls, found["again"].seconds) == (pytest.approx(46 / 3), 2.0)
    right = found["again"].top_right
    assert right is not None and (right.mean, right.n) == (1.0, 1)
    wrong = summarise_methods(RECORDS[1:])
    assert wrong["again"].top_right is None and wrong["again"].mrr_right is None
    assert summarise_methods(RECORDS[3:]) == summarise_methods([]) == {}


def test_the_tables_have_a_line_a_method() -> None:
    table = method_table(summarise_methods(RECORDS)).split("\n")
    assert table[0] == (
        "| method | attribution@1 | MRR | attribution@1, right | MRR, right | LM calls | seconds |"
    )
    assert table[2].startswith("| posterior | 0.667 [0.000, 1.000] | 0.833 [0.500, 1.000] | 1.000 [1.000, 1.000] ")
    assert table[3].endswith("| 15.3 | 2.000 |") and len(table) == 4
    assert "nan" not in method_table(summarise_methods(RECORDS[1:])) and " – " in method_table(
        summarise_methods(RECORDS[1:])
    )
    beside = difference_table(RECORDS, "posterior").split("\n")
    assert beside[0] == "| less posterior | attribution@1 | MRR |" and len(beside) == 3
    assert beside[2].startswith("| again | -0.333 [")

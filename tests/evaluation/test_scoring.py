"""Scores on a store of words and a language model given by a table, where every number can be worked out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixrag import RAG, Generator, Settings
from mixrag.corpus import Store, WordSplitter
from mixrag.errors import MixragError, PairsError, SettingError
from mixrag.evaluation import (
    Interval,
    Record,
    Summary,
    in_document,
    markdown_table,
    score_pair,
    score_pairs,
    summarise,
)
from mixrag.evaluation.records import append, stored
from mixrag.evaluation.scoring import record_of
from mixrag.generator import TableGenerator
from mixrag.pairs.pairs import Pair
from mixrag.utils.progress import ProgressEvent
from words_encoder import WordsEncoder

WORDS = ("nine", "four", "crowns", "yes", "<end>")
TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns.",
    "eel.txt": "A licence to fish eel costs four crowns and no more than four crowns.",
    "hen.txt": "Hens lay fewer eggs during winter.",
    "price.txt": "What does a licence cost? A licence for cod does cost nine crowns here.",
}
COD = Pair("What does a licence for cod cost?", ("nine crowns",), "cod.txt")
EEL = Pair("What does a licence to fish eel cost?", ("four",), "eel.txt")


def distribution(passages: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """Says the first number of its passage, "crowns" and the end; every other word has 0.04 each."""
    number = next((token for token in passages if token in (0, 1)), 3)
    said = (number, 2, 4)[min(len(answer), 2)]
    return torch.tensor([0.84 if word == said else 0.04 for word in range(5)], dtype=torch.float64)


class Counting(RAG):
    """Counts what is asked of it."""

    asked = 0
    retrieved = 0

    def stream(self, question: str, **changes: Any) -> Any:
        self.asked += 1
        return super().stream(question, **changes)

    def ask_many(self, questions: Sequence[str], **changes: Any) -> Any:
        self.asked += len(questions)
        return super().ask_many(questions, **changes)

    def _retrieve(self, question: str, settings: Settings) -> Any:
        self.retrieved += 1
        return super()._retrieve(question, settings)


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[Counting]:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    record = {"id": "17", "text": "Geese fly south.", "year": "2016"}
    (folder / "birds.jsonl").write_text(json.dumps(record) + "\n")
    settings = Settings(k=2, max_tokens=4, temperature=0.5)
    generator = TableGenerator(WORDS, distribution, context_size=32)
    store = Store.open(tmp_path / "store", create=True)
    with Counting(store, encoder=WordsEncoder(), generator=generator, settings=settings) as rag:
        rag.index([folder])
        yield rag


def record(**changes: Any) -> Record:
    base = Record("q", "d", "a", 0.0, 0.5, False, -1.0, 6.0, 3, None, 20, -1.0, 0.5, 3, (), (), (), 1.0)
    return replace(base, **changes)


def probability(rag: RAG, pair: Pair, gold: tuple[int, ...], **changes: Any) -> float:
    """Σ_j π_j Π_t p(y_t | z_j, y_<t), in probability space."""
    total = 0.0
    retrieval = rag.passages(pair.question, **changes)
    for prior, passage in zip(retrieval.log_prior.exp().tolist(), retrieval.passages, strict=True):
        shown = rag.generator.prompt(pair.question, [passage], 4).passages
        total += prior * math.prod(float(distribution(shown, gold[:t])[gold[t]]) for t in range(len(gold)))
    return total


def test_an_answer_is_scored_against_the_gold_answers(rag: Counting) -> None:
    only = {"where": {"document": "eel.txt"}}
    found = score_pair(rag, EEL, only)
    assert (found.question, found.document, found.answer) == (EEL.question, "eel.txt", "four crowns")
    assert (found.exact, found.f1, found.contained) == (0.0, pytest.approx(2 / 3), True)
    assert found.log_prob == pytest.approx(rag.ask(EEL.question, **only).log_prob)
    assert found.seconds > 0
    right = score_pair(rag, replace(EEL, answers=("nine", "Four crowns.")), only)
    assert (right.exact, right.f1) == (1.0, 1.0)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_nll_is_the_negative_log_of_the_sum_over_distinct_golds(rag: Counting, k: int) -> None:
    golds = {"four": (1, 4), "nine crowns": (0, 2, 4), "nine": (0, 4)}
    pair = replace(COD, answers=(*golds, "nine  crowns"))  # the last is the second again, as the model sees it
    found = score_pair(rag, pair, {"k": k})
    each = {tokens: probability(rag, pair, tokens, k=k) for tokens in golds.values()}
    assert found.nll == pytest.approx(-math.log(sum(each.values())))
    assert found.nll_tokens == len(max(each, key=each.__getitem__)) == 3


def test_one_gold_has_the_probability_that_score_gives_it(rag: Counting) -> None:
    for changes in ({"switch": 1.0}, {"group": "all"}, {"k": 0}, {"null": 1.0}):
        found = score_pair(rag, COD, changes)
        assert found.nll == pytest.approx(-rag.score(COD.question, "nine crowns", **changes).log_prob)


def test_a_transformer_is_scored_likewise(rag: Counting, tiny_generator: Callable[[str], Generator]) -> None:
    rag._generator = tiny_generator("llama-chat")
    found = score_pair(rag, replace(COD, answers=("nine crowns", "nine")), {})
    # "nine crowns" takes more tokens than an answer may have here: both are scored with room for it.
    room = max(len(rag.generator.answer_tokens(gold)) for gold in ("nine crowns", "nine"))
    scores = [rag.score(COD.question, gold, max_tokens=room).probability for gold in ("nine crowns", "nine")]
    assert room > 4 and found.nll == pytest.approx(-math.log(sum(scores)))


def test_an_impossible_gold_is_infinitely_surprising(rag: Counting, tmp_path: Path) -> None:
    def never(passages: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0] if not answer else [0.0, 0.0, 0.0, 0.0, 1.0])

    rag._generator = TableGenerator(WORDS, never)
    found = score_pair(rag, replace(COD, answers=("four", "yes")), {})
    assert found.nll == math.inf and found.exact == 0.0
    append(tmp_path / "answers.jsonl", ("mixture", "pair"), replace(found, log_mass=-math.inf))
    (line,) = (tmp_path / "answers.jsonl").read_text().splitlines()
    row = json.loads(line, parse_constant=pytest.fail)
    assert row["nll"] is row["log_mass"] is None
    (read,) = stored(tmp_path / "answers.jsonl", record_of).values()
    assert read == replace(found, log_mass=-math.inf)


def test_a_gold_longer_than_any_answer_is_scored_with_room_for_it(rag: Counting) -> None:
    long = " ".join(["nine"] * 9)
    found = score_pair(rag, replace(COD, answers=(long, "nine")), {"k": 3})
    total = sum(probability(rag, COD, (0,) * length + (4,), k=3) for length in (1, 9))
    assert found.nll == pytest.approx(-math.log(total))


def test_a_pair_beyond_the_context_is_named(rag: Counting) -> None:
    with pytest.raises(PairsError, match=r"at most 32 tokens; found \d+ at here:7"):
        score_pair(rag, replace(COD, answers=("nine " * 50,), source="here:7"), {})
    with pytest.raises(PairsError, match="tokens; found 40 at 'word word"):
        score_pair(rag, replace(COD, question="word " * 40), {})


def test_recall_and_answer_share_no_more_than_two_retrievals(rag: Counting) -> None:
    score_pair(rag, COD, {})
    assert rag.retrieved == 2
    score_pair(rag, COD, {"k": 0})
    assert rag.retrieved == 3


def test_the_relevant_passage_is_of_the_document_and_holds_an_answer(rag: Counting) -> None:
    ranked = [Path(p.document).name for p in rag.passages(COD.question, k=20).passages]
    assert ranked[:3] == ["price.txt", "cod.txt", "eel.txt"]  # price.txt holds the answer but is not the document

    def rank(**changes: Any) -> int | None:
        return score_pair(rag, replace(COD, **changes), {}).rank

    assert rank() == 2
    assert rank(document="files/cod.txt") == 2
    assert rank(document=str(rag.passages(COD.question).passages[1].document)) == 2
    assert rank(document="od.txt") is None
    assert rank(document="price.txt") == 1
    assert rank(document="missing.txt") is None
    assert rank(document=None) == 1
    assert rank(document=None, answers=("four crowns",)) == 3
    assert rank(document=None, answers=("eleven",)) is None


def test_a_record_of_a_file_is_found_by_its_id(rag: Counting) -> None:
    geese = Pair("Where do geese fly?", ("south",), "17")
    assert score_pair(rag, geese, {}).rank == 1
    assert score_pair(rag, replace(geese, document="birds.jsonl#17"), {}).rank == 1
    assert score_pair(rag, replace(geese, document="7"), {}).rank is None


def test_the_document_is_enough_where_its_answers_are_no_span(rag: Counting) -> None:
    assert score_pair(rag, replace(COD, answers=("9 crowns",)), {}).rank == 2
    assert score_pair(rag, replace(COD, answers=("9 crowns",), document=None), {}).rank is None


def test_the_document_is_not_enough_where_another_of_its_passages_holds_the_answer(
    rag: Counting, tmp_path: Path
) -> None:
    (tmp_path / "files" / "long.txt").write_text(
        "licence cod cost " + "word " * 97 + "nine crowns " + "word " * 90
    )
    rag.index([tmp_path / "files"], splitter=WordSplitter(100))
    pair = replace(COD, document="long.txt", where={"document": "long.txt"})
    assert score_pair(rag, pair, {}).rank == 2
    assert score_pair(rag, pair, {}, recall_k=1).rank is None
    assert score_pair(rag, replace(pair, answers=("cheap",)), {}, recall_k=1).rank == 1


def test_verdicts_are_no_evidence_in_the_text(rag: Counting, tmp_path: Path) -> None:
    text = "cod licence cost " + "word " * 97 + "there is no fee " + "word " * 90
    (tmp_path / "files" / "long.txt").write_text(text)
    rag.index([tmp_path / "files"], splitter=WordSplitter(100))
    pair = replace(COD, document="long.txt", where={"document": "long.txt"})
    assert score_pair(rag, replace(pair, answers=("No",)), {}).rank == 1
    assert score_pair(rag, replace(pair, answers=("No", "no fee")), {}).rank == 2
    assert score_pair(rag, replace(pair, answers=("No",), document=None), {}).rank == 2


def test_no_rank_is_measured_where_nothing_is_retrieved(rag: Counting) -> None:
    found = score_pair(rag, COD, {"k": 0})
    assert found.rank is None and found.recall_k == 0
    assert score_pair(rag, COD, {"k": 1}).rank == 2  # the system's own k does not limit the measurement


def test_the_filter_of_a_pair_is_added_to_that_of_the_settings(rag: Counting) -> None:
    assert score_pair(rag, replace(COD, where={"document": "cod.txt"}), {}).rank == 1
    both = {"where": {"year": "2016"}}
    assert score_pair(rag, replace(COD, document="17", where={"document": "birds.jsonl"}), both).rank == 1
    with pytest.raises(MixragError, match="passages in the store"):
        score_pair(rag, replace(COD, where={"document": "cod.txt"}), both)


def test_records_are_written_as_they_come_and_not_computed_again(rag: Counting, tmp_path: Path) -> None:
    out, seen = tmp_path / "scores.jsonl", list[ProgressEvent]()
    first = score_pairs(rag, [COD, EEL], {}, out=out, system="mine", progress=seen.append)
    assert seen == [ProgressEvent("answering", 2, 2, "mine")] and rag.asked == 2
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["system"], row["question"]) for row in rows] == [("mine", COD.question), ("mine", EEL.question)]
    seen.clear()
    three = [EEL, COD, EEL]
    again = score_pairs(rag, three, {}, out=out, system="mine", progress=seen.append)
    assert again == [first[1], first[0], first[1]] and seen == [ProgressEvent("answering", 3, 3, "mine")]
    assert rag.asked == 2
    assert score_pairs(rag, [COD], {})[0].answer == first[0].answer and rag.asked == 3


def test_questions_asked_together_have_the_records_that_they_have_alone(rag: Counting) -> None:
    fish = replace(COD, where={"document": "cod.txt"}, document=None)
    pairs = [COD, EEL, fish, COD, replace(EEL, answers=("nine crowns", "nine"))]
    found = score_pairs(rag, pairs, {"prune": 0.0})
    for pair, one in zip(pairs, found, strict=True):
        alone = score_pair(rag, pair, {"prune": 0.0})
        assert replace(one, seconds=alone.seconds) == alone
    with pytest.raises(PairsError, match="at here:7"):
        score_pairs(rag, [COD, replace(EEL, question="word " * 40, source="here:7")], {})


def test_a_record_of_another_system_setting_or_pair_is_another(rag: Counting, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    score_pairs(rag, [COD], {}, out=out, system="a")
    score_pairs(rag, [COD], {}, out=out, system="b")
    score_pairs(rag, [COD], {"k": 1}, out=out, system="a")
    score_pairs(rag, [replace(COD, answers=("four",))], {}, out=out, system="a")
    score_pairs(rag, [replace(COD, document="eel.txt")], {}, out=out, system="a")
    assert rag.asked == 5 == len(out.read_text().splitlines())
    score_pairs(rag, [replace(COD, source="elsewhere:3")], {"k": 2}, out=out, system="a")
    assert rag.asked == 5


@pytest.mark.parametrize("kept", [0, 1, 5, 12, 60, -2, -1])
def test_a_line_cut_off_by_a_kill_is_written_again(rag: Counting, tmp_path: Path, kept: int) -> None:
    out = tmp_path / "scores.jsonl"
    pairs = [replace(pair, question=f"{pair.question} – über Fische") for pair in (COD, EEL)]
    whole = score_pairs(rag, pairs, {}, out=out, system="mine")
    first, second = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(first + second[:kept])
    again = score_pairs(rag, pairs, {}, out=out, system="mine")
    assert again[0] == whole[0] and replace(again[1], seconds=whole[1].seconds) == whole[1]
    assert rag.asked == 3
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["question"] for row in rows] == [pair.question for pair in pairs]


@pytest.mark.parametrize("content", ["notes", '{"system": "a"}\n', '{"question": "q"}\n', "[]\n", "\n"])
def test_a_file_of_something_else_is_left_as_it_is(rag: Counting, tmp_path: Path, content: str) -> None:
    out = tmp_path / "other"
    out.write_text(content)
    with pytest.raises(
        MixragError, match=r"a file of scores, or none yet; found .*other: something else on line 1"
    ):
        score_pairs(rag, [COD], {}, out=out)
    assert out.read_text() == content and rag.asked == 0


def test_where_scores_cannot_be_written_it_is_said_in_one_line(rag: Counting, tmp_path: Path) -> None:
    with pytest.raises(MixragError, match="no file"):
        score_pairs(rag, [COD], {}, out=tmp_path)
    with pytest.raises(MixragError, match="No such file or directory"):
        score_pairs(rag, [COD], {}, out=tmp_path / "none" / "scores.jsonl")
    with pytest.raises(SettingError, match="width"):
        score_pairs(rag, [COD], {"width": 3})


def test_a_summary_is_the_means_over_questions() -> None:
    records = [
        record(exact=1.0, f1=1.0, contained=True, nll=2.0, nll_tokens=2, rank=1, seconds=1.0),
        record(rank=5, seconds=9.0),
        record(rank=6, seconds=2.0),
        record(rank=None, seconds=3.0),
    ]
    found = summarise(records)
    assert found.n == 4 and found.seconds == 2.5
    assert (found.exact_match.mean, found.f1.mean, found.contained.mean) == (0.25, 0.625, 0.25)
    assert (found.nll.mean, found.nll_per_token.mean) == (5.0, 1.75)
    assert {k: each and each.mean for k, each in found.recall_at.items()} == {1: 0.25, 5: 0.5, 20: 0.75}
    assert found.mrr is not None and found.mrr.mean == pytest.approx((1 + 1 / 5 + 1 / 6) / 4)
    assert 0.0 <= found.exact_match.low < 0.25 < found.exact_match.high <= 1.0
    with pytest.raises(ValueError, match="one number or more"):
        summarise([])


def test_what_was_not_measured_has_no_mean() -> None:
    closed = summarise([record(recall_k=0)])
    assert closed.recall_at == {1: None, 5: None, 20: None} and closed.mrr is None
    short = summarise([record(recall_k=5, rank=2)])
    assert [short.recall_at[k] is None for k in (1, 5, 20)] == [False, False, True]


def test_the_table_has_a_line_a_system() -> None:
    one = Interval(0.2061, 0.1562, 0.2554, 243)
    recall: dict[int, Interval | None] = {1: None, 5: one, 20: None}
    summary = Summary(243, one, one, one, Interval(13.61, 12.5, 14.704, 243), one, recall, None, 1.0, 9.0)
    closed = replace(summary, recall_at={1: None, 5: None, 20: None})
    assert markdown_table({"RAG-Sequence": summary, "closed | book": closed}).split("\n") == [
        "| system | EM | F1 | recall@5 | NLL/answer |",
        "| --- | --- | --- | --- | --- |",
        "| RAG-Sequence | 0.206 [0.156, 0.255] | 0.206 [0.156, 0.255] | 0.206 [0.156, 0.255]"
        " | 13.61 [12.50, 14.70] |",
        "| closed \\| book | 0.206 [0.156, 0.255] | 0.206 [0.156, 0.255] | – | 13.61 [12.50, 14.70] |",
    ]


@pytest.mark.parametrize(
    "document, named, belongs",
    [
        ("/home/a/law.txt", "law.txt", True),
        ("/home/a/law.txt", "a/law.txt", True),
        ("/home/a/law.txt", "/home/a/law.txt", True),
        ("/home/a/outlaw.txt", "law.txt", False),
        ("/home/birds.jsonl#17", "17", True),
        ("/home/birds.jsonl#17", "7", False),
        ("/home/birds.jsonl#17", "birds.jsonl", True),
        ("/home/birds.jsonl#17", "birds.jsonl#17", True),
        ("/home/birds.jsonl#17", "irds.jsonl", False),
        ("/home/a/law.txt", None, True),
    ],
)
def test_a_pair_names_a_path_the_end_of_it_a_record_or_all_records_of_a_file(
    document: str, named: str | None, belongs: bool
) -> None:
    assert in_document(document, Pair("q", ("a",), named)) is belongs

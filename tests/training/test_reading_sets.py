"""Which passages are to state an answer, and which are to say nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mixrag.corpus import Passage
from mixrag.errors import SettingError
from mixrag.generator.huggingface import ModelGenerator
from mixrag.pairs.pairs import Pair
from mixrag.rag import RAG
from mixrag.training.packing import Branch
from mixrag.training.reading_sets import (
    Matching,
    ReadableSet,
    ReadableTarget,
    ReadingSet,
    SetTokenizer,
    Target,
    by_posterior,
    gathered,
    own_sets,
    trees,
)


@pytest.fixture
def rag(open_rag: Callable[..., RAG]) -> RAG:
    return open_rag()


def passages(rag: RAG, *names: str) -> list[Passage]:
    """The passages of these documents, in this order."""
    every = rag.store.passages(rag.store.vectors()[0])
    return [passage for name in names for passage in every if passage.document.endswith(f"/{name}")]


def matched(rag: RAG, pair: Pair, *names: str) -> dict[str, float]:
    found = Matching(rag.store).targets(pair, passages(rag, *names))
    return {passage.document.rpartition("/")[2]: target.holds for passage, target in found}


def test_a_retrieved_passage_of_the_document_that_holds_the_answer_states_it(rag: RAG) -> None:
    pair = Pair("what does a licence for cod cost", ("nine crowns",), "cod.txt")
    assert matched(rag, pair, "hen.txt", "cod.txt", "ice.txt") == {"cod.txt": 1, "hen.txt": 0, "ice.txt": 0}


def test_one_that_was_not_retrieved_is_added(rag: RAG) -> None:
    pair = Pair("what does a licence for cod cost", ("nine crowns",), "cod.txt")
    assert matched(rag, pair, "hen.txt", "ice.txt") == {"cod.txt": 1, "hen.txt": 0, "ice.txt": 0}


def test_an_answer_in_another_document_is_neither(rag: RAG) -> None:
    pair = Pair("when do hens lay fewer eggs", ("during winter",), "hen.txt")
    assert matched(rag, pair, "law.txt", "hen.txt", "ice.txt") == {"hen.txt": 1, "ice.txt": 0}


def test_without_a_document_every_passage_that_holds_the_answer_states_it(rag: RAG) -> None:
    pair = Pair("when", ("during winter",))
    assert matched(rag, pair, "law.txt", "hen.txt", "ice.txt") == {"law.txt": 1, "hen.txt": 1, "ice.txt": 0}


def test_a_document_that_does_not_hold_the_answer_as_it_stands_is_left_out(rag: RAG) -> None:
    pair = Pair("when do hens lay fewer eggs", ("in the cold months",), "hen.txt")
    assert matched(rag, pair, "hen.txt", "ice.txt") == {"ice.txt": 0}


def test_verdicts_are_stated_by_the_document(rag: RAG) -> None:
    pair = Pair("do hens lay fewer eggs in winter", ("yes",), "hen.txt")
    assert matched(rag, pair, "hen.txt", "ice.txt") == {"hen.txt": 1, "ice.txt": 0}
    assert matched(rag, pair, "ice.txt") == {"ice.txt": 0}


def test_a_short_answer_is_stated_by_the_best_passage_alone(rag: RAG) -> None:
    assert matched(rag, Pair("what", ("is",)), "tax.txt", "ice.txt", "hen.txt") == {"tax.txt": 1, "hen.txt": 0}


def test_pairs_of_one_passage_come_together(rag: RAG) -> None:
    (one, other) = own_sets(
        [
            Pair("a?", ("x",), passage="text", title="T"),
            Pair("b?", (), passage="text"),
            Pair("plain", ("x",)),
            Pair("c?", (), passage="text", title="T"),
        ]
    )
    assert [(t.pair.question, t.holds) for t in one.targets] == [("a?", 1.0), ("c?", 0.0)]
    assert (one.passage.text, one.passage.title) == ("text", "T") and len(other.targets) == 1
    (cod, hen) = passages(rag, "cod.txt", "hen.txt")
    pair = Pair("q", ("x",))
    sets = gathered([(cod, Target(pair, 1.0)), (hen, Target(pair, 0.0)), (cod, Target(pair, 0.0))])
    assert [(each.passage, len(each.targets)) for each in sets] == [(cod, 2), (hen, 1)]


def test_the_posterior_is_a_target_and_its_tails_are_none(rag: RAG) -> None:
    found = by_posterior(Pair("q", ("x",)), passages(rag, "cod.txt", "hen.txt", "ice.txt"), [0.004, 0.3, 0.995])
    assert [target.holds for _, target in found] == [0.0, 0.3, 1.0]


def test_targets_in_part_are_read_as_both(rag: RAG) -> None:
    sets = [ReadableSet((1, 2), (ReadableTarget((3,), ((4, 0), (5, 0)), 0.75), ReadableTarget((6,), (), 0.0)))]
    seen = set()
    for seed in range(20):
        (tree,) = trees(sets, 0, 0.5, random.Random(seed))
        assert Branch((3,), (0,), 0.125) in tree.branches and Branch((6,), (0,), 0.5) in tree.branches
        seen |= {branch.answer for branch in tree.branches if branch.weight == 0.75}
        assert len(tree.branches) == 3
    assert seen == {(4, 0), (5, 0)}
    (tree,) = trees(sets, 0, 0.0, random.Random(0))
    assert [branch.weight for branch in tree.branches] == [0.75]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "llama-chat"])
def test_tokens_are_those_of_a_prompt_and_long_passages_are_shortened(
    open_rag: Callable[..., RAG], kind: str
) -> None:
    generator = open_rag(kind).generator
    assert isinstance(generator, ModelGenerator)
    text = "the ice is thick " * 40
    for body, length in (("the ice is thick", 200), (text, 200)):
        pair = Pair("how is the ice?", ("thick",), passage=body)
        tokenizer = SetTokenizer(generator, length, 20)
        (found,) = tokenizer.readable(own_sets([pair]))
        (target,) = found.targets
        assert target.answers == (generator.answer_tokens("thick"),)
        prompt = generator.prompt(pair.question, (own_sets([pair])[0].passage,), 16)
        assert target.question == prompt.question
        whole = prompt.header + prompt.passages
        if body is text:
            assert len(found.passage) + target.longest == length < len(whole) + target.longest
            assert found.passage[-2:] == whole[-2:] and found.passage[:20] == whole[:20]
        else:
            assert found.passage == whole


def test_what_is_too_long_is_left_out(rag: RAG) -> None:
    assert isinstance(rag.generator, ModelGenerator)
    tokenizer = SetTokenizer(rag.generator, 120, 8)
    targets = [
        Target(Pair("where is it that the ice is " + "thick " * 40, ()), 0.0),
        Target(Pair("how is it?", ("thick " * 20,)), 1.0),
        Target(Pair("how is it?", ("thick " * 20, "bad")), 1.0),
    ]
    (found,) = tokenizer.readable([ReadingSet(passages(rag, "ice.txt")[0], targets)])
    assert tokenizer.left_out == 2
    assert [target.answers for target in found.targets] == [(rag.generator.answer_tokens("bad"),)]
    assert tokenizer.readable([ReadingSet(passages(rag, "ice.txt")[0], targets[:1])]) == []


def test_a_row_without_room_for_the_prompt_is_refused(open_rag: Callable[..., RAG]) -> None:
    generator = open_rag("llama-chat").generator
    assert isinstance(generator, ModelGenerator)
    tokenizer = SetTokenizer(generator, 64, 30)
    with pytest.raises(SettingError, match="--row-tokens"):
        tokenizer.readable(own_sets([Pair("x?", ("four crowns",), passage="four crowns")]))

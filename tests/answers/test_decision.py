"""A decision between labels is the mixture's, by enumeration in probability space."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from enumeration import Toy
from licences import COD, HEN, WORDS, distribution, licences
from mixed_toy import MIXED, PRIOR, mixed_generator
from mixrag import RAG, Decision, Settings
from mixrag.answers.decision import decision
from mixrag.errors import MixragError, QuestionError
from mixrag.generator import Generator, TableGenerator
from mixrag.inference.mixture import condition
from mixrag.inference.read_together import ROWS_AT_ONCE
from mixrag.retrieval.retriever import Retrieval
from scripted import scripted
from tables import table_generator, toy_passages
from words_encoder import WordsEncoder

PLAIN = Toy(PRIOR, 4, 3, 3)
LABELS = ("w0", "w1", "w0 w1", "w1 w1")
ANSWERS = ((0, 2), (1, 2), (0, 1, 2), (1, 1, 2))
"""The labels as tokens; 2 ends an answer."""
NULL = 0.25


def joint(
    toy: Toy, prior: Sequence[float], components: Sequence[int], answer: tuple[int, ...], switch: float
) -> Any:
    """p(y, z_1..z_T | x) for every hidden path, by places in ``components``."""
    found = {}
    for path in itertools.product(range(len(components)), repeat=len(answer)):
        p = prior[path[0]]
        for before, now in itertools.pairwise(path):
            p *= (1 - switch) * (before == now) + switch * prior[now]
        for t, place in enumerate(path):
            p *= toy.token_probability(components[place], answer, t)
        found[path] = p
    return found


def decided(toy: Toy, generator: Generator, switch: float, *, null: bool, **options: Any) -> Decision:
    share = 1 - NULL if null else 1.0
    log_prior = (torch.tensor(PRIOR, dtype=torch.float64) * share).log()
    log_null, passages = math.log(NULL) if null else None, toy_passages(toy)
    given = {"log_null": log_null, "outside": 0.0, "switch": switch, **options}
    mixture = condition(generator, "question", passages, log_prior, **given)
    retrieval = Retrieval(tuple(passages), log_prior, log_prior, log_null, 0.0, temperature=1.0)
    return decision(mixture, retrieval, Settings(switch=switch), LABELS)


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_labels_mass_and_posteriors_are_those_of_the_double_loop(switch: float, null: bool, mixed: bool) -> None:
    toy, generator = (MIXED, mixed_generator()) if mixed else (PLAIN, table_generator(PLAIN))
    found = decided(toy, generator, switch, null=null)
    prior, components = [*PRIOR], [0, 1, 2]
    if null:
        prior, components = [*(p * (1 - NULL) for p in PRIOR), NULL], [0, 1, 2, -1]
    tables = [joint(toy, prior, components, answer, switch) for answer in ANSWERS]
    masses = [math.fsum(table.values()) for table in tables]
    assert [math.exp(each.log_prob) for each in found.labels] == pytest.approx(masses)
    assert found.mass == pytest.approx(sum(masses))
    assert [each.probability for each in found.labels] == pytest.approx([m / sum(masses) for m in masses])
    assert found.label == LABELS[masses.index(max(masses))] == found.best.label
    assert found.probability == pytest.approx(max(masses) / sum(masses))
    shares = [
        [sum(p * path.count(j) / len(path) for path, p in table.items()) / mass for j in range(len(components))]
        for table, mass in zip(tables, masses, strict=True)
    ]
    for label, own in zip(found.labels, shares, strict=True):
        assert label.posterior == pytest.approx(own[:3])
        assert label.null_posterior == (pytest.approx(own[3]) if null else None)
    given_a_label = [
        sum(mass * own[j] for mass, own in zip(masses, shares, strict=True)) / sum(masses)
        for j in range(len(components))
    ]
    assert [each.posterior for each in found.passages] == pytest.approx(given_a_label[:3])
    assert [each.prior for each in found.passages] == pytest.approx(prior[:3])
    assert found.null_prior == (pytest.approx(NULL) if null else None)
    assert found.certified and found.p_empty is None and not found.seems_unstated


@pytest.mark.parametrize("mixed", [False, True])
def test_with_an_empty_answer_the_labels_are_given_that_one_is_stated(mixed: bool) -> None:
    toy, generator = (MIXED, mixed_generator()) if mixed else (PLAIN, table_generator(PLAIN))
    found = decided(toy, generator, 0.0, null=False, empty_answer=True)
    empty = sum(p * toy.token_probability(j, (2,), 0) for j, p in enumerate(PRIOR))
    masses = [math.fsum(joint(toy, PRIOR, [0, 1, 2], answer, 0.0).values()) for answer in ANSWERS]
    assert found.p_empty == pytest.approx(empty) == found.p_empty_within
    assert found.mass == pytest.approx(sum(masses) / (1 - empty))
    assert [each.probability for each in found.labels] == pytest.approx([m / sum(masses) for m in masses])
    assert found.seems_unstated == (empty >= 0.5)


def test_each_prompt_is_read_once() -> None:
    read: list[int] = []

    class Counting(TableGenerator):
        def start(self, prompts: Any) -> Any:
            read.append(len(prompts))
            return super().start(prompts)

        def log_likelihood(self, prompts: Any, answer: Any) -> Any:
            raise AssertionError("reads the prompts for each label")

    generator = Counting(table_generator(PLAIN).words, table_generator(PLAIN).next_token)
    count = ROWS_AT_ONCE + 3
    passages = toy_passages(Toy([1 / count] * count, 4, 3, 3))
    log_prior = torch.full((count,), 1 / count, dtype=torch.float64).log()
    mixture = condition(generator, "question", passages, log_prior)
    together = mixture.score_all(ANSWERS)
    assert read == [ROWS_AT_ONCE, 3]
    plain = condition(table_generator(PLAIN), "question", passages, log_prior)
    for tokens, scored in zip(ANSWERS, together, strict=True):
        assert torch.allclose(scored.log_likelihood, plain.score_tokens(tokens).log_likelihood)


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    with licences(tmp_path, TableGenerator(WORDS, distribution), Settings(max_tokens=4)) as found:
        yield found


def test_a_pipeline_decides_as_it_scores(rag: RAG) -> None:
    labels = ["nine crowns", "four crowns"]
    found = rag.decide(COD, labels)
    scores = [rag.score(COD, label) for label in labels]
    assert [each.log_prob for each in found.labels] == pytest.approx([each.log_prob for each in scores])
    for label, score in zip(found.labels, scores, strict=True):
        assert label.posterior == pytest.approx([each.posterior for each in score.passages])
    assert found.label == "nine crowns" and found.passages[0].posterior > found.passages[0].prior
    assert asyncio.run(rag.adecide(COD, labels)).to_dict() == found.to_dict()
    assert json.loads(json.dumps(found.to_dict()))["labels"][0]["mass"] == pytest.approx(scores[0].probability)


def test_labels_need_not_be_words_of_a_passage(rag: RAG) -> None:
    labels = ["crowns nine", "crowns four"]
    assert rag.decide(COD, labels, copy=True).to_dict() == rag.decide(COD, labels).to_dict()


def test_what_the_passages_do_not_state(rag: RAG) -> None:
    found = rag.decide(HEN, ["nine", "four"], k=1, empty_answer=True)
    assert found.p_empty == pytest.approx(0.85) and found.seems_unstated
    assert not rag.decide(COD, ["nine", "four"], k=1, empty_answer=True).seems_unstated


def test_a_score_over_numbers(tmp_path: Path) -> None:
    laws = {"cod": {"1": 0.2, "2": 0.2, "3": 0.4, "many": 0.2}}
    with opened(tmp_path, laws) as rag:
        found = rag.decide("cod?", ["1", "2", "3"], k=1)
        p = [each.probability for each in found.labels]
        assert found.expected == pytest.approx(p[0] + 2 * p[1] + 3 * p[2])
        assert found.mass < 1 - 0.15
        assert rag.decide("cod?", ["1", "many"], k=1).expected is None


def test_labels_that_the_model_does_not_think_of_decide_nothing(tmp_path: Path) -> None:
    def only_nine(passage: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]][min(len(answer), 1)], dtype=torch.float64)

    with licences(tmp_path, TableGenerator(WORDS, only_nine), Settings(max_tokens=4)) as rag:
        found = rag.decide(COD, ["four", "crowns"])
        assert (found.label, found.mass, found.certified, found.expected) == (None, 0.0, False, None)
        assert found.probability is None and [each.probability for each in found.labels] == [None, None]
        assert "'four': none" in repr(found)
        assert [each.posterior for each in found.labels] == [(0.0, 0.0)] * 2
        shown = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert shown["probability"] is None and [each["probability"] for each in shown["labels"]] == [None, None]
        one = rag.decide(COD, ["four", "nine"])
        assert (one.label, one.probability, one.certified) == ("nine", 1.0, True)


def test_a_lead_that_the_rest_of_the_corpus_could_turn_is_not_certified(rag: RAG) -> None:
    labels = ["nine crowns", "four crowns"]
    assert rag.decide(COD, labels).certified, "all of two passages were read"
    assert not rag.decide(COD, labels, k=1, temperature=1e6).certified
    first = rag.decide(COD, labels, k=1, temperature=1e6).labels[0]
    assert first.log_bounds is not None and first.log_bounds[0] < first.log_bounds[1]


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        ([], "at least two labels; found 0"),
        (["yes"], "at least two labels; found 1"),
        ("yes", "a list of labels"),
        (["nine", "nine"], "labels that differ; found 'nine' and 'nine'"),
        (["nine", " nine"], "labels that differ; found 'nine' and ' nine'"),
        (["nine", ""], "a text as each label; found ''"),
        (["nine", 4], "a text as each label; found 4"),
        (["nine", "\ud800"], "a text as each label"),
    ],
)
def test_labels_that_are_none(labels: Any, part: str, rag: RAG) -> None:
    with pytest.raises(MixragError) as caught:
        rag.decide(COD, labels)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_question_that_is_none(rag: RAG) -> None:
    with pytest.raises(QuestionError):
        rag.decide(" ")


def opened(folder: Path, laws: Any) -> RAG:
    from mixrag.corpus import Store

    rag = RAG(Store.open(folder / "store", create=True), encoder=WordsEncoder(), generator=scripted(laws))
    rag.add([{"id": "cod", "text": "About cod ."}])
    return rag

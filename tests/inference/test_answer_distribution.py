"""The enumerated distribution of the answer against a double loop over spans in probability space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from enumeration import Toy
from mixrag.errors import ModelError, SettingError
from mixrag.inference.answer_distribution import _Normaliser, answer_distribution
from mixrag.inference.mixture import condition
from mixrag.pairs.matching import normalise
from tables import toy_mixture
from tiny_span_model import passage, reference, span_generator

QUESTION = "Who pays the fee?"
TEXTS = ("The ferry costs nine crowns, NINE crowns.", "Nine crowns: the fee.", "Åse Ødegård pays.")
PRIOR = (0.5, 0.3, 0.15)
"""0.05 is outside: the full normaliser."""


def expected() -> tuple[dict[str, float], list[dict[str, float]]]:
    generator, tables = span_generator(), []
    for text in TEXTS:
        table: dict[str, float] = {}
        for answer, probability in reference(generator, QUESTION, text).items():
            key = normalise(answer) if answer else ""
            table[key] = table.get(key, 0.0) + probability
        tables.append(table)
    keys = {key for table in tables for key in table}
    return {k: sum(p * t.get(k, 0.0) for p, t in zip(PRIOR, tables, strict=True)) for k in keys}, tables


@pytest.fixture(scope="module")
def found():  # type: ignore[no-untyped-def]
    log_prior = torch.tensor(PRIOR, dtype=torch.float64).log()
    mixture = condition(span_generator(), QUESTION, [passage(text) for text in TEXTS], log_prior, outside=0.05)
    return answer_distribution(mixture)


def test_every_answer_has_the_sum_of_its_spans(found) -> None:  # type: ignore[no-untyped-def]
    totals, tables = expected()
    assert len(found) == len(totals)
    assert float(found.probabilities.sum()) == pytest.approx(0.95)
    assert (found.probabilities[:-1] >= found.probabilities[1:]).all()
    for each in found:
        key = normalise(each.text) if each.text else ""
        assert each.probability == pytest.approx(totals[key], rel=1e-5)
        posterior = [p * t.get(key, 0.0) / totals[key] for p, t in zip(PRIOR, tables, strict=True)]
        assert each.posterior.tolist() == pytest.approx(posterior, rel=1e-4, abs=1e-12)
    assert found.p_empty == pytest.approx(totals[""], rel=1e-5)
    assert found.probability("NINE crowns!") == pytest.approx(totals["nine crowns"], rel=1e-5)
    assert found.probability("") == found.p_empty
    assert found.probability("seven") == 0.0


def test_best_and_runner_up_are_not_empty(found) -> None:  # type: ignore[no-untyped-def]
    totals, _ = expected()
    ranked = sorted((key for key in totals if key), key=lambda key: -totals[key])
    assert [normalise(each.text) for each in (found.best, found.runner_up)] == ranked[:2]


def test_the_text_shown_is_the_most_probable_of_equal_ones(found) -> None:  # type: ignore[no-untyped-def]
    generator = span_generator()
    tables = [reference(generator, QUESTION, text) for text in TEXTS]
    for each in found:
        if each.text:
            equal = {a for t in tables for a in t if a and normalise(a) == normalise(each.text)}
            total = {a: sum(p * t.get(a, 0.0) for p, t in zip(PRIOR, tables, strict=True)) for a in equal}
            assert total[each.text] == pytest.approx(max(total.values()), rel=1e-5)


def test_entropy_and_information(found) -> None:  # type: ignore[no-untyped-def]
    totals, tables = expected()
    entropy = -sum(p / 0.95 * math.log(p / 0.95) for p in totals.values())
    inside = [-sum(p * math.log(p) for p in table.values() if p) for table in tables]
    information = entropy - sum(p / 0.95 * h for p, h in zip(PRIOR, inside, strict=True))
    assert found.entropy == pytest.approx(entropy, rel=1e-5)
    assert found.information == pytest.approx(information, rel=1e-4)


def test_without_passages_the_empty_answer_is_certain() -> None:
    nothing = torch.zeros(0, dtype=torch.float64)
    found = answer_distribution(condition(span_generator(), QUESTION, [], nothing))
    assert (len(found), found.p_empty, found.entropy, found.information) == (1, 1.0, 0.0, 0.0)
    assert found.best is None
    assert found.runner_up is None


def test_a_language_model_or_a_switch_is_refused() -> None:
    with pytest.raises(ModelError, match="extractive"):
        answer_distribution(toy_mixture(Toy([0.5, 0.5], 0, 3, 2), 0.0))
    prior = torch.tensor([1.0], dtype=torch.float64).log()
    with pytest.raises(SettingError, match="switch 0"):
        answer_distribution(condition(span_generator(), QUESTION, [passage("nine")], prior, switch=0.5))


WORDS = (
    "the",
    "a",
    "A.",
    "-",
    "C++",
    "$1,250.50",
    ".5",
    "-5",
    "Zoë’s",
    "ﬁne",
    "10%",
    "(an)",
    "x-y",
    "東京",
    "#",
    "1.",
    "ΟΔΟΣ",
)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5))
def test_word_by_word_as_the_whole_text(words: list[str]) -> None:
    text = " ".join(words)
    assert _Normaliser()(text) == normalise(text)

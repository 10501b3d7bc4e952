"""Sentences of passages, and what a retrieval is given that a passage is right."""

from __future__ import annotations

import math

import pytest
import torch

from mixrag.answers.read_sentences import given_a_passage, read_sentences
from mixrag.corpus import Passage
from mixrag.retrieval.retriever import Retrieval


def texts_of(text: str) -> list[str]:
    passage = Passage("a", text, "/a.txt", "a", 0, len(text))
    read = read_sentences(
        Retrieval((passage,), torch.zeros(1), torch.zeros(1)), lambda _, spans: [torch.zeros(len(spans[0]))]
    )
    assert sum(each.share for each in read.sentences) == pytest.approx(1.0)
    return [each.text for each in read.sentences]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How to take it. Put 15 drops in water.", ["How to take it. Put 15 drops in water."]),
        ("It may be used by all. No permit is needed.", ["It may be used by all. No permit is needed."]),
        (
            "It may be used by all.\n\nNo permit is needed.\n\nSend the form to us.",
            ["It may be used by all.", "Send the form to us."],
        ),
        ("Red: 12 minutes. Amber: one hour. Green: none.", ["Red: 12 minutes. Amber: one hour. Green: none."]),
        (
            "Send the form to us.\n\n- a passport or identity card\n- two photographs of yourself",
            ["Send the form to us.", "- a passport or identity card - two photographs of yourself"],
        ),
        ("Send the form to us.\n\nClass | Fee\nA | 20 talms\nB | 40 talms", None),
        (
            "Report of the Board\nCase HB 22\nJudgment of 2015\n\nThe claim is set aside.",
            ["The claim is set aside."],
        ),
        ("Rules of the moor\n\nNo fires.", ["Rules of the moor", "No fires."]),
        ("", [""]),
    ],
)
def test_short_sentences_stand_with_their_neighbours(text: str, expected: list[str]) -> None:
    assert texts_of(text) == (expected or [" ".join(part.split()) for part in text.split("\n\n")])


def test_a_neighbour_has_a_quarter_of_the_weight() -> None:
    text = "This is the first one. This is the second one. This is the third one."
    passage = Passage("a", text, "/a.txt", "a", 0, len(text))
    alone = [0.7, 0.2, 0.1]
    read = read_sentences(
        Retrieval((passage,), torch.zeros(1), torch.zeros(1)), lambda _, spans: [torch.tensor(alone).log()]
    )
    weights = [0.7 + 0.05, 0.2 + 0.175 + 0.025, 0.1 + 0.05]
    assert [each.share for each in read.sentences] == pytest.approx([each / sum(weights) for each in weights])


@pytest.mark.parametrize("log_null", [None, -1.0])
@pytest.mark.parametrize("full", [False, True])
def test_the_mass_outside_is_that_of_all_other_passages(full: bool, log_null: float | None) -> None:
    """Scores of six passages, of which three are listed and two are read."""
    scores = torch.tensor([2.0, 1.0, 0.5, 0.3, -1.0, -2.0], dtype=torch.float64)
    passages = tuple(Passage(str(i), "text", "/a", "", 0, 4) for i in range(3))
    null = 0.0 if log_null is None else math.exp(log_null)
    everything, listed = float(scores.exp().sum()) + null, float(scores[:3].exp().sum()) + null
    total = everything if full else listed
    outside = float(scores[3:].exp().sum()) / everything
    before = Retrieval(
        passages,
        scores[:3] - math.log(total),
        torch.zeros(3),
        log_null=None if log_null is None else log_null - math.log(total),
        outside=outside,
        outside_bounds=(outside / 2, outside),
    )
    found = given_a_passage(before, 2)
    assert found.log_null is None and len(found.passages) == len(found.inner_products) == 2
    assert found.log_prior.exp().tolist() == pytest.approx(scores[:2].softmax(0).tolist())
    assert found.outside == pytest.approx(float(scores.softmax(0)[2:].sum()))
    assert found.outside_bounds is not None
    assert found.outside_bounds[0] < found.outside_bounds[1] == pytest.approx(found.outside)


def test_nothing_is_outside_of_all_passages() -> None:
    passages = (Passage("0", "text", "/a", "", 0, 4),)
    retrieval = Retrieval(passages, torch.tensor([0.6]).log(), torch.zeros(1), math.log(0.4), outside=0.0)
    assert given_a_passage(retrieval, 1).outside == 0.0

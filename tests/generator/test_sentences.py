"""Sentences as a generator: answers of one token, looked up, and as rows of a table."""

from __future__ import annotations

import math

import pytest
import torch

from mixrag.corpus import Passage
from mixrag.errors import QuestionError
from mixrag.generator import Prompt
from mixrag.generator.sentences import SentenceGenerator, sentence_key

PASSAGES = [Passage(name, text, "/a", "", 0, 3) for name, text in (("1", "one"), ("2", "two"), ("2", "three"))]
GENERATOR = SentenceGenerator(
    "The fee is due. It is nine.",
    ("fee is due", "it is nine"),
    {"pier is old": "The pier is old.", "boats leave": "Boats leave."},
    {"one": {0: 0.75, 1: 0.25}, "two": {1: 0.5, 2: 0.5}, "three": {0: 1.0}},
)
GROUPS = [PASSAGES[:1], PASSAGES[1:2], PASSAGES[2:], PASSAGES[:2], []]
TABLE = [
    [0.75, 0.25, 0.0, 0.0],
    [0.0, 0.5, 0.5, 0.0],
    [1.0, 0.0, 0.0, 0.0],
    [0.375, 0.375, 0.25, 0.0],
    [0.5, 0.25, 0.25, 0.0],
]


def prompts() -> list[Prompt]:
    return [GENERATOR.prompt("q", group, 1) for group in GROUPS]


def test_rows_and_single_answers_agree() -> None:
    assert GENERATOR.start(prompts()).log_probs.exp().tolist() == [pytest.approx(row) for row in TABLE]
    for token in range(GENERATOR.vocabulary_size):
        found = GENERATOR.log_likelihood(prompts(), [token])
        assert found.exp()[:, 0].tolist() == pytest.approx([row[token] for row in TABLE])
    assert GENERATOR.stop_tokens == {0, 1, 2, 3}


def test_an_answer_is_looked_up_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SentenceGenerator, "next_token", None)
    assert GENERATOR.log_likelihood(prompts(), [0]).shape == (5, 1)


def test_texts_and_tokens() -> None:
    texts = ["the fee is due,  it is nine", "Boats leave.", "the pier is old", "something else", ""]
    assert [GENERATOR.answer_tokens(text) for text in texts] == [(0,), (2,), (1,), (3,), (3,)]
    assert [GENERATOR.text([token]) for token in range(4)] == [
        "The fee is due. It is nine.",
        "The pier is old.",
        "Boats leave.",
        "",
    ]
    with pytest.raises(QuestionError, match="whole extract"):
        GENERATOR.answer_tokens("It is nine.")
    impossible = GENERATOR.log_likelihood(prompts(), GENERATOR.answer_tokens("something else"))
    assert torch.equal(impossible, torch.full((5, 1), -math.inf, dtype=torch.float64))


def test_keys_are_what_equal_sentences_share() -> None:
    assert sentence_key("The  fee, is DUE!") == sentence_key("fee is due") == "fee is due"
    assert sentence_key("* * *") == sentence_key("*  * *") != ""

"""ask, ask_many, stream and score give one answer and one probability, up to the rounding of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mixrag import RAG, Answer, Generator, Settings
from mixrag.cli import show
from mixrag.corpus import Store
from mixrag.generator import load_generator
from mixrag.generator.copying import CopyingGenerator
from tiny_models import build
from words_encoder import WordsEncoder

TEXTS = {
    "fees": "The licence costs nine crowns. It is sold to members, guests and visitors.",
    "ferry": "The ferry runs in summer because the ice melts in May.",
    "hens": "Hens lay fewer eggs during winter, when days are short and cold.",
}
QUESTIONS = (
    "What does the licence cost?",
    "Who are the people that the licence is sold to?",
    "When do hens lay fewer eggs?",
    "Is the ferry running in summer?",
    "Why does the ferry run in summer?",
)
KINDS = ["span", "span", "list", "yes-no", "extract"]
DIGITS = 1e-4
"""float32's rounding, in nats, of an answer of these models."""
SETTINGS: tuple[dict[str, Any], ...] = (
    {"decoder": "greedy"},
    {"decoder": "greedy", "switch": 0.3, "null": -1.0, "prune": 0.0},
    {"decoder": "greedy", "empty_answer": True},
    {"decoder": "greedy", "copy": True},
    {"decoder": "greedy", "copy": True, "empty_answer": True, "group": 2},
    {"decoder": "beam", "beams": 3, "empty_answer": True},
    {"decoder": "beam", "beams": 3, "copy": True},
)
Loaded = Callable[[str], Generator]


@pytest.fixture(params=["llama-chat", "t5"])
def rag(request: pytest.FixtureRequest, tmp_path: Path, tiny_generator: Loaded) -> Iterator[RAG]:
    with opened(tmp_path, tiny_generator(request.param)) as rag:
        yield rag


def opened(folder: Path, generator: Generator) -> RAG:
    rag = RAG(
        Store.open(folder / "store", create=True),
        encoder=WordsEncoder(),
        generator=generator,
        settings=Settings(kind="auto", k=3, max_tokens=5),
    )
    rag.add([{"id": name, "text": text} for name, text in TEXTS.items()])
    return rag


def numbers(answer: Answer) -> list[float]:
    """Everything that the model's numbers decide."""
    items = [item.probability or 0.0 for item in answer.items]
    tokens = [token.log_prob for token in answer.tokens]
    return [answer.log_prob, answer.log_mass, answer.p_empty or 0.0, *items, *tokens]


def words(answer: Answer) -> tuple[Any, ...]:
    """What it says."""
    return answer.question, answer.kind, answer.best_guess, answer.text, answer.finished, answer.certified


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_in_float32_all_ways_agree_to_its_rounding(rag: RAG, changes: dict[str, Any]) -> None:
    alone = [rag.ask(question, **changes) for question in QUESTIONS]
    assert {answer.kind for answer in alone} >= {"span", "yes-no", "extract"}
    for one, many in zip(alone, rag.ask_many(QUESTIONS, **changes), strict=True):
        assert words(many) == words(one)
        assert numbers(many) == pytest.approx(numbers(one), rel=DIGITS, abs=DIGITS)
        posterior = [passage.posterior for passage in one.passages]
        assert [passage.posterior for passage in many.passages] == pytest.approx(posterior, abs=1e-3)
        stream = rag.stream(one.question, **changes)
        text = "".join(token.text for token in stream)
        assert text == one.best_guess and words(stream.answer) == words(one)
        assert numbers(stream.answer) == pytest.approx(numbers(one), rel=DIGITS, abs=DIGITS)
        if one.kind != "extract":
            scored = one.scored.mixture.score_tokens(one.scored.tokens)
            assert scored.log_prob == pytest.approx(one.log_prob, rel=DIGITS, abs=DIGITS)


def test_every_kind_is_there(tmp_path: Path, tiny_generator: Loaded) -> None:
    with opened(tmp_path, tiny_generator("llama-chat")) as rag:
        asked = [rag._kind(question, rag.settings) for question in QUESTIONS]
        assert sorted(asked) == sorted(KINDS)


@pytest.mark.parametrize(
    ("certified", "rounding", "line"),
    [
        (True, 0.0, "certified: no answer is more probable\n"),
        (True, 0.5, "certified: no answer is more probable, rounding included\n"),
        (False, 0.0, "not certified as the best\n"),
        (False, 0.5, "not certified as the best; --dtype float32 has no rounding to allow for\n"),
    ],
)
def test_the_line_on_the_certificate_says_whether_there_is_rounding(
    certified: bool, rounding: float, line: str, rag: RAG, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = replace(rag.ask(QUESTIONS[0], kind="span"), certified=certified, rounding=rounding)
    show.answer(answer, None, as_json=False)
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_in_bfloat16_they_agree_within_the_rounding_that_is_stated(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The same weights, those of bfloat16, read in float32, give what is between the bounds of every way."""
    model, tokenizer = build("llama-chat")
    halved = load_generator(model.to(torch.bfloat16), tokenizer=tokenizer)
    exact = load_generator(deepcopy(halved.model).float(), tokenizer=tokenizer)
    assert halved.rounding > exact.rounding == 0.0
    moved, bounded = 0.0, 0
    with opened(tmp_path, halved) as rag:
        for many in rag.ask_many(QUESTIONS, **changes):
            alone = rag.ask(many.question, **changes)
            if many.kind == "extract":  # no language model takes part
                assert many.rounding == 0.0 and many.log_interval is None and many.log_prob == alone.log_prob
                continue
            mixture, tokens = many.scored.mixture, many.scored.tokens
            copied = isinstance(mixture.generator, CopyingGenerator)
            reference = replace(mixture, generator=CopyingGenerator(exact) if copied else exact)
            wanted = reference.score_tokens(tokens)
            ways = [many.scored, mixture.score_tokens(tokens), alone.scored]
            for found in ways if alone.scored.tokens == tokens else ways[:2]:
                low, high = found.log_interval
                assert low <= wanted.log_prob <= high and low < found.log_prob < high
                moved = max(moved, abs(found.log_prob - wanted.log_prob))
            assert many.log_interval == many.scored.log_interval and many.rounding == halved.rounding
            if many.empty_bounds is not None:
                least, most = many.empty_bounds
                assert many.outside == 0.0 and least <= math.exp(reference.log_p_empty) <= most
                assert least < many.p_empty < most
                bounded += 1
    assert moved > DIGITS and bool(bounded) is changes.get("empty_answer", False)

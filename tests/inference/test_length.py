"""Answers to the end of the context, and of many parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from enumeration import Toy
from mixrag import RAG, Document
from mixrag.answers.answer import TextPieces
from mixrag.config.settings import Settings
from mixrag.errors import QuestionError, SettingError
from mixrag.generator import TableGenerator, batching, causal, load_generator
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT
from mixrag.generator.protocol import Prompt
from mixrag.inference import sentence_switch
from mixrag.inference.length import LONGEST, leaving_room, longest_answer, reserved
from mixrag.inference.mixture import condition
from mixrag.inference.sentence_switch import ends_at, sentence_ends
from tables import passage, toy_mixture
from tiny_models import CONTEXT, build
from words_encoder import WordsEncoder

TOY = Toy([0.5, 0.3, 0.2], seed=11, vocabulary=4, length=4)


def loaded(kind: str) -> Any:
    model, tokenizer = build(kind)
    return load_generator(model, tokenizer=tokenizer)


def test_a_number_is_a_number_and_all_is_a_quarter_of_the_context() -> None:
    generator = loaded("llama")
    assert (reserved(10, generator), reserved("all", generator)) == (10, CONTEXT // 4)
    assert leaving_room("all", CONTEXT // 4, generator) == "all"
    assert leaving_room("all", CONTEXT // 4 + 1, generator) == CONTEXT // 4 + 1
    assert (leaving_room(10, 10, generator), leaving_room(10, 11, generator)) == (10, 11)
    assert Settings(max_tokens="all").max_tokens == "all"
    for wrong in ("every", 0):
        with pytest.raises(SettingError, match="max_tokens"):
            Settings(max_tokens=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [lambda each: each, CopyingGenerator])
def test_all_is_what_the_longest_prompt_leaves(wrap: Callable[[Any], Any]) -> None:
    generator = wrap(loaded("llama"))
    passages = [passage("a", "one word"), passage("b", "many more words than the other passage has")]
    mixture = condition(generator, "Who?", passages, torch.tensor([0.5, 0.5]).log(), reserve=4)
    longest = max(len(component.prompt.tokens) for component in mixture.components)
    assert longest_answer("all", mixture) == CONTEXT - longest and longest_answer(7, mixture) == 7


def test_a_decoder_has_its_context_to_itself() -> None:
    for kind, expected in (("bart", CONTEXT - 2), ("t5", LONGEST)):
        mixture = condition(loaded(kind), "Who?", [passage("a", "one word")], torch.zeros(1), reserve=4)
        assert longest_answer("all", mixture) == expected
    unlimited = TableGenerator(("w", "<end>"), lambda *_: torch.tensor([0.5, 0.5]), UNLIMITED_CONTEXT)
    mixture = condition(unlimited, "Who?", [passage("a", "w")], torch.zeros(1))
    assert longest_answer("all", mixture) == LONGEST and reserved("all", unlimited) == LONGEST


@pytest.fixture
def rag(tmp_path: Path) -> Any:
    with RAG.open(
        tmp_path / "store", create=True, models={"encoder": WordsEncoder(), "generator": loaded("llama")}
    ) as opened:
        opened.add([Document(f"{name}.txt", f"The {name} costs nine crowns. " * 30) for name in ("ferry", "boat")])
        yield opened


def test_an_answer_goes_on_to_the_end_of_the_context(rag: RAG) -> None:
    question = "What does the ferry cost?"
    answer = rag.ask(question, max_tokens="all", k=2)
    longest = max(len(component.prompt.tokens) for component in answer.scored.mixture.components)
    assert answer.finished or len(answer.tokens) == CONTEXT - longest
    assert len(answer.tokens) >= CONTEXT // 4 or answer.finished
    assert answer.shortened, "the passages leave a quarter of the context"
    again = rag.score(question, answer.best_guess, max_tokens="all", k=2)
    assert again.scored.mixture.reserve >= CONTEXT // 4
    assert "".join(token.text for token in answer.tokens) == answer.best_guess
    many = rag.ask_many([question], max_tokens="all", k=2)
    assert many[0].best_guess == answer.best_guess and many[0].log_prob == pytest.approx(answer.log_prob, abs=1e-3)
    beam = rag.ask(question, max_tokens="all", k=1, decoder="beam", beams=1)
    assert beam.certified is not None
    with pytest.raises(QuestionError, match="lower max_tokens"):
        rag.ask(question, max_tokens=CONTEXT)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bart"])
def test_long_answers_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    generator = loaded(kind)
    prompts = [Prompt((), (5, 6, 7, 8), (9, 10)), Prompt((), (5, 6), (9, 10)), Prompt((), (), (9, 10))]
    answers = [tuple(range(20, 20 + length)) for length in (23, 7, 1)]
    whole = generator.log_likelihoods(prompts, answers)
    started = generator.start(prompts).score(answers[0])
    for module in (batching, causal):
        monkeypatch.setattr(module, "DISTRIBUTIONS_AT_ONCE", 6)
    parts = list(batching.scored_in_parts(answers[0], 2))
    assert [len(read) for read, _ in parts] == [3] * 7 + [1]
    assert all(answers[0][answers[0].index(read[0]) + 1 :][: len(read)] == wanted for read, wanted in parts)
    torch.testing.assert_close(generator.start(prompts).score(answers[0]), started, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(generator.log_likelihoods(prompts, answers), whole, atol=1e-4, rtol=1e-4)


def test_the_end_of_a_sentence_is_found_in_the_last_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = toy_mixture(TOY, 0.0, ".").generator
    tokens = (1, 0, 2, 2, 0, 0, 1, 1, 1, 2, 1, 0, 3)
    expected = sentence_ends(generator, tokens)
    assert expected == tuple(token == 0 for token in tokens)
    monkeypatch.setattr(sentence_switch, "RECENT", 2)
    assert sentence_ends(generator, tokens) == expected
    read = list[int]()
    monkeypatch.setattr(type(generator), "text", lambda self, some: read.append(len(some)) or "w")
    ends_at(generator, tokens)
    assert max(read) < 4, "not the whole answer"


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_pieces_of_a_long_text_join_to_it(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    generator = loaded(kind)
    monkeypatch.setattr("mixrag.answers.answer.RECENT_TOKENS", 3)
    text = "Zoë paid £5 in 1973: 東京, naïve 𝔸. And then she left, without 𝔸 word."
    tokens, pieces = generator.answer_tokens(text), TextPieces(generator)
    found = [pieces.add(token, last=place == len(tokens) - 1) for place, token in enumerate(tokens)]
    assert "".join(found) == text and len(pieces._tokens) < 12

"""Answers in kind: yes or no, lists and extracts, each number by its definition."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixrag import RAG, Settings
from mixrag.answers.in_kind import in_kind
from mixrag.answers.stream import Stream
from mixrag.cli import show
from mixrag.corpus import Store
from mixrag.generator import Generator
from mixrag.inference.decoders import Beam
from mixrag.inference.protocol import DecoderResult
from scripted import scripted
from tiny_span_model import span_generator
from words_encoder import WordsEncoder

FEES = "The licence costs nine crowns. It is sold to members, guests and visitors. The office is closed on Sunday."
FERRY = "The ferry runs in summer because the ice melts in May. In winter the harbour freezes to the ground."
LAWS = {
    "licence": {"guests": 0.6, "members": 0.2, "yes": 0.05, "no": 0.15},
    "ferry": {"yes": 0.5, "no": 0.1, "summer": 0.4},
}
Loaded = Callable[[str], Generator]


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    with opened(tmp_path, scripted(LAWS)) as rag:
        yield rag


def opened(folder: Path, generator: Generator) -> RAG:
    rag = RAG(
        Store.open(folder / "store", create=True),
        encoder=WordsEncoder(),
        generator=generator,
        settings=Settings(kind="auto", prune=0.0, max_tokens=4),
    )
    rag.add([{"id": "fees", "text": FEES}, {"id": "ferry", "text": FERRY}])
    return rag


def test_yes_or_no_is_the_share_of_both_scores(rag: RAG) -> None:
    question = "Is the ferry running in summer?"
    answer = rag.ask(question)
    mixture = rag.condition(question)
    yes, no = math.exp(mixture.log_prob("yes")), math.exp(mixture.log_prob("no"))
    assert (answer.kind, answer.text) == ("yes-no", "yes") and answer.finished
    assert [(item.text, item.probability) for item in answer.items] == [
        ("yes", pytest.approx(yes / (yes + no))),
        ("no", pytest.approx(no / (yes + no))),
    ]
    assert answer.probability == pytest.approx(yes)
    posterior = [passage.posterior for passage in answer.passages]
    assert posterior == pytest.approx(mixture.posterior("yes").tolist())
    assert answer.confidence is None


def test_yes_and_no_need_not_be_in_the_passage(rag: RAG) -> None:
    plain, copied = (rag.ask("Is the licence free?", copy=copy) for copy in (False, True))
    assert copied.to_dict() == plain.to_dict() and copied.text == "no"


def test_a_list_has_the_items_beside_the_span(rag: RAG) -> None:
    question = "Who are the people that the licence is sold to?"
    answer = rag.ask(question)
    assert (answer.kind, answer.best_guess, answer.text) == ("list", "guests", "members, guests, visitors")
    assert [item.probability for item in answer.items] == [None, pytest.approx(answer.probability), None]
    for item in answer.items:
        assert item.start is not None and FEES[item.start : item.end] == item.text
    assert "".join(token.text for token in answer.tokens) == answer.best_guess
    span = rag.ask(question, kind="span")
    assert span.kind == "span" and span.log_prob == answer.log_prob and span.items == ()


def test_items_that_a_beam_found_have_their_probability(rag: RAG) -> None:
    question = "Who are the people that the licence is sold to?"
    answer = rag.ask(question, decoder=Beam(4))
    found = {item.text: item.probability for item in answer.items}
    assert found["members"] == pytest.approx(math.exp(rag.condition(question).log_prob("members")))


def test_a_list_without_enumeration_is_a_span(rag: RAG) -> None:
    answer = rag.ask("Which ferries are running in summer?")
    assert answer.kind == "span" and answer.items == ()


def test_an_extract_is_the_best_sentences(rag: RAG) -> None:
    question = "Why does the ferry run in summer?"
    rag._generator = None  # none is loaded: a language model that is asked for would be the packaged one
    answer = rag.ask(question)
    assert rag._generator is None
    assert answer.kind == "extract" and answer.best_guess == answer.text
    encoder = WordsEncoder()
    asked = encoder.encode_questions([question])[0]
    total, mass = 0.0, {}
    for passage, prior in zip(answer.passages, rag.passages(question).log_prior.exp().tolist(), strict=True):
        texts = [
            f"{text.strip()}" if text.endswith(".") else f"{text.strip()}." for text in passage.text.split(". ")
        ]
        products = encoder.encode_passages(texts).astype(float) @ asked.astype(float)
        alone = np.exp(products / encoder.temperature)
        scores = alone + 0.25 * (np.append(alone[1:], 0.0) + np.append(0.0, alone[:-1]))
        for text, score in zip(texts, scores / scores.sum(), strict=True):
            mass[text] = prior * score
            total += prior * score
    assert total == pytest.approx(1.0)
    for sentence in answer.sentences:
        assert sentence.probability == pytest.approx(mass[sentence.text], rel=1e-5)
        document = FERRY if sentence.document == "ferry" else FEES
        assert document[sentence.start : sentence.end] == sentence.text
    assert max(mass, key=lambda text: mass[text]) in answer.best_guess
    assert answer.probability == pytest.approx(sum(s.probability for s in answer.sentences))
    assert answer.probability >= 0.8 or len(answer.sentences) == 4
    assert sum(passage.posterior for passage in answer.passages) == pytest.approx(1.0)
    assert [token.text for token in answer.tokens] == [answer.best_guess]


def test_an_extract_is_explained_shown_and_pickled(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    answer = rag.ask("Explain the ferry.")
    explanation = answer.explain()
    assert [each.prompt_tokens for each in explanation.components] == [0] * len(explanation.components)
    assert len(explanation.components) == 2 and math.isfinite(explanation.log_null_likelihood)
    page = answer.to_html()
    assert page.count(answer.sentences[0].text) >= 2 and "Extract: sentences" in page
    assert "the language model gives it" not in page
    assert pickle.loads(pickle.dumps(answer)).sentences == answer.sentences  # noqa: S301
    show.decided(answer)
    show.answer(answer, explanation, as_json=False)
    assert "Extract:" in capsys.readouterr().out
    show.answer(answer, explanation, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "extract" and shown["sentences"][0]["probability"] == answer.sentences[0].probability


def test_lists_and_yes_no_are_shown(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    for question, expected in (
        ("Who are the people that the licence is sold to?", "- members\n- guests"),
        ("Is the licence free?", "of yes and no alone: p(no) = 0.678"),
    ):
        answer = rag.ask(question)
        show.decided(answer)
        show.answer(answer, None, as_json=False)
        assert expected in capsys.readouterr().out
        assert answer.best_guess in answer.to_html()


def test_many_questions_are_answered_as_one_by_one(rag: RAG) -> None:
    questions = [
        "Is the licence free?",
        "Who are the people that the licence is sold to?",
        "Why does the ferry run?",
        "Who buys the licence?",
    ]
    many = rag.ask_many(questions)
    assert [answer.kind for answer in many] == ["yes-no", "list", "extract", "span"]
    assert [answer.to_dict() for answer in many] == [rag.ask(question).to_dict() for question in questions]


def test_the_default_is_what_the_language_model_writes(rag: RAG) -> None:
    for question in ("Is the licence free?", "Why does the ferry run?"):
        answer = rag.ask(question, kind=Settings().kind)
        assert answer.kind == "span" and answer.sentences == answer.items == ()


def test_without_passages_there_is_no_extract(rag: RAG) -> None:
    assert rag.ask("Why does the ferry run?", k=0).kind == "span"


@pytest.mark.parametrize("kind", ["llama-chat", "t5"])
def test_with_a_language_model(kind: str, tmp_path: Path, tiny_generator: Loaded) -> None:
    with opened(tmp_path, tiny_generator(kind)) as rag:
        answer = rag.ask("Is the ferry running?", null=0.0)
        assert answer.kind == "yes-no" and sum(item.probability or 0 for item in answer.items) == pytest.approx(
            1.0
        )
        assert rag.ask("Why does the ferry run?", null=0.0, normaliser="full").kind == "extract"
        copied = rag.ask("Who buys the licence?", copy=True)
        assert copied.best_guess.strip() in FEES + FERRY


def test_yes_and_no_are_withheld_where_nothing_is_stated(tmp_path: Path) -> None:
    silent = {"licence": {"": 0.9, "yes": 0.06, "no": 0.04}, "ferry": {"": 0.8, "yes": 0.2}}
    with opened(tmp_path, scripted(silent)) as rag:
        answer = rag.ask("Is the licence free?", empty_answer=True)
        assert (answer.kind, answer.text, answer.best_guess) == ("yes-no", None, "yes")
        assert answer.p_empty is not None and 0.5 < answer.p_empty < 0.95
        assert sum(item.probability or 0 for item in answer.items) == pytest.approx(1.0)
        extract = rag.ask("Explain the licence.", empty_answer=True)
        mixture = rag.condition("Explain the licence.", empty_answer=True)
        assert extract.kind == "extract" and extract.p_empty == pytest.approx(math.exp(mixture.log_p_empty))
        assert [each.p_empty for each in extract.passages] == pytest.approx(mixture.log_empty.exp().tolist())
        assert extract.p_empty_within == extract.p_empty and extract.empty_bounds == (extract.p_empty,) * 2
        assert extract.p_empty > 0.5 and extract.text == extract.best_guess
        scored = rag.score("Explain the licence.", extract.best_guess, empty_answer=True)
        assert (scored.p_empty, scored.log_prob) == (extract.p_empty, extract.log_prob)
        plain = rag.ask("Explain the licence.")
        assert plain.p_empty is None and plain.log_prob == extract.log_prob


def test_an_extractive_reader_says_neither_yes_nor_no(tmp_path: Path) -> None:
    with opened(tmp_path, span_generator()) as rag:
        answer = rag.ask("Is the licence free?")
        assert answer.kind == "extract" and answer.sentences
        assert rag.ask("Is the licence free?", k=0).kind == "span"
        plain, copied = (rag.ask("Who buys the licence?", copy=copy) for copy in (False, True))
        assert plain.best_guess == copied.best_guess and plain.log_prob == copied.log_prob
        many = rag.ask_many(["Is the licence free?", "Who buys the licence?"])
        assert [each.kind for each in many] == ["extract", "span"]


def test_items_of_an_extractive_reader_have_their_probability(tmp_path: Path) -> None:
    with opened(tmp_path, span_generator()) as rag:
        mixture = rag.condition("Who are the people that the licence is sold to?")
        scored = mixture.score("guests")
        answer = rag.ask("Who are the people that the licence is sold to?")
        span = replace(answer, best_guess="guests", scored=scored)
        listed = in_kind("list", Beam(1)).complete(span, DecoderResult((scored,)))
        assert [item.text for item in listed.items] == ["members", "guests", "visitors"]
        for item in listed.items:
            assert item.probability == pytest.approx(math.exp(mixture.log_prob(item.text)))


def test_only_answers_that_a_guarantee_covers_are_given_where_that_is_asked(rag: RAG) -> None:
    settings = Settings(guaranteed_only=True)
    for question in ("Is the ferry running in summer?", "Why does the ferry run?", "Who may buy the licence?"):
        answer = rag.ask(question)
        assert answer.text is not None and answer.guarantee is None
        withheld = replace(answer, guaranteed_only=settings.guaranteed_only)
        assert withheld.abstains and withheld.text is None and withheld.best_guess == answer.best_guess


def test_what_a_guarantee_has_to_cover_is_not_shown_before_it_is_known(rag: RAG) -> None:
    stream = rag.stream("Who may buy the licence?")
    assert not stream.may_abstain
    settings = replace(stream.settings, guaranteed_only=True)
    asked = Stream(stream.mixture, stream.retrieval, settings, stream.decoder)
    assert asked.may_abstain and asked.answer.abstains


def test_of_a_list_the_text_is_shown_whole(rag: RAG) -> None:
    answer = rag.ask("Who are the licence's buyers?", kind="list")
    assert answer.kind == "list" and repr(answer.text) in repr(answer)

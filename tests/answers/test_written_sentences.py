"""Each sentence of an answer with the posterior of the passages: data, JSON, page."""

from __future__ import annotations

import json
import math

import lxml.html
import pytest
import torch

from explained import FIRST, SECOND, WRITES_FIRST, WRITES_SECOND, explained
from mixrag.answers.answer import Answer
from mixrag.answers.explanation import Explanation
from mixrag.answers.explanation_html import explanation_page
from mixrag.answers.written_sentences import sentence_spans
from mixrag.cli import show

WORDS = ("nine", "crowns.", "every", "winter.", "<end>")
TEXT = "nine crowns. every winter."
SWITCH, PRIOR = 0.5, (0.6, 0.4)


def two_sentences(switch_at: str = "sentence", **options: object) -> Explanation:
    return explained(answer=TEXT, words=WORDS, switch=SWITCH, switch_at=switch_at, **options)


def answer_of(why: Explanation) -> Answer:
    assert isinstance(why.answer, Answer)
    return why.answer


def test_the_posterior_of_a_sentence_is_that_of_the_passage_that_wrote_it() -> None:
    answer = answer_of(two_sentences())
    first, second = answer.written_sentences
    assert (first.text, second.text) == ("nine crowns.", "every winter.")
    assert [(each.start, each.end) for each in (first, second)] == [(0, 2), (2, 4)]
    # Hidden passages of both sentences and of the end: the third may change again.
    joint = {}
    for a in (0, 1):
        for b in (0, 1):
            for c in (0, 1):
                stays = [(1 - SWITCH) * (x == y) + SWITCH * PRIOR[y] for x, y in ((a, b), (b, c))]
                written = [
                    (WRITES_FIRST, WRITES_SECOND)[z][t] for z, t in ((a, 0), (a, 1), (b, 2), (b, 3), (c, 4))
                ]
                joint[a, b, c] = PRIOR[a] * math.prod(stays) * math.prod(written)
    total = math.fsum(joint.values())
    assert answer.probability == pytest.approx(total)
    for position, sentence in enumerate((first, second)):
        for z in (0, 1):
            exact = math.fsum(p for path, p in joint.items() if path[position] == z) / total
            assert sentence.posterior[z] == pytest.approx(exact)
    assert first.posterior[0] > 0.95 and second.posterior[1] > 0.9 and first.null == 0.0


def test_with_a_switch_between_tokens_it_is_the_mean_of_its_tokens() -> None:
    answer = answer_of(two_sentences("token", null=0.2, prior=(0.5, 0.3)))
    assert answer.switch_at == "token" and len(answer.written_sentences) == 2
    for sentence in answer.written_sentences:
        part = answer.tokens[sentence.start : sentence.end]
        means = torch.tensor([each.responsibility for each in part]).mean(0)
        assert sentence.posterior == pytest.approx(tuple(means.tolist()))
        assert sum(sentence.posterior) + sentence.null == pytest.approx(1.0)
    assert abs(part[0].responsibility[0] - part[1].responsibility[0]) > 1e-3


def test_an_answer_without_a_mark_is_one_sentence_and_the_empty_one_is_none() -> None:
    one = answer_of(explained(switch=0.0))
    (sentence,) = one.written_sentences
    assert sentence.text == one.best_guess and (sentence.start, sentence.end) == (0, 4)
    assert sentence.posterior == pytest.approx([each.posterior for each in one.passages])
    assert answer_of(explained(answer="")).written_sentences == ()


def test_json_has_the_sentences() -> None:
    answer = answer_of(two_sentences())
    document = json.loads(json.dumps(answer.to_dict()))
    assert document["switch_at"] == "sentence"
    for shown, sentence in zip(document["written_sentences"], answer.written_sentences, strict=True):
        assert set(shown) == {"text", "start", "end", "posterior", "null"}
        assert shown["posterior"] == list(sentence.posterior) and shown["text"] == sentence.text


def test_the_page_has_a_table_of_several_sentences_and_none_of_one() -> None:
    why = two_sentences()
    page = lxml.html.document_fromstring(explanation_page(why))
    rows = page.xpath("//section[@aria-labelledby='sentences']//tbody/tr")
    assert [row.xpath("string(th)") for row in rows] == ["nine crowns.", "every winter."]
    for row, sentence in zip(rows, answer_of(why).written_sentences, strict=True):
        shown = [float(value) for value in row.xpath(".//data/@value")]
        assert shown == pytest.approx(sentence.posterior)
    alone = lxml.html.document_fromstring(explanation_page(explained()))
    assert not alone.xpath("//section[@aria-labelledby='sentences']")


def test_why_names_the_passages_of_each_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    why = two_sentences(texts=(FIRST, SECOND))
    answer = answer_of(why)
    show.answer(answer, why, as_json=False)
    printed = capsys.readouterr().out
    assert "- nine crowns.  [passage 1: " in printed and "- every winter.  [passage 2: " in printed
    assert f"passage 1: {answer.written_sentences[0].posterior[0]:.3f}" in printed


def test_spans_cover_all_tokens() -> None:
    assert list(sentence_spans([])) == []
    assert list(sentence_spans([True, False])) == [(0, 1), (1, 2)]

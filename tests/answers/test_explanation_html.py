"""The page says what the mixture says, and nothing that a document would make it say."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from explained import ANSWER, EITHER, FIRST, QUESTION, SECOND, explained
from mixrag.answers.confidence import Confidence
from mixrag.answers.explanation import Explanation
from mixrag.answers.explanation_html import explanation_page
from mixrag.utils import html

HOSTILE = "</style></title></mark><script>alert(1)</script><img src=x onerror=alert(1)> & \"'`{{ 7 * 7 }}{% raw %}"
STEERING = "a\x00b\x1bc\x85d\u202ee\u2066f\ufdd0g\ufffeh\U0010ffffi\ud800j\x0ck\rl\r\nm"
SHOWN = "a�b�c�d�e�f�g�h�i�j�k\nl\nm"


def parsed(why: Explanation) -> Any:
    """The page as a browser's forgiving parser sees it; a strict one has to take it as well."""
    page = explanation_page(why)
    etree.fromstring(page.encode(), etree.XMLParser(resolve_entities=False, huge_tree=True))
    return lxml.html.document_fromstring(page)


def select(found: Any, path: str) -> list[Any]:
    """Elements below one another, each step a tag, .class, tag.class, or #id of a section's heading."""
    elements = [found]
    for step in path.split():
        tag, _, name = step.partition(".")
        named = f"section[@aria-labelledby='{tag[1:]}']" if tag.startswith("#") else tag or "*"
        classed = f"[contains(concat(' ', @class, ' '), ' {name} ')]" if name else ""
        elements = [each for element in elements for each in element.xpath(f".//{named}{classed}")]
    return list(dict.fromkeys(elements))


def texts(found: Any, path: str) -> list[str]:
    return [" ".join(element.text_content().split()) for element in select(found, path)]


def values(found: Any, path: str) -> list[float]:
    return [float(element.get("value")) for element in select(found, path)]


def runs(found: Any) -> list[tuple[str, str, str]]:
    """For each stretch of the answer in one colour: its class, its words, its number."""
    found_runs = []
    for run in select(found, ".answer .run"):
        words = "".join(token.text_content() for token in select(run, ".token"))
        found_runs.append((run.get("class").removeprefix("run "), words, "".join(texts(run, "sup"))))
    return found_runs


def test_words_have_the_colour_and_number_of_their_passage() -> None:
    found = parsed(explained())
    assert runs(found) == [("c1", "nine crowns", "1"), ("c2", "every winter", "2")]
    assert "".join(select(found, ".answer")[0].itertext()) == "nine crowns1 every winter2"
    assert runs(parsed(explained(texts=(SECOND, FIRST)))) == runs(found), "the rank decides, not the text"


def test_a_word_shows_how_probably_each_passage_wrote_it() -> None:
    first, *_ = select(parsed(explained()), ".answer .token")
    share = 0.6 * 0.9 / (0.6 * 0.9 + 0.4 * 0.1)
    assert f"written by passage 1: {share:.4f}; passage 2: {1 - share:.4f}." in first.get("title")
    assert "p(token) = 0.5800" in first.get("title")


def test_where_no_passage_leads_words_are_underlined_and_have_no_colour() -> None:
    weak = [(0.9, 0.9, 0.01, 0.01, 0.5)]
    found = parsed(explained((FIRST,), weak, (0.5,), null=0.5))
    assert runs(found) == [("c1", "nine crowns", "1"), ("null", "every winter", "∅")]
    assert "No passage" in texts(found, ".part h3")[-1] and "∅" in select(found, ".note")[0].text_content()


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_every_number_is_that_of_why(switch: float) -> None:
    why = explained(switch=switch, null=0.2, prior=(0.5, 0.3))
    found, answer = parsed(why), why.answer
    assert values(found, "#answer data") == [
        answer.probability,
        answer.log_prob,
        math.exp(why.log_null_likelihood),
        why.log_null_likelihood,
    ]
    assert values(found, "#weights tbody data") == [
        x for component in why.components for x in (component.prior, component.posterior)
    ]
    for component, article in zip(why.components, select(found, "article"), strict=True):
        logs = [component.log_likelihood, component.log_without]
        assert values(article, ".numbers data") == [
            component.prior,
            component.posterior,
            *component.inner_products,
            *(x for log in logs for x in (log, math.exp(log))),
            component.log_evidence_ratio,
            *([] if component.poisoning is None else [component.poisoning]),
            component.alone_log_prob,
            math.exp(component.alone_log_prob),
        ]
        assert texts(article, "q") == [component.alone] and texts(article, "pre") == [component.prompt]
    table = values(found, ".tokens tbody data")
    assert table == [
        x
        for token in answer.tokens
        for x in (math.exp(token.log_prob), token.log_prob, *token.responsibility, token.null)
    ]


def test_what_is_read_is_the_value_rounded() -> None:
    for element in select(parsed(explained(null=0.2, prior=(0.5, 0.3))), "data"):
        shown, value = element.text_content(), float(element.get("value"))
        digits = len(shown.partition(".")[2])
        assert float(shown.replace("−", "-")) == pytest.approx(value, abs=0.51 * 10**-digits)


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.5, "0.5000"),
        (0.99996, "> 0.9999"),
        (0.99994, "0.9999"),
        (0.0001, "0.0001"),
        (0.00009, "9.0e−05"),
        (1 + 1e-12, "1"),
        (math.nan, "undefined"),
    ],
)
def test_only_what_is_certain_looks_certain(p: float, shown: str) -> None:
    assert html.probability(p) == shown


def test_logarithms() -> None:
    shown = [html.nats(x) for x in (-1.23456, 0.0, 2.0, -math.inf, math.nan)]
    assert shown == ["−1.235", "0.000", "2.000", "−∞", "undefined"]
    assert [html.nats(x, True) for x in (-1.0, 1.0, -1e-9)] == ["−1.000", "+1.000", "0.000"]


def test_each_passage_marks_the_words_that_it_is_cited_for() -> None:
    found = parsed(explained())
    assert texts(found, "mark") == ["nine crowns", "every winter"]
    assert [mark.get("class") for mark in select(found, "mark")] == ["c1", "c2"]
    assert texts(found, "blockquote") == [FIRST, SECOND]
    assert texts(found, ".part .note")[0] == "Characters 100 to 157 of 1.txt"
    assert all("that it most probably wrote occur here in a row" in texts(found, ".part .note")[i] for i in (1, 3))


def test_a_passage_that_says_all_of_it_is_cited_for_all_and_another_for_nothing() -> None:
    holding = f"In truth it costs NINE crowns – every winter!  {SECOND}"
    found = parsed(explained((FIRST, holding, "Hens lay eggs."), [EITHER] * 3, (0.8, 0.1, 0.1), switch=0.0))
    assert texts(found, "mark") == ["NINE crowns – every winter"]
    notes = [note for note in texts(found, ".part .note") if "ited" in note]
    assert notes == [
        "No span cited: too few of the answer's words are close together here.",
        "Cited: the answer's words occur here in a row.",
        "No span cited: too few of the answer's words are close together here.",
    ]


def test_hostile_documents_are_text() -> None:
    why = explained((HOSTILE + " " + FIRST, SECOND + " " + HOSTILE), question=HOSTILE)
    why = _with(why, prompt=HOSTILE, alone=HOSTILE)
    answer = why.answer
    named = [replace(each, document=f"/{HOSTILE}", title=HOSTILE) for each in answer.passages]
    why = replace(why, answer=replace(answer, passages=tuple(named)))
    found = parsed(why)
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "article",
        "svg",
        "rect",
    }
    known |= {
        "h1",
        "h2",
        "h3",
        "p",
        "span",
        "sup",
        "a",
        "strong",
        "data",
        "div",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "q",
    }
    known |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "blockquote", "mark", "br", "pre", "details"}
    assert {element.tag for element in found.iter(etree.Element)} <= known | {"summary"}
    assert len(select(found, "style")) == 1 and len(select(found, "mark")) == 2
    assert select(found, "h1")[0].text_content() == HOSTILE
    assert [e.text_content() for e in select(found, "q")] == [HOSTILE] * 2
    assert [e.text_content().lstrip("\n") for e in select(found, "pre")] == [HOSTILE] * 2
    assert select(found, "blockquote")[0].text_content() == HOSTILE + " " + FIRST
    assert HOSTILE in select(found, ".part .note")[0].text_content()
    assert select(found, ".part .note")[0].get("title") == f"/{HOSTILE}"
    for element in found.iter(etree.Element):
        assert not [name for name in element.attrib if name.startswith("on") or name in ("src", "style")]
        assert element.get("href", "#").startswith("#"), "links stay on the page"


def _with(why: Explanation, **changes: Any) -> Explanation:
    return replace(why, components=tuple(replace(component, **changes) for component in why.components))


def test_characters_that_steer_or_are_forbidden_are_replaced() -> None:
    why = explained((f"{STEERING} Now: {FIRST}", SECOND), question=STEERING)
    found = parsed(_with(why, prompt=STEERING))
    assert select(found, "h1")[0].text_content() == SHOWN
    assert select(found, "pre")[0].text_content().lstrip("\n") == SHOWN
    assert select(found, "blockquote")[0].text_content() == f"{SHOWN} Now: {FIRST}"
    assert texts(found, "mark") == ["nine crowns", "every winter"], "offsets are those of the passage"


@settings(max_examples=30, deadline=None)
@given(st.text(), st.text())
def test_any_text_makes_a_well_formed_page(question: str, text: str) -> None:
    words = {len(t.split()) for t in (text, SECOND)}
    if len(words) == 2 and len(text.split()) > 0:
        parsed(explained((text, SECOND), question=question))


def test_the_page_needs_nothing_else_and_its_policy_lets_nothing_in() -> None:
    page = explanation_page(explained())
    for part in ("http:", "https:", "url(", "@import", "<script", "src=", "javascript:"):
        assert part not in page
    found = lxml.html.document_fromstring(page)
    style = select(found, "style")[0].text_content()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = (m.get("content") for m in found.xpath(".//meta[@http-equiv]"))
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert found.get("lang") == "en" and page.startswith("<!DOCTYPE html>")


def test_headings_descend_and_anchors_exist_once() -> None:
    found = parsed(explained(null=0.1))
    levels = [int(heading.tag[1]) for heading in found.xpath(".//h1|.//h2|.//h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [element.get("id") for element in found.xpath(".//*[@id]")]
    assert len(ids) == len(set(ids))
    named = {e.get("aria-labelledby") for e in found.xpath(".//*[@aria-labelledby]")}
    assert {link.get("href")[1:] for link in select(found, "a")} | named <= set(ids)


def test_the_closed_book() -> None:
    found = parsed(explained((), (), (), outside=None, null=1.0))
    assert runs(found) == [("null", ANSWER, "∅")]
    assert "Without any passage" not in found.text_content()
    assert "closed book: the language model alone" in texts(found, ".headline")[0]
    assert texts(found, "h2")[3] == "The language model alone"
    assert "nothing would be left" in found.text_content() and "No passage was asked for" in found.text_content()


def test_a_group_has_one_number_and_one_colour() -> None:
    three = (FIRST, SECOND, "Hens lay fewer eggs.")
    found = parsed(explained(three, [EITHER] * 3, (0.5, 0.3, 0.2), group=2))
    assert runs(found) == [("c1", ANSWER, "1–2")]
    assert [len(select(article, "blockquote")) for article in select(found, "article")] == [2, 1]
    assert texts(found, "article .badge") == ["1–2", "3"]
    together = parsed(explained(three, [EITHER] * 3, (0.5, 0.3, 0.2), group=None))
    assert len(select(together, "article")) == 1 and runs(together) == [("c1", ANSWER, "1–3")]


def test_an_empty_answer() -> None:
    found = parsed(explained(answer=""))
    assert not select(found, ".answer") and "The empty answer" in found.text_content()
    assert "(no text)" in texts(found, ".tokens th")


def test_fifty_passages() -> None:
    many = [" ".join(["x"] * (n + 1)) for n in range(50)]
    likelihoods = [(0.9 if n == 40 else 0.1,) * 5 for n in range(50)]
    found = parsed(explained(many, likelihoods, [0.02] * 50))
    # Colours are few: whoever writes has one before those that do not.
    assert runs(found) == [("c7", ANSWER, "41")]
    assert len(select(found, "article")) == 50 and len(select(found, "article.c0")) == 43
    assert "the others are grey" in texts(found, ".note")[0]
    shares = [e.get("value") for e in select(select(found, ".tokens tbody tr")[0], "data")][2:]
    assert len(shares) == 9 and sum(map(float, shares)) == pytest.approx(1.0)
    assert "others: " in select(found, ".token")[0].get("title")


def test_an_impossible_answer_is_written_by_nobody() -> None:
    found = parsed(explained(likelihoods=[(0.0, 0.9, 0.9, 0.9, 0.5)] * 2))
    assert runs(found) == [("", ANSWER, "")]
    assert "log −∞ nats" in texts(found, ".headline")[0] and "nan" not in found.text_content()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, "Exact: no passage was left out."),
        ({"outside": 0.25}, "prior mass 0.2500 among all passages."),
        ({"outside": None}, "is unknown: the search was approximate, or the weights are uniform."),
        ({"outside": 0.25, "group": None}, "cut a group short"),
        ({"certified": True}, "Certified by beam search"),
        ({"certified": False}, "beam search pruned a beginning"),
        ({}, "Not certified: another answer may be more probable."),
        ({"likelihoods": [(0.99,) * 5] * 2}, "more than half of all probability"),
        ({"likelihoods": [(0.99,) * 5] * 2, "outside": 0.4}, "more than half of all probability"),
        ({"likelihoods": [(0.99,) * 5] * 2, "outside": 0.5}, "Not certified"),
        ({"certified": False, "rounding": 0.5}, "that was, or without rounding may be, more probable"),
        ({"rounding": 0.5}, "rounding moves the log-odds of a token by 0.5 at most"),
        ({"likelihoods": [(0.9,) * 5] * 2}, "more than half of all probability"),
        ({"likelihoods": [(0.9,) * 5] * 2, "rounding": 0.5}, "Not certified"),
        ({"likelihoods": [(0.9,) * 5] * 2, "outside": None, "rounding": 0.5}, "Not certified"),
    ],
)
def test_certificates(options: dict[str, Any], part: str) -> None:
    switched = {"switch": 0.0, **options}
    assert any(part in line for line in texts(parsed(explained(**switched)), "#certain li"))


def test_bounds_over_all_passages_are_those_of_the_answer() -> None:
    why = explained(outside=0.25)
    low, high = (math.exp(bound) for bound in why.answer.log_bounds)
    found = [v for v in values(parsed(why), "#certain data") if v in (low, high)]
    assert found == [low, high] and low < why.answer.probability < high


def test_what_rounding_leaves_open_is_shown_as_it_is() -> None:
    why = explained(rounding=0.5, outside=0.25)
    ends = [math.exp(end) for end in (*why.answer.log_bounds, *why.answer.log_interval)]
    found = [v for v in values(parsed(why), "#certain data") if v in ends]
    assert found == ends and ends[2] < why.answer.probability < ends[3]
    assert not any("rounded" in line for line in texts(parsed(explained()), "#certain li"))


def test_the_normaliser_is_named() -> None:
    assert "whose prior sums to one (normaliser top-k)" in texts(parsed(explained()), ".headline")[0]
    full = explained(prior=(0.5, 0.3), outside=0.2, normaliser="full")
    assert "in the mixture over all passages (normaliser full)" in texts(parsed(full), ".headline")[0]


def test_a_shortened_passage_is_named_by_its_number() -> None:
    from mixrag.generator import Shortened

    why = explained()
    short = replace(why.answer, shortened=(Shortened("id:2", 3, 9),), finished=False)
    lines = texts(parsed(replace(why, answer=short)), "#certain li")
    assert "Passage 2 was shortened for the model: 3 of 9 tokens were read." in lines
    assert any(line.startswith("Cut off") for line in lines)


def test_a_title_beside_a_file_name_is_shown() -> None:
    why = explained()
    titled = replace(why.answer.passages[0], title="Of cod")
    named = replace(why, answer=replace(why.answer, passages=(titled, why.answer.passages[1])))
    assert texts(parsed(named), ".part .note")[0] == "Characters 100 to 157 of 1.txt, titled “Of cod”"
    assert QUESTION in select(parsed(named), "title")[0].text_content()


def test_an_answer_that_is_withheld_says_so_with_its_number() -> None:
    base = explained()
    sure, unsure = (Confidence(0.25, threshold, "sixty <b>pairs</b>") for threshold in (0.2, 0.5))
    page = explanation_page(replace(base, answer=replace(base.answer, confidence=unsure)))
    assert "No answer, and the best guess" in page and "below the" in page and "&lt;b&gt;pairs" in page
    assert page.count("0.2500") >= 2 and "0.5000" in page
    page = explanation_page(replace(base, answer=replace(base.answer, confidence=sure)))
    assert "No answer" not in page and "0.2500" in page
    page = explanation_page(replace(base, answer=replace(base.answer, uncalibrated="k")))
    assert "calibrated with other k" in page


def test_a_citation_of_a_pdf_opens_its_page_and_shows_the_context() -> None:
    why = explained()
    first, second = why.answer.passages
    document = '/files/a b#c%20"<.pdf'
    placed = replace(first, document=document, page=12, place="page 12", context="Fees › <b>Ferries</b>")
    answer = replace(why.answer, passages=(placed, replace(second, page=3, place="slide 3")))
    found = parsed(replace(why, answer=answer))
    (link,) = (each for each in select(found, "a") if "file:" in each.get("href", ""))
    assert link.get("href") == "file:///files/a%20b%23c%2520%22%3C.pdf#page=12"
    assert link.text_content() == 'a b#c%20"<.pdf'
    shown = texts(found, "p.note")
    assert any(", page 12, titled" in each for each in shown) and any("2.txt, slide 3" in each for each in shown)
    assert texts(found, "p.context") == ["Fees › <b>Ferries</b>"]
    assert any("page 12 [100:" in each for each in texts(found, "td"))

"""Answers on the page, by kind and certainty: those of the pipeline, changed where a test needs it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mixrag import RAG
from mixrag.server.native.citations import citations_of
from page_tools import Answering, ask, violations

QUESTION = "What does a licence for cod cost?"
SURE = {
    "value": 0.9,
    "words": "very likely",
    "level_right": 0.93,
    "level_n": 120,
    "answerable": None,
    "threshold": 0.3,
    "fitted_on": "questions about licences (200 questions, 150 right)",
    "abstains": False,
}


@pytest.fixture
def document(rag: RAG) -> dict[str, Any]:
    """An answer as ``/v1/answers`` gives it."""
    answer = rag.ask(QUESTION)
    return {**answer.to_dict(), "citations": citations_of(answer)}


def test_each_run_of_words_has_the_colour_of_its_passage(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    first, second = document["tokens"][0], document["tokens"][1]
    first["responsibility"], second["responsibility"] = [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]
    answering(("answer", document))
    ask(tab, QUESTION)
    runs = tab.locator("#answer .run")
    assert [each.inner_text().split() for each in runs.all()] == [["nine1"], ["crowns2"]]
    assert [each.get_attribute("class") for each in runs.all()] == ["run c1", "run c2"]
    grounds = [each.evaluate("node => getComputedStyle(node).backgroundColor") for each in runs.all()]
    assert len(set(grounds)) == 2


def test_what_no_passage_wrote_is_marked_so(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    document["null"] = {"prior": 0.1, "posterior": 0.7, "reweighted_prior": None}
    for token in document["tokens"]:
        token["responsibility"], token["null"] = [0.1, 0.1, 0.1], 0.7
    answering(("answer", document))
    ask(tab, QUESTION)
    assert tab.locator("#answer .run.null").inner_text().replace("\n", "") == "nine crowns∅"
    expect(tab.locator("#sources")).to_contain_text(
        "The language model by itself, without any passage, wrote 70 % of it."
    )


def test_bars_show_the_weights_before_and_after(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    answering(("answer", document))
    ask(tab, QUESTION)
    first = tab.locator(".passage").first
    expect(first).to_contain_text("cod.txt")
    shares = first.locator(".fill").evaluate_all(
        "nodes => nodes.map(node => Number(node.style.getPropertyValue('--share')))"
    )
    assert shares == pytest.approx([document["passages"][0]["prior"], document["passages"][0]["posterior"]])
    assert [each.inner_text() for each in first.locator(".value").all()] == [
        f"{100 * document['passages'][0][name]:.0f} %" for name in ("prior", "posterior")
    ]
    assert first.locator("mark").inner_text() == "nine crowns"


def test_how_sure_is_a_sentence(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    answering(("answer", {**document, "confidence": SURE}))
    ask(tab, QUESTION)
    said = tab.locator(".sure").inner_text()
    assert said == "Very likely right. Of answers this sure, 9 in 10 were right, on questions about licences."
    assert "0.9" not in tab.locator("#answer").inner_text()
    assert violations(tab) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level_n": 7, "level_right": 1 / 7}, "Of 7 answers this sure, 1 was right"),
        ({"level_right": 0.99}, "Of answers this sure, 99 in 100 were right"),
        ({"words": "unsure", "level_right": 0.44}, "Unsure. Of answers this sure, 4 in 10 were right"),
    ],
)
def test_the_record_of_a_level_is_said_as_it_is(
    tab: Page, answering: Answering, document: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    answering(("answer", {**document, "confidence": {**SURE, **changes}}))
    ask(tab, QUESTION)
    expect(tab.locator(".sure")).to_contain_text(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uncalibrated": "k"}, "It was measured with another value of the setting k."),
        ({"uncalibrated": "models"}, "It was measured with other models."),
        ({"finished": False}, "The answer was cut off"),
    ],
)
def test_why_it_is_not_known_how_sure_is_said(
    tab: Page, answering: Answering, document: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    answering(("answer", {**document, **changes}))
    ask(tab, QUESTION)
    expect(tab.locator(".sure")).to_contain_text(f"How sure is not known. {said}")


def test_a_guarantee_is_said_in_words(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    guarantee = {"right": 0.9, "probability": 0.95, "threshold": 0.5, "n": 300, "answered": 200, "wrong": 9}
    found = {**document, "confidence": SURE, "guarantee": {**guarantee, "group": "", "pairs": "pairs.jsonl"}}
    answering(("answer", found))
    ask(tab, QUESTION)
    expect(tab.locator(".guarantee")).to_contain_text("of answers this sure, at least 90 % are right")
    expect(tab.locator(".guarantee")).to_contain_text("300 questions")


def test_an_answer_that_is_withheld_is_a_guess_behind_a_button(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    unsure = {**SURE, "value": 0.1, "words": "unlikely", "level_right": 0.1, "abstains": True}
    answering(("answer", {**document, "answer": None, "confidence": unsure}))
    ask(tab, QUESTION)
    shown = tab.locator("#answer")
    expect(shown).to_contain_text("No answer found.")
    expect(shown).to_contain_text("There is a guess, but of answers this sure, 1 in 10 were right.")
    expect(tab.get_by_role("heading", name="The passages that fit best")).to_be_visible()
    assert "Wrote the answer" not in tab.locator("#sources").inner_text()
    expect(tab.get_by_role("button", name="Copy")).to_be_hidden()
    assert not tab.get_by_text("nine crowns", exact=True).first.is_visible()
    assert violations(tab) == ""
    tab.get_by_text("Show the best guess").click()
    expect(tab.locator(".guess .words")).to_contain_text("nine crowns")
    assert violations(tab) == ""


def test_documents_that_do_not_say_it_are_said_so(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    answering(("answer", {**document, "answer": None, "p_empty_within": 0.8}))
    ask(tab, QUESTION)
    expect(tab.locator("#answer")).to_contain_text("What was read in your documents does not seem to say it.")


def test_yes_or_no_has_both_shares(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    items = [
        {"text": text, "probability": p, "passage": None, "start": None, "end": None}
        for text, p in (("yes", 0.83), ("no", 0.17))
    ]
    answering(("answer", {**document, "kind": "yes-no", "items": items}))
    ask(tab, QUESTION)
    assert tab.locator(".either").inner_text().split() == ["yes", "83", "%", "no", "17", "%"]
    assert violations(tab) == ""


def test_the_items_of_a_list_open_where_they_stand(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    passage = document["passages"][1]
    start = passage["start"] + passage["text"].index("four crowns")
    items = [
        {
            "text": "nine crowns",
            "probability": 0.9,
            "passage": document["passages"][0]["id"],
            "start": 28,
            "end": 39,
        },
        {"text": "four crowns", "probability": None, "passage": passage["id"], "start": start, "end": start + 11},
    ]
    answering(("answer", {**document, "kind": "list", "items": items}))
    ask(tab, QUESTION)
    assert [re.sub(r"\d$", "", each.inner_text()).strip() for each in tab.locator(".items li").all()] == [
        "nine crowns",
        "four crowns",
    ]
    assert violations(tab) == ""
    tab.locator(".items .reference").nth(1).click()
    expect(tab.locator("#reader mark.cited")).to_have_text("four crowns")


def test_an_extract_is_said_to_be_one(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    sentences = [
        {"text": each["text"], "passage": each["id"], "document": each["document"], "page": None, "place": ""}
        | {"start": each["start"], "end": each["end"], "probability": 0.5}
        for each in document["passages"][:2]
    ]
    answering(("answer", {**document, "kind": "extract", "sentences": sentences, "written_sentences": []}))
    ask(tab, QUESTION)
    expect(tab.locator("#answer")).to_contain_text("Sentences of your documents, word for word")
    assert tab.locator(".sentences .run").count() == 2
    assert violations(tab) == ""


def test_a_server_without_probabilities_is_said_to_be_one(tab: Page, answering: Answering) -> None:
    found = {
        "question": QUESTION,
        "answer": "nine crowns",
        "log_prob": None,
        "no_probability": "the server lists no probabilities",
        "components": [
            {"passages": ["1"], "titles": ["cod"], "prior": 0.9, "text": "nine crowns", "finished": True}
        ],
    }
    answering(("answer", found))
    ask(tab, QUESTION)
    expect(tab.locator("#answer")).to_contain_text("Words have no colours: the server lists no probabilities.")
    expect(tab.locator("#sources")).to_contain_text("90 %")
    assert violations(tab) == ""


def test_numbers_are_behind_details(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    answering(("answer", document))
    ask(tab, QUESTION)
    exact = f"{document['probability']:.4f}"
    expect(tab.get_by_text(re.compile("nats"))).to_be_hidden()
    tab.get_by_text("Details", exact=True).click()
    expect(tab.locator("#numbers")).to_contain_text(f"{exact} (log")
    assert tab.locator("#numbers table").nth(1).locator("tbody tr").count() == len(document["tokens"])
    assert violations(tab) == ""


def test_an_error_in_the_stream_is_shown(tab: Page, answering: Answering) -> None:
    answering(
        (
            "error",
            {"error": {"message": "expected more memory", "type": "server_error", "param": None, "code": None}},
        )
    )
    tab.get_by_label("Ask your documents").fill(QUESTION)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("expected more memory")
    expect(tab.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    assert violations(tab) == ""


def test_an_answer_that_breaks_off_is_an_error(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    answering(
        ("passages", {"passages": document["passages"]}),
        ("token", {"text": "nine", "log_prob": -0.1, "posterior": [1, 0, 0]}),
    )
    tab.get_by_label("Ask your documents").fill(QUESTION)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("The answer was broken off.")


def test_a_refused_question_says_why(tab: Page, answering: Answering) -> None:
    answering(status=429)
    tab.get_by_label("Ask your documents").fill(QUESTION)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("The server answered with status 429.")

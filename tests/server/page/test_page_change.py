"""What would change an answer: its probability without each passage, and the answer that there would be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from test_page_answers import SURE

from mixrag import RAG
from mixrag.server.native.citations import citations_of
from page_tools import Answering, ask, violations

COD = "What does a licence for cod cost?"
NOT_ASKED = "It was not asked without the other, which carries little weight."


@pytest.fixture
def document(rag: RAG) -> dict[str, Any]:
    """An answer as ``/v1/answers`` gives it."""
    answer = rag.ask(COD)
    return {**answer.to_dict(), "citations": citations_of(answer)}


def weighed(
    document: dict[str, Any],
    weights: Sequence[tuple[float, float]],
    empty: tuple[float, Sequence[float]] | None = None,
) -> None:
    """Give passages a posterior and p_without, and where ``empty`` is given p(∅), with all and without each."""
    for each, (posterior, without) in zip(document["passages"], weights, strict=True):
        each.update(posterior=posterior, p_without=without)
    if empty is not None:
        document["p_empty_within"] = empty[0]
        for each, p in zip(document["passages"], empty[1], strict=True):
            each["p_empty_without"] = p


def then(tab: Page, document: dict[str, Any], changes: dict[int, str | None]) -> None:
    """Let the server answer the same without any passage but these."""
    places = {each["id"]: i for i, each in enumerate(document["passages"])}

    def fulfil(route: Route) -> None:
        (without,) = route.request.post_data_json["without"]
        text = changes.get(places[without], document["answer"])
        route.fulfill(json={**document, "answer": text, "best_guess": text or document["best_guess"]})

    tab.route("**/v1/answers", fulfil)


def percent(p: float) -> str:
    return f"{100 * p:.0f} %"


def test_it_says_which_passage_decides_and_what_the_answer_would_be(tab: Page, document: dict[str, Any]) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="What would change it?").click()
    found = tab.locator("#changes")
    expect(found.locator(".finding")).to_have_text(
        f"Passage 1 decides it: without it the answer would be four crowns. {NOT_ASKED}"
    )
    rows = found.locator(".changes").first.locator("li")
    first, second = document["passages"][:2]
    expect(rows.nth(0)).to_contain_text("cod.txt")
    expect(rows.nth(0)).to_contain_text("The answer would be four crowns.")
    fall = f"fall from {percent(document['probability'])} to {percent(first['p_without'])}."
    expect(rows.nth(0)).to_contain_text(f"Its probability would {fall}")
    assert second["posterior"] > 0.05
    expect(rows.nth(1)).to_contain_text("The same answer.")
    assert violations(tab) == ""


def test_it_asks_without_each_passage_that_carries_weight_and_claims_nothing_of_others(
    tab: Page, document: dict[str, Any]
) -> None:
    ask(tab, COD)
    asked = []
    tab.on("request", lambda each: asked.append(each.post_data_json) if "/v1/answers" in each.url else None)
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_contain_text("decides it")
    first, second, third = document["passages"]
    assert [each["without"] for each in asked] == [[first["id"]], [second["id"]]]
    assert third["posterior"] < 0.05
    row = tab.locator("#changes .changes li").nth(2)
    expect(row).not_to_contain_text("The same answer")
    expect(row).to_contain_text("Its probability would")
    row.get_by_role("button", name="Ask without passage 3").click()
    expect(row).to_contain_text("The same answer.")
    expect(tab.locator("#changes .finding")).to_have_text(
        "Passage 1 decides it: without it the answer would be four crowns."
    )


def test_its_numbers_are_behind_a_summary(tab: Page, document: dict[str, Any]) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_contain_text("decides it")
    table = tab.locator("#changes table")
    expect(table).to_be_hidden()
    tab.locator("#changes").get_by_text("Numbers").click()
    cells = table.locator("tbody tr").nth(1).locator("td").all_inner_texts()
    assert cells[:2] == [f"{document['passages'][0]['p_without']:.4f}", "four crowns"]
    assert violations(tab) == ""


def test_a_passage_of_it_opens_its_document(tab: Page) -> None:
    ask(tab, COD)
    tab.get_by_role("button", name="What would change it?").click()
    tab.locator("#changes").get_by_role("button", name="Passage 2, eel.txt: open").click()
    expect(tab.locator("#reader .document")).to_contain_text("A licence to fish eel")


def test_nothing_would_change_it_where_every_passage_can_be_missed(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    weighed(document, [(0.4, 0.93), (0.3, 0.93), (0.3, 0.93)])
    answering(("answer", {**document, "confidence": SURE}))
    ask(tab, COD)
    then(tab, document, {})
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_have_text(
        "No single passage decides it: without any one of them the answer stays the same."
    )
    assert tab.locator("#changes").get_by_text("The same answer.").count() == 3


def test_an_answer_that_would_be_withheld_is_said_to_be(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    """Where p(answer) is given that one is stated, it stays high without the one passage that states it."""
    weighed(document, [(0.97, 0.66), (0.02, 0.99), (0.01, 0.99)])
    answering(("answer", {**document, "probability": 0.98, "confidence": SURE}))
    ask(tab, COD)
    then(tab, document, {0: None})
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_have_text(
        "Passage 1 decides it: without it no answer would be given. "
        "It was not asked without the others, which carry little weight."
    )
    assert tab.locator("#changes").get_by_text("The same answer.").count() == 0
    assert violations(tab) == ""


def test_a_rival_hardly_less_probable_is_found_by_asking(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    weighed(document, [(0.3, 0.28), (0.02, 0.3), (0.01, 0.3)])
    answering(("answer", {**document, "probability": 0.3, "confidence": SURE}))
    ask(tab, COD)
    then(tab, document, {0: "four crowns"})
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_contain_text(
        "Passage 1 decides it: without it the answer would be four crowns."
    )


def test_a_passage_without_which_the_others_state_nothing_is_asked_about(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    """It wrote little of this answer: it states a rival."""
    weighed(document, [(0.97, 0.98), (0.02, 0.98), (0.01, 0.98)], empty=(0.3, [0.3, 0.7, 0.3]))
    answering(("answer", {**document, "probability": 0.98, "confidence": SURE}))
    ask(tab, COD)
    then(tab, document, {1: None})
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_contain_text("Passage 2 decides it: without it no answer would")


def test_where_nothing_carries_weight_nothing_is_said_of_the_answer(
    tab: Page, answering: Answering, document: dict[str, Any]
) -> None:
    weighed(document, [(0.01, 0.93)] * 3)
    answering(("answer", {**document, "probability": 0.93, "confidence": SURE}))
    ask(tab, COD)
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes .finding")).to_have_text(
        "No passage carries much weight, so nothing was asked again."
    )
    assert tab.locator("#changes").get_by_text("The same answer").count() == 0
    assert tab.locator("#changes").get_by_text("Its probability would stay at 93\u00a0%.").count() == 3


def test_an_error_is_shown_where_it_belongs(tab: Page, answering: Answering, document: dict[str, Any]) -> None:
    weighed(document, [(0.97, 0.2), (0.02, 0.9), (0.01, 0.9)])
    answering(("answer", {**document, "probability": 0.9}))
    ask(tab, COD)
    refused = {"error": {"message": "too many"}}
    tab.route("**/v1/answers", lambda route: route.fulfill(status=429, json=refused))
    tab.get_by_role("button", name="What would change it?").click()
    expect(tab.locator("#changes").get_by_role("alert")).to_have_text("too many")
    finding = tab.locator("#changes .finding")
    expect(finding).to_have_text(
        "It could not be asked without passage 1. It was not asked without the others, which carry little weight."
    )
    assert violations(tab) == ""
    then(tab, document, {0: "four crowns"})
    tab.get_by_role("button", name="Ask without passage 1").click()
    expect(finding).to_contain_text("Passage 1 decides it: without it the answer would be four crowns.")


@pytest.mark.parametrize(
    "changes",
    [{"answer": None}, {"kind": "extract"}, {"passages": "one"}],
    ids=["withheld", "extract", "one passage"],
)
def test_it_is_not_offered_where_there_is_nothing_to_say(
    tab: Page, answering: Answering, document: dict[str, Any], changes: dict[str, Any]
) -> None:
    if changes.get("kind") == "extract":
        changes = {**changes, "passages": [{**each, "p_without": None} for each in document["passages"]]}
    if changes.get("passages") == "one":
        tokens = [{**each, "responsibility": [1.0]} for each in document["tokens"]]
        changes = {"passages": [{**document["passages"][0], "p_without": None}], "tokens": tokens}
    answering(("answer", {**document, **changes}))
    ask(tab, COD)
    expect(tab.get_by_role("button", name="What would change it?")).to_be_hidden()


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (0.9, 0.2, "Its probability would fall from 90\u00a0% to 20\u00a0%."),
        (0.2, 0.9, "Its probability would rise from 20\u00a0% to 90\u00a0%."),
        (0.9, 0.9, "Its probability would stay at 90\u00a0%."),
        (0.9, 0.0, "It could not be given at all."),
        (1e-12, 1e-15, "It would be 1,000 times less probable."),
        (1e-12, 2e-12, "It would be 2 times more probable."),
        (1e-12, 1.1e-12, "It would be about as probable."),
        (0.9, 1e-9, "Its probability would fall from 90\u00a0% to <\u00a01\u00a0%."),
        (1e-3, 1e-12, "It would be more than a million times less probable."),
    ],
)
def test_a_change_in_words(functions: Page, now: float, then: float, said: str) -> None:
    script = "async (a) => (await import('/page/change.js')).becomes(...a)"
    assert functions.evaluate(script, [now, then]) == said


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [("The nine crowns.", "nine Crowns", True), ("nine", "four", False), ("", "…", True), ("a", "b", False)],
)
def test_answers_are_equal_but_for_case_articles_and_marks(functions: Page, a: str, b: str, equal: bool) -> None:
    assert functions.evaluate("async (a) => (await import('/page/change.js')).same(...a)", [a, b]) is equal


def test_the_key_c_opens_and_closes_it(tab: Page) -> None:
    ask(tab, COD)
    tab.locator("#copy").focus()
    tab.keyboard.press("c")
    opener = tab.get_by_role("button", name="What would change it?")
    expect(opener).to_have_attribute("aria-expanded", "true")
    tab.get_by_role("button", name=re.compile("Why is this wrong")).click()
    expect(opener).to_have_attribute("aria-expanded", "false")

"""What people and scripts read of mixrag ask: answer, how sure in words, sources; numbers with --why only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_commands import QUESTION, Shell, encoder, indexed  # noqa: F401 - fixtures

from explained import FIRST, explained
from mixrag.answers.answer import Answer
from mixrag.answers.confidence import Confidence
from mixrag.answers.fields import AnswerItem
from mixrag.answers.how_sure import how_sure
from mixrag.cli import show, show_page

SURE = Confidence(0.7, 0.5, "pairs", level_n=60, level_right=0.81)
CERTAIN, MAYBE = ((p, p, 0.1, 0.1, 0.5) for p in (0.9, 0.5))


def answered(**changes: Any) -> Answer:
    found = explained(likelihoods=(CERTAIN, MAYBE), answer="nine crowns", switch=0.0).answer
    return replace(found, **changes)


def shown(found: Answer, capsys: pytest.CaptureFixture[str], *, numbers: bool = False) -> str:
    show.decided(found, numbers=numbers)
    show_page.page(found)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"confidence": SURE}, "likely: of answers this sure, about 8 in 10 were right"),
        (
            {"confidence": replace(SURE, level_n=12, level_right=0.75)},
            "likely: of 12 answers this sure, 9 were right",
        ),
        ({"confidence": replace(SURE, level_right=None)}, "likely"),
        (
            {"uncalibrated": "k"},
            "how often such answers are right is not known: the confidence was fitted with other k",
        ),
        ({"finished": False}, "cut off before its end: how often such answers are right is not known"),
        ({}, "how often such answers are right is not known: no confidence is fitted for this model"),
        ({"kind": "extract"}, "the documents' own sentences nearest to the question, which need not answer it"),
        (
            {"kind": "yes-no", "items": (AnswerItem("yes", 0.93), AnswerItem("no", 0.07))},
            "of yes and no, the documents give yes 9 in 10; how often such answers are right is not known",
        ),
        (
            {"confidence": replace(SURE, value=0.2)},
            "the best guess is unlikely: of answers this sure, about 8 in 10 were right",
        ),
        ({"p_empty_within": 0.6, "empty_threshold": 0.5}, "the documents do not seem to state it"),
        ({"guaranteed_only": True, "not_covered": "another k"}, "no guarantee covers it: another k"),
        (
            {"guaranteed_only": True, "confidence": replace(SURE, value=0.2)},
            "the best guess is unlikely: of answers this sure, about 8 in 10 were right",
        ),
    ],
)
def test_how_sure_in_words(changes: dict[str, Any], words: str) -> None:
    assert how_sure(answered(**changes)) == words


def test_the_answer_comes_first_then_how_sure_then_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(answered(confidence=SURE), capsys).splitlines()
    assert lines == [
        "nine crowns",
        "likely: of answers this sure, about 8 in 10 were right",
        "Sources:",
        f"  1.txt: {FIRST}",
        "  2.txt: It has to be paid every winter, before the ice is thick enough to walk on.",
    ]


def test_a_page_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered()
    first = replace(found.passages[0], page=12, place="page 12")
    assert f"  1.txt, page 12: {FIRST}" in shown(replace(found, passages=(first, found.passages[1])), capsys)


def test_what_is_withheld_has_the_nearest_passages_and_no_guess(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(p_empty_within=0.6, empty_threshold=0.5)
    text = shown(found, capsys)
    assert text.startswith("No answer: the documents do not seem to state it.\nNearest passages:\n  1.txt: ")
    assert "best guess" not in text
    assert "The best guess would be: nine crowns" in shown(found, capsys, numbers=True)


def test_a_list_has_its_probabilities_with_why_only(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(kind="list", items=(AnswerItem("nine crowns", 0.25), AnswerItem("ten", None)))
    assert "- nine crowns\n- ten\n" in shown(found, capsys)
    assert "- nine crowns  [p = 0.250]\n- ten\n" in shown(found, capsys, numbers=True)


def test_a_source_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    found = answered()
    hostile = replace(found.passages[0], document="/a/\x1b[2J\n.txt", text="[bold]nine\x1b[2J crowns[/bold]")
    text = shown(replace(found, passages=(hostile,)), capsys)
    assert "\x1b" not in text and "  \\x1b[2J\\n.txt: [bold]nine\ufffd[2J crowns[/bold]" in text


def test_scripts_get_the_answer_alone(indexed: Shell) -> None:  # noqa: F811
    found = indexed.json("ask", QUESTION)
    assert indexed("ask", QUESTION, "--quiet") == f"{found['answer']}\n" or "\ufffd" in found["answer"]
    assert indexed.errors == ""
    for other in ("--why", "--json"):
        assert "--quiet without" in indexed.refused("ask", QUESTION, "-q", other)


def test_numbers_are_for_those_who_ask_why(indexed: Shell) -> None:  # noqa: F811
    plain = indexed("ask", QUESTION)
    assert "Sources:" in plain and "no confidence is fitted" in plain
    for number in ("p(answer)", "prior", "posterior", "[0:47]"):
        assert number not in plain and number in indexed("ask", QUESTION, "--why")


def test_no_answer_is_exit_code_4_in_every_form(indexed: Shell) -> None:  # noqa: F811
    """A tiny model's empty answer has little probability, so its passages are read as stating nothing at once."""
    text = indexed("ask", QUESTION, "--empty-answer")
    assert not text.startswith("No answer"), "which is why the threshold is moved below"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixrag.answers.answer.EMPTY_THRESHOLD", 0.0)
        assert indexed("ask", QUESTION, "--empty-answer", code=4).startswith("No answer: ")
        assert indexed("ask", QUESTION, "--empty-answer", "--quiet", code=4) == ""
        assert indexed.json("ask", QUESTION, "--empty-answer", code=4)["answer"] is None
        assert indexed.json("ask", QUESTION, "--empty-answer", "--abstain-below", "0")["answer"] is not None

"""mixrag chat: follow-up questions, commands between them, and errors that end nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_commands import Shell, encoder, indexed  # noqa: F401 - fixtures

from licences import COD, HEN, WORDS, distribution, licences
from mixrag import RAG, Settings
from mixrag.answers.written import WrittenAnswer, WrittenComponent
from mixrag.cli.chat import Conversation
from mixrag.generator import TableGenerator
from mixrag.generator.remote.capabilities import Capabilities


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    with licences(tmp_path, TableGenerator(WORDS, distribution), Settings(max_tokens=4, temperature=0.3)) as found:
        yield found


def said(rag: RAG, capsys: pytest.CaptureFixture[str], *lines: str) -> tuple[str, str]:
    Conversation(rag).run(iter(lines))
    return capsys.readouterr()


def test_a_question_is_answered_with_its_source(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(rag, capsys, COD)
    assert out.startswith("nine crowns\n") and err == ""
    assert "  cod.txt: A licence to fish cod costs nine crowns." in out
    assert "p(answer)" not in out and "asked:" not in out


def test_a_follow_up_is_asked_with_the_words_before_it(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []
    stream = rag.stream
    rag.stream = lambda question: asked.append(question) or stream(question)  # type: ignore[method-assign]
    out, _ = said(rag, capsys, COD, "And for eel?", "Why?", HEN, "/new", "And for eel?")
    assert asked == [COD, "What does a licence for eel cost?", "Why? (licence eel cost)", HEN, "And for eel?"]
    assert out.count("asked: ") == 2 and "asked: What does a licence for eel cost?\n" in out


def test_a_question_may_be_asked_exactly(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(rag, capsys, COD, "/exactly And for eel?")
    assert "asked:" not in out


def test_commands_between_questions(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(rag, capsys, COD, "/why", "/passages", "/k 1", "/k", "/help", "/quit", "never read")
    assert err == ""
    assert "p(answer) = " in out and "log evidence ratio" in out, "/why"
    assert "1. p = " in out and "hen.txt" in out, "/passages"
    assert out.count("passages read: 1") == 2 and rag.settings.k == 1
    assert "/exactly" in out and "never" not in out


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/other", "one of /why, /passages, /exactly, /k, /new, /help, /quit; found '/other'"),
        ("/why", "an answer with probabilities before this command; found none;"),
        ("/passages", "a question before this command"),
        ("/k many", "k to be"),
        ("/k -1", "k to be"),
        ("/exactly", "expected a question"),
        ("caf\udce9?", "in UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line_and_the_conversation_goes_on(
    rag: RAG, capsys: pytest.CaptureFixture[str], line: str, part: str
) -> None:
    out, err = said(rag, capsys, line, COD)
    assert part in err and len(err.splitlines()) == 1 and err.startswith("mixrag: expected ")
    assert out.startswith("nine crowns\n")


def test_after_an_answer_without_probabilities_there_are_passages_and_no_why(
    rag: RAG, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Conversation(rag)
    talk.run(iter([COD]))
    written = WrittenAnswer(HEN, "Winter.", (WrittenComponent((), (), 1.0, "Winter.", True),), "m")
    monkeypatch.setattr(RAG, "server", Capabilities(server="some server", model="m"))
    monkeypatch.setattr(RAG, "write", lambda *_, **__: written)
    capsys.readouterr()
    talk.run(iter([HEN, "/passages", "/why"]))
    out, err = capsys.readouterr()
    assert "Winter." in out and "1. p = " in out, "the passages of the last question"
    assert "an answer with probabilities before this command; found none to the last question" in err
    assert "p(answer)" not in out, "of the answer before it"


def test_an_answer_that_is_interrupted_ends_only_itself(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(question: str) -> None:
        raise KeyboardInterrupt

    stream, rag.stream = rag.stream, interrupted  # type: ignore[assignment, method-assign]
    talk = Conversation(rag)
    talk.run(iter([COD]))
    rag.stream = stream  # type: ignore[method-assign]
    talk.run(iter([COD]))
    out, err = capsys.readouterr()
    assert "interrupted" in err and out.startswith("nine crowns\n")


def test_a_withheld_answer_keeps_its_guess_for_why(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    rag.settings = Settings(max_tokens=4, k=2, empty_answer=True)
    out, _ = said(rag, capsys, HEN)
    assert out.startswith("No answer: the documents do not seem to state it.\nNearest passages:\n")
    assert "best guess" not in out
    out, _ = said(rag, capsys, HEN, "/why")
    assert "The best guess would be: " in out


def test_the_command_reads_standard_input(
    indexed: Shell,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{COD}\n\n/k 2\nAnd for eel?\n"))
    out = indexed("chat")
    assert "asked: What does a licence for eel cost?" in out and "passages read: 2" in out and "> " not in out
    assert "Sources:" in out and indexed.errors == ""

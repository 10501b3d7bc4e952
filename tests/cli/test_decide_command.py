"""mixrag decide: what it prints, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_commands import Shell, encoder, indexed  # noqa: F401 - fixtures

from licences import COD, HEN, WORDS, distribution, licences
from mixrag import RAG, Settings
from mixrag.cli.decide import show_decision
from mixrag.generator import TableGenerator


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    with licences(tmp_path, TableGenerator(WORDS, distribution), Settings(max_tokens=4)) as found:
        yield found


def test_json_has_the_whole_decision(indexed: Shell) -> None:  # noqa: F811
    question = "What does a licence for cod cost?"
    found = indexed.json("decide", question, "nine", "four", "ten")
    assert [each["label"] for each in found["labels"]] == ["nine", "four", "ten"]
    assert sum(each["probability"] for each in found["labels"]) == pytest.approx(1.0)
    assert sum(each["mass"] for each in found["labels"]) == pytest.approx(found["mass"])
    scored = indexed.json("score", question, "nine")
    assert found["labels"][0]["log_prob"] == pytest.approx(scored["log_prob"], abs=1e-4)
    assert len(found["labels"][0]["posterior"]) == len(found["passages"]) == 3
    assert [each["label"] for each in indexed.json("decide", question)["labels"]] == ["yes", "no"]


def test_numbers_have_an_expected_value(indexed: Shell) -> None:  # noqa: F811
    found = indexed.json("decide", "From 1 to 3?", "1", "2", "3")
    p = [each["probability"] for each in found["labels"]]
    assert found["expected"] == pytest.approx(p[0] + 2 * p[1] + 3 * p[2])
    assert "expected value = " in indexed("decide", "From 1 to 3?", "--", "-1", "0", "1")


def test_labels_that_are_none_are_one_line(indexed: Shell) -> None:  # noqa: F811
    assert "at least two labels; found 1" in indexed.refused("decide", "Free?", "yes")
    assert "labels that differ" in indexed.refused("decide", "Free?", "yes", "no", "yes")


def test_people_see_the_label_first(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    found = rag.decide(COD, ["nine crowns", "four crowns"])
    show_decision(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nine crowns"
    shown = next(line for line in lines if line.startswith("nine crowns "))
    assert f"{found.probability:.3f}" in shown and f"1 ({found.best.posterior[0]:.3f})" in shown
    assert found.mass > 0.5 and not any("something else" in line for line in lines)
    assert f"p(one of these labels) = {found.mass:.3g}" in lines and "exact: no passage was left out" in lines
    assert any("cod.txt" in line for line in lines)


def test_people_are_told_what_the_documents_do_not_state(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    show_decision(rag.decide(HEN, ["nine", "four"], k=1, empty_answer=True))
    assert "The documents do not seem to state it, with probability 0.850." in capsys.readouterr().out


def test_people_are_told_of_labels_that_are_hardly_thought_of(
    rag: RAG, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rag.decide(COD, ["crowns nine", "crowns four"])
    assert 0 < found.mass < 0.01
    show_decision(found)
    assert "The model would answer with something else" in capsys.readouterr().out


def test_labels_without_any_probability_have_no_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def only_nine(_: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]][min(len(answer), 1)], dtype=torch.float64)

    with licences(tmp_path, TableGenerator(WORDS, only_nine), Settings(max_tokens=4)) as rag:
        found = rag.decide(COD, ["four", "crowns"])
    assert found.mass == 0.0
    show_decision(found)
    out = capsys.readouterr().out
    assert out.startswith("No decision: ") and "0.500" not in out


def test_what_a_terminal_would_obey_is_replaced(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    show_decision(rag.decide(COD, ["nine", "four \x1b[2J"]))
    assert "\x1b" not in capsys.readouterr().out

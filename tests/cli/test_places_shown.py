"""What the terminal shows of a passage's place and context, and of passages that are too long."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from explained import explained
from mixrag.cli import show, show_reports
from mixrag.config.settings import Settings
from mixrag.corpus import IndexReport, Passage
from mixrag.retrieval.retriever import Retrieval

PASSAGE = Passage(
    "id:1", "Tug | 2023: 7", "/files/rates.xlsx", "Rates", 5, 18, {}, 4, "page 4", "Fees › Tugs\nTable 2\x1b[31m"
)


def found() -> Retrieval:
    return Retrieval((PASSAGE,), torch.zeros(1, dtype=torch.float64), torch.ones(1), outside=0.0, temperature=1.0)


def test_passages_show_their_page_and_their_context(capsys: pytest.CaptureFixture[str]) -> None:
    show.passages("?", found(), Settings(), as_json=False)
    out = capsys.readouterr().out
    assert "/files/rates.xlsx, page 4 [5:18]\nFees › Tugs\nTable 2\ufffd[31m\nTug | 2023: 7" in out


def test_json_has_page_place_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    show.passages("?", found(), Settings(), as_json=True)
    (passage,) = json.loads(capsys.readouterr().out)["passages"]
    assert (passage["page"], passage["place"], passage["context"]) == (4, "page 4", PASSAGE.context)


def test_answers_show_them_in_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    answer = explained().answer
    first, second = answer.passages
    placed = replace(first, place="sheet Fees", context="Harbour › Fees")
    show.answer(replace(answer, passages=(placed, second)), None, as_json=False)
    out = capsys.readouterr().out
    assert "1.txt, sheet Fees [100:" in out and "Harbour › Fees The licence costs" in out and "2.txt [100:" in out


def test_a_report_counts_what_the_encoder_does_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    report = IndexReport(1, 9, 9, 0, 9, 0, (), too_long=3, token_limit=254)
    show_reports.index_report(report, as_json=False)
    line = "3 passages are longer than the 254 tokens that the encoder reads; "
    line += "the rest of them is not in their vectors"
    assert line in capsys.readouterr().out
    show_reports.index_report(report, as_json=True)
    assert json.loads(capsys.readouterr().out)["too_long"] == 3
    show_reports.index_report(replace(report, too_long=0), as_json=False)
    assert "longer" not in capsys.readouterr().out

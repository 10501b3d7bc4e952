"""Retriever as a plug-in: passages that are in no store, and bad input in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixrag import RAG, Passage, Retrieval
from mixrag.errors import PluginError, StoreEmptyError
from mixrag.generator import Generator
from plugins.how_to import run_page

PASSAGES = [
    Passage(str(i), text, f"https://example.org/{i}", "", 0, len(text))
    for i, text in enumerate(["a licence costs nine crowns", "tax is due in march", "hens lay eggs"])
]


class Engine:
    """Finds the same three passages with these scores."""

    def __init__(self, scores=(0.5, 2.0, 1.0)):
        self.scores = scores

    def retrieve(self, question, settings):
        return Retrieval.from_scores(PASSAGES, self.scores, 0.5, null=settings.null)


def returns(found: object) -> object:
    class Fixed:
        def retrieve(self, question, settings):
            return found

    return Fixed()


def test_the_how_to_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_page("own-retriever.md")
    assert capsys.readouterr().out.splitlines()[0].endswith("https://example.org/fishing")
    assert len(found["found"].passages) == 2


@pytest.mark.parametrize("null", [None, 1.5])
@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_scores_become_a_softmax_best_first(make: Callable[..., object], null: float | None) -> None:
    scores = [0.5, 2.0, 1.0]
    found = Retrieval.from_scores(PASSAGES, make(scores), 0.5, null=null)
    total = sum(math.exp(score / 0.5) for score in scores) + (0.0 if null is None else math.exp(null))
    assert [p.id for p in found.passages] == ["1", "2", "0"]
    assert found.log_prior.exp().tolist() == pytest.approx([math.exp(s / 0.5) / total for s in (2.0, 1.0, 0.5)])
    assert found.inner_products.tolist() == [2.0, 1.0, 0.5] and found.outside is None
    assert found.log_null is None if null is None else found.log_null == pytest.approx(null - math.log(total))


def test_a_pipeline_answers_from_passages_that_are_in_no_store(
    tmp_path: Path, tiny_generator: Callable[[str], Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RAG.open(tmp_path / "store", create=True, retriever=Engine()) as rag:
        monkeypatch.setattr(type(rag), "encoder", property(lambda self: pytest.fail("no encoder is needed")))
        monkeypatch.setattr(type(rag), "generator", property(lambda self: tiny_generator("llama")))
        answer = rag.ask("what does a licence cost", null=0.0, max_tokens=4)
        assert rag.info().counts.passages == 0
        mixture = rag.condition("what does a licence cost", null=0.0)
        assert [len(component.passages) for component in mixture.components] == [1, 1, 1, 0]
        assert mixture.log_prior.exp().sum().item() == pytest.approx(1.0)
        assert math.isfinite(answer.log_prob) and len(answer.passages) == 3


@pytest.mark.parametrize(
    ("given", "match"),
    [(Engine, "the class Engine; create an instance"), (object(), "object without retrieve"), ("engine", "str")],
)
def test_what_is_no_retriever_is_refused_at_once(tmp_path: Path, given: object, match: str) -> None:
    with pytest.raises(PluginError, match=match) as caught:
        RAG.open(tmp_path / "store", create=True, retriever=given)
    assert "\n" not in str(caught.value)


GOOD = Retrieval.from_scores(PASSAGES, [2.0, 1.0, 0.0])
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("found", "error", "match"),
    [
        (None, PluginError, "a Retrieval from Fixed.retrieve; found a NoneType"),
        ((PASSAGES, PRIOR), PluginError, "found a tuple"),
        (replace(GOOD, log_prior=PRIOR[:2]), PluginError, r"3 passages.*found the shape \(2,\)"),
        (replace(GOOD, log_prior=PRIOR * torch.nan), PluginError, "found nan among them"),
        (replace(GOOD, log_prior=PRIOR.exp()), PluginError, "at most one.*found a total of 4.2"),
        (replace(GOOD, log_prior=PRIOR + 0.1), PluginError, "found a total of 1.105"),
        (replace(GOOD, log_prior=PRIOR, log_null=-1.0), PluginError, "found a total of 1.36"),
        (replace(GOOD, log_prior=torch.full((3,), -torch.inf)), PluginError, "found a total of 0"),
        (replace(GOOD, log_prior="half"), PluginError, "a str that is not a row of numbers"),
        (replace(GOOD, inner_products=torch.zeros(2)), PluginError, "inner product a passage"),
        (replace(GOOD, passages=("one", "two", "three")), PluginError, "found a str"),
        (replace(GOOD, passages=(), log_prior=PRIOR[:0], inner_products=PRIOR[:0]), StoreEmptyError, "found none"),
    ],
)
def test_a_wrong_result_is_one_line(tmp_path: Path, found: object, error: type, match: str) -> None:
    with RAG.open(tmp_path / "store", create=True, retriever=returns(found)) as rag:
        with pytest.raises(error, match=match) as caught:
            rag.passages("a question")
        assert "Fixed.retrieve" in str(caught.value) and "\n" not in str(caught.value)


def test_lists_and_arrays_serve_as_well_as_tensors(tmp_path: Path) -> None:
    found = Retrieval(PASSAGES, np.log([0.5, 0.3, 0.0 + 1e-9]).astype(np.float32), [3.0, 2.0, 1.0])
    with RAG.open(tmp_path / "store", create=True, retriever=returns(found)) as rag:
        checked = rag.passages("a question")
    assert isinstance(checked.passages, tuple) and checked.log_prior.dtype == torch.float64
    nothing = Retrieval((), [], [], log_null=0.0)
    with RAG.open(tmp_path / "store", create=True, retriever=returns(nothing)) as rag:
        assert rag.passages("a question").log_null == 0.0


@pytest.mark.parametrize(
    ("scores", "temperature", "match"),
    [
        ([1.0, 2.0], 1.0, r"one finite score a passage.*found the shape \(2,\)"),
        ([1.0, math.nan, 2.0], 1.0, "found nan"),
        ([1.0, math.inf, 2.0], 1.0, "found inf"),
        (["a", "b", "c"], 1.0, "not a row of numbers"),
        ([1.0, 2.0, 3.0], 0.0, "a temperature > 0"),
    ],
)
def test_scores_that_cannot_be_used_are_one_line(scores: list, temperature: float, match: str) -> None:
    with pytest.raises(PluginError, match=match) as caught:
        Retrieval.from_scores(PASSAGES, scores, temperature)
    assert "\n" not in str(caught.value)

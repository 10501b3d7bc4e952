"""Answer: flat passages, a text that is None where it is withheld, copies that hold no model."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from explained import ANSWER, FIRST, explained
from mixrag import RAG, Answer, AnswerPassage, Generator, Settings
from mixrag.answers.confidence import Confidence, ConfidenceMap
from mixrag.answers.explanation_html import explanation_page
from mixrag.corpus import Store
from mixrag.errors import ModelError
from words_encoder import WordsEncoder

QUESTION = "What does a licence for cod cost?"
SURE, UNSURE = Confidence(0.9, 0.5, "pairs"), Confidence(0.2, 0.5, "pairs")


@pytest.fixture
def rag(tmp_path: Path, tiny_generator: Callable[[str], Generator]) -> Iterator[RAG]:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "cod.txt").write_text("A licence to fish cod costs nine crowns a year.")
    (folder / "eel.txt").write_text("A licence to fish eel costs four crowns a season.")
    store = Store.open(tmp_path / "store", create=True)
    with RAG(
        store, encoder=WordsEncoder(), generator=tiny_generator("llama-chat"), settings=Settings(max_tokens=6)
    ) as rag:
        rag.index([folder])
        yield rag


def table_answer() -> Answer:
    answer = explained(switch=0.3, null=0.2, prior=(0.5, 0.3)).answer
    assert isinstance(answer, Answer)
    return answer


def test_passages_are_flat(rag: RAG) -> None:
    answer, retrieval = rag.ask(QUESTION, k=2), rag.passages(QUESTION, k=2)
    for rank, (found, passage) in enumerate(zip(answer.passages, retrieval.passages, strict=True)):
        assert isinstance(found, AnswerPassage) and found.page is None
        for name in ("id", "document", "title", "text", "start", "end"):
            assert getattr(found, name) == getattr(passage, name)
        assert dict(found.metadata) == dict(passage.metadata)
        assert found.prior == pytest.approx(float(retrieval.log_prior[rank].exp()))
        assert found.inner_product == pytest.approx(float(retrieval.inner_products[rank]))
        assert found.posterior == pytest.approx(float(answer.scored.posterior[rank]))
    assert len(set(answer.passages)) == 2, "they can stand in sets"


@pytest.mark.parametrize(("confidence", "text"), [(None, ANSWER), (SURE, ANSWER), (UNSURE, None)])
def test_a_withheld_answer_has_a_best_guess_and_no_text(confidence: Confidence | None, text: str | None) -> None:
    answer = replace(table_answer(), confidence=confidence)
    assert answer.text == text and answer.best_guess == ANSWER
    assert answer.abstains is (text is None)
    document = json.loads(json.dumps(answer.to_dict()))
    assert document["answer"] == text and document["best_guess"] == ANSWER
    assert "".join(token["text"] for token in document["tokens"]) == ANSWER


def test_asking_with_a_threshold_withholds_the_text(rag: RAG) -> None:
    sure = ConfidenceMap(fitted_on="none")
    with RAG(
        rag.store, encoder=rag.encoder, generator=rag.generator, settings=rag.settings, calibration=sure
    ) as one:
        given = one.ask(QUESTION, max_tokens=40, abstain_below=0.0)
        assert given.text == given.best_guess
        if given.finished:
            withheld = one.ask(QUESTION, max_tokens=40, abstain_below=1.0)
            assert withheld.text is None and withheld.best_guess == given.best_guess


def test_to_dict_is_the_contract_of_the_documentation(rag: RAG) -> None:
    (page,) = (Path(__file__).parents[2] / "docs").rglob("json.md")
    section = page.read_text(encoding="utf-8").partition("## ask and score")[2].partition("\n## ")[0]
    document = rag.ask(QUESTION, null=1.0).to_dict()
    assert json.loads(json.dumps(document)) == document
    for name in (*document, *document["passages"][0], *document["tokens"][0]):
        assert f"`{name}`" in section or f'"{name}"' in section, name


def test_the_explanation_and_the_page_come_from_the_answer(rag: RAG) -> None:
    answer = rag.ask(QUESTION, k=2)
    explanation = answer.explain()
    assert [each.passages for each in explanation.components] == [(passage.id,) for passage in answer.passages]
    assert answer.to_html() == explanation_page(answer.explain())


def test_repr_is_one_short_line() -> None:
    answer = table_answer()
    assert repr(answer) == f"Answer({ANSWER!r}, probability={answer.probability:.4g}, 2 passages)"
    assert "confidence=0.9" in repr(replace(answer, confidence=SURE))
    assert repr(replace(answer, confidence=UNSURE)).startswith(f"Answer(withheld, best_guess={ANSWER!r}")
    shown = repr(answer.passages[0])
    assert shown.startswith("AnswerPassage('/files/1.txt', 100:157, prior=0.5, posterior=")
    assert FIRST[:39] in shown and FIRST not in shown


def test_a_pickle_holds_the_numbers_and_not_the_model(rag: RAG) -> None:
    for answer in (rag.ask(QUESTION, k=1, null=1.0, switch=0.5), rag.score(QUESTION, "nine", k=2)):
        written = pickle.dumps(answer)
        assert len(written) < 20_000
        again = pickle.loads(written)  # noqa: S301 - written here
        assert again == answer and repr(again) == repr(answer) and again.to_dict() == answer.to_dict()
        scored, table = again.scored, answer.scored
        assert (scored.text, scored.tokens, scored.finished) == (table.text, table.tokens, table.finished)
        for name in ("posterior", "responsibilities", "log_leave_one_out", "log_component", "token_log_probs"):
            torch.testing.assert_close(getattr(scored, name), getattr(table, name), rtol=0, atol=0)
        assert scored.log_prob == table.log_prob and scored.log_bracket == table.log_bracket
        assert scored.certainly_beats(table) is table.certainly_beats(scored)
        assert scored.mixture.passages == table.mixture.passages
        assert pickle.loads(pickle.dumps(again)) == answer, "and once more"  # noqa: S301 - written here


def test_what_needs_the_model_is_refused_in_one_line_after_a_pickle(rag: RAG) -> None:
    answer = pickle.loads(pickle.dumps(rag.ask(QUESTION)))  # noqa: S301 - written here
    for refused in (
        answer.explain,
        answer.to_html,
        lambda: answer.scored.mixture.score("nine"),
        answer.scored.mixture.start,
        lambda: answer.scored.mixture.generator.vocabulary_size,
    ):
        with pytest.raises(ModelError, match="read from a pickle, which has none; ask again") as caught:
            refused()
        assert "\n" not in str(caught.value)


class Uncopied:
    """A language model that must not be copied."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __getattr__(self, name: str) -> object:
        if name == "generator":
            raise AttributeError(name)
        return getattr(self.generator, name)

    def __deepcopy__(self, memo: object) -> None:
        raise AssertionError("the model was copied")

    def __reduce__(self) -> str:
        raise AssertionError("the model was pickled")


def test_asdict_and_copies_copy_no_model(rag: RAG) -> None:
    rag._generator = Uncopied(rag.generator)  # type: ignore[assignment]
    answer = rag.ask(QUESTION, k=2)
    found = asdict(answer)
    assert found["best_guess"] == answer.best_guess and found["scored"] is answer.scored
    assert found["passages"][0]["document"] == answer.passages[0].document
    assert asdict(answer.explain())["answer"]["question"] == QUESTION
    assert copy.deepcopy(answer) == answer and copy.deepcopy(answer).explain().components
    pickle.dumps(answer)
    mixture = answer.scored.mixture
    for copied in (copy.copy(mixture), copy.deepcopy(mixture), copy.copy(answer.scored).mixture):
        assert copied.start().log_mixed().shape == (1, rag.generator.vocabulary_size)

"""Extracts: the sentences chosen, their probabilities, and texts that are scored as extracts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from mixrag import RAG, Settings
from mixrag.answers.extract import extract, extract_of, parts_of
from mixrag.cli import show
from mixrag.corpus import Passage, Store
from mixrag.errors import QuestionError
from mixrag.retrieval.retriever import Retrieval
from scripted import scripted
from tiny_span_model import span_generator
from words_encoder import WordsEncoder

FEES = "The licence costs nine crowns a year. It is sold to members and guests. The office is closed on Sunday."
FERRY = "The ferry runs in summer because the ice melts in May. In winter the harbour freezes to the ground."
TIDES = "The tide is highest in March at the pier. Boats leave two hours before high water. The pier has a light."
WHY = "Why does the ferry run in summer?"


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RAG]:
    store = Store.open(tmp_path / "store", create=True)
    generator = scripted({"licence": {"no": 0.6, "yes": 0.4}, "ferry": {"yes": 0.7, "summer": 0.3}})
    with RAG(store, encoder=WordsEncoder(), generator=generator, settings=Settings(kind="auto", prune=0.0)) as rag:
        rag.add([{"id": "fees", "text": FEES}, {"id": "ferry", "text": FERRY}, {"id": "tides", "text": TIDES}])
        yield rag


def passage(name: str, text: str, start: int = 0) -> Passage:
    return Passage(name, text, f"/{name[0]}.txt", name, start, start + len(text))


def equal_scores(passages: Sequence[Passage], spans: Sequence[Sequence[tuple[int, int]]]) -> list[torch.Tensor]:
    return [torch.zeros(len(own)) for own in spans]


def retrieval(passages: Sequence[Passage], prior: Sequence[float], log_null: float | None = None) -> Retrieval:
    return Retrieval(
        tuple(passages), torch.tensor(prior).double().log(), torch.zeros(len(passages)), log_null=log_null
    )


def test_equal_sentences_add_up_and_at_most_two_passages_are_quoted() -> None:
    passages = [
        passage("a1", "Fees of the old boats\n\nThe boat is old and red. It was built long ago."),
        passage("b1", "the boat  is old, and red. Nobody knows its name at all."),
        passage("c1", "Another sentence about the boat here."),
    ]
    found = extract("q", retrieval(passages, [0.4, 0.35, 0.25]), equal_scores)
    assert found.sentences[0].text == "The boat is old and red."
    assert found.sentences[0].probability == pytest.approx(0.2 + 0.175)
    assert len({each.passage for each in found.sentences}) == 2
    assert "Fees" not in " ".join(each.text for each in found.sentences)
    rows = found.mixture.start().log_probs()[0].exp()
    assert rows.sum(-1).tolist() == pytest.approx([1.0] * 3)
    prior = torch.tensor([0.4, 0.35, 0.25]).double()
    posterior = prior * rows[:, 0] / (prior @ rows[:, 0])
    assert found.scored.posterior.tolist() == pytest.approx(posterior.tolist())


def test_a_passage_of_short_lines_alone_is_quoted() -> None:
    found = extract("q", retrieval([passage("a", "Fees")], [1.0]), equal_scores)
    assert [each.text for each in found.sentences] == ["Fees"]


@pytest.mark.parametrize("names", [("a1", "a1"), ("a1", "b1")])
def test_a_passage_that_is_there_twice_does_not_count_twice(names: tuple[str, str]) -> None:
    passages = [passage(name, FEES) for name in names] + [passage("c1", FERRY)]
    found = extract("q", retrieval(passages, [0.5, 0.3, 0.2]), equal_scores)
    generator, once = found.mixture.generator, extract("q", retrieval(passages[1:], [0.8, 0.2]), equal_scores)
    assert [each.probability for each in found.sentences] == pytest.approx(
        [each.probability for each in once.sentences]
    )
    total = sum(math.exp(found.mixture.score_tokens((v,)).log_prob) for v in range(generator.vocabulary_size))
    assert total == pytest.approx(1.0)
    assert sum(each.probability for each in found.sentences) == pytest.approx(math.exp(found.scored.log_prob))
    assert found.scored.posterior[0] / found.scored.posterior[1] == pytest.approx(5 / 3)


def test_a_repeated_sentence_is_left_out() -> None:
    passages = [
        passage("a1", "The fee of the licence is nine crowns a year."),
        passage("b1", "The fee of the licence is nine crowns. The office is closed on Sunday."),
    ]
    texts = [each.text for each in extract("q", retrieval(passages, [0.5, 0.5]), equal_scores).sentences]
    assert texts == [passages[0].text, "The office is closed on Sunday."]


def test_many_passages_need_no_table_of_all_their_sentences() -> None:
    count = 20_000
    passages = [
        passage(f"p{i}", f"Passage {i} says this of it. Passage {i} says that of it.") for i in range(count)
    ]
    seen = []

    def scores(some: Sequence[Passage], spans: Sequence[Sequence[tuple[int, int]]]) -> list[torch.Tensor]:
        seen.extend(span for own in spans for span in own)
        return equal_scores(some, spans)

    found = extract("q", retrieval(passages, [1 / count] * count), scores)
    assert len(seen) == 500 and len(found.retrieval.passages) == len(found.mixture.components) == 250
    assert found.retrieval.log_prior.exp().sum() == pytest.approx(1.0)
    rows = found.mixture.generator.by_text.values()
    assert sum(map(len, rows)) <= 500


@pytest.mark.parametrize("settings", [{"k": 2}, {"k": 2, "normaliser": "full"}, {"k": 2, "switch": 0.5}])
@pytest.mark.parametrize("null", [None, 2.0])
def test_an_extract_is_given_that_a_passage_is_right(rag: RAG, settings: dict[str, object], null: float) -> None:
    """Whatever the normaliser and the null component: the prior shown sums to one, and bounds hold."""
    found, plain = rag.ask(WHY, **settings, null=null), rag.ask(WHY, k=2)
    whole = rag.score(WHY, found.best_guess, k="all")
    assert found.best_guess == plain.best_guess and found.log_prob == pytest.approx(plain.log_prob)
    assert (found.normaliser, found.switch, found.null_prior) == ("top-k", 0.0, None)
    assert sum(each.prior for each in found.passages) == pytest.approx(1.0)
    assert sum(each.probability for each in found.sentences) == pytest.approx(found.probability)
    every = rag.passages(WHY, k="all").log_prior.exp()
    assert found.outside == pytest.approx(float(every[2]))
    assert found.log_bounds is not None
    low, high = found.log_bounds
    assert low == pytest.approx(whole.log_prob) and whole.log_prob <= high  # the third passage has none of them
    assert found.probability == pytest.approx(whole.probability / float(every[:2].sum()))


def test_where_the_null_component_has_all_of_the_prior_there_is_no_extract(tmp_path: Path) -> None:
    class Nothing:
        def retrieve(self, question: str, settings: Settings) -> Retrieval:
            return Retrieval((passage("a", FEES),), torch.tensor([-math.inf]), torch.zeros(1), log_null=0.0)

    store = Store.open(tmp_path / "store", create=True)
    generator = scripted({"": {"summer": 1.0}})
    with RAG(store, encoder=WordsEncoder(), generator=generator, retriever=Nothing()) as rag:
        assert rag.ask(WHY, kind="extract").kind == "span"


def test_sentences_are_scored_by_the_encoder_whatever_the_retriever(tmp_path: Path) -> None:
    class Engine:
        def retrieve(self, question: str, settings: Settings) -> Retrieval:
            return Retrieval.from_scores([passage("a", FERRY)], [3.0], settings.temperature or 1.0)

    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=scripted({}), retriever=Engine()) as rag:
        plain, other = (rag.ask(WHY, kind="extract", temperature=t) for t in (None, 7.0))
    assert (plain.temperature, other.temperature) == (1.0, 7.0)  # of the engine's scores
    assert plain.sentences == other.sentences
    found = {each.text: each.probability for each in plain.sentences}
    encoder = WordsEncoder()
    products = encoder.encode_passages([FERRY[:54], FERRY[55:]]) @ encoder.encode_questions([WHY])[0]
    a, b = (math.exp(float(each) / encoder.temperature) for each in products)
    assert found[FERRY[:54]] == pytest.approx((a + b / 4) / (1.25 * (a + b)), rel=1e-5)


def test_the_temperature_that_is_set_is_that_of_the_sentences(rag: RAG) -> None:
    flat, sharp = (rag.ask(WHY, k=1, temperature=t).sentences[0].probability for t in (100.0, 0.05))
    assert flat == pytest.approx(0.5, abs=0.01) and sharp > 0.7


def test_what_is_given_is_scored_as_it_would_be_answered(rag: RAG) -> None:
    answer = rag.ask(WHY)
    scored = rag.score(WHY, answer.best_guess)
    assert (scored.kind, scored.sentences, scored.log_prob) == ("extract", answer.sentences, answer.log_prob)
    one, two = FERRY[:54], "the licence costs nine crowns a year"
    single = rag.score(WHY, one)
    assert [each.text for each in single.sentences] == [one]
    both = rag.score(WHY, f"{two} {one}")
    assert both.probability == pytest.approx(single.probability + rag.score(WHY, two).probability)
    assert {each.text for each in both.sentences} == {one, f"T{two[1:]}."}
    assert both.text == both.best_guess and not both.abstains


@pytest.mark.parametrize("text", ["because the ice melts", "", f"{FERRY} And more.", "The fee is due."])
def test_what_is_no_sentence_is_not_scored_as_an_extract(rag: RAG, text: str) -> None:
    with pytest.raises(QuestionError, match="span"):
        rag.score(WHY, text)
    assert rag.score(WHY, text, kind="span").kind == "span"


def test_in_the_mixture_of_an_extract_other_texts_are_impossible(rag: RAG) -> None:
    mixture = rag.ask(WHY).scored.mixture
    assert mixture.log_prob("because the ice melts") == -math.inf
    extracted = extract("q", retrieval([passage("a", f"{FEES} {TIDES}")], [1.0]), equal_scores)
    assert math.exp(extracted.mixture.log_prob(extracted.mixture.generator.extract)) == pytest.approx(
        sum(each.probability for each in extracted.sentences)
    )
    with pytest.raises(QuestionError, match="whole extract"):
        extracted.mixture.score(extracted.sentences[0].text)
    others = extracted.mixture.generator.others.values()
    rest = sum(math.exp(extracted.mixture.log_prob(each)) for each in others)
    assert rest + math.exp(extracted.scored.log_prob) == pytest.approx(1.0)


def test_an_extract_of_a_text(rag: RAG) -> None:
    given = retrieval([passage("a", FEES)], [1.0])
    found = extract_of(
        "The office is closed on Sunday. The licence costs nine crowns a year.", "q", given, equal_scores
    )
    assert found is not None
    assert [each.start for each in found.sentences] == [0, FEES.index("The office")]
    assert extract_of("The office is closed.", "q", given, equal_scores) is None


def test_the_longest_sentence_that_fits_is_taken() -> None:
    keys = ["it is due", "it is due in may", "in june"]
    assert parts_of("It is due in May. It is due in June.", keys) == ["it is due in may", "it is due", "in june"]
    assert parts_of("It is due in July.", keys) is None and parts_of(" ", keys) is None


def test_yes_and_no_are_scored_as_they_are_asked(rag: RAG) -> None:
    question = "Is the licence free?"
    for copy in (False, True):
        answer = rag.ask(question, copy=copy)
        assert answer.kind == "yes-no"
        scores = [rag.score(question, item.text, copy=copy) for item in answer.items]
        assert scores[0].log_prob == answer.log_prob and math.isfinite(answer.log_prob)
        shares = [each.probability / sum(one.probability for one in scores) for each in scores]
        assert shares == pytest.approx([item.probability for item in answer.items])
    assert rag.score(question, "no", copy=True, kind="span").probability == 0.0


def test_an_extractive_reader_scores_sentences_where_it_answers_in_them(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    with RAG(store, encoder=WordsEncoder(), generator=span_generator(), settings=Settings(kind="auto")) as rag:
        rag.add([{"id": "fees", "text": FEES}])
        answer = rag.ask("Is the licence free?", empty_answer=True)
        assert answer.kind == "extract" and answer.text
        assert answer.p_empty == pytest.approx(rag.answer_distribution("Is the licence free?").p_empty)
        assert rag.score("Is the licence free?", answer.best_guess).log_prob == answer.log_prob


def test_a_scored_extract_is_shown(rag: RAG, capsys: pytest.CaptureFixture[str]) -> None:
    scored = rag.score(WHY, FERRY[:54])
    show.answer(scored, None, as_json=False)
    assert "p(these sentences)" in capsys.readouterr().out
    show.answer(scored, None, as_json=True)
    assert json.loads(capsys.readouterr().out)["sentences"][0]["text"] == FERRY[:54]

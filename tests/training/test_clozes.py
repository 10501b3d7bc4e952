"""Clozes: what is asked for, what is left of the sentence, and that the same seed asks the same."""

from __future__ import annotations

import random
import re

import pytest

from mixrag.corpus import Passage
from mixrag.errors import PairsError
from mixrag.matching import passage_holds
from mixrag.pairs import Pair
from mixrag.training.clozes import DATE, NAME, NUMBER, OTHER, clozes, question, sentences, spans

LICENCE = "Boats of the Water Office pay 40 crowns in a warm summer."
TEXT = f"{LICENCE} Gideon Starling has held the post since 4 May 1987, and (since then) earns 12.5% more."


def passage(text: str, name: str = "licence") -> Passage:
    return Passage(f"{name}:0", text, f"/files/{name}.txt", "Licences", 0, len(text))


def asked_for(sentence: str) -> list[str]:
    return [sentence[span.start : span.end] for span in spans(sentence)]


def test_names_numbers_and_phrases_are_asked_for_each_with_its_words() -> None:
    assert asked_for(LICENCE) == ["Water Office", "40", "warm summer"]
    assert [span.kind for span in spans(LICENCE)] == [NAME, NUMBER, OTHER]
    dated = sentences(TEXT)[1]
    assert asked_for(dated) == ["Gideon Starling", "post", "4 May 1987", "12.5%"]
    assert [span.kind for span in spans(dated)] == [NAME, OTHER, DATE, NUMBER]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        (
            "Fishing is what they do here on most days.",
            [],
        ),  # a capital letter alone makes no name of the first word
        ("She was slowly running.", []),
        ("It was a slowly running boat with oars.", ["slowly running boat", "oars"]),
        ("He met Ada Berta Clara Dora Edith Finch there.", []),  # five names in a row are too long an answer
        ("See “Patient Grace” (the boat) there.", ["Patient Grace", "boat"]),
        ("They saw Gideon Starling (Water Bailiff) there.", ["Gideon Starling", "Water Bailiff"]),
        ("It came from “warm places” often.", []),  # behind a quotation mark no noun phrase is taken for granted
    ],
)
def test_what_is_no_answer_is_not_asked_for(sentence: str, found: list[str]) -> None:
    assert asked_for(sentence) == found


def test_sentences_of_other_lengths_are_left_out() -> None:
    assert sentences("Too short. This one is just about long enough. " + "Word " + "word " * 50 + ".") == [
        "This one is just about long enough."
    ]
    assert sentences("A line\nbroken in   two by the page's layout.") == [
        "A line broken in two by the page's layout."
    ]


def test_a_question_is_made_of_the_sentence_without_its_answer() -> None:
    span = next(span for span in spans(LICENCE) if span.kind is NUMBER)
    words = set(re.findall(r"\w+", LICENCE.lower())) | {"how", "many", "much", "what", "number", "of"}
    drawn = [question(LICENCE, span, random.Random(seed)) for seed in range(200)]
    whole = [each for each in drawn if each is not None]
    assert len(set(whole)) > 20
    for each in whole:
        assert each.endswith("?") and each[0].isupper() and len(each.split()) >= 7
        assert "40" not in each and set(re.findall(r"\w+", each.lower())) <= words
        assert re.search("how many|how much|what number of", each.lower())


def test_an_article_does_not_stand_before_the_question_word() -> None:
    span = next(span for span in spans(LICENCE) if span.kind is OTHER)
    drawn = [question(LICENCE, span, random.Random(seed)) for seed in range(100)]
    assert not any(re.search(r"\ba (what|which)", each) for each in drawn if each is not None)


def test_nothing_is_asked_where_little_is_left_of_the_sentence() -> None:
    sentence = "It pays 40 crowns."
    span = next(span for span in spans(sentence) if span.kind is NUMBER)
    assert all(question(sentence, span, random.Random(seed)) is None for seed in range(20))


def test_pairs_have_answers_that_stand_in_a_passage_of_their_document_each_span_once() -> None:
    passages = [passage(TEXT), passage(TEXT.replace("crowns", "shillings"), "copy")]
    found = clozes(passages, 1000)
    assert len(found) == len({(pair.document, pair.answers) for pair in found}) == 14
    for pair in found:
        assert isinstance(pair, Pair) and passage_holds(TEXT, pair.answers)
        assert pair.document in {"/files/licence.txt", "/files/copy.txt"}


def test_the_seed_decides() -> None:
    passages = [passage(TEXT)]
    assert clozes(passages, 4, seed=1) == clozes(passages, 4, seed=1)
    assert clozes(passages, 4, seed=1) != clozes(passages, 4, seed=2)
    assert len(clozes(passages, 3)) == 3


@pytest.mark.parametrize("texts", [[], ["漁業の許可証は港湾事務所が発行します。" * 9], ["1 2 3"]])
def test_passages_without_english_sentences_are_refused(texts: list[str]) -> None:
    with pytest.raises(PairsError, match="English"):
        clozes([passage(text) for text in texts], 5)

"""Clozes: what is asked for, what is left of the sentence, and that the same seed asks the same."""

from __future__ import annotations

import random
import re

import pytest

from mixrag.corpus import Passage
from mixrag.errors import PairsError
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import Pair
from mixrag.training.clozes import DATE, NAME, NUMBER, OTHER, YEAR, Kind, clozes, question, sentences, spans

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
        ("Fishing is what they do here on most days.", []),  # no name by its capital letter alone
        ("She was slowly running.", []),
        ("It was a slowly running boat with oars.", ["slowly running boat", "oars"]),
        ("He met Ada Berta Clara Dora Edith Finch there.", []),  # six names in a row are too long an answer
        ("See “Patient Grace” (the boat) there.", ["Patient Grace", "boat"]),
        ("They saw Gideon Starling (Water Bailiff) there.", ["Gideon Starling", "Water Bailiff"]),
        ("They paid the council $40 million or -5 crowns each.", ["council", "$40", "-5"]),
        ("The Water Office paid for it at last.", ["Water Office"]),
        ("It was Bill Clinton who met the US Army there.", ["Bill Clinton", "US Army"]),
        ("“Fishing is what they do here,” he said.", []),
        ("They live in the house - the blue one & more.", ["house", "blue"]),
        ("It was a small town[2] there, by the sea.", ["small", "sea"]),
        ("It came from “warm places” often.", []),  # behind a quotation mark no noun phrase is taken for granted
    ],
)
def test_what_is_no_answer_is_not_asked_for(sentence: str, found: list[str]) -> None:
    assert asked_for(sentence) == found


@pytest.mark.parametrize(
    ("sentence", "kinds"),
    [
        ("They came there in 1987 or by June 1988.", [YEAR, DATE]),
        ("They came with 1500 people to Room 12.", [NUMBER, NUMBER]),
    ],
)
def test_years_and_dates_are_told_from_numbers(sentence: str, kinds: list[Kind]) -> None:
    assert [span.kind for span in spans(sentence) if sentence[span.start : span.end] != "people"] == kinds


def test_sentences_of_other_lengths_are_left_out() -> None:
    assert sentences("Too short. This one is just about long enough. " + "Word " + "word " * 50 + ".") == [
        "This one is just about long enough."
    ]
    assert sentences("A line\nbroken in   two by the page's layout.") == [
        "A line broken in two by the page's layout."
    ]


def test_a_question_is_made_of_the_sentence_without_its_answer() -> None:
    span = next(span for span in spans(LICENCE) if span.kind is NUMBER)
    words = set(re.findall(r"\w+", LICENCE.lower())) | {"how", "many", "much"}
    drawn = [question(LICENCE, span, random.Random(seed)) for seed in range(200)]
    whole = [each for each in drawn if each is not None]
    assert len(set(whole)) > 20
    for each in whole:
        assert "  " not in each and each.endswith("?") and each[0].isupper() and len(each.split()) >= 7
        assert "40" not in each and set(re.findall(r"\w+", each.lower())) <= words
        assert re.search("how many|how much", each.lower())


def test_words_keep_the_punctuation_inside_them_and_lose_that_around_them() -> None:
    sentence = "The price rose (from 2.5 crowns at 10:30) to 3.75 in Bergen, see example.com for U.S. prices."
    span = next(span for span in spans(sentence) if sentence[span.start : span.end] == "Bergen")
    known = set(re.findall(r"[\w.:]*\w", sentence.lower()))
    assert {"2.5", "10:30", "example.com", "u.s"} <= known
    for seed in range(50):
        asked = question(sentence, span, random.Random(seed))
        words = set() if asked is None else set(asked.removesuffix("?").lower().split())
        assert words - {"who", "what", "which", "where"} <= known


def test_the_answer_does_not_stand_in_its_question() -> None:
    sentence = "The new ship of Ada Berg was named for Ada Berg by the people of the town."
    named = [span for span in spans(sentence) if sentence[span.start : span.end] == "Ada Berg"]
    drawn = [question(sentence, span, random.Random(seed)) for span in named for seed in range(100)]
    assert any(drawn) and not any("Ada Berg" in (each or "") for each in drawn)


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


def test_names_and_numbers_come_before_other_phrases_more_often_than_not() -> None:
    firsts = [clozes([passage(LICENCE)], 1, seed=seed)[0].answers[0] for seed in range(300)]
    assert 20 <= firsts.count("warm summer") <= 75  # a seventh of the draws, weight 1 of 3 + 3 + 1


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(PairsError, match="1 cloze"):
        clozes([passage(TEXT)], count)


@pytest.mark.parametrize("texts", [[], ["漁業の許可証は港湾事務所が発行します。" * 9], ["1 2 3"]])
def test_passages_without_english_sentences_are_refused(texts: list[str]) -> None:
    with pytest.raises(PairsError, match="English"):
        clozes([passage(text) for text in texts], 5)

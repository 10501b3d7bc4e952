"""Citations: right offsets into the text as it stands, and none where the passage does not say it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixrag.answers.citation import LEAST_F1, citation, cited_span, located_words
from mixrag.pairs.matching import passage_holds, words


def cited(text: str, answer: str) -> str | None:
    span = cited_span(text, answer)
    return None if span is None else text[slice(*span)]


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("A licence costs nine crowns a year.", "Nine crowns", "nine crowns"),
        ("It was the Denver Broncos.", "the Denver Broncos!", "Denver Broncos"),
        ("by the Saxon\n  Garden, in", "Saxon Garden", "Saxon\n  Garden"),
        ("gave up $308 million", "308", "308"),
        ("COVID-19-related deaths", "covid 19", "COVID-19"),
        ("the U.S. army", "u s", "U.S"),
        ("infor\u00admation on cod", "Information", "infor\u00admation"),
        ("the e\ufb03cient way", "EFFICIENT", "e\ufb03cient"),
        ("im Cafe\u0301 dort", "café", "Cafe\u0301"),
        ("im Café dort", "cafe\u0301", "Café"),
        ("СССР, Год 1945.", "год 1945", "Год 1945"),
        ("它在东京都", "东京", "东京"),
        ("กรุงเทพ", "เทพ", "เทพ"),
        ("서울은 수도", "서울", "서울"),
        ("\u1109\u1165\u110b\u116e\u11af", "서울", "\u1109\u1165\u110b\u116e\u11af"),
        ("dort steht 3½ Liter", "3½", "3½"),
        ("\U0001d4d2od", "cod", "\U0001d4d2od"),
        ("İstanbul'da", "İstanbul", "İstanbul"),
        ("Temperatures: -5 °C", "°C", "C"),
        ("more than 50 % of", "%", "%"),
        ("a  +\n b", "+ b", "b"),
        ("x < = y", "<  =", "< ="),
        ("vitamin A helps", "A", "A"),
    ],
)
def test_the_answers_words_in_a_row(text: str, answer: str, expected: str) -> None:
    found = citation(text, answer)
    assert found is not None and text[found.start : found.end] == expected and found.f1 == 1.0


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("The cod, which is a fish, costs nine.", "cod costs nine", "costs nine"),
        ("cod or nine. Or: the nine, cod crowns!", "nine crowns cod", "nine, cod crowns"),
        ("born in Tarravoe in 1920, he", "born 1920 in Tarravoe", "born in Tarravoe in 1920"),
        ("nine crowns in silver", "nine crowns gold", "nine crowns"),
        ("nine of the new crowns", "nine crowns", None),
        ("nine new crowns", "nine crowns", "nine new crowns"),
        ("on cod", "cod cod", None),
        ("cod eel cod", "cod cod eel", "cod eel cod"),
    ],
)
def test_else_the_stretch_closest_to_them(text: str, answer: str, expected: str | None) -> None:
    assert cited(text, answer) == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It began in 1945.", "in 1920"),
        ("Hens lay fewer eggs.", "nine crowns"),
        ("there are no eggs", "yes"),
        ("13,081 points", "308"),
        ("eleven", "eleve"),
        ("anything", ""),
        ("anything", " \n"),
        ("anything", "?!"),
        ("", "cod"),
        ("", ""),
    ],
)
def test_an_answer_that_the_passage_does_not_hold_gets_no_citation(text: str, answer: str) -> None:
    assert cited_span(text, answer) is None


WORDS = st.sampled_from(
    ["cod", "Eel", "the", "nine,", "a", "(hen)", "U.S.", "it's", "2½", "东京", "  ", "\n", "e\u0301"]
)
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)


def brute_force(text: str, answer: str) -> float:
    """The highest F1 of all stretches."""
    here, wanted = ([w for w in words(t) if w not in ("a", "the")] for t in (text, answer))
    return max(
        (
            2 * (Counter(here[i:j]) & Counter(wanted)).total() / (j - i + len(wanted))
            for i in range(len(here))
            for j in range(i + 1, len(here) + 1)
        ),
        default=0.0,
    )


@given(TEXTS, TEXTS)
def test_no_stretch_is_closer_than_the_one_cited(text: str, answer: str) -> None:
    if all(word in ("a", "the") for word in words(answer)):
        return
    best, found = brute_force(text, answer), citation(text, answer)
    assert (found is not None) == (best > LEAST_F1)
    if found is not None:
        assert found.f1 == pytest.approx(best)
        assert brute_force(text[found.start : found.end], answer) == pytest.approx(best)


@given(TEXTS, TEXTS)
def test_what_a_passage_holds_is_cited(text: str, answer: str) -> None:
    if passage_holds(text, [answer]):
        found = citation(text, answer)
        assert found is not None and found.f1 == 1.0
        assert passage_holds(text[found.start : found.end], [answer])


@example("eel \u0e31 cod")
@example(" \u0e31")
@given(st.text(max_size=30) | TEXTS)
def test_offsets_are_those_of_the_words(text: str) -> None:
    found = located_words(text)
    for word in found:
        assert word.text in words(text[word.start : word.end])
        assert not text[word.start].isspace()
    assert [w.start for w in found] == sorted(w.start for w in found)
    if text.isascii():
        assert tuple(word.text for word in found) == words(text)


def test_a_long_passage_of_the_answers_own_words() -> None:
    """Looking at every stretch of it would take minutes."""
    assert cited("eel cod " * 20_000 + "cod hen", "cod hen ray") == "cod hen"

"""Cloze pairs: questions that the documents themselves pose, where nobody has written any.

A span of a sentence is left out and asked for: "The boat is 9 metres long in all." gives "The boat is how many
metres long in all?" and "9". From such pairs a language model learns to find the sentence that is asked about, and
to copy what is missing.

Spans are names, dates and numbers, and less often other phrases: the salient spans of Guu et al. 2020 (REALM,
section 3.4), found without a tagger. The question word stands in the place of the span, as in a quiz, or
before the rest; words of the sentence are left out at random, since real questions do not repeat a sentence to the
letter (Lewis, Denoyer and Riedel 2019, "Unsupervised Question Answering by Cloze Translation", the noisy cloze).

Question words and function words are English, and so must the documents be.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from mixrag.corpus import Passage
from mixrag.errors import PairsError
from mixrag.pairs import Pair

SHORTEST, LONGEST = 6, 45
"""Words of a sentence that is asked about."""
LONGEST_ANSWER = 4
"""Words of a span."""
FEWEST = 7
"""Words of a question."""
TRIES = 20
"""Draws for each cloze wanted, after which the passages are taken to hold no more."""
LEFT_OUT = (0.0, 0.1, 0.2)
"""Shares of a sentence's words that are left out; one of them is drawn for each question."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")
_WORD = re.compile(r"\S+")
_EDGES = ".,;:!?\"'()[]{}“”‘’«»"
_DATE = re.compile(r"\b(1[0-9]\d\d|20\d\d)\b|\b\d{1,2} [A-Z][a-z]{2}|\b[A-Z][a-z]{2,} \d{1,2}\b")
_ARTICLES = ("a", "an", "the")
_LEADING = {
    *_ARTICLES,
    *("his", "her", "its", "their", "our", "this", "that", "these", "those"),
    *("of", "by", "for", "in", "with", "from", "to", "into", "as"),
}
"""Words behind which a lower-case phrase is taken for a noun phrase."""
_WITHOUT = re.compile(r"[.;:\"“”()\[\]]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a span is asked with, and how often it is chosen."""

    question_words: tuple[str, ...]
    weight: float


DATE = Kind(("what year", "which year", "when"), 3.0)
NUMBER = Kind(("how many", "how much", "what number of"), 3.0)
NAME = Kind(("who", "what", "which", "where"), 3.0)
OTHER = Kind(("what", "which", "what kind of"), 1.0)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a sentence that can be asked for."""

    start: int
    end: int
    kind: Kind


def clozes(passages: Sequence[Passage], count: int, seed: int = 0) -> list[Pair]:
    """At most ``count`` cloze pairs, no span of a passage twice; a function of the passages and the seed.

    Each names the document that its passage is from. Fewer come back where the passages hold no more.

    Raises:
        PairsError: not a single one can be made of these passages.
    """
    source = random.Random(seed)
    found: dict[tuple[str, str], Pair] = {}
    for _ in range(TRIES * count if passages else 0):
        if len(found) == count:
            break
        passage = source.choice(passages)
        pair = _drawn(passage, source)
        if pair is not None:
            found.setdefault((passage.id, pair.answers[0]), pair)
    if not found:
        expected = f"passages with English sentences of {SHORTEST} to {LONGEST} words"
        raise PairsError(expected, f"{len(passages)} passages without one", "index prose in English")
    return list(found.values())


def sentences(text: str) -> list[str]:
    """The sentences of a text that are of a length to ask about."""
    found = (" ".join(piece.split()) for piece in _SENTENCE_END.split(text))
    return [each for each in found if SHORTEST <= len(each.split()) <= LONGEST]


def spans(sentence: str) -> list[Span]:
    """What of a sentence can be asked for.

    Names, dates and numbers (words in a row that begin with a capital letter or a digit), and lower-case phrases
    behind an article or preposition. The first word is no name by its capital letter alone.

    >>> sentence = "Boats of the Water Office pay 40 crowns in a warm summer."
    >>> [sentence[span.start : span.end] for span in spans(sentence)]
    ['Water Office', '40', 'warm summer']
    """
    return [span for run in _runs(sentence) if (span := _span(sentence, run)) is not None]


def question(sentence: str, span: Span, source: random.Random) -> str | None:
    """A question about the span; None where too few words are left of the sentence."""
    share = source.choice(LEFT_OUT)
    before, after = sentence[: span.start].split(), sentence[span.end :].split()
    before = [word for word in before[-source.randint(6, 14) :] if source.random() >= share]
    after = [word for word in after[: source.randint(5, 12)] if source.random() >= share]
    if before and before[-1].lower() in _ARTICLES:
        del before[-1]
    asked = source.choice(span.kind.question_words)
    forms = ([*before, asked, *after], [asked, *before, *after], [*after, asked], [asked, *before])
    words = source.choices(forms, (9, 7, 2, 2))[0]
    if len(words) < FEWEST:
        return None
    text = _WITHOUT.sub("", " ".join(words)).strip(f" {_EDGES}")
    return f"{text[:1].upper()}{text[1:]}?"


def _drawn(passage: Passage, source: random.Random) -> Pair | None:
    found = sentences(passage.text)
    if not found:
        return None
    sentence = source.choice(found)
    possible = spans(sentence)
    if not possible:
        return None
    span = source.choices(possible, [each.kind.weight for each in possible])[0]
    asked = question(sentence, span, source)
    return None if asked is None else Pair(asked, (sentence[span.start : span.end],), passage.document)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    salient: bool
    """Begins with a capital letter or a digit."""


@dataclass(frozen=True, slots=True)
class _Run:
    words: tuple[_Word, ...]
    led_by: str
    """The function word before it, in lower case; empty where punctuation or another run is before it."""


def _runs(sentence: str) -> Iterator[_Run]:
    """Content words in a row that are all salient or all not, between function words and punctuation."""
    words: list[_Word] = []
    led_by = before = ""
    for match in _WORD.finditer(sentence):
        core = match.group().strip(_EDGES)
        opened = not core or not match.group().startswith(core)
        function = core.lower() in _function_words() and core != "May"  # the month
        start = match.start() + match.group().find(core)
        word = _Word(start, start + len(core), core[:1].isupper() or core[:1].isdigit())
        if words and (opened or function or word.salient != words[0].salient):
            yield _Run(tuple(words), led_by)
            words, before = [], ""
        if core and not function:
            if not words:
                led_by = "" if opened else before
            words.append(word)
        before = core.lower() if function else ""
        if words and not match.group().endswith(core):
            yield _Run(tuple(words), led_by)
            words, before = [], ""
    if words:
        yield _Run(tuple(words), led_by)


def _span(sentence: str, run: _Run) -> Span | None:
    first, last = run.words[0], run.words[-1]
    text = sentence[first.start : last.end]
    kind = _kind(text, first.salient)
    opens = first.start == 0 and len(run.words) == 1 and kind is NAME
    bare = kind is OTHER and (run.led_by not in _LEADING or text.endswith(("ing", "ed", "ly")))
    if len(run.words) > LONGEST_ANSWER or opens or bare:
        return None
    return Span(first.start, last.end, kind)


def _kind(text: str, salient: bool) -> Kind:
    if _DATE.search(text):
        return DATE
    if any(letter.isdigit() for letter in text):
        return NUMBER
    return NAME if salient else OTHER


@cache
def _function_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)

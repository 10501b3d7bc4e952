"""Cloze pairs: questions made from the documents, where none have been written.

A span of a sentence is left out and asked for: "The boat is 9 metres long in all." gives "The boat is how many
metres long in all?" and "9". From such pairs a language model learns to find the sentence that is asked about, and
to copy what is missing.

Spans are names, dates and numbers, and less often other phrases: the salient spans of Guu et al. 2020 (REALM,
section 3.4), found without a tagger. The question word takes the place of the span, as in a quiz, or
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
from mixrag.pairs.matching import contains
from mixrag.pairs.pairs import Pair
from mixrag.utils.extras import require

SHORTEST, LONGEST = 6, 45
"""Words of a sentence that is asked about."""
LONGEST_ANSWER = 4
"""Words of a span."""
FEWEST = 7
"""Words of a question."""
TRIES = 5
"""Draws of words to leave out, until enough are left."""
LEFT_OUT = (0.0, 0.1, 0.2)
"""Shares of a sentence's words that are left out; one of them is drawn for each question."""
BEFORE, AFTER = (6, 14), (5, 12)
"""Fewest and most words taken before and after the span: of a long sentence only a part is in the question."""
_FORM_WEIGHTS = (9, 7, 2, 2)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(])")
_WORD = re.compile(r"\S+")
_EDGES = ".,;:!?\"'()[]{}“”‘’«»"
_BRACKETS = frozenset("()[]{}")
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b({_MONTHS})\b.*\d|\d.*\b({_MONTHS})\b")
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_BEFORE_YEARS = frozenset({"in", "since", "by", "from", "to", "until", "before", "after", "during"})
_ARTICLES = ("a", "an", "the")
_LEADING = {
    *_ARTICLES,
    *("his", "her", "its", "their", "our", "this", "that", "these", "those"),
    *("of", "by", "for", "in", "with", "from", "to", "into", "as"),
}
"""Words after which a lower-case phrase is taken for a noun phrase."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a span is asked with, and how often it is chosen."""

    question_words: tuple[str, ...]
    weight: float


YEAR = Kind(("what year", "which year", "when"), 3.0)
DATE = Kind(("when", "what date"), 3.0)
NUMBER = Kind(("how many", "how much"), 3.0)
NAME = Kind(("who", "what", "which", "where"), 3.0)
OTHER = Kind(("what", "which"), 1.0)


@dataclass(frozen=True, slots=True)
class ClozeSpan:
    """A stretch of a sentence that can be asked for."""

    start: int
    end: int
    kind: Kind


def clozes(passages: Sequence[Passage], count: int, seed: int = 0) -> list[Pair]:
    """At most ``count`` cloze pairs, no answer of a passage twice; a function of the passages and the seed.

    Each names the document that its passage is from. Fewer come back where the passages hold no more.

    Raises:
        PairsError: ``count`` is below 1, or not a single pair can be made of these passages.
    """
    if count < 1:
        raise PairsError("1 cloze or more", f"{count} asked for", "ask for more")
    source = random.Random(seed)
    found: dict[tuple[str, str], Pair] = {}
    for passage, sentence, span in _drawn(passages, source):
        answer = sentence[span.start : span.end]
        asked = next(filter(None, (question(sentence, span, source) for _ in range(TRIES))), None)
        if asked is not None:
            found.setdefault((passage.id, answer), Pair(asked, (answer,), passage.document))
        if len(found) == count:
            break
    if not found:
        expected = f"passages with English sentences of {SHORTEST} to {LONGEST} words"
        raise PairsError(expected, f"none among {len(passages)} passages", "index prose in English")
    return list(found.values())


def sentences(text: str) -> list[str]:
    """The sentences of a text that are of a length to ask about."""
    found = (" ".join(piece.split()) for piece in _SENTENCE_END.split(text))
    return [each for each in found if SHORTEST <= len(each.split()) <= LONGEST]


def spans(sentence: str) -> list[ClozeSpan]:
    """What of a sentence can be asked for.

    Names, dates and numbers (words in a row that begin with a capital letter or hold a digit), and lower-case
    phrases after an article or preposition. The first word is not a name by its capital letter alone.

    >>> sentence = "Boats of the Water Office pay 40 crowns in a warm summer."
    >>> [sentence[span.start : span.end] for span in spans(sentence)]
    ['Water Office', '40', 'warm summer']
    """
    return [span for run in _runs(sentence) if (span := _span(sentence, run)) is not None]


def question(sentence: str, span: ClozeSpan, source: random.Random) -> str | None:
    """A question about a span of the sentence, as ``source`` draws it.

    Returns:
        None where too few words are left of the sentence, or the answer is in the question.
    """
    share, first, last = source.choice(LEFT_OUT), source.randint(*BEFORE), source.randint(*AFTER)
    before = [word for word in _bare(sentence[: span.start])[-first:] if source.random() >= share]
    after = [word for word in _bare(sentence[span.end :])[:last] if source.random() >= share]
    if before and before[-1].lower() in _ARTICLES:
        del before[-1]
    asked = source.choice(span.kind.question_words).split()
    # In the place of the span, as in a quiz; before the sentence; or with one side of it alone.
    forms = ([*before, *asked, *after], [*asked, *before, *after], [*after, *asked], [*asked, *before])
    words = source.choices(forms, _FORM_WEIGHTS)[0]
    text = " ".join(words)
    if len(words) < FEWEST or contains(text, (sentence[span.start : span.end],)):
        return None
    return f"{text[:1].upper()}{text[1:]}?"


def _drawn(passages: Sequence[Passage], source: random.Random) -> list[tuple[Passage, str, ClozeSpan]]:
    """All spans in a random order, those of more weight rather first (Efraimidis and Spirakis 2006)."""
    keyed = [
        (source.random() ** (1 / span.kind.weight), (passage, sentence, span))
        for passage in passages
        for sentence in sentences(passage.text)
        for span in spans(sentence)
    ]
    return [each for _, each in sorted(keyed, key=lambda pair: pair[0], reverse=True)]


def _bare(text: str) -> list[str]:
    """The words without the punctuation around them; a string of punctuation alone is not a word."""
    return [core for word in text.split() if (core := _core(word))]


def _core(word: str) -> str:
    return word.strip(_EDGES) if any(letter.isalnum() for letter in word) else ""


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    salient: bool
    """Begins with a capital letter, or holds a digit."""


@dataclass(frozen=True, slots=True)
class _WordRun:
    words: tuple[_Word, ...]
    led_by: str
    """The function word before it, in lower case; empty where punctuation or another run is before it."""


def _runs(sentence: str) -> Iterator[_WordRun]:
    """Content words in a row that are all salient or all not, between function words and punctuation."""
    words: list[_Word] = []
    led_by = before = ""
    for match in _WORD.finditer(sentence):
        core = _core(match.group())
        opened = not core or not match.group().startswith(core)
        function = _is_function(core, opens=opened or match.start() == 0)
        start = match.start() + match.group().find(core)
        word = _Word(start, start + len(core), core[:1].isupper() or any(letter.isdigit() for letter in core))
        if words and (opened or function or word.salient != words[0].salient):
            yield _WordRun(tuple(words), led_by)
            words, before = [], ""
        if core and not function:
            if not words:
                led_by = "" if opened else before
            words.append(word)
        before = core.lower() if function else ""
        if words and not match.group().endswith(core):
            yield _WordRun(tuple(words), led_by)
            words, before = [], ""
    if words:
        yield _WordRun(tuple(words), led_by)


def _is_function(core: str, *, opens: bool) -> bool:
    """True of function words; inside a sentence a capital letter makes a name of them (Bill, May, the US)."""
    is_name = core[:1].isupper() and len(core) > 1 and not (opens and core.istitle())
    return not is_name and core.lower() in _function_words()


def _span(sentence: str, run: _WordRun) -> ClozeSpan | None:
    first, last = run.words[0], run.words[-1]
    text = sentence[first.start : last.end]
    kind = _kind(text, run.led_by, first.salient)
    opens = len(run.words) == 1 and kind is NAME and not _bare(sentence[: first.start])
    bare = kind is OTHER and (run.led_by not in _LEADING or text.endswith(("ing", "ed", "ly")))
    if len(run.words) > LONGEST_ANSWER or opens or bare or _BRACKETS & set(text):
        return None
    return ClozeSpan(first.start, last.end, kind)


def _kind(text: str, led_by: str, salient: bool) -> Kind:
    if _DATE.search(text):
        return DATE
    if _YEAR.fullmatch(text) and led_by in _BEFORE_YEARS:
        return YEAR
    if any(letter.isdigit() for letter in text):
        return NUMBER
    return NAME if salient else OTHER


@cache
def _function_words() -> frozenset[str]:
    words = require("sklearn.feature_extraction.text", "train", "its list of function words").ENGLISH_STOP_WORDS
    return frozenset(words)

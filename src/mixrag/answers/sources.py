"""Where an answer comes from, as a reader wants it: file, page, and the sentence that holds the answer.

Which passage wrote the answer is a probability, which the mixture computes (``AnswerPassage.posterior``). Which of
its sentences to read is a statement about two texts: the one with the answer's words (``citation.py``), and where
none has them, as with yes or no, the one with most of the question's content words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mixrag.answers.citation import cited_span
from mixrag.answers.fields import AnswerFields, AnswerPassage, AnswerSentence
from mixrag.answers.word_overlap import content_words
from mixrag.corpus.splitters.sentences import ends_sentence, sentences
from mixrag.corpus.words import words

LEAST_WEIGHT = 0.05
"""Passages of less posterior are no sources, unless none has more."""
MOST_SOURCES = 3
WORDS_OF_A_SENTENCE = 12
"""Fewer, and no mark of an end: a heading, or a cell."""
LONGEST_SENTENCE = 400
"""Characters; of a longer one (a table, a list without full stops) the line, or a stretch around the answer."""


@dataclass(frozen=True, slots=True)
class Source:
    """A passage behind an answer, and its sentence to read."""

    rank: int
    """Of the passage, from 1."""
    passage: str
    """Its id."""
    document: str
    """As ``AnswerPassage.document``."""
    title: str
    page: int | None
    place: str
    """The page in words, or the sheet or section; empty where the document has none."""
    sentence: str
    """White space in a row is one space."""
    start: int
    """Offset of its first character in the document's extracted text."""
    end: int
    """Offset after its last character."""
    holds: bool
    """True where the sentence has the answer's words; False where it is the nearest to the question."""
    prior: float
    """p(z | x) of the passage, as retrieved."""
    posterior: float
    """As ``AnswerPassage.posterior``."""


def sources_of(answer: AnswerFields) -> tuple[Source, ...]:
    """The sources of an answer, most probable first, at most ``MOST_SOURCES``.

    Of an extract they are its sentences, in reading order. Of an answer that is withheld they are the passages
    nearest to the question, by prior, each with the sentence nearest to it.
    """
    ranked = {passage.id: (rank, passage) for rank, passage in enumerate(answer.passages, 1)}
    if answer.kind == "extract" and not answer.abstains:
        return tuple(_of_sentence(*ranked[each.passage], each) for each in answer.sentences)
    weights = {rank: passage.prior if answer.abstains else passage.posterior for rank, passage in ranked.values()}
    least = 0.0 if answer.abstains else min(LEAST_WEIGHT, max(weights.values(), default=0.0))
    chosen = [each for each in ranked.values() if weights[each[0]] >= least]
    chosen.sort(key=lambda each: -weights[each[0]])
    said = "" if answer.abstains else answer.best_guess
    sought = said if answer.kind in ("span", "list") else ""
    wanted = content_words(f"{answer.question} {said}")
    return tuple(_source(rank, passage, sought, wanted) for rank, passage in chosen[:MOST_SOURCES])


def _source(rank: int, passage: AnswerPassage, sought: str, wanted: Mapping[str, float]) -> Source:
    span = cited_span(passage.text, sought) if sought.strip() else None
    start, end = _nearest(passage.text, wanted) if span is None else _around(passage.text, *span)
    return Source(
        rank,
        passage.id,
        passage.document,
        passage.title,
        passage.page,
        passage.place,
        " ".join(passage.text[start:end].split()),
        passage.start + start,
        passage.start + end,
        span is not None,
        passage.prior,
        passage.posterior,
    )


def _of_sentence(rank: int, passage: AnswerPassage, sentence: AnswerSentence) -> Source:
    return Source(
        rank,
        passage.id,
        passage.document,
        passage.title,
        sentence.page,
        sentence.place,
        sentence.text,
        sentence.start,
        sentence.end,
        True,
        passage.prior,
        passage.posterior,
    )


def _nearest(text: str, wanted: Mapping[str, float]) -> tuple[int, int]:
    """The sentence with most of the words wanted, the first among equals; a heading where there is no other."""

    def share(span: tuple[int, int]) -> float:
        there = {*words(text[slice(*span)])}
        return sum(weight for word, weight in wanted.items() if word in there)

    spans = [*sentences(text, 0, len(text))] or [(0, len(text))]
    whole = [span for span in spans if _is_whole(text[slice(*span)])]
    start, end = max(whole or spans, key=share)
    return start, min(end, start + LONGEST_SENTENCE)


def _is_whole(text: str) -> bool:
    """Whether a stretch is a sentence, not a heading: it ends like one, or is longer than headings are."""
    return ends_sentence(text) or len(text.split()) >= WORDS_OF_A_SENTENCE


def _around(text: str, start: int, end: int) -> tuple[int, int]:
    """The sentences that a span is part of; of more than ``LONGEST_SENTENCE`` characters what is around it."""
    touched = [(a, b) for a, b in sentences(text, 0, len(text)) if a < end and start < b] or [(start, end)]
    first, last = min(start, touched[0][0]), max(end, touched[-1][1])
    if last - first > LONGEST_SENTENCE:
        first = max(first, text.rfind("\n", first, start) + 1)
        line_end = text.find("\n", end, last)
        last = last if line_end < 0 else line_end
    if last - first > LONGEST_SENTENCE:
        margin = max(0, LONGEST_SENTENCE - (end - start)) // 2
        first, last = max(first, start - margin), min(last, end + margin)
    return first, last

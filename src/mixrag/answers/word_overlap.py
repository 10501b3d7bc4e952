"""Words of the question in what is read: in the passage, in the sentence that has the answer, in its rivals.

A reader that errs often takes its answer from a sentence that speaks of something else than the question, while
another sentence of the passage has the question's words. No model runs, and any script will do: words are those of
the lexical index (``corpus/words.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from mixrag.corpus import Passage
from mixrag.corpus.splitters.sentences import sentences
from mixrag.corpus.words import asked_words, words
from mixrag.pairs.matching import passage_holds

FUNCTION_WORDS = frozenset(
    word
    for text in (
        "a an the this that these those it its he his she her they their them we our you your i my me",
        "who whom whose what which when where why how much many any some each other there then than",
        "is are was were be been being am do does did done has have had having can could may might must",
        "shall should will would of in on at to from by for with without about as into through during",
        "before after between under over and or but not no nor if so such only also too very",
        "name list give tell explain describe please called kind",
    )
    for word in words(text)
)
"""Stems of English words that a question has whatever it is about."""
LABEL = re.compile(r"(?<=\w )[B-HJ-Z](?![\w&'’-]|\.\w|\. \w)")
"""A single capital letter that is not the first word of a question, as in "class D"; I and A are words. The first
letter of an abbreviation ("U.S.", "D. Smith", "X-ray") is none."""


def overlap(question: str, passages: Sequence[Passage]) -> float:
    """Share of the question's content words, by their weights, that the passages have; 1 where it has none."""
    return _share(content_words(question), _words_of(passages))


def labels_stated(question: str, passages: Sequence[Passage]) -> float:
    """Share of the question's numbers and letters ("2021", "class D") that the passages have; 1 where it has none.

    A question with another number than the text's is the commonest one that a text nearly answers.
    """
    there, text = _words_of(passages), "\n".join(map(_whole, passages))
    numbers = {word for word in words(question) if word.isdigit()}
    found = [number in there for number in numbers]
    found += [re.search(rf"(?<!\w){letter}(?!\w)", text) is not None for letter in set(LABEL.findall(question))]
    return sum(found) / len(found) if found else 1.0


def _words_of(passages: Sequence[Passage]) -> set[str]:
    return {word for each in passages for word in words(_whole(each))}


def _whole(passage: Passage) -> str:
    """All that is read of a passage."""
    return f"{passage.title} {passage.context} {passage.text}"


def sentence_overlaps(question: str, answer: str, passages: Sequence[Passage]) -> tuple[float, float]:
    """Shares of the question's content words in the best sentence that has the answer, and in the best of all.

    Title and headings of a passage count as words of each of its sentences. An answer that no single sentence has
    may be in two that follow each other. The first share is 0 where no sentence has it, and never the larger one.
    """
    wanted = content_words(question)
    found = [each for passage in passages for each in _sentences(passage, wanted)]
    holding = [share for text, share in found if passage_holds(text, [answer])] if answer.strip() else []
    if not holding and answer.strip():
        texts = [(passage, [text for text, _ in _sentences(passage, wanted)]) for passage in passages]
        both = [(passage, f"{a} {b}") for passage, own in texts for a, b in pairwise(own)]
        holding = [_share(wanted, _read(p, text)) for p, text in both if passage_holds(text, [answer])]
    best = max((share for _, share in found), default=0.0)
    own = max(holding, default=0.0)
    return own, max(own, best)


def content_words(question: str) -> dict[str, float]:
    """The words of a question that are no ``FUNCTION_WORDS``, with their weights."""
    return {word: weight for word, weight in asked_words(question).items() if word not in FUNCTION_WORDS}


def _sentences(passage: Passage, wanted: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for start, end in sentences(passage.text, 0, len(passage.text)):
        text = passage.text[start:end]
        yield text, _share(wanted, _read(passage, text))


def _read(passage: Passage, text: str) -> set[str]:
    return {*words(f"{passage.title} {passage.context}"), *words(text)}


def _share(wanted: Mapping[str, float], there: set[str]) -> float:
    if not wanted:
        return 1.0
    return sum(weight for word, weight in wanted.items() if word in there) / sum(wanted.values())

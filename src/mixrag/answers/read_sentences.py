"""The sentences of the passages retrieved, with their probabilities: p(s, z | x) = p(z | x) p(s | x, z).

    p(s | x, z) ∝ a(s) + ¼ a(the sentence before) + ¼ a(the one after),    a = softmax over the sentences of z of t

with the scores t of ``sentence_scores.py``; what explains one thing stands together. p(z | x) is given that one of
the passages read is right: divided by its sum over them, whatever the normaliser, and without the null component.
Then these numbers add up to one. Sentences that are equal once normalised are one answer, with the sum of their
probabilities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.corpus.splitters.protocol import Offsets
from mixrag.corpus.splitters.sentences import ends_sentence, sentences
from mixrag.corpus.splitters.words import count_words
from mixrag.generator.sentences import sentence_key
from mixrag.probability import log_normalise, shifted_share
from mixrag.retrieval.retriever import Retrieval

FEWEST_WORDS, FEWEST_UNENDED = 5, 9
"""Of a sentence, and of a list, table or line without the mark of an end. A shorter sentence ("How to take it.")
is part of the next one; other lines are headings or labels, which count only in a passage without sentences."""
_ITEM = re.compile(r"^[ \t]*(?:[-*•–·]|\w{1,2}[.)]|\(\w{1,3}\))[ \t]|\|", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
NEIGHBOURS = 0.25
"""Part of a sentence's weight that the one before it and the one after it have besides their own
(``benchmarks/extracts.py``)."""
READ = 500
"""Passages are read in order of rank until they have so many sentences: all are encoded, which takes time."""

Scores = Callable[[Sequence[Passage], Sequence[Sequence[Offsets]]], Sequence[Tensor]]
"""Passages and the places of their sentences -> for each passage the scores t (S,)."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage; of passages with one text, of the first."""

    passage: Passage
    start: int
    """Offset in the passage's text."""
    end: int
    share: float
    """p(s | x, z)."""
    probability: float
    """p(s, z | x), summed over the passages with this text."""

    @cached_property
    def text(self) -> str:
        """White space in a row is one space."""
        return " ".join(self.passage.text[self.start : self.end].split())

    @cached_property
    def key(self) -> str:
        """What equal sentences have in common."""
        return sentence_key(self.text)


@dataclass(frozen=True)
class ReadSentences:
    """All sentences of the passages read, in their order."""

    retrieval: Retrieval
    """The passages read, with a prior that sums to one."""
    sentences: tuple[Sentence, ...]

    @cached_property
    def mass(self) -> Mapping[str, float]:
        """p(s | x) of the distinct sentences, by their keys."""
        found: dict[str, float] = {}
        for each in self.sentences:
            found[each.key] = found.get(each.key, 0.0) + each.probability
        return {key: min(1.0, total) for key, total in found.items()}

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The distinct sentences by their keys, as they are first written."""
        found: dict[str, str] = {}
        for each in self.sentences:
            found.setdefault(each.key, each.text)
        return found


def read_sentences(retrieval: Retrieval, scores: Scores, neighbours: float = NEIGHBOURS) -> ReadSentences:
    """Read the passages of a retrieval, of which at least one has a prior above zero."""
    spans = _spans_read(retrieval.passages)
    given = given_a_passage(retrieval, len(spans))
    weights: dict[str, float] = {}
    first: dict[str, tuple[Passage, Sequence[Offsets]]] = {}
    for passage, own, weight in zip(given.passages, spans, given.log_prior.exp().tolist(), strict=True):
        weights[passage.text] = weights.get(passage.text, 0.0) + weight
        first.setdefault(passage.text, (passage, own))
    found = scores([passage for passage, _ in first.values()], [own for _, own in first.values()])
    listed = [
        Sentence(passage, start, end, share, weights[passage.text] * share)
        for (passage, own), some in zip(first.values(), found, strict=True)
        for (start, end), share in zip(own, _shares(some, neighbours).tolist(), strict=True)
    ]
    return ReadSentences(given, tuple(listed))


def _shares(scores: Tensor, neighbours: float) -> Tensor:
    """(S,) p(s | x, z) of the sentences of a passage, from their scores t (S,)."""
    alone = scores.double().softmax(0)
    found = alone.clone()
    found[1:] += neighbours * alone[:-1]
    found[:-1] += neighbours * alone[1:]
    return found / found.sum()


def given_a_passage(retrieval: Retrieval, count: int) -> Retrieval:
    """The retrieval given that a passage is right, cut off after ``count``: its prior sums to one over them.

    What is outside is the mass of all other passages, given that the null component is not right.
    """
    log_prior = retrieval.log_prior.double()
    listed = float(log_prior.exp().sum())
    null = 0.0 if retrieval.log_null is None else float(torch.tensor(retrieval.log_null).exp())
    read = float(log_prior[:count].exp().sum())

    def outside(before: float, shift: float = 0.0) -> float:
        """From the mass outside under the full normaliser, where the null component has a part of it."""
        inside = (1.0 - before) * shifted_share(listed / (listed + null), -shift)
        if inside + before == 0.0:
            return 1.0
        return max(0.0, 1.0 - shifted_share(read / listed, -shift) * inside / (inside + before))

    bounds, shift = retrieval.outside_bounds, retrieval.shift
    return Retrieval(
        passages=retrieval.passages[:count],
        log_prior=log_normalise(log_prior[:count], 0),
        inner_products=retrieval.inner_products[:count],
        outside=None if retrieval.outside is None else outside(retrieval.outside),
        temperature=retrieval.temperature,
        outside_bounds=None if bounds is None else (outside(bounds[0], -shift), outside(bounds[1], shift)),
        notices=retrieval.notices,
        missing=retrieval.missing,
        shift=shift,
    )


def _spans_read(passages: Sequence[Passage]) -> list[Sequence[Offsets]]:
    """The places of the sentences of the first passages, ``READ`` or more in all, or those of all passages."""
    found: list[Sequence[Offsets]] = []
    known: dict[str, Sequence[Offsets]] = {}
    count = 0
    for passage in passages:
        if count >= READ:
            break
        if passage.text not in known:
            known[passage.text] = _spans(passage.text)
            count += len(known[passage.text])
        found.append(known[passage.text])
    return found


def _spans(text: str) -> Sequence[Offsets]:
    """The sentences of a text; a short one is part of the next in its paragraph, else of the one before."""
    every = [*sentences(text, 0, len(text))] or [(0, len(text))]
    found: list[Offsets] = []
    begin: int | None = None
    for (start, end), after in zip(every, [*(a for a, _ in every[1:]), len(text)], strict=True):
        start, begin = start if begin is None else begin, None
        if _is_sentence(text[start:end]):
            found.append((start, end))
        elif ends_sentence(text[start:end]):
            if end < after < len(text) and not _PARAGRAPH.search(text, end, after):
                begin = start
            elif found and not _PARAGRAPH.search(text, found[-1][1], start):
                found[-1] = (found[-1][0], end)
    return found or every


def _is_sentence(text: str) -> bool:
    if ends_sentence(text):
        return count_words(text) >= FEWEST_WORDS
    if _ITEM.search(text):
        return count_words(text) >= FEWEST_UNENDED
    return max(map(count_words, text.splitlines()), default=0) >= FEWEST_UNENDED

"""The best sentences of the passages, where an explanation is asked for and no model is to write one.

The probability of a sentence s of passage z is

    p(s, z | x) = p(z | x) · exp(d(s)·q(x) / T) / Σ over the sentences s' of z of exp(d(s')·q(x) / T)

with the encoder's inner product and the temperature of the prior, and p(z | x) divided by its sum over the
passages listed. These numbers add up to one. Sentences of equal text are one, with the sum of their probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixrag.answers.fields import AnswerSentence
from mixrag.corpus.passage import Passage
from mixrag.corpus.splitters.sentences import ends_sentence, sentences
from mixrag.corpus.splitters.words import count_words
from mixrag.generator.sentences import SentenceGenerator
from mixrag.inference.mixture import Mixture, condition
from mixrag.probability import log_normalise
from mixrag.retrieval.retriever import Retrieval

MOST_SENTENCES, MOST_PASSAGES, ENOUGH = 4, 2, 0.5
"""An extract ends with the sentence that brings it half of the probability, or with the fourth."""
FEWEST_WORDS, FEWEST_UNENDED = 4, 9
"""Of a sentence, and of one without the mark of an end. A shorter line is a heading or a label; it counts only in
a passage that has nothing else."""

Similarity = Callable[[Sequence[str]], Tensor]
"""S texts -> (S,) their inner product with the question, divided by T."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    passage: Passage
    start: int
    """Offset in the passage's text."""
    end: int
    log_share: float
    """log p(s | x, z)."""
    probability: float
    """p(s, z | x)."""

    @property
    def text(self) -> str:
        return " ".join(self.passage.text[self.start : self.end].split())


@dataclass(frozen=True, slots=True)
class Extract:
    """The sentences of an extract, in reading order, and the mixture in which it is an answer (token 0)."""

    sentences: tuple[AnswerSentence, ...]
    mixture: Mixture


def extract(question: str, retrieval: Retrieval, similarity: Similarity) -> Extract:
    """The most probable sentences of the passages retrieved, of which there is at least one.

    Args:
        question: the question.
        retrieval: K > 0 passages and their prior.
        similarity: of sentences with the question.
    """
    log_prior = log_normalise(retrieval.log_prior.double(), 0)
    found = _sentences(retrieval.passages, log_prior, similarity)
    mass: dict[str, float] = {}
    for each in found:
        mass[each.text] = mass.get(each.text, 0.0) + each.probability
    chosen = _chosen(found, mass)
    shown = {each.text for each in chosen}
    others = tuple(text for text in mass if text not in shown)
    places = dict.fromkeys(shown, 0) | {text: place for place, text in enumerate(others, 1)}
    table = {passage.id: torch.zeros(1 + len(others), dtype=torch.float64) for passage in retrieval.passages}
    for each in found:
        table[each.passage.id][places[each.text]] += np.exp(each.log_share)
    generator = SentenceGenerator(" ".join(each.text for each in chosen), len(chosen), others, table)
    mixture = condition(generator, question, retrieval.passages, log_prior, outside=retrieval.outside, reserve=1)
    return Extract(tuple(_shown(each, mass[each.text]) for each in chosen), mixture)


def _sentences(passages: Sequence[Passage], log_prior: Tensor, similarity: Similarity) -> list[_Sentence]:
    """All sentences of the passages, in their order."""
    spans = [_spans(passage.text) for passage in passages]
    texts = [passage.text[a:b] for passage, own in zip(passages, spans, strict=True) for a, b in own]
    scores = similarity(texts).double().split([*map(len, spans)])
    found = []
    for passage, own, score, prior in zip(passages, spans, scores, log_prior.tolist(), strict=True):
        for (start, end), share in zip(own, score.log_softmax(0).tolist(), strict=True):
            found.append(_Sentence(passage, start, end, share, float(np.exp(prior + share))))
    return found


def _spans(text: str) -> list[tuple[int, int]]:
    every = [*sentences(text, 0, len(text))] or [(0, len(text))]
    return [(a, b) for a, b in every if _is_sentence(text[a:b])] or every


def _is_sentence(text: str) -> bool:
    return count_words(text) >= (FEWEST_WORDS if ends_sentence(text) else FEWEST_UNENDED)


def _chosen(found: Iterable[_Sentence], mass: dict[str, float]) -> list[_Sentence]:
    """The most probable sentences until they have half of the mass, in reading order."""
    ranked = sorted(found, key=lambda each: (-mass[each.text], -each.probability))
    chosen: dict[str, _Sentence] = {}
    for each in ranked:
        used = {one.passage.id for one in chosen.values()} | {each.passage.id}
        if each.text in chosen or len(used) > MOST_PASSAGES:
            continue
        chosen[each.text] = each
        if len(chosen) == MOST_SENTENCES or sum(mass[text] for text in chosen) >= ENOUGH:
            break
    return sorted(chosen.values(), key=lambda each: (each.passage.document, each.passage.start + each.start))


def _shown(each: _Sentence, probability: float) -> AnswerSentence:
    passage = each.passage
    return AnswerSentence(
        text=each.text,
        passage=passage.id,
        document=passage.document,
        page=passage.page,
        place=passage.place,
        start=passage.start + each.start,
        end=passage.start + each.end,
        probability=probability,
    )

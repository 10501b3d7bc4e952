"""The best sentences of the passages, where an explanation is asked for and no model is to write one.

An extract is an event of the mixture over sentences (``read_sentences.py``): its probability is the sum of those
of its sentences, given that one of the passages read is right. The encoder says how near sentences are to the
question, not whether they answer it: the empty answer is not one of this mixture. Where the language model gives
one (``Settings.empty_answer``), its p(∅ | x) over the same passages is given besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from mixrag.answers.fields import AnswerSentence
from mixrag.answers.read_sentences import ReadSentences, Scores, Sentence, read_sentences
from mixrag.config.settings import Settings
from mixrag.corpus.words import words
from mixrag.generator.sentences import EXTRACT, SentenceGenerator, sentence_key
from mixrag.inference.mixture import Mixture, ScoredAnswer, condition
from mixrag.retrieval.retriever import Retrieval

MOST_SENTENCES, MOST_PASSAGES, ENOUGH = 4, 2, 0.8
"""An extract ends with the sentence that brings it so much of the probability, or with the fourth."""
REPEATED = 0.8
"""A sentence with this share of its words in one that was chosen before says nothing new."""


@dataclass(frozen=True, slots=True)
class Extract:
    """The sentences of an extract, in reading order, and the mixture in which it is an answer (token 0)."""

    sentences: tuple[AnswerSentence, ...]
    mixture: Mixture
    retrieval: Retrieval
    """The passages read, with a prior that sums to one."""

    @property
    def scored(self) -> ScoredAnswer:
        """The extract as an answer."""
        return self.mixture.score_tokens((EXTRACT,))


def extract(question: str, retrieval: Retrieval, scores: Scores) -> Extract:
    """The most probable sentences of the passages retrieved.

    Args:
        question: the question.
        retrieval: K > 0 passages, of which at least one has a prior above zero.
        scores: of the sentences of passages.
    """
    read = read_sentences(retrieval, scores)
    return _extract(question, read, chosen(read))


def extract_of(text: str, question: str, retrieval: Retrieval, scores: Scores) -> Extract | None:
    """The sentences of which a text consists, as an extract; None where a part of it is none.

    Args as of ``extract``, and the text.
    """
    read = read_sentences(retrieval, scores)
    keys = parts_of(text, read.mass)
    return None if keys is None else _extract(question, read, [_best(read, key) for key in keys])


def has_sentences(retrieval: Retrieval) -> bool:
    """Whether a passage may be right: there is one, and the null component has not all of the prior."""
    return bool((retrieval.log_prior > -torch.inf).any())


def settings_of_sentences(settings: Settings) -> Settings:
    """The settings of the mixture over sentences, where others are set for the language model's."""
    return replace(settings, normaliser="top-k", null=None, group=1, switch=0.0, empty_answer=False)


def chosen(read: ReadSentences) -> list[Sentence]:
    """The most probable sentences, none of which repeats another, until they have ``ENOUGH`` of the mass."""
    mass = read.mass
    ranked = sorted(read.sentences, key=lambda each: (-mass[each.key], -each.probability))
    found: list[Sentence] = []
    total = 0.0
    for each in ranked:
        used = {one.passage.text for one in found} | {each.passage.text}
        if len(used) > MOST_PASSAGES or any(_repeats(each, one) for one in found):
            continue
        found.append(each)
        total += mass[each.key]
        if len(found) == MOST_SENTENCES or total >= ENOUGH:
            break
    return found


def _repeats(sentence: Sentence, other: Sentence) -> bool:
    own = {*words(sentence.text)}
    return sentence.key == other.key or (bool(own) and len(own & {*words(other.text)}) >= REPEATED * len(own))


def parts_of(text: str, keys: Iterable[str]) -> list[str] | None:
    """The distinct sentences, by their keys, that make up a text one after another; None where they do not.

    >>> parts_of("It is due in May. The fee is nine crowns.", ["fee is nine crowns", "it is due in may", "it is"])
    ['it is due in may', 'fee is nine crowns']
    """
    known: dict[str, list[list[str]]] = {}
    for key in keys:
        if parts := key.split():
            known.setdefault(parts[0], []).append(parts)
    left, found = sentence_key(text).split(), dict[str, None]()
    while left:
        fitting = [parts for parts in known.get(left[0], ()) if parts == left[: len(parts)]]
        if not fitting:
            return None
        longest = max(fitting, key=len)
        found[" ".join(longest)] = None
        left = left[len(longest) :]
    return [*found] or None


def _best(read: ReadSentences, key: str) -> Sentence:
    return max((each for each in read.sentences if each.key == key), key=lambda each: each.probability)


def _extract(question: str, read: ReadSentences, members: Sequence[Sentence]) -> Extract:
    members = sorted(members, key=lambda each: (each.passage.document, each.passage.start + each.start))
    retrieval, mass = read.retrieval, read.mass
    text = " ".join(each.text for each in members)
    generator = _generator(read, text, tuple(each.key for each in members))
    mixture = condition(
        generator, question, retrieval.passages, retrieval.log_prior, outside=retrieval.outside, reserve=1
    )
    return Extract(tuple(_shown(each, mass[each.key]) for each in members), mixture, retrieval)


def _generator(read: ReadSentences, text: str, members: tuple[str, ...]) -> SentenceGenerator:
    others = {key: each for key, each in read.texts.items() if key not in members}
    tokens: Mapping[str, int] = dict.fromkeys(members, EXTRACT) | {key: i for i, key in enumerate(others, 1)}
    rows: dict[str, dict[int, float]] = {}
    for each in read.sentences:
        row, token = rows.setdefault(each.passage.text, {}), tokens[each.key]
        row[token] = row.get(token, 0.0) + each.share
    return SentenceGenerator(text, members, others, rows)


def _shown(each: Sentence, probability: float) -> AnswerSentence:
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

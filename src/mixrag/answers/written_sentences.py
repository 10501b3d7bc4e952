"""The sentences of an answer, each with the posterior of the passages: citations that are probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixrag.answers.fields import AnswerToken, WrittenSentence
from mixrag.inference.mixture import ScoredAnswer


def sentence_spans(ends: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """The tokens (first, after the last) of each sentence, from whether each of T tokens ends one.

    >>> list(sentence_spans([False, True, False, False, True, False]))
    [(0, 2), (2, 5), (5, 6)]
    """
    first = 0
    for t, ended in enumerate(ends):
        if ended or t + 1 == len(ends):
            yield first, t + 1
            first = t + 1


def written_sentences(scored: ScoredAnswer, tokens: Sequence[AnswerToken]) -> tuple[WrittenSentence, ...]:
    """The sentences of an answer, from its T tokens with their responsibilities.

    They end where the passage may change if ``switch_at`` is "sentence" (``inference.sentence_switch``), whatever
    it is. The stop token is in no sentence.
    """
    length = len(tokens) - scored.finished
    found = []
    for start, end in sentence_spans(scored.sentence_ends[:length]):
        part = tokens[start:end]
        text = "".join(token.text for token in part)
        if not any(map(str.isalnum, text)):
            continue
        shares = zip(*(token.responsibility for token in part), strict=True)
        posterior = tuple(sum(each) / len(part) for each in shares)
        null = sum(token.null for token in part) / len(part)
        found.append(WrittenSentence(text.strip(), start, end, posterior, null))
    return tuple(found)

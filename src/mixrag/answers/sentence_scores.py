"""How near the sentences of passages are to a question: the score of the prior, of sentences instead of passages.

    t(s, x) = (1-λ) d(s)·q(x) / T + λ BM25(x, s) / T'

with λ, T and T' of the prior (``probability/prior.py``). The encoder reads a sentence behind the title and the
headings of its passage, as it reads the passage. BM25 is that among the sentences read: a word that all of them
have, such as the name of the subject, distinguishes none. Where no sentence shares a word, λ is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mixrag.answers.read_sentences import Scores
from mixrag.config.settings import Settings
from mixrag.corpus.passage import Passage, with_context
from mixrag.corpus.splitters.protocol import Offsets
from mixrag.corpus.words import asked_words, words
from mixrag.probability import passage_scores
from mixrag.retrieval.encoders import CompleteEncoder
from mixrag.retrieval.lexical.bm25 import inverse_frequency, length_norms, saturated
from mixrag.utils.arrays import Floats
from mixrag.utils.turns import turn


def sentence_scores(question: str, encoder: CompleteEncoder, temperature: float, settings: Settings) -> Scores:
    """The scores of sentences with a question.

    Args:
        question: the question x.
        encoder: gives the vectors d and q.
        temperature: T, of this encoder's inner products.
        settings: λ and T'.
    """

    def scores(passages: Sequence[Passage], spans: Sequence[Sequence[Offsets]]) -> Sequence[Tensor]:
        places = [(passage, a, b) for passage, own in zip(passages, spans, strict=True) for a, b in own]
        lexical = bm25(question, [passage.text[a:b] for passage, a, b in places])
        found = passage_scores(
            _inner_products(encoder, question, [_embedded(encoder, *place) for place in places]),
            temperature,
            bm25=torch.from_numpy(lexical) if lexical.any() else None,
            lexical=settings.lexical,
            lexical_temperature=settings.lexical_temperature,
        )
        return [*torch.split(found, [*map(len, spans)])]

    return scores


def bm25(question: str, texts: Sequence[str]) -> Floats:
    """(S,) BM25 of texts among themselves (``retrieval/lexical/bm25.py``); 0 where they share no word with it.

    >>> bm25("the fee", ["The fee is due.", "Nobody pays.", "The office"]).round(2).tolist()
    [1.44, 0.0, 0.57]
    """
    counts = [Counter(words(text)) for text in texts]
    lengths = np.array([each.total() for each in counts], np.int64)
    norms = length_norms(lengths, int(lengths.sum()), len(texts))
    total = np.zeros(len(texts), np.float64)
    for word, weight in asked_words(question).items():
        often = np.array([each[word] for each in counts], np.int64)
        total += weight * inverse_frequency(len(texts), int((often > 0).sum())) * saturated(often, norms)
    return total


def _embedded(encoder: CompleteEncoder, passage: Passage, start: int, end: int) -> str:
    sentence = " ".join(passage.text[start:end].split())
    return encoder.passage_text(passage.front_title, with_context(passage.context, sentence))


def _inner_products(encoder: CompleteEncoder, question: str, texts: Sequence[str]) -> Tensor:
    """(S,) d(s)·q(x)."""
    with turn(encoder):
        asked = torch.as_tensor(encoder.encode_questions([question])[0], dtype=torch.float64)
        vectors = torch.as_tensor(encoder.encode_passages(texts), dtype=torch.float64)
    return vectors @ asked

"""The score of a sentence: that of the prior, behind title and headings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from mixrag import Settings
from mixrag.answers.sentence_scores import bm25, sentence_scores
from mixrag.corpus import Passage
from mixrag.retrieval.lexical.bm25 import inverse_frequency, length_norms, saturated
from words_encoder import WordsEncoder

TEXT = "The fee is nine crowns. It is paid in May."
PASSAGE = Passage("a", TEXT, "/a", "a", 0, len(TEXT), context="Fees of the harbour", front_title="Rules")
SPANS = [(0, 23), (24, 42)]


@dataclass(frozen=True)
class Noting(WordsEncoder):
    read: list[str] = field(default_factory=list)

    def encode_passages(self, texts):  # type: ignore[no-untyped-def]
        self.read.extend(texts)
        return super().encode_passages(texts)

    def passage_text(self, title: str, text: str) -> str:
        return f"{title}: {text}"


@pytest.mark.parametrize("lexical", [0.0, 0.25, 1.0])
def test_a_sentence_has_the_score_of_the_prior(lexical: float) -> None:
    encoder, question = Noting(), "What is the fee of the harbour?"
    settings = Settings(lexical=lexical, lexical_temperature=2.0)
    (found,) = sentence_scores(question, encoder, 0.2, settings)([PASSAGE], [SPANS])
    read = [f"Rules: Fees of the harbour\n{TEXT[a:b]}" for a, b in SPANS]
    assert encoder.read == read
    dense = WordsEncoder().encode_passages(read) @ WordsEncoder().encode_questions([question])[0] / 0.2
    words = bm25(question, [TEXT[a:b] for a, b in SPANS]) / 2.0
    assert found.tolist() == pytest.approx(((1 - lexical) * dense + lexical * words).tolist(), rel=1e-6)


def test_where_no_word_is_shared_the_encoder_alone_counts() -> None:
    scores = [
        sentence_scores("Wer?", WordsEncoder(), 0.2, Settings(lexical=share))([PASSAGE], [SPANS])[0].tolist()
        for share in (0.0, 0.5)
    ]
    assert scores[0] == scores[1]


def test_bm25_of_sentences_among_themselves() -> None:
    found = bm25("fee crowns", ["The fee is due.", "A fee of crowns, a fee", "Nobody pays."])
    lengths = np.array([4, 6, 2])
    norms = length_norms(lengths, 12, 3)
    fee = inverse_frequency(3, 2) * saturated(np.array([1, 2, 0]), norms)
    crowns = inverse_frequency(3, 1) * saturated(np.array([0, 1, 0]), norms)
    assert found.tolist() == pytest.approx((fee + crowns).tolist())
    assert bm25("zebra", ["The fee is due."]).tolist() == [0.0]

"""Vectors of texts that are not in the store, by the store's encoder."""

from __future__ import annotations

from collections.abc import Sequence

from mixrag.corpus import Tokens
from mixrag.corpus.splitters.tokens import ESTIMATED
from mixrag.rag import RAG
from mixrag.utils.arrays import Vectors
from mixrag.utils.turns import turn


def question_vectors(rag: RAG, questions: Sequence[str]) -> Vectors:
    """(B, D) q(x)."""
    with turn(rag.encoder):
        return rag.encoder.encode_questions(questions)


def passage_vectors(rag: RAG, titles_and_texts: Sequence[tuple[str, str]]) -> Vectors:
    """(M, D) d(z), each text with its title as the store's passages are read."""
    encoder = rag.encoder
    with turn(encoder):
        return encoder.encode_passages([encoder.passage_text(title, text) for title, text in titles_and_texts])


def tokens_in(rag: RAG, texts: Sequence[str]) -> int:
    """Tokens of the texts, by the encoder's tokenizer, or an estimate where it has none."""
    tokens: Tokens = getattr(rag.encoder, "tokens", ESTIMATED)
    return sum(tokens.counts(texts))

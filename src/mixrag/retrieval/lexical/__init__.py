"""Lexical search: exact BM25 of all passages of a store."""

from mixrag.retrieval.lexical.index import AskedWord, LexicalIndex, Near
from mixrag.retrieval.lexical.opening import open_lexical, postings_are_due
from mixrag.retrieval.lexical.postings import Postings, inverted
from mixrag.retrieval.lexical.scored import Scored

__all__ = [
    "AskedWord",
    "LexicalIndex",
    "Near",
    "Postings",
    "Scored",
    "inverted",
    "open_lexical",
    "postings_are_due",
]

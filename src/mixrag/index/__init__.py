"""Maximum inner product search: the exact reference, FAISS flat, and cells with refinement for large corpora."""

from mixrag.index.exact import ExactIndex
from mixrag.index.flat import FLAT_LIMIT, FaissIndex, build_faiss
from mixrag.index.kept import Corpus, kept_description, open_kept
from mixrag.index.protocol import Hits, Index
from mixrag.index.refined import RefinedIndex, build_refined, cells_for

__all__ = [
    "FLAT_LIMIT",
    "Corpus",
    "ExactIndex",
    "FaissIndex",
    "Hits",
    "Index",
    "RefinedIndex",
    "build_faiss",
    "build_refined",
    "cells_for",
    "kept_description",
    "open_kept",
]

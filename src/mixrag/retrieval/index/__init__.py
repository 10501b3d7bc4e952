"""Maximum inner product search: the exact reference, FAISS flat, and cells with refinement for large corpora."""

from mixrag.retrieval.index.exact import ExactIndex
from mixrag.retrieval.index.faiss_flat import FLAT_LIMIT, FaissIndex, build_faiss
from mixrag.retrieval.index.ivf import IVFIndex, build_ivf, cells_for
from mixrag.retrieval.index.persistence import VectorSource, describe_persistent, open_persistent
from mixrag.retrieval.index.protocol import Hits, Index

__all__ = [
    "FLAT_LIMIT",
    "ExactIndex",
    "FaissIndex",
    "Hits",
    "IVFIndex",
    "Index",
    "VectorSource",
    "build_faiss",
    "build_ivf",
    "cells_for",
    "describe_persistent",
    "open_persistent",
]

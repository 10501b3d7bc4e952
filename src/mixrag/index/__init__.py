"""Maximum inner product search: the exact reference, and FAISS."""

from mixrag.index.approximate import FLAT_LIMIT, FaissIndex, build_faiss, faiss_factory
from mixrag.index.exact import ExactIndex
from mixrag.index.protocol import Hits, Index

__all__ = ["FLAT_LIMIT", "ExactIndex", "FaissIndex", "Hits", "Index", "build_faiss", "faiss_factory"]

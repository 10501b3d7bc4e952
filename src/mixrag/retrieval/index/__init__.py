"""Maximum inner product search: exact, FAISS flat, IVF for large corpora, or an index of the caller's own."""

from mixrag.retrieval.index.choice import (
    IndexBuilder,
    IndexChoice,
    IndexKind,
    check_index_choice,
    describe_index,
    index_is_due,
    index_name,
    open_index,
)
from mixrag.retrieval.index.exact import ExactIndex, exact_products
from mixrag.retrieval.index.faiss_flat import FLAT_LIMIT, FaissIndex, build_faiss
from mixrag.retrieval.index.in_store import InStoreIndex
from mixrag.retrieval.index.ivf import DamagedIndexError, IVFIndex, build_ivf, clusters_for
from mixrag.retrieval.index.persistence import VectorSource, describe_persistent, discard, open_persistent
from mixrag.retrieval.index.plugin import PluginIndex, completed_index
from mixrag.retrieval.index.protocol import CompleteIndex, Hits, Index

__all__ = [
    "FLAT_LIMIT",
    "CompleteIndex",
    "DamagedIndexError",
    "ExactIndex",
    "FaissIndex",
    "Hits",
    "IVFIndex",
    "InStoreIndex",
    "Index",
    "IndexBuilder",
    "IndexChoice",
    "IndexKind",
    "PluginIndex",
    "VectorSource",
    "build_faiss",
    "build_ivf",
    "check_index_choice",
    "clusters_for",
    "completed_index",
    "describe_index",
    "describe_persistent",
    "discard",
    "exact_products",
    "index_is_due",
    "index_name",
    "open_index",
    "open_persistent",
]

"""Which index a store is searched with: chosen by size, by name, or built by a function of the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from mixrag.corpus import Store
from mixrag.errors import PluginError, SettingError
from mixrag.retrieval.index.exact import ExactIndex
from mixrag.retrieval.index.faiss_flat import FLAT_LIMIT, build_faiss
from mixrag.retrieval.index.in_store import InStoreIndex
from mixrag.retrieval.index.ivf import clusters_for
from mixrag.retrieval.index.persistence import (
    VectorSource,
    describe_persistent,
    is_current,
    open_persistent,
)
from mixrag.retrieval.index.plugin import completed_index
from mixrag.retrieval.index.protocol import CompleteIndex, Index
from mixrag.utils.arrays import Rows, Vectors

IndexKind = Literal["auto", "exact", "faiss"]
IndexBuilder = Callable[[Rows, Vectors], Index]
"""From row ids (M,), ascending, and vectors (M, D) to an index; a class with such a constructor is one."""
IndexChoice = IndexKind | IndexBuilder


def check_index_choice(choice: Any) -> IndexChoice:
    """The choice itself, if it is one.

    Raises:
        SettingError: a name that is not known.
        PluginError: neither a name nor a builder.
    """
    if isinstance(choice, str):
        if choice not in get_args(IndexKind):
            raise SettingError("index 'auto', 'exact', 'faiss' or a builder", repr(choice), "choose one of them")
    elif not callable(choice):
        raise PluginError(
            "index 'auto', 'exact', 'faiss' or a function (rows, vectors) -> Index",
            f"a {type(choice).__name__}",
            "give the function or class that builds the index",
        )
    return choice  # type: ignore[no-any-return]


def open_index(store: Store, choice: IndexChoice) -> CompleteIndex:
    """An index over the store's present passages.

    "auto" searches exactly as long as a full scan is quick. Beyond, it lets the store's own engine search where it
    has one, and else takes an inverted file (IVF), stored in files next to the store (``persistence.py``). "faiss"
    takes FAISS' flat index where "auto" searches exactly, and IVF beyond.
    A builder is called with all row ids and vectors, again whenever the store has changed.

    Raises:
        PluginError: a builder returned something without ``search``.
    """
    if callable(choice):
        rows, vectors = store.vectors()
        return completed_index(choice(rows, vectors), rows, store.vectors_of)
    passages = store.counts().passages
    if _is_exact(passages, choice):
        return ExactIndex(*store.vectors())
    if passages <= FLAT_LIMIT:
        return build_faiss(*store.vectors())
    if choice == "auto" and store.own_search is not None:
        return InStoreIndex(store, passages)
    return open_persistent(store.cache_directory, _vectors_of(store))


def index_is_due(store: Store, choice: IndexChoice) -> bool:
    """Whether ``open_index`` would write an index into files, which takes long, before it returns one."""
    passages = store.counts().passages
    if callable(choice) or _is_exact(passages, choice) or passages <= FLAT_LIMIT:
        return False
    if choice == "auto" and store.own_search is not None:
        return False
    return not is_current(store.cache_directory, _vectors_of(store))


def describe_index(passages: int, choice: IndexChoice, store: Store | None = None) -> str:
    """What ``open_index`` will choose for so many passages, and why; with a store, what is stored next to it."""
    if callable(choice):
        return f"{index_name(choice)}, an index of the caller's own, over {passages} passages"
    if _is_exact(passages, choice):
        reason = "as asked" if choice == "exact" else f"up to {FLAT_LIMIT} passages"
        return f"exact search over {passages} passages ({reason})"
    if passages <= FLAT_LIMIT:
        return f"FAISS Flat, exact search over {passages} passages (as asked)"
    if choice == "auto" and store is not None and store.own_search is not None:
        return InStoreIndex(store, passages).description
    stored = store and describe_persistent(store.cache_directory, store.state)
    size = f"by the size of the corpus ({passages} passages)"
    return stored or f"FAISS IVF{clusters_for(passages)}, four-bit codes refined by exact products, {size}"


def index_name(choice: IndexChoice) -> str:
    """The name of a choice; of a builder, that of its function or class."""
    return str(getattr(choice, "__name__", type(choice).__name__)) if callable(choice) else choice


def _vectors_of(store: Store) -> VectorSource:
    fingerprint = "" if store.encoder is None else store.encoder.fingerprint
    return VectorSource(store.state, fingerprint, store.marks, store.vectors_of)


def _is_exact(passages: int, kind: IndexKind) -> bool:
    return kind == "exact" or (kind == "auto" and passages <= FLAT_LIMIT)

"""mixrag: retrieval-augmented generation as the finite mixture model that it is.

>>> from mixrag import RAG
>>> with RAG.open("store", create=True) as rag:  # doctest: +SKIP
...     rag.index(["documents"])
...     answer = rag.ask("Who issues the fishing licence?")
...     print(answer.text, answer.probability)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixrag.answer import Answer
    from mixrag.corpus import Passage, Store
    from mixrag.encoder import Encoder, load_encoder
    from mixrag.errors import MixragError
    from mixrag.generator import Generator, PromptTemplate, load_generator
    from mixrag.mixture import Mixture
    from mixrag.rag import RAG, Models
    from mixrag.settings import Settings

__version__ = "0.1.0"

_HOME = {
    "Answer": "answer",
    "Encoder": "encoder",
    "Generator": "generator",
    "MixragError": "errors",
    "Mixture": "mixture",
    "Models": "rag",
    "Passage": "corpus",
    "PromptTemplate": "generator",
    "RAG": "rag",
    "Settings": "settings",
    "Store": "corpus",
    "load_encoder": "encoder",
    "load_generator": "generator",
}

__all__ = [
    "RAG",
    "Answer",
    "Encoder",
    "Generator",
    "MixragError",
    "Mixture",
    "Models",
    "Passage",
    "PromptTemplate",
    "Settings",
    "Store",
    "load_encoder",
    "load_generator",
]


def __getattr__(name: str) -> Any:
    # Public names load their module when first used: `mixrag --help` should not wait for torch.
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'mixrag' has no attribute {name!r}")
    return getattr(import_module(f"mixrag.{_HOME[name]}"), name)

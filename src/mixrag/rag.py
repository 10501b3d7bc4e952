"""RAG: the facade that applications import."""

from __future__ import annotations

from mixrag.answers.pipeline import Info, Pipeline

__all__ = ["RAG", "Info"]


class RAG(Pipeline):
    """A store of passages, an encoder and a language model: index documents, ask, train, evaluate.

    >>> rag = RAG.open("store", create=True)  # doctest: +SKIP
    >>> rag.index(["documents"])  # doctest: +SKIP
    >>> answer = rag.ask("Who issues the fishing licence?")  # doctest: +SKIP
    >>> answer.text, answer.probability, answer.passages[0].posterior  # doctest: +SKIP
    """

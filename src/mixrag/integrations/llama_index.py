"""mixrag in LlamaIndex: a retriever and a query engine (``pip install "mixrag[llama-index]"``).

``rag = RAG.open("store")``, then:

>>> retriever = MixragRetriever(rag, settings={"k": 2})
>>> nodes = retriever.retrieve("What does a licence for cod cost?")
>>> [node.metadata["title"] for node in nodes], round(sum(node.score for node in nodes), 6)
(['cod', 'eel'], 1.0)

>>> engine = MixragQueryEngine(rag=rag)
>>> response = engine.query("What does a licence for cod cost?")
>>> response.response == response.metadata["best_guess"], 0 < response.metadata["probability"] < 1
(True, True)

The retriever takes the place of an index's own: ``RetrieverQueryEngine.from_args(retriever, llm=...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from mixrag.answers.answer import Answer
from mixrag.integrations.common import checked, cited, described, retrieved, stated
from mixrag.utils.cancellation import in_thread
from mixrag.utils.extras import missing_package

try:
    from llama_index.core.base.response.schema import Response
    from llama_index.core.query_engine import CustomQueryEngine
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ModuleNotFoundError as error:
    raise missing_package("llama-index-core", "llama-index", "mixrag.integrations.llama_index") from error

KEYS = ("id", "document", "start", "end", "prior", "posterior")
"""Metadata that say nothing to a language model or an encoder: LlamaIndex keeps them out of their prompts."""


class MixragRetriever(BaseRetriever):
    """The passages for a question as nodes, best first; the score of a node is its prior p(z | x).

    Under the settings' normaliser: with "top-k" the scores of all nodes (and of the null component, where the
    settings have one) sum to one, with "full" they are shares of the whole corpus.
    """

    def __init__(self, rag: Any, settings: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Of an open ``RAG``.

        Args:
            rag: an open ``RAG``.
            settings: changes to its settings, such as ``{"k": 10}``.
            options: as ``BaseRetriever`` takes them.

        Raises:
            PluginError: ``rag`` lacks a method.
        """
        self._rag = checked(rag)
        self._settings = dict(settings or {})
        super().__init__(**options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._rag.passages(query_bundle.query_str, **self._settings)
        return [_node(text, metadata) for text, metadata in retrieved(found)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await in_thread(self._retrieve, query_bundle)


class MixragQueryEngine(CustomQueryEngine):
    """Answers with mixrag's own mixture; no language model of LlamaIndex is called.

    ``metadata`` of a response: ``probability``, ``log_prob``, ``confidence``, ``withheld``, ``best_guess``,
    ``finished``, ``p_empty``, ``kind``, ``items`` and ``sentences`` (of lists, yes-no and extracts).
    Where an answer is withheld because its confidence is below the threshold, the response says so
    and ``best_guess`` holds it. The score of a source node is its prior, its metadata have the ``posterior``.
    """

    rag: Any
    """An open ``RAG``."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """Changes to the settings of ``rag``."""
    _checked = field_validator("rag")(checked)

    def custom_query(self, query_str: str) -> Response:
        """The answer to one question. Raises as ``RAG.ask`` does."""
        answer: Answer = self.rag.ask(query_str, **self.settings)
        nodes = [_node(text, metadata) for text, metadata in cited(answer)]
        return Response(stated(answer), source_nodes=nodes, metadata=described(answer))

    async def acustom_query(self, query_str: str) -> Response:
        """As ``custom_query``, in a thread."""
        return await in_thread(self.custom_query, query_str)


def _node(text: str, metadata: dict[str, Any]) -> NodeWithScore:
    node = TextNode(
        id_=metadata["id"],
        text=text,
        metadata=metadata,
        excluded_llm_metadata_keys=list(KEYS),
        excluded_embed_metadata_keys=list(KEYS),
    )
    return NodeWithScore(node=node, score=metadata["prior"])

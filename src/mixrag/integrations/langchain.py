"""mixrag in LangChain: a retriever, and a runnable that answers (``pip install "mixrag[langchain]"``).

``rag = RAG.open("store")``, then:

>>> retriever = MixragRetriever(rag=rag, settings={"k": 2})
>>> [document.metadata["title"] for document in retriever.invoke("What does a licence for cod cost?")]
['cod', 'eel']

>>> answerer = MixragAnswerer(rag=rag)
>>> found = answerer.invoke({"question": "What does a licence for cod cost?"})
>>> sorted(found)
['answer', 'passages', 'probability', 'question', 'text']
>>> chain = answerer | (lambda found: f"{found['text']} (p = {found['probability']:.2g})")
>>> chain.invoke("What does a licence for cod cost?") == f"{found['text']} (p = {found['probability']:.2g})"
True

Both have ``ainvoke``, ``batch`` and the rest of LangChain's interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import ConfigDict, Field, field_validator

from mixrag.answers.answer import Answer
from mixrag.integrations.common import checked, cited, question_of, retrieved
from mixrag.utils.extras import missing_package

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableConfig, RunnableSerializable
except ModuleNotFoundError as error:
    raise missing_package("langchain-core", "langchain", "mixrag.integrations.langchain") from error


class MixragRetriever(BaseRetriever):
    """The passages for a question as LangChain documents, best first.

    The metadata of a document are those of the file or record it comes from, and ``id``, ``document``, ``title``,
    ``start``, ``end`` (offsets in the document's text) and ``prior``, its p(z | x) under the settings.
    """

    rag: Any
    """An open ``RAG``."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """Changes to the settings of ``rag``, such as ``{"k": 10, "where": {"year": 2024}}``."""
    _checked = field_validator("rag")(checked)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = self.rag.passages(query, **self.settings)
        return [_document(text, metadata) for text, metadata in retrieved(found)]


class LangChainAnswer(TypedDict):
    """What ``MixragAnswerer`` returns."""

    question: str
    text: str | None
    """None where the answer is withheld (``Answer.abstains``)."""
    probability: float
    """p(answer | question)."""
    passages: list[Document]
    """As from ``MixragRetriever``, with the ``posterior`` of each given the answer."""
    answer: Answer
    """All else that is known of it."""


class MixragAnswerer(RunnableSerializable[str | dict[str, Any], LangChainAnswer]):
    """From a question, or a mapping with a ``question``, to its answer with probability and passages."""

    rag: Any
    """An open ``RAG``."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """Changes to the settings of ``rag``."""
    model_config = ConfigDict(arbitrary_types_allowed=True)
    _checked = field_validator("rag")(checked)

    def invoke(
        self, input: str | dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> LangChainAnswer:
        """Answer one question; ``ainvoke`` does so in a thread.

        Raises:
            QuestionError: no question in ``input``; else as ``RAG.ask``.
        """
        return self._call_with_config(self._answered, input, config)

    def _answered(self, given: str | dict[str, Any]) -> LangChainAnswer:
        question = question_of(given)
        answer = self.rag.ask(question, **self.settings)
        return LangChainAnswer(
            question=question,
            text=answer.text,
            probability=answer.probability,
            passages=[_document(text, metadata) for text, metadata in cited(answer)],
            answer=answer,
        )


def _document(text: str, metadata: dict[str, Any]) -> Document:
    return Document(page_content=text, metadata=metadata, id=metadata["id"])

"""mixrag in Haystack: two components (``pip install "mixrag[haystack]"``).

``rag = RAG.open("store")``, or in its place the store's folder, which a pipeline can write down and load again:

>>> retriever = MixragRetriever(rag, settings={"k": 2})
>>> found = retriever.run("What does a licence for cod cost?")
>>> [document.meta["title"] for document in found["documents"]]
['cod', 'eel']

>>> from haystack import Pipeline
>>> pipeline = Pipeline()
>>> _ = pipeline.add_component("answerer", MixragAnswerer(rag))
>>> found = pipeline.run({"answerer": {"query": "What does a licence for cod cost?"}})
>>> answer = found["answerer"]["answers"][0]
>>> answer.data == answer.meta["best_guess"], 0 < answer.meta["probability"] < 1, len(answer.documents)
(True, True, 3)

Haystack makes objects of trusted modules only, so a pipeline that was written down is loaded with
``Pipeline.loads(text, allowed_modules=["mixrag.integrations.haystack"])``. Haystack sends statistics of its use
over the network unless ``HAYSTACK_TELEMETRY_ENABLED=False`` is set in the environment; mixrag sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from mixrag.answers.answer import Answer
from mixrag.errors import SettingError
from mixrag.integrations.common import checked, cited, described, retrieved, stated
from mixrag.rag import RAG
from mixrag.utils.cancellation import in_thread
from mixrag.utils.extras import missing_package

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import GeneratedAnswer
except ModuleNotFoundError as error:
    raise missing_package("haystack-ai", "haystack", "mixrag.integrations.haystack") from error


class _Component:
    """A component over a store; it is opened when the pipeline warms up, or at the first question."""

    def __init__(
        self,
        store: str | Path | RAG,
        model: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Of a store.

        Args:
            store: the folder of a store, or an open ``RAG`` (which cannot be written down with the pipeline).
            model: the folder of a trained bundle, for a store named by its folder.
            settings: changes to the settings, such as ``{"k": 10}``.

        Raises:
            PluginError: ``store`` is neither of the two.
        """
        self.store = store
        self.model = None if model is None else str(model)
        self.settings = dict(settings or {})
        self._rag: Any = None if isinstance(store, str | Path) else checked(store)

    def warm_up(self) -> None:
        """Open the store. Raises as ``RAG.open`` does."""
        if self._rag is None:
            assert isinstance(self.store, str | Path)
            self._rag = RAG.open(self.store, model=self.model)

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it down.

        Raises:
            SettingError: it was made from an open ``RAG``.
        """
        if not isinstance(self.store, str | Path):
            expected = "the folder of a store in a pipeline that is written down"
            raise SettingError(expected, "an open RAG", "make the component from the folder")
        written: dict[str, Any] = default_to_dict(
            self, store=str(self.store), model=self.model, settings=self.settings
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component from what ``to_dict`` wrote."""
        made: Self = default_from_dict(cls, data)
        return made


@component
class MixragRetriever(_Component):
    """The passages for a question as documents, best first; the score of a document is its prior p(z | x).

    Its ``meta`` are those of the file or record it comes from, and ``document``, ``title``, ``start``, ``end``
    (offsets in the document's text) and ``prior``.
    """

    @component.output_types(documents=list[Document])
    def run(self, query: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """The passages for ``query``; ``settings`` change those of the component. Raises as ``RAG.passages``."""
        self.warm_up()
        found = self._rag.passages(query, **{**self.settings, **(settings or {})})
        return {"documents": [_document(text, metadata) for text, metadata in retrieved(found)]}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """As ``run``, in a thread."""
        return await in_thread(self.run, query, settings)


@component
class MixragAnswerer(_Component):
    """The answer to a question, with its passages as documents.

    ``meta`` of the answer: ``probability``, ``log_prob``, ``confidence``, ``withheld``, ``best_guess``,
    ``finished``, ``p_empty``, ``kind``, ``items`` and ``sentences`` (of lists, yes-no and extracts).
    Where an answer is withheld because its confidence is below the threshold, ``data`` says so and
    ``best_guess`` holds it. The score of a document is its prior, its ``meta`` have the ``posterior``.
    """

    @component.output_types(answers=list[GeneratedAnswer])
    def run(self, query: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """One answer to ``query``; ``settings`` change those of the component. Raises as ``RAG.ask``."""
        self.warm_up()
        answer: Answer = self._rag.ask(query, **{**self.settings, **(settings or {})})
        documents = [_document(text, metadata) for text, metadata in cited(answer)]
        return {"answers": [GeneratedAnswer(stated(answer), query, documents, described(answer))]}

    @component.output_types(answers=list[GeneratedAnswer])
    async def run_async(self, query: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """As ``run``, in a thread."""
        return await in_thread(self.run, query, settings)


def _document(text: str, metadata: dict[str, Any]) -> Document:
    meta = {key: value for key, value in metadata.items() if key != "id"}
    return Document(id=metadata["id"], content=text, meta=meta, score=metadata["prior"])

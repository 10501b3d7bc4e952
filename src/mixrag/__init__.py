"""mixrag: retrieval-augmented generation as the finite mixture model that it is.

>>> from mixrag import RAG
>>> with RAG.open("store", create=True) as rag:  # doctest: +SKIP
...     rag.index(["documents"])
...     answer = rag.ask("Who issues the fishing licence?")
...     print(answer.text, answer.probability)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mixrag.utils.lazy import names_of

if TYPE_CHECKING:
    from mixrag.answers.answer import Answer
    from mixrag.answers.decision import Decision
    from mixrag.answers.fields import AnswerPassage
    from mixrag.config.model_config import ModelConfig
    from mixrag.config.prompt_template import PromptTemplate
    from mixrag.config.settings import Settings
    from mixrag.config.training_settings import TrainingSettings
    from mixrag.corpus import Document, Parser, Passage, Splitter, Store
    from mixrag.errors import MixragError
    from mixrag.generator import Generator, load_generator
    from mixrag.inference.mixture import Mixture
    from mixrag.inference.protocol import Decoder
    from mixrag.rag import RAG
    from mixrag.retrieval.encoders import Encoder, load_encoder
    from mixrag.retrieval.index import Hits, Index
    from mixrag.retrieval.retriever import Retrieval, Retriever
    from mixrag.utils.progress import ProgressEvent

__version__ = "0.1.0"

logging.getLogger("mixrag").addHandler(logging.NullHandler())  # an application decides what it shows

_HOME = {
    "Answer": "answers.answer",
    "Document": "corpus",
    "AnswerPassage": "answers.fields",
    "Decision": "answers.decision",
    "Decoder": "inference.protocol",
    "Encoder": "retrieval.encoders",
    "Generator": "generator",
    "Hits": "retrieval.index",
    "Index": "retrieval.index",
    "MixragError": "errors",
    "Mixture": "inference.mixture",
    "ModelConfig": "config.model_config",
    "Parser": "corpus",
    "Passage": "corpus",
    "ProgressEvent": "utils.progress",
    "PromptTemplate": "config.prompt_template",
    "RAG": "rag",
    "Retrieval": "retrieval.retriever",
    "Retriever": "retrieval.retriever",
    "Settings": "config.settings",
    "Splitter": "corpus",
    "Store": "corpus",
    "TrainingSettings": "config.training_settings",
    "load_encoder": "retrieval.encoders",
    "load_generator": "generator",
}

__all__ = [
    "RAG",
    "Answer",
    "AnswerPassage",
    "Decision",
    "Decoder",
    "Document",
    "Encoder",
    "Generator",
    "Hits",
    "Index",
    "MixragError",
    "Mixture",
    "ModelConfig",
    "Parser",
    "Passage",
    "ProgressEvent",
    "PromptTemplate",
    "Retrieval",
    "Retriever",
    "Settings",
    "Splitter",
    "Store",
    "TrainingSettings",
    "load_encoder",
    "load_generator",
]


# `mixrag --help` should not wait for torch.
__getattr__ = names_of(__name__, _HOME)

"""Text to vectors: any sentence-transformers model, one for both sides or a question/passage pair (DPR)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from torch import Tensor

from mixrag.corpus import Tokens, title_and_text
from mixrag.corpus.passage import TitleBefore
from mixrag.retrieval.encoders.batch import rounded, unsupported, vectors_of
from mixrag.retrieval.encoders.plugin import COSINE_TEMPERATURE
from mixrag.retrieval.encoders.tokens import tokens_of
from mixrag.utils.arrays import Vectors

DTYPES = ("float32", "bfloat16")
"""Number formats in which passages are encoded."""
_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")


@dataclass(frozen=True)
class SentenceEncoder:
    """sentence-transformers models; the same object twice where one encoder serves both sides."""

    name: str
    question_model: Any
    passage_model: Any
    batch_size: int = 32
    """Texts in a batch of questions, or of passages where the model is ``unsupported`` (batch.py)."""
    titles: bool | None = None
    """Title and text are joined as "title [SEP] text", not by a line end; None: where the models are a pair, as
    DPR was trained."""
    dtype: str = "float32"
    """Number format in which passages are encoded, of ``DTYPES``; questions, which are few, always use float32."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the passage model's configuration, tokenizer and weights, and ``dtype`` if not float32."""
        digest = hashlib.sha256()
        model = self.passage_model
        layers = [(type(layer).__name__, str(getattr(layer, "pooling_mode", ""))) for layer in model]
        described = (layers, model.max_seq_length, sorted(model.prompts.items()))
        # The vectors of a store are found by the text that is embedded; "text" is what version 0.1 wrote here.
        joined = self.passage_text("title", "text") if self.separates_titles else "text"
        digest.update(repr((described, joined)).encode())
        backend = getattr(model.tokenizer, "backend_tokenizer", None)
        vocabulary = (
            repr(sorted(model.tokenizer.get_vocab().items())) if backend is None else str(backend.to_str())
        )
        digest.update(vocabulary.encode())
        for key, tensor in sorted(model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        content = digest.hexdigest()
        if self.dtype == "float32":
            return content
        return hashlib.sha256(f"{content} {self.dtype}".encode()).hexdigest()

    @property
    def temperature(self) -> float:
        """1 for raw inner products (DPR), ``COSINE_TEMPERATURE`` for vectors of length one."""
        normalised = any(type(module).__name__ == "Normalize" for module in self.passage_model)
        return COSINE_TEMPERATURE if normalised else 1.0

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_questions``."""
        return self._encode(self.question_model.encode_query, questions)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_passages``; an ``unsupported`` model makes its own batches."""
        if unsupported(self.passage_model) is not None:
            return self._encode(self.passage_model.encode_document, texts)
        computing = self.passage_model if self.dtype == "float32" else self._rounded
        vectors = vectors_of(computing, texts, _prompt(self.passage_model, _DOCUMENT), "document")
        return cast(Vectors, vectors.numpy())

    @cached_property
    def _rounded(self) -> Any:
        """The passage model in bfloat16; later changes of its weights have no effect here."""
        return rounded(self.passage_model)

    def question_tensor(self, questions: Sequence[str]) -> Tensor:
        """(B, D) as ``encode_questions``, with gradient."""
        return _forward(self.question_model, "query", _QUERY, questions)

    def passage_tensor(self, texts: Sequence[str]) -> Tensor:
        """(M, D) as ``encode_passages`` in float32, with gradient."""
        return _forward(self.passage_model, "document", _DOCUMENT, texts)

    @cached_property
    def tokens(self) -> Tokens:
        """See ``CompleteEncoder.tokens``."""
        return tokens_of(self.passage_model, _prompt(self.passage_model, _DOCUMENT))

    @property
    def separates_titles(self) -> bool:
        """True where the tokenizer's separator stands between title and text."""
        return self.question_model is not self.passage_model if self.titles is None else self.titles

    @property
    def joined(self) -> Callable[[str, str], str]:
        """``passage_text``, without the models."""
        if not self.separates_titles:
            return title_and_text
        return TitleBefore(self.passage_model.tokenizer.sep_token or "/")

    def passage_text(self, title: str, text: str) -> str:
        """Title and text, joined as ``titles`` says; the text itself where there is no title."""
        return self.joined(title, text)

    def pieces(self, text: str) -> list[str]:
        """The tokens of a text as the questions' model spells them."""
        return list(self.question_model.tokenizer.tokenize(text))

    def _encode(self, encode: Any, texts: Sequence[str]) -> Vectors:
        vectors = encode(list(texts), batch_size=self.batch_size, show_progress_bar=False)
        return cast(Vectors, np.ascontiguousarray(vectors, dtype=np.float32))


def _forward(model: Any, task: str, prompt_names: Sequence[str], texts: Sequence[str]) -> Tensor:
    """What ``encode_query`` and ``encode_document`` compute; they run in inference mode, which has no gradient."""
    features = model.preprocess(list(texts), prompt=_prompt(model, prompt_names), task=task)
    moved = {key: value.to(model.device) if hasattr(value, "to") else value for key, value in features.items()}
    vectors: Tensor = model(moved, task=task)["sentence_embedding"]
    return vectors if model.truncate_dim is None else vectors[..., : model.truncate_dim]


def query_prompt(model: Any) -> str | None:
    """What the model puts before every question."""
    return _prompt(model, _QUERY)


def document_prompt(model: Any) -> str | None:
    """What the model puts before every passage."""
    return _prompt(model, _DOCUMENT)


def _prompt(model: Any, names: Sequence[str]) -> str | None:
    """The prompt that the model puts before every text of a kind."""
    named = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return None if named is None else model.prompts.get(named)

"""Text to vectors: any sentence-transformers model, one for both sides or a question/passage pair (DPR)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from mixrag.config.default_models import ENCODER, HUB_ENCODER, default_encoder, unavailable
from mixrag.corpus.store.vectors import HALF
from mixrag.errors import MixragError, ModelError, SettingError
from mixrag.retrieval.encoders.batch import rounded, unsupported, vectors_of
from mixrag.retrieval.encoders.protocol import Vectors
from mixrag.utils.cpu_features import native_bfloat16
from mixrag.utils.quiet import quiet_libraries

COSINE_TEMPERATURE = 0.045
"""Default where vectors have length one; a raw cosine as a logit would make every prior nearly uniform.

It maximises the prior mass of the passages that hold the answer, over the training questions of a general and
a medical corpus (docs/measurements/results.md).
"""


DTYPES = ("float32", "bfloat16")
AUTO = "auto"
_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")


@dataclass(frozen=True)
class SentenceEncoder:
    """sentence-transformers models; the same object twice where one encoder serves both sides."""

    name: str
    question_model: Any
    passage_model: Any
    batch_size: int = 32
    """Texts in a batch of questions, or of passages where the model is ``unsupported`` by our batches."""
    titles: bool | None = None
    """Passages are embedded as "title [SEP] text"; None: only where the models are a pair, as DPR was trained."""
    dtype: str = "float32"
    """Numbers in which passages are encoded, of ``DTYPES``; questions, which are few, always are in float32."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the passage model's configuration, tokenizer and weights, and ``dtype`` if not float32."""
        content = self._content()
        return (
            content if self.dtype == "float32" else hashlib.sha256(f"{content} {self.dtype}".encode()).hexdigest()
        )

    def _content(self) -> str:
        digest = hashlib.sha256()
        model = self.passage_model
        layers = [(type(layer).__name__, str(getattr(layer, "pooling_mode", ""))) for layer in model]
        described = (layers, model.max_seq_length, sorted(model.prompts.items()))
        digest.update(repr((described, self.passage_text("title", "text"))).encode())
        digest.update(_tokenizer_state(model.tokenizer).encode())
        for key, tensor in sorted(model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()

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
        """The passage model in bfloat16; weights that are trained later are not seen here."""
        return rounded(self.passage_model)

    def question_tensor(self, questions: Sequence[str]) -> Tensor:
        """(B, D) as ``encode_questions``, with gradient."""
        return _forward(self.question_model, "query", _QUERY, questions)

    def passage_tensor(self, texts: Sequence[str]) -> Tensor:
        """(M, D) as ``encode_passages`` in float32, with gradient."""
        return _forward(self.passage_model, "document", _DOCUMENT, texts)

    @property
    def embeds_titles(self) -> bool:
        """True where a passage's vector is that of its title and text."""
        return self.question_model is not self.passage_model if self.titles is None else self.titles

    def passage_text(self, title: str, text: str) -> str:
        """The text itself, or with its title before it (``titles``)."""
        if not self.embeds_titles or not title:
            return text
        return f"{title} {self.passage_model.tokenizer.sep_token or '/'} {text}"

    def _encode(self, encode: Any, texts: Sequence[str]) -> Vectors:
        vectors = encode(list(texts), batch_size=self.batch_size, show_progress_bar=False)
        return cast(Vectors, np.ascontiguousarray(vectors, dtype=np.float32))


def load_encoder(
    name: str | Path | None = None,
    *,
    question: str | Path | None = None,
    titles: bool | None = None,
    device: str | None = None,
    dtype: str = "float32",
    stored: str | None = None,
) -> SentenceEncoder:
    """Load an encoder.

    Args:
        name: sentence-transformers folder or hub name; None is all-MiniLM-L6-v2, packaged or from the hub.
        question: a second model for the questions (DPR); None uses the first for both sides.
        titles: embed titles with the passages; None: for a pair of models only. A question encoder that was
            trained by itself, from a shared encoder, needs False: its passages are the shared encoder's.
        device: a torch device; None lets sentence-transformers choose.
        dtype: numbers in which passages are encoded, float32 or bfloat16; "auto" is the one of ``stored``, else
            bfloat16 where the processor has it, else float32.
        stored: fingerprint of the encoder whose vectors there are already, for "auto".

    Raises:
        ModelError: no usable model there, the two do not share a dimension, or bfloat16 is none of its formats.
        SettingError: an unknown ``dtype``.
    """
    if dtype not in (AUTO, *DTYPES):
        raise SettingError(f"encoder dtype among {AUTO}, {', '.join(DTYPES)}", repr(dtype), "choose one of them")
    passage_model = _load(name, device)
    question_model = passage_model if question is None else _load(question, device)
    shown = ENCODER if name is None else str(name)
    sizes = [model.get_embedding_dimension() for model in (passage_model, question_model)]
    if sizes[0] != sizes[1]:
        raise ModelError(
            "question and passage encoders of one dimension", f"{sizes[1]} and {sizes[0]}", "pair them"
        )
    both = shown if question is None else f"{shown} + {question}"
    return _in_format(SentenceEncoder(both, question_model, passage_model, titles=titles), dtype, stored)


def _in_format(encoder: SentenceEncoder, dtype: str, stored: str | None) -> SentenceEncoder:
    reason = unsupported(encoder.passage_model)
    half = replace(encoder, name=encoder.name + HALF, dtype="bfloat16")
    if dtype == AUTO:
        return half if reason is None and _prefers(half, encoder, stored) else encoder
    if dtype == "bfloat16" and reason is not None:
        raise ModelError("an encoder that can be run in bfloat16", reason, "choose --encoder-dtype float32")
    return half if dtype == "bfloat16" else encoder


def _prefers(half: SentenceEncoder, encoder: SentenceEncoder, stored: str | None) -> bool:
    """Whether bfloat16 is what the store has; if it has neither format, whether the processor is made for it."""
    if stored is not None and stored in (encoder.fingerprint, half.fingerprint):
        return stored == half.fingerprint
    return encoder.passage_model.device.type == "cpu" and native_bfloat16()


@quiet_libraries()
def _load(name: str | Path | None, device: str | None) -> Any:
    from sentence_transformers import SentenceTransformer

    wanted = "a sentence-transformers folder or hub name"
    default = default_encoder()
    shown = ENCODER if name is None else str(name)
    try:
        source = Path(default if name is None else name).expanduser()
        local = source.exists()
        if not local and shown.startswith((".", "/", "~")):
            raise ModelError(wanted, f"no such path: {shown}", "check the path")
        model = SentenceTransformer(
            str(source) if local or name is None else shown,
            device=device,
            local_files_only=local,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        ).eval()
        model.encode_document(["probe"], show_progress_bar=False)  # a model of another kind fails here
    except MixragError:
        raise
    except Exception as error:
        if default == HUB_ENCODER and name in (None, HUB_ENCODER):
            raise unavailable(HUB_ENCODER, error) from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{wanted} at {shown[:100]!r}", reason, "choose another encoder or --device") from error
    return model


def _forward(model: Any, task: str, prompt_names: Sequence[str], texts: Sequence[str]) -> Tensor:
    """What ``encode_query`` and ``encode_document`` compute; they run in inference mode, which has no gradient."""
    features = model.preprocess(list(texts), prompt=_prompt(model, prompt_names), task=task)
    moved = {key: value.to(model.device) if hasattr(value, "to") else value for key, value in features.items()}
    vectors: Tensor = model(moved, task=task)["sentence_embedding"]
    return vectors if model.truncate_dim is None else vectors[..., : model.truncate_dim]


def _prompt(model: Any, names: Sequence[str]) -> str | None:
    """What the model wants before every text of a kind."""
    named = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return None if named is None else model.prompts.get(named)


def _tokenizer_state(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else repr(sorted(tokenizer.get_vocab().items()))

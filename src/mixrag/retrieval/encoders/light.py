"""An encoder of questions without transformers and sentence-transformers, where a folder is of the simple kind.

That is a BERT with its pooling (mean, or first token), and normalisation if there is any. ``SentenceEncoder`` is
the reference: it was loaded once, its fingerprint was written down, and a trial showed that the vectors agree to
``TOLERANCE``. It is loaded again where passages are to be embedded in bfloat16, or into a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixrag.config.default_models import default_encoder
from mixrag.config.model_config import ModelConfig
from mixrag.corpus import Tokens, title_and_text
from mixrag.corpus.store.vectors import HALF
from mixrag.errors import ModelError
from mixrag.generator.devices import default_device
from mixrag.generator.light.bert import Bert, config_of, read_bert
from mixrag.generator.light.entries import (
    UnlikeError,
    about,
    discard,
    entry,
    files_of,
    reading_files,
    remember,
)
from mixrag.generator.light.tokenizer import (
    SAMPLES,
    LightTokenizer,
    check_tokenizer,
    read_tokenizer,
    write_tokenizer,
)
from mixrag.retrieval.encoders.batch import buckets
from mixrag.retrieval.encoders.loading import load_encoder, shown_name
from mixrag.retrieval.encoders.protocol import CompleteEncoder
from mixrag.retrieval.encoders.sentence import SentenceEncoder, document_prompt, query_prompt
from mixrag.utils.arrays import Vectors

TOLERANCE = 1e-5
"""Largest difference of a component of a vector of length one from that of the reference."""
TOKENS = 4096
"""Tokens of one batch, padding counted."""
_SAMPLES = (*SAMPLES, " ".join(SAMPLES) * 12)


@dataclass(frozen=True)
class LightEncoder:
    """The two maps of a bi-encoder that is one model."""

    name: str
    fingerprint: str
    """That of the reference."""
    temperature: float
    model: Bert
    tokenizer: LightTokenizer
    limit: int
    """Tokens that are read of a text, special ones included."""
    pooling: str
    """mean or cls."""
    normalises: bool
    prompts: tuple[str, str]
    """Before each question and before each passage."""
    half: bool
    """Whether passages are encoded in bfloat16."""
    load: Callable[[], SentenceEncoder] = field(compare=False)

    @cached_property
    def reference(self) -> SentenceEncoder:
        """The encoder of sentence-transformers, loaded now."""
        return self.load()

    @property
    def tokens(self) -> Tokens:
        """See ``CompleteEncoder.tokens``: of the reference."""
        return self.reference.tokens

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_questions``."""
        return self._encoded([self.prompts[0] + question for question in questions])

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_passages``; in bfloat16 by the reference."""
        if self.half:
            return self.reference.encode_passages(texts)
        return self._encoded([self.prompts[1] + text for text in texts])

    def passage_text(self, title: str, text: str) -> str:
        """As the reference, which has one model for both sides."""
        return title_and_text(title, text)

    def pieces(self, text: str) -> list[str]:
        """The tokens of a text as they are spelled."""
        return self.tokenizer.tokenize(text)

    def _encoded(self, texts: Sequence[str]) -> Vectors:
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = False
        backend.no_padding()
        backend.enable_truncation(self.limit, direction="right")
        read = [(each.ids, each.type_ids) for each in backend.encode_batch(list(texts))]
        found = torch.empty(len(texts), self.model.size)
        for rows in buckets([len(ids) for ids, _ in read], TOKENS):
            found[rows] = self._vectors([read[row] for row in rows])
        return np.ascontiguousarray(found.numpy())

    @torch.inference_mode()
    def _vectors(self, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        length = max(len(ids) for ids, _ in rows)
        padded = [[[*each, *[0] * (length - len(each))] for each in row] for row in rows]
        ids, types = (torch.tensor([row[part] for row in padded]) for part in (0, 1))
        mask = torch.arange(length) < torch.tensor([len(own) for own, _ in rows])[:, None]
        hidden = self.model.hidden(ids, mask.long(), types)
        if self.pooling == "cls":
            found = hidden[:, 0]
        else:
            weights = mask[..., None].to(hidden.dtype)
            found = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(found, dim=1) if self.normalises else found


def configured_encoder(models: ModelConfig, stored: str | None) -> CompleteEncoder:
    """``load_encoder`` with the fields of a configuration about the encoder.

    Where vectors of a store are from a known encoder, a light one; an encoder that can be is known from now on.

    Args:
        models: the configuration.
        stored: fingerprint of the encoder that made the vectors of a store; None: there are none.

    Raises:
        ModelError, PluginError, SettingError: as ``load_encoder``.
    """
    load = partial(
        load_encoder,
        models.encoder,
        question=models.question_encoder,
        titles=models.titles,
        device=models.device,
        dtype=models.encoder_dtype,
        stored=stored,
        revision=models.revision,
        token=models.token,
    )
    folder = _folder(models)
    if folder is None:
        return load()
    known = None if stored is None else _known(folder, models, stored, load)
    if known is not None:
        return known
    found = load()
    if isinstance(found, SentenceEncoder):
        remember_encoder(folder, found)
    return found


def reference_of(encoder: CompleteEncoder) -> CompleteEncoder:
    """The encoder itself; of a light one its reference, whose passage vectors are those of a store to the bit."""
    return encoder.reference if isinstance(encoder, LightEncoder) else encoder


def remember_encoder(folder: Path, reference: SentenceEncoder) -> bool:
    """Write down what a light encoder needs of a folder; False where it is not of the simple kind."""
    # Both depend on options of the last call, which a tokenizer stores; a trial must not change them.
    _ = reference.fingerprint, reference.tokens
    plain = replace(reference, dtype="float32", name=reference.name.removesuffix(HALF))

    def write(place: Path) -> dict[str, Any]:
        said = _described(plain)
        weights = _weights_folder(folder)
        read_bert(weights, config_of(weights))
        return {**said, "tokenizer": write_tokenizer(plain.question_model.tokenizer, place)}

    def check(place: Path) -> None:
        light = _opened(place, folder, plain.name, "float32", lambda: plain)
        check_tokenizer(light.tokenizer, plain.question_model.tokenizer)
        for own, other in (
            (light.encode_questions, plain.encode_questions),
            (light.encode_passages, plain.encode_passages),
        ):
            expected = other(_SAMPLES)
            scale = float(np.linalg.norm(expected, axis=1).max())
            difference = float(np.abs(own(_SAMPLES) - expected).max()) / max(scale, 1e-9)
            if not difference <= TOLERANCE:
                raise UnlikeError(f"vectors that differ by {difference:.2g}")

    place = _place(folder)
    return place is not None and remember(place, write, check)


def _described(encoder: SentenceEncoder) -> dict[str, Any]:
    """What the modules of sentence-transformers do.

    Raises:
        UnlikeError: something that a light encoder does not.
    """
    model = encoder.question_model
    first, pooling, *others = model
    names = [type(module).__name__ for module in (first, pooling, *others)]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnlikeError(f"modules {names}")
    modes = (pooling.pooling_mode,) if isinstance(pooling.pooling_mode, str) else tuple(pooling.pooling_mode)
    if modes not in (("mean",), ("cls",)) or model.truncate_dim is not None:
        raise UnlikeError(f"pooling {pooling.pooling_mode}")
    prompts = [query_prompt(model) or "", document_prompt(model) or ""]
    if encoder.question_model is not encoder.passage_model or encoder.separates_titles:
        raise UnlikeError("two models, or separated titles")
    if any(prompts) and not pooling.include_prompt:
        raise UnlikeError("a prompt that is not pooled")
    return {
        "fingerprints": {name: replace(encoder, dtype=name).fingerprint for name in ("float32", "bfloat16")},
        "temperature": encoder.temperature,
        "limit": int(model.max_seq_length),
        "pooling": modes[0],
        "normalises": len(names) == 3,
        "prompts": prompts,
    }


def _folder(models: ModelConfig) -> Path | None:
    """The folder of one encoder on this machine's processor; None: another kind of encoder."""
    given = default_encoder() if models.encoder is None else models.encoder
    if models.question_encoder is not None or models.titles or not isinstance(given, (str, Path)):
        return None
    if models.device not in (None, "cpu") or (models.device is None and default_device() != "cpu"):
        return None
    try:
        folder = Path(given).expanduser()
        return folder if (folder / "modules.json").is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _weights_folder(folder: Path) -> Path:
    """Where the BERT of an encoder is: in its folder, or in its sub-folder."""
    inner = folder / "0_Transformer"
    return inner if inner.is_dir() else folder


def _place(folder: Path) -> Path | None:
    parts = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    files = [
        file for part in parts for file in {*reading_files(part), *files_of(part, ("*.json", "*.safetensors"))}
    ]
    try:
        return entry("encoder", sorted(files))
    except ModelError:
        return None


def _known(folder: Path, models: ModelConfig, stored: str, load: Callable[[], Any]) -> LightEncoder | None:
    place = _place(folder)
    found = None if place is None else about(place)
    if place is None or found is None:
        return None
    try:
        formats = {fingerprint: name for name, fingerprint in found["fingerprints"].items()}
        dtype = formats.get(stored)
        if dtype is None or models.encoder_dtype not in ("auto", dtype):
            return None
        return _opened(place, folder, shown_name(models.encoder), dtype, load)
    except Exception as error:  # of a damaged file the tokenizers library raises just this
        discard(place, error)
        return None


def _opened(place: Path, folder: Path, name: str, dtype: str, load: Callable[[], SentenceEncoder]) -> LightEncoder:
    found = about(place)
    if found is None:
        raise UnlikeError("no entry")
    weights = _weights_folder(folder)
    return LightEncoder(
        name + (HALF if dtype == "bfloat16" else ""),
        str(found["fingerprints"][dtype]),
        float(found["temperature"]),
        read_bert(weights, config_of(weights)),
        read_tokenizer(place, found["tokenizer"], lambda: load().question_model.tokenizer),
        int(found["limit"]),
        str(found["pooling"]),
        bool(found["normalises"]),
        (str(found["prompts"][0]), str(found["prompts"][1])),
        dtype == "bfloat16",
        load,
    )

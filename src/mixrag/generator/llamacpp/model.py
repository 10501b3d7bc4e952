"""A GGUF file as llama.cpp has it: mapped into memory, its sizes, and what it cannot be."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixrag.errors import ModelError, SettingError
from mixrag.generator.gguf_header import tensor_shapes
from mixrag.generator.llamacpp.runtime import llama, reason_of
from mixrag.generator.llamacpp.trial import check
from mixrag.generator.names import gguf_parts
from mixrag.generator.rounding import LLAMACPP_FILE_TYPES, LLAMACPP_QUANTISED, LLAMACPP_STATES

STATES = {"auto": "float16", "float16": "float16", "float32": "float32"}
"""Format of keys and values for a setting ``dtype``; weights are in the format that the file has."""
_GGML = {"float32": 0, "float16": 1}
READ_AT_ONCE = 512
"""Tokens in one pass of the model; bounds its memory."""
FACTORS = re.compile(r"(^|\.)rope_factors_(long|short)\b")
"""Tensors of LongRoPE: one for the model, or one for each layer."""
_REMEDY = "give engine torch, or another file"


@dataclass(frozen=True)
class GGUFModel:
    """A model of llama.cpp, and the format in which its keys and values are stored."""

    name: str
    """What messages call it."""
    native: Any
    states: str
    """float16 or float32."""

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        found: torch.dtype = getattr(torch, self.states)
        return found

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return int(self.native.n_vocab)

    @property
    def context_size(self) -> int:
        """Tokens that it was trained to read."""
        return int(self.native.n_ctx_train)

    @property
    def rounding(self) -> float:
        """How far log-odds may be from those of the same weights in float32; see ``generator/rounding.py``."""
        weights = LLAMACPP_FILE_TYPES.get(self._stated("general.file_type"), LLAMACPP_QUANTISED)
        return max(weights, 0.0 if self.states == "float32" else LLAMACPP_STATES)

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that the file says end a text or a turn."""
        names = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        found = (self._stated(name) for name in names)
        return frozenset(int(each) for each in found if each.isdecimal() and int(each) < self.vocabulary_size)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text in which special tokens are letters like others."""
        return tuple(self.native.get_vocab().tokenize(text, False, False))

    def context(self, cells: int, sequences: int) -> Any:
        """Memory for ``cells`` tokens of up to ``sequences`` rows, and what the model computes with.

        Raises:
            ModelError: it cannot be had.
        """
        parameters = llama().LlamaContextParams()
        parameters.n_ctx, parameters.n_seq_max, parameters.kv_unified = cells, sequences, True
        parameters.n_batch = parameters.n_ubatch = READ_AT_ONCE
        parameters.n_threads = parameters.n_threads_batch = torch.get_num_threads()
        parameters.type_k = parameters.type_v = _GGML[self.states]
        # Its fused attention multiplies in half precision, whatever it is given.
        parameters.flash_attn_type = int(self.states != "float32")
        parameters.swa_full, parameters.no_perf = True, True
        try:
            return llama().LlamaContext(self.native, parameters, False)
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            expected = f"memory for {cells} tokens that {self.name} reads"
            raise ModelError(expected, reason, "lower k, or choose a smaller model") from error

    def _stated(self, name: str) -> str:
        """Metadata of the file; empty where it has none of this name."""
        try:
            return str(self.native.meta_val_str(name))
        except ValueError:
            return ""


def states_for(dtype: str | torch.dtype) -> str:
    """The format of keys and values for a setting ``dtype``.

    Raises:
        SettingError: one that they cannot have.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in STATES:
        expected = f"dtype among {', '.join(STATES)} for engine llamacpp, whose weights are as the file has them"
        raise SettingError(expected, name, "choose one of them")
    return STATES[name]


def opened(file: Path, name: str, states: str) -> GGUFModel:
    """The model in a GGUF file; its weights are mapped, not copied, where llama.cpp multiplies them as they stand.

    Raises:
        ModelError: a file that is no GGUF, is damaged, or has a model that llama.cpp or this engine cannot run.
        MissingPackageError: cyllama is not installed.
    """
    expected = f"a GGUF file that llama.cpp can run at {name!r}"
    llama()
    check(file, name)
    try:
        model = GGUFModel(name, _loaded(file), states)
    except Exception as error:
        reason = reason_of(lambda: _loaded(file)) or " ".join(str(error).split())[:200]
        raise ModelError(expected, reason, _REMEDY) from error
    if (other := _unusable(model) or _scaled_by_length(model, file)) is not None:
        raise ModelError(f"a causal language model at {name!r}, for engine llamacpp", other, _REMEDY)
    return model


def _loaded(file: Path) -> Any:
    parameters = llama().LlamaModelParams()
    parameters.n_gpu_layers = 0
    return _native_class()(os.fspath(file), parameters, False)


def _native_class() -> Any:
    class Model(llama().LlamaModel):  # type: ignore[misc]
        """llama.cpp's model with the number of its tokens, which the context of cyllama 0.2 asks it for."""

        @property
        def n_vocab(self) -> int:
            return int(self.get_vocab().n_vocab)

    return Model


def _unusable(model: GGUFModel) -> str | None:
    native = model.native
    if native.has_encoder() or not native.has_decoder():
        return "an encoder-decoder"
    if model._stated(f"{model._stated('general.architecture')}.attention.causal") == "false":
        return "a text encoder"
    if native.is_recurrent() or native.is_hybrid():
        return "a model whose layers have other states than keys and values"
    return None if model.context_size > 0 else "no context length"


def _scaled_by_length(model: GGUFModel, file: Path) -> str | None:
    """LongRoPE: llama.cpp chooses its factors by the size of a context, which here depends on all rows.

    Files of Phi state no type of scaling, but have the factors as tensors.
    """
    scaling = model._stated(f"{model._stated('general.architecture')}.rope.scaling.type")
    try:
        tensors = {name for part in gguf_parts(file) for name in tensor_shapes(part)}
    except (OSError, ValueError) as error:
        return f"a header that cannot be read: {error}"
    if scaling == "longrope" or any(FACTORS.search(name) for name in tensors):
        return "LongRoPE, whose positions depend on the length of everything that is read"
    return None


def same_tokens(model: GGUFModel, texts: Sequence[str], tokens: Sequence[tuple[int, ...]]) -> bool:
    """Whether llama.cpp splits some texts into these tokens, but for a special token at the beginning."""
    return all(
        each in (found := model.tokenize(text), found[1:]) for text, each in zip(texts, tokens, strict=True)
    )

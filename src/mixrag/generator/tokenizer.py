"""The tokenizer of a generator: given as an object, a path or a hub name, or found with the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixrag.errors import MixragError, ModelError
from mixrag.generator.light.tokenizer import LightTokenizer
from mixrag.generator.names import path_or_hub_name
from mixrag.utils.quiet import quiet_libraries

SAMPLES = (
    "Zoë paid £5 (in 1973): 東京, naïve 𝔸",
    "two  spaces,\n\nlines\tand don't",
    "The 12345.678 of X_y-z is https://example.org/?a=1",
)
"""Texts that two tokenizers hardly split alike unless they are the same."""
_REMEDY = "give tokenizer=AutoTokenizer.from_pretrained(...)"


def loaded_tokenizer(given: Any, source: str, hub: Mapping[str, Any]) -> Any:
    """The tokenizer object given, or the one of the path or hub name given, or (None) that of the model's source.

    Raises:
        ModelError: an object that is not a tokenizer of transformers, or a path with nothing.
        Exception: any error of transformers.
    """
    if isinstance(given, LightTokenizer):
        return given
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    if isinstance(given, PreTrainedTokenizerBase):
        return given
    if given is not None and not isinstance(given, (str, Path)):
        raise ModelError("a tokenizer of transformers", f"a {type(given).__name__}", _REMEDY)
    name = source if given is None else str(path_or_hub_name(given, "a tokenizer's folder or hub name"))
    with quiet_libraries():
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **hub)


def tokenizer_for(model: Any, given: Any, hub: Mapping[str, Any]) -> Any:
    """The tokenizer of a model object: the one given, else that of the name that its configuration has.

    Raises:
        ModelError: there is none, or it has more tokens than the model.
    """
    source = str(getattr(model.config, "_name_or_path", "") or "")
    if given is None and not source:
        raise ModelError("a tokenizer for the model object", "none, and no name in its config", _REMEDY)
    try:
        tokenizer = loaded_tokenizer(given, source, hub)
    except MixragError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"a tokenizer at {source if given is None else str(given)!r}", reason, _REMEDY) from error
    size = int(model.get_output_embeddings().weight.shape[0])
    if len(tokenizer) > size:
        raise ModelError(f"a tokenizer of at most {size} tokens, as the model has", f"{len(tokenizer)}", _REMEDY)
    return tokenizer

"""GGUF files: converted once into de-quantised safetensors, in the cache folder."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import torch

from mixrag.errors import ModelError
from mixrag.generator.names import unusable
from mixrag.utils.atomic import replace_atomically
from mixrag.utils.quiet import quiet_libraries

logger = logging.getLogger("mixrag.generator")


def cache_folder() -> Path:
    """The folder for converted models: MIXRAG_CACHE, else XDG_CACHE_HOME/mixrag, else ~/.cache/mixrag."""
    own = os.environ.get("MIXRAG_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixrag"


def converted_gguf(file: Path) -> Path:
    """Folder with the de-quantised safetensors of a GGUF file, made at the first call.

    It is named by the file's content, and is renamed into place when it is complete.

    Raises:
        ModelError: the file is not a GGUF that transformers can read.
    """
    try:
        target = cache_folder() / f"gguf-{_digest(file)[:24]}"
        if not target.exists():
            logger.debug("converting %s into %s, once", file, target)
            # Another process may do the same; its folder has the same content.
            with quiet_libraries():
                replace_atomically(target, lambda folder: _convert_gguf(file, folder), shared=True)
    except OSError as error:
        raise ModelError("a cache folder to convert the GGUF into", str(error), "set MIXRAG_CACHE") from error
    except Exception as error:
        raise unusable(str(file), "a GGUF language model", error) from error
    return target


def _convert_gguf(file: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    seq2seq = AutoConfig.from_pretrained(**source).is_encoder_decoder
    factory = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    model = factory.from_pretrained(**source, dtype=torch.float32)
    # The weights are plain floats now; with these two attributes transformers would refuse to save them.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""GGUF files for transformers: weights and tokenizer converted once, into the cache folder."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from mixrag.config.default_models import default_generator
from mixrag.errors import MixragError, ModelError
from mixrag.generator.file_digests import remembered_digests
from mixrag.generator.gguf_header import weights_in_gguf
from mixrag.generator.names import gguf_parts, unusable
from mixrag.utils.atomic import replace_atomically
from mixrag.utils.memory import available_disk, available_memory
from mixrag.utils.quiet import quiet_libraries
from mixrag.utils.user_cache import cache_folder

logger = logging.getLogger("mixrag.generator")
_FLOAT = 4
"""Bytes of a weight when it is converted, and afterwards on disk."""
_AS_IT_IS = "run: pip install 'mixrag[gguf]', and give --engine llamacpp, which runs the file as it is"
_OTHER_DISK = f"{_AS_IT_IS}, or set MIXRAG_CACHE to a folder with more space"


def converted_gguf(file: Path) -> Path:
    """Folder with the de-quantised safetensors of a GGUF file, made at the first call.

    It is named by the file's content, and is renamed into place when it is complete.

    Raises:
        ModelError: the file is not a GGUF that transformers can read, or there is no room for its floats.
    """
    try:
        target = cache_folder() / f"gguf-{remembered_digests([file])[0][:24]}"
        if not target.exists():
            _announce(file, _check_room(file, target))
            # Another process may do the same; its folder has the same content.
            with quiet_libraries():
                replace_atomically(target, lambda folder: _convert_gguf(file, folder), shared=True)
    except MixragError:
        raise
    except OSError as error:
        raise ModelError("a cache folder to convert the GGUF into", str(error), "set MIXRAG_CACHE") from error
    except Exception as error:
        raise unusable(str(file), "a GGUF language model", error) from error
    return target


def gguf_tokenizer(file: Path) -> Path:
    """Folder with the tokenizer of a GGUF file, made at the first call, as that takes seconds.

    Raises:
        ModelError: transformers cannot read it, or the cache folder cannot be written.
    """
    (digest,) = remembered_digests([file])
    folders = [cache_folder() / f"{name}-{digest[:24]}" for name in ("gguf", "gguf-tokenizer")]
    found = next((each for each in folders if each.exists()), folders[-1])
    try:
        if not found.exists():
            replace_atomically(found, lambda folder: _convert_tokenizer(file, folder), shared=True)
    except MixragError:
        raise
    except OSError as error:
        raise ModelError("a cache folder for the tokenizer of the GGUF", str(error), "set MIXRAG_CACHE") from error
    return found


def _convert_tokenizer(file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        expected = f"a tokenizer in {str(file)!r} that transformers can read"
        raise ModelError(expected, reason, "give the tokenizer of the model (--tokenizer)") from error
    tokenizer.save_pretrained(folder)


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


def _check_room(file: Path, folder: Path) -> int:
    """Bytes of a file's weights as floats, in memory and on disk; 0 where its header cannot be read.

    Raises:
        ModelError: so much memory or disk is not free.
        OSError: the disk does not say.
    """
    needed = _FLOAT * weights_in_gguf(gguf_parts(file))
    (disk, place), memory = available_disk(folder.parent), available_memory()
    expected = f"{needed / 1e9:.1f} GB to turn the weights of {str(file)!r} into floats"
    if memory is not None and needed > memory:
        raise ModelError(f"memory of {expected}", f"{memory / 1e9:.1f} GB free", _AS_IT_IS)
    if needed > disk:
        raise ModelError(f"disk space of {expected}", f"{disk / 1e9:.1f} GB free in {place}", _OTHER_DISK)
    return needed


def _announce(file: Path, needed: int) -> None:
    """Say how large a file becomes; of the packaged model, which nobody named, only where details are wanted."""
    if not needed:
        return  # no GGUF, as the conversion will say
    once = "converting %s into floats, once: %.1f GB in the cache folder and in memory (%s)"
    level = logging.INFO if file == default_generator() else logging.WARNING
    logger.log(level, once, file, needed / 1e9, "--engine llamacpp runs the file as it is")

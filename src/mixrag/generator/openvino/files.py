"""Converted models in the cache folder: made once for each model, adapter, format and version."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag.errors import ModelError
from mixrag.generator.file_digests import remembered_digests
from mixrag.generator.openvino.model import OpenVINOModel, OpenVINOStates, compiled
from mixrag.generator.openvino.runtime import openvino, version
from mixrag.generator.openvino.states import NotConvertibleError, States
from mixrag.generator.openvino.weights import compress
from mixrag.utils.atomic import remove, replace_atomically
from mixrag.utils.hashing import file_digest
from mixrag.utils.memory import available_disk, available_memory, weights_in
from mixrag.utils.user_cache import cache_folder

logger = logging.getLogger("mixrag.generator")
FORMAT = 1
"""To be raised where a conversion gives something else than before."""
MODEL, ABOUT = "model.xml", "about.json"
COMPILED = "compiled"
"""Sub-folder of compiled models, of OpenVINO's own; it may be deleted."""
WEIGHTS = ("*.safetensors", "config.json", "adapter_config.json")
"""Names of the files that a conversion reads."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2, "int8": 0.6}
"""Sum of the differences of probabilities, in the trial of a conversion; that of unlike distributions is 2."""
_TRIAL = (tuple(range(1, 41)), tuple(range(3, 20)))


@dataclass(frozen=True)
class Wanted:
    """A model to be run by OpenVINO."""

    name: str
    """What messages call it."""
    config: Any
    """Of transformers."""
    weights: str
    """Format of the matrices: int8, bfloat16 or float32."""
    activations: str
    """float32 or bfloat16."""
    digest: str
    """Of the model and its adapter."""
    load: Callable[[], Any]
    """The model of transformers in float32, its adapter merged."""
    source: Path
    """Its folder."""


def opened(wanted: Wanted) -> OpenVINOModel:
    """The model, compiled; converted now if it is not in the cache folder, or damaged there.

    Raises:
        NotConvertibleError: it cannot be converted, or the converted one computes something else.
        ModelError: the cache folder cannot be written, or has no space.
    """
    key = hashlib.sha256(json.dumps([wanted.digest, wanted.weights, *_versions()]).encode()).hexdigest()
    folder = cache_folder() / f"openvino-{key[:24]}"
    found = _read(wanted, folder, key)
    if found is None:
        _write(wanted, folder)
        found = _read(wanted, folder, key)
    if found is None:
        raise ModelError("a converted model that can be read", str(folder), "delete the folder and try again")
    return found


def digest_of(source: Path, adapter: Path | None) -> str:
    """A digest of all files of a model and its adapter; each is read once, and again when it changes.

    Raises:
        ModelError: a file cannot be read.
    """
    folders = (source, *([] if adapter is None else [adapter]))
    files = [
        file for folder in folders for file in sorted({each for kind in WEIGHTS for each in folder.glob(kind)})
    ]
    found = [[file.name, digest] for file, digest in zip(files, remembered_digests(files), strict=True)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _versions() -> list[str]:
    return [str(FORMAT), version(), package_version("transformers")]


def _read(wanted: Wanted, folder: Path, key: str) -> OpenVINOModel | None:
    """The compiled model of a folder; None, and the folder is gone, where it is not whole."""
    if not folder.exists():
        return None
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        sizes = States(**about["states"])
        for name, size in about["files"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} has another size")
        if about["graph"] != file_digest(folder / MODEL):
            raise ValueError(f"{MODEL} has changed")
        made = _compiled(wanted, folder, sizes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        logger.info("the converted model in %s is damaged (%s): converting it again", folder, reason)
        remove(folder)
        return None
    return OpenVINOModel(made, wanted.config, sizes, wanted.weights, wanted.activations, key)


def _write(wanted: Wanted, folder: Path) -> None:
    """Convert a model into a folder, which appears when it is complete and has passed a trial."""
    from mixrag.generator.openvino.conversion import convert

    start = time.perf_counter()
    _check_memory(wanted.source)
    once = "converting %s for OpenVINO (weights %s), once: later starts take seconds (--engine torch does without)"
    logger.warning(once, wanted.name, wanted.weights)
    logger.info("converting %s: reading its weights", wanted.name)
    original = wanted.load()
    _check_space(original, wanted.weights, folder)
    logger.info("converting %s: tracing", wanted.name)
    model, sizes = convert(original)
    expected = _trial(original)
    logger.info("converting %s: weights to %s", wanted.name, wanted.weights)
    memory = compress(model, wanted.weights)
    try:
        replace_atomically(folder, lambda place: _save(wanted, model, sizes, expected, place), shared=True)
    except (OSError, RuntimeError) as error:  # OpenVINO reports a full disk by the latter
        raise _no_cache(" ".join(str(error).split())[:200]) from error
    del memory
    size = sum(each.stat().st_size for each in folder.iterdir())
    spent = time.perf_counter() - start
    logger.info("converted %s in %.0f s: %.0f MB in %s", wanted.name, spent, size / 1e6, folder)


def _save(wanted: Wanted, model: Any, sizes: States, expected: Tensor, folder: Path) -> None:
    folder.mkdir()
    openvino().save_model(model, folder / MODEL, compress_to_fp16=False)
    files = {each.name: each.stat().st_size for each in folder.iterdir()}
    about = {
        "files": files,
        "graph": file_digest(folder / MODEL),
        "states": asdict(sizes),
        "versions": _versions(),
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    _try(wanted, folder, sizes, expected)


def _check_memory(source: Path) -> None:
    """Refuse where the weights would not fit into memory in float32, as they are converted from.

    Raises:
        NotConvertibleError: they would not.
    """
    needed, free = 4 * sum(map(weights_in, source.glob("*.safetensors"))), available_memory()
    if free is not None and needed > free:
        reason = f"to convert it takes {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        raise NotConvertibleError(reason)


def _check_space(original: Any, weights: str, folder: Path) -> None:
    """Refuse where the converted model would not fit."""
    bits = {"int8": 1.1, "bfloat16": 2.1, "float32": 4.1}[weights]
    needed = bits * sum(each.numel() for each in original.parameters())
    try:
        free, place = available_disk(folder.parent)
    except OSError as error:
        raise _no_cache(str(error)) from error
    if free < needed:
        raise _no_cache(f"{free / 1e6:.0f} MB free in {place}, where {needed / 1e6:.0f} MB are needed")


def _no_cache(found: str) -> ModelError:
    expected = "a cache folder to write the model that OpenVINO runs"
    return ModelError(expected, found, "set MIXRAG_CACHE to another folder, or give --engine torch")


@torch.inference_mode()
def _trial(model: Any) -> Tensor:
    """(2, V) probabilities of the next token after two rows."""
    rows = [model(input_ids=torch.tensor([row]) % model.config.vocab_size).logits[0, -1] for row in _TRIAL]
    return torch.stack(rows).float().softmax(-1)


def _try(wanted: Wanted, folder: Path, sizes: States, expected: Tensor) -> None:
    """Refuse a converted model that does not compute what the original computes.

    Raises:
        NotConvertibleError: it does not.
    """
    try:
        made = compiled(folder / MODEL, wanted.weights, wanted.activations, torch.get_num_threads())
        found = _probabilities(wanted, made, sizes)
        difference = float((found - expected).abs().sum(-1).max())
        reason = (
            None if difference <= TOLERANCE[_coarser(wanted)] else f"its probabilities differ by {difference:.2g}"
        )
    except Exception as error:  # whatever the engine cannot run
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    if reason is not None:
        raise NotConvertibleError(reason)


def _coarser(wanted: Wanted) -> str:
    return wanted.activations if wanted.weights == "float32" else wanted.weights


def _probabilities(wanted: Wanted, made: Any, sizes: States) -> Tensor:
    """(2, V) what ``_trial`` computes, by a compiled model.

    The second row is padded, and both are read in two parts, their order changed between these.
    """
    model = OpenVINOModel(made, wanted.config, sizes, wanted.weights, wanted.activations, "")
    longest = max(map(len, _TRIAL))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in _TRIAL]) % wanted.config.vocab_size
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in _TRIAL])
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    states, half, swapped = OpenVINOStates(model), longest - 7, torch.tensor([1, 0])
    model(
        input_ids=ids[:, :half],
        attention_mask=mask[:, :half],
        position_ids=places[:, :half],
        logits_to_keep=torch.tensor([half - 1]),
        past_key_values=states,
    )
    states.reorder_cache(swapped)
    output = model(
        input_ids=ids[swapped, half:],
        attention_mask=mask[swapped],
        position_ids=places[swapped, half:],
        logits_to_keep=torch.tensor([longest - half - 1]),
        past_key_values=states,
    )
    found: Tensor = output.logits[swapped, -1].softmax(-1)
    return found


def _compiled(wanted: Wanted, folder: Path, sizes: States) -> Any:
    """The compiled model of a folder, which is left beside it, so that the next process only maps it.

    What OpenVINO leaves is used after a trial that it computes the same; else a file takes its folder's place.
    Whatever else fails may succeed the next time.
    """
    options = (wanted.weights, wanted.activations, torch.get_num_threads())
    file, own = folder / MODEL, folder / COMPILED / "-".join(map(str, options))
    if own.is_file():
        return compiled(file, *options)
    if not own.exists() and (made := _leave_compiled(wanted, file, own, sizes)) is not None:
        return made
    try:
        made = compiled(file, *options, remembered=own)
        if made.get_property("LOADED_FROM_CACHE"):
            return made
        reason = "it is of another machine"
    except RuntimeError as error:
        made, reason = None, " ".join(str(error).split())[:200]
    logger.debug("the compiled model in %s cannot be used: %s", own, reason)
    remove(own)
    return compiled(file, *options) if made is None else made


def _leave_compiled(wanted: Wanted, file: Path, own: Path, sizes: States) -> Any | None:
    """Make the folder ``own`` of a compiled model, complete or not at all; where not, the model, compiled."""
    options = (wanted.weights, wanted.activations, torch.get_num_threads())
    fresh = list[Any]()

    def write(place: Path) -> None:
        place.mkdir()
        fresh.append(compiled(file, *options, remembered=place))
        if not any(place.glob("*.blob")):
            raise RuntimeError("OpenVINO writes nothing")
        again = compiled(file, *options, remembered=place)
        first, second = (_probabilities(wanted, each, sizes) for each in (fresh[0], again))
        if not bool(((first - second).abs() < 1e-6).all()):
            raise NotConvertibleError("its probabilities differ")
        fresh.clear()  # what maps files of a folder may prevent that it is renamed

    try:
        if own.parent.is_file():  # as former versions left it after any failure
            remove(own.parent)
        replace_atomically(own, write, shared=True)
    except (NotConvertibleError, OSError, RuntimeError) as error:
        logger.debug("nothing compiled is left in %s: %s", own, " ".join(str(error).split())[:200])
        if isinstance(error, NotConvertibleError):
            with suppress(OSError):
                own.touch()
        return fresh[0] if fresh else compiled(file, *options)
    return None

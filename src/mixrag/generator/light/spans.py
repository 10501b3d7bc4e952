"""An extractive reader without transformers and peft: a BERT, its adapter in its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mixrag.generator.light.bert import WEIGHTS, SpanBert, read_bert
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

TOLERANCE = 1e-4
"""Difference of scores, in nats, from those of transformers."""
_WINDOW = {"truncation": "only_second", "padding": False, "max_length": 24, "stride": 4}
_WINDOW |= {"split_special_tokens": True, "return_overflowing_tokens": True, "return_offsets_mapping": True}


def light_spans(
    source: Path, weights: Path, load: Callable[[], tuple[Any, Any]]
) -> tuple[SpanBert, LightTokenizer] | None:
    """Model and tokenizer of an extractive reader; None where they are not known.

    Args:
        source: its folder.
        weights: the folder of the encoder that its adapter is for; without an adapter the same.
        load: loads those of transformers.
    """
    place = _place(source, weights)
    found = about(place)
    if found is None:
        return None
    try:
        return _read(place, found, load)
    except Exception as error:  # of a damaged file the tokenizers library raises just this
        discard(place, error)
        return None


def remember_spans(source: Path, weights: Path, model: Any, tokenizer: Any) -> None:
    """Write down an extractive reader of transformers in float32, where it is a BERT."""

    def write(place: Path) -> dict[str, Any]:
        from safetensors.torch import save_file

        config = model.config.to_dict()
        names = {name: value for name, value in config.items() if isinstance(value, (str, int, float, type(None)))}
        if type(model).__name__ != "BertForQuestionAnswering":
            raise UnlikeError(type(model).__name__)
        save_file({name: each.contiguous() for name, each in model.state_dict().items()}, place / WEIGHTS)
        return {"tokenizer": write_tokenizer(tokenizer, place), "config": names}

    def check(place: Path) -> None:
        found = about(place)
        assert found is not None
        own, light = _read(place, found, lambda: (model, tokenizer))
        check_tokenizer(light, tokenizer)
        _check_windows(light, tokenizer)
        _check_scores(own, model, tokenizer)

    remember(_place(source, weights), write, check)


def _read(place: Path, found: Any, load: Callable[[], tuple[Any, Any]]) -> tuple[SpanBert, LightTokenizer]:
    model = SpanBert(read_bert(place, found["config"]), found["config"], lambda: load()[0])
    return model, read_tokenizer(place, found["tokenizer"], lambda: load()[1])


def _place(source: Path, weights: Path) -> Path:
    files = [file for folder in dict.fromkeys((source, weights)) for file in _files(folder)]
    return entry("spans", files)


def _files(folder: Path) -> list[Path]:
    return sorted({*reading_files(folder), *files_of(folder, ("*.safetensors", "adapter_config.json"))})


def _check_windows(light: LightTokenizer, reference: Any) -> None:
    asked, text = SAMPLES[0], " ".join((*SAMPLES, *reference.all_special_tokens)) * 3
    own, other = (read(asked, text, **_WINDOW) for read in (light, reference))
    windows = range(len(other["input_ids"]))
    same = own["input_ids"] == other["input_ids"] and own.get("token_type_ids") == other.get("token_type_ids")
    offsets = [[[*map(tuple, each)] for each in read["offset_mapping"]] for read in (own, other)]
    if not same or offsets[0] != offsets[1]:
        raise UnlikeError("other windows")
    if any(own.sequence_ids(number) != other.sequence_ids(number) for number in windows):
        raise UnlikeError("other parts of windows")


@torch.inference_mode()
def _check_scores(light: SpanBert, reference: Any, tokenizer: Any) -> None:
    options = {"truncation": "only_second", "max_length": 48, "return_tensors": "pt"}
    read = tokenizer(SAMPLES[0], " ".join(SAMPLES), **options)
    inputs = {name: read[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in read}
    own, other = light(**inputs), reference(**inputs)
    for name in ("start_logits", "end_logits"):
        difference = float((getattr(own, name) - getattr(other, name)).abs().max())
        if not difference <= TOLERANCE:
            raise UnlikeError(f"scores that differ by {difference:.2g}")

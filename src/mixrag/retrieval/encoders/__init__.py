"""Text to vectors: the two maps q(x) and d(z) of a bi-encoder."""

from mixrag.retrieval.encoders.protocol import Encoder, Vectors
from mixrag.retrieval.encoders.sentence import SentenceEncoder, load_encoder

__all__ = ["Encoder", "SentenceEncoder", "Vectors", "load_encoder"]

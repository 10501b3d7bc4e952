"""From components and their likelihoods to an answer: the mixture, decoders, batches, pruning."""

from mixrag.inference.components import Component
from mixrag.inference.decoders import Beam, Fast, Greedy, Sample, Thorough, decoder_for
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer, condition
from mixrag.inference.protocol import BatchDecoder, DecodedToken, Decoder, DecoderResult
from mixrag.inference.stepwise import scored, stepwise

__all__ = [
    "BatchDecoder",
    "Beam",
    "Component",
    "DecodedToken",
    "Decoder",
    "DecoderResult",
    "DecodingState",
    "Fast",
    "Greedy",
    "Mixture",
    "Sample",
    "ScoredAnswer",
    "Thorough",
    "condition",
    "decoder_for",
    "scored",
    "stepwise",
]

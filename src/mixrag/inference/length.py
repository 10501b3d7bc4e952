"""How long an answer may become: so many tokens, or "all", as many as the model's context has space for."""

from __future__ import annotations

from mixrag.config.settings import MaxTokens
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT
from mixrag.generator.protocol import Generator, answer_room
from mixrag.inference.mixture import Mixture

RESERVED = 4
"""Of a context one part in so many is left to an answer that is not limited: passages have at most the rest."""
LONGEST = 8192
"""Longest answer in tokens where it is not limited, and the model states no context length (T5)."""


def reserved(max_tokens: MaxTokens, generator: Generator) -> int:
    """Tokens of the context that prompts leave to the answer."""
    if max_tokens != "all":
        return max_tokens
    return max(1, min(generator.context_size, LONGEST * RESERVED) // RESERVED)


def longest_answer(max_tokens: MaxTokens, mixture: Mixture) -> int:
    """Tokens after which an answer under a mixture is cut off; "all": where the first of its contexts is full."""
    if max_tokens != "all":
        return max_tokens
    room = answer_room(mixture.generator, [component.prompt for component in mixture.components])
    return max(1, room if room < UNLIMITED_CONTEXT // 2 else LONGEST)


def leaving_room(max_tokens: MaxTokens, tokens: int, generator: Generator) -> MaxTokens:
    """``max_tokens``, or as many as an answer of so many ``tokens`` needs, where that is more than it reserves."""
    return max_tokens if tokens <= reserved(max_tokens, generator) else tokens

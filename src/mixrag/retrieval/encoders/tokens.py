"""The tokens of a sentence-transformers model: where they begin, and how many of them it reads."""

from __future__ import annotations

from typing import Any

from mixrag.corpus.splitters.encoder_tokens import EncoderTokens, SlowTokens
from mixrag.corpus.splitters.tokens import ESTIMATED, Tokens


def tokens_of(model: Any, prompt: str | None) -> Tokens:
    """The tokens of a ``SentenceTransformer`` that puts this prompt before every text.

    A model without a tokenizer for text has an estimate.
    """
    tokenizer: Any = getattr(model, "tokenizer", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    longest = getattr(model, "max_seq_length", None)
    if backend is not None:
        tokens: EncoderTokens | SlowTokens = EncoderTokens(backend, None)
    elif hasattr(tokenizer, "encode_batch"):  # a static model has the fast tokenizer itself
        return EncoderTokens(tokenizer, None)
    elif hasattr(tokenizer, "tokenize") and hasattr(tokenizer, "get_vocab"):
        tokens = SlowTokens(tokenizer, None)
    else:
        return ESTIMATED
    if longest is not None:
        special = tokenizer.num_special_tokens_to_add() + sum(tokens.counts([prompt] if prompt else []))
        tokens.limit = max(1, int(longest) - special)
    return tokens

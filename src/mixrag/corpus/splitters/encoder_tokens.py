"""The tokens of an encoder's tokenizer, without the encoder: processes that read files need no model library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mixrag.corpus.passage import spaced
from mixrag.corpus.splitters.tokens import Starts, filled
from mixrag.corpus.splitters.words import WORD
from mixrag.utils.turns import turn


class EncoderTokens:
    """Of a model with a fast tokenizer, which is copied: its truncation and padding are the model's affair."""

    def __init__(self, tokenizer: Any, limit: int | None) -> None:
        self._serialised: str = tokenizer.to_str()
        self.limit = limit

    @cached_property
    def name(self) -> str:
        """See ``Tokens.name``."""
        return hashlib.sha256(f"{self.limit} {self._serialised}".encode()).hexdigest()[:8]

    def starts(self, texts: Sequence[str]) -> list[Starts]:
        """See ``Tokens.starts``; ``filled``."""
        return [
            filled(np.array([start for start, end in each.offsets if end > start], np.int64), len(text))
            for each, text in zip(self._encoded(texts), texts, strict=True)
        ]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """See ``Tokens.counts``."""
        return [len(each) for each in self._encoded(texts)]

    def _encoded(self, texts: Sequence[str]) -> list[Any]:
        found: list[Any] = self._own.encode_batch([spaced(text) for text in texts], add_special_tokens=False)
        return found

    @cached_property
    def _own(self) -> Any:
        from tokenizers import Tokenizer

        own = Tokenizer.from_str(self._serialised)
        own.no_truncation()
        own.no_padding()
        return own


class SlowTokens:
    """Of a model whose tokenizer does not say where its tokens begin: they are spread over each word."""

    def __init__(self, tokenizer: Any, limit: int | None) -> None:
        self._tokenizer, self.limit = tokenizer, limit

    @cached_property
    def name(self) -> str:
        """See ``Tokens.name``."""
        vocabulary = sorted(self._tokenizer.get_vocab().items())
        return hashlib.sha256(f"{self.limit} {vocabulary}".encode()).hexdigest()[:8]

    def starts(self, texts: Sequence[str]) -> list[Starts]:
        """See ``Tokens.starts``; ``filled``."""
        return [filled(self._starts(text), len(text)) for text in texts]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """See ``Tokens.counts``."""
        with turn(self._tokenizer):
            return [len(self._tokenizer.tokenize(spaced(text))) for text in texts]

    def _starts(self, text: str) -> Starts:
        words = [match.span() for match in WORD.finditer(text)]
        counts = self.counts([text[start:end] for start, end in words])
        spread = [np.linspace(start, end, n, False) for (start, end), n in zip(words, counts, strict=True)]
        return np.concatenate(spread).astype(np.int64) if spread else np.empty(0, np.int64)

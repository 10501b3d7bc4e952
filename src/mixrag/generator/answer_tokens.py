"""Answers as tokens, word by word: what makes a distribution over texts one over sequences of tokens.

An answer's text is its words with single spaces between them, whatever white space the passage has there. Each
word is tokenised with the space before it and by itself, as byte-level BPE does anyway, so that the tokens of a
span are put together from those of its words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixrag.config.prompt_template import PromptTemplate
from mixrag.errors import ModelError
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT, PromptTokenizer

CACHED = 2**17
"""Words whose tokens are remembered."""
_SAMPLE = "Zoë paid £5 (in 1973): 東京, naïve 𝔸"


class AnswerTokenizer:
    """Texts of answers to tokens and back, without loss.

    Args:
        tokenizer: a Hugging Face tokenizer without loss (byte-level BPE), with an end-of-text token.
        template: of the prompt of the language model whose tokens these shall be: in plain text an answer starts
            with a space, in a chat without.

    Raises:
        ModelError: no end-of-text token, or texts that do not come back as they were.
    """

    def __init__(self, tokenizer: Any, template: PromptTemplate | None = None) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError("a tokenizer with an end-of-text token", "none", "set its eos_token")
        self.tokens = PromptTokenizer(
            tokenizer, template or PromptTemplate(), UNLIMITED_CONTEXT, keep_suffix=False
        )
        end = int(tokenizer.eos_token_id)
        self.stop_token = self.tokens.turn_end({end}) or end
        self.stop_tokens = frozenset({end, self.stop_token})
        self.size = len(tokenizer)
        self._known: dict[str, tuple[int, ...]] = {}
        if (found := self.text(self.answer_tokens(_SAMPLE))) != _SAMPLE:
            remedy = "give a tokenizer of byte-level BPE, as GPT-2, Llama 3 and SmolLM2 have"
            raise ModelError(f"a tokenizer that writes {_SAMPLE!r} as it is", repr(found), remedy)

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """Ids of an answer's words, and the stop token; white space counts as single spaces."""
        words = answer.split()
        if not words:
            return (self.stop_token,)
        pieces = [self.tokens.separator + words[0], *(f" {word}" for word in words[1:])]
        return (*itertools.chain.from_iterable(self.ids(pieces)), self.stop_token)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of answer tokens without stop tokens."""
        return self.tokens.text(tokens, self.stop_tokens)

    def ids(self, pieces: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of words or parts of words, each by itself."""
        if len(self._known) > CACHED:
            self._known = {}
        known = self._known
        if missing := [piece for piece in dict.fromkeys(pieces) if piece not in known]:
            known.update(zip(missing, self.tokens.plain(missing), strict=True))
        return [known[piece] for piece in pieces]


class TokenisedSpans:
    """The token sequences of n spans of one text, each ending in the stop token; no table of them is made.

    A span is the rest of its first word, whole words, and the beginning of its last word. These parts are
    tokenised once each, and the token at a place of a span is looked up in them.

    Args:
        text: the text.
        starts: (n,) offsets of the spans' first letters.
        ends: (n,) offsets after their last letters; no span starts or ends with white space.
        tokenizer: of the answers.
    """

    def __init__(self, text: str, starts: Tensor, ends: Tensor, tokenizer: AnswerTokenizer) -> None:
        words = _words(text)
        bounds = torch.tensor(words, dtype=torch.long).reshape(-1, 2)
        word_starts, word_ends = bounds[:, 0].contiguous(), bounds[:, 1].contiguous()
        first = torch.searchsorted(word_ends, starts, right=True)
        last = torch.searchsorted(word_starts, ends) - 1
        several = last > first
        heads, head = _unique(starts, torch.minimum(ends, word_ends[first]))
        tails, tail = _unique(word_starts[last][several], ends[several])
        separator = tokenizer.tokens.separator
        pieces = [separator + text[a:b] for a, b in heads] + [f" {text[a:b]}" for a, b in (*tails, *words)]
        ids = tokenizer.ids(pieces)
        offsets = torch.tensor([0, *itertools.accumulate(map(len, ids))])
        flat = list(itertools.chain.from_iterable(ids))
        self._flat = torch.tensor([*flat, tokenizer.stop_token], dtype=torch.long)
        place_of_word = len(heads) + len(tails)
        self._head = offsets[head]
        self._head_length = offsets[head + 1] - self._head
        whole = torch.where(several, first + 1, last) + place_of_word
        self._middle = offsets[whole]
        self._middle_length = offsets[torch.maximum(last + place_of_word, whole)] - self._middle
        self._tail, self._tail_length = torch.zeros_like(starts), torch.zeros_like(starts)
        self._tail[several] = offsets[tail + len(heads)]
        self._tail_length[several] = offsets[tail + len(heads) + 1] - offsets[tail + len(heads)]

    def at(self, spans: Tensor, place: int) -> Tensor:
        """(m,) the token at ``place`` of each of the spans (m,); after the last one, the stop token."""
        head, middle = self._head_length[spans], self._middle_length[spans]
        stop = torch.full_like(spans, len(self._flat) - 1)
        rest = place - head - middle
        found = torch.where(rest < self._tail_length[spans], self._tail[spans] + rest, stop)
        found = torch.where(rest < 0, self._middle[spans] + place - head, found)
        return self._flat[torch.where(head > place, self._head[spans] + place, found)]


def _words(text: str) -> list[tuple[int, int]]:
    """Offsets of the words of a text, as ``str.split`` finds them."""
    found, place = [], 0
    for word in text.split():
        start = text.index(word, place)
        place = start + len(word)
        found.append((start, place))
    return found


def _unique(starts: Tensor, ends: Tensor) -> tuple[list[tuple[int, int]], Tensor]:
    """The distinct pairs of offsets, and which of them each pair (n,) is."""
    size = int(ends.max()) + 1 if len(ends) else 1
    pairs, place = torch.unique(starts * size + ends, return_inverse=True)  # as one number: sorted much faster
    return [divmod(pair, size) for pair in pairs.tolist()], place

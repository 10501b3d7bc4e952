"""What a span model reads: a question and a text as a pair, in windows where the text is long.

Question and text are data: a special token spelled out in them is read as ordinary letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regex
import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.generator.protocol import Prompt
from mixrag.probability import possible_spans
from mixrag.utils.turns import turn

BETWEEN = "\n\n"
"""Between two passages of one text."""
LEAST_ROOM = 32
"""Tokens of the text that a window has at least, beside the question."""
NOT_TEXT = -1
"""The region of a token in which no answer is."""
_RUN = regex.compile(
    r"(?V1)[[\p{L}\p{M}]--[\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Hiragana}\p{Katakana}\p{Han}\p{Hangul}]]+|\p{Nd}+"
)
"""Letters in a row, or digits, of scripts that write spaces between words."""


@dataclass(frozen=True, slots=True)
class SpanConfig:
    """How a span model reads; the file ``extractive.json`` of its folder holds these fields."""

    longest: int = 30
    """Tokens of the encoder in the longest span."""
    window: int = 512
    """Tokens that the encoder reads at once, question included; never more than the model can."""
    stride: int = 128
    """Tokens that a window has in common with the one before."""
    whole_words: bool = True
    """No span starts or ends between two letters, or two digits; not so in scripts without spaces."""


@dataclass(frozen=True, slots=True)
class SpanPrompt(Prompt):
    """A question, a text, and the places in it where answers are; the parts made of tokens are empty."""

    asked: str = ""
    text: str = ""
    """Titles, contexts and texts of the passages; empty without passages."""
    regions: tuple[tuple[int, int], ...] = ()
    """Offsets in ``text`` of the text of each passage."""

    @property
    def content(self) -> str:
        """See ``Prompt.content``."""
        return repr((self.asked, self.text, self.regions))

    @property
    def has_text(self) -> bool:
        """Whether a passage has anything to read: else the encoder reads nothing."""
        return any(self.text[start:end].strip() for start, end in self.regions)


def span_prompt(question: str, passages: Sequence[Passage]) -> SpanPrompt:
    """The prompt of a question and some passages: all of them are one text, titles and contexts before each."""
    text, regions = "", list[tuple[int, int]]()
    for passage in passages:
        fronts = "".join(f"{part}:\n" for part in (passage.title, passage.context) if part)
        text += f"{BETWEEN if text else ''}{fronts}"
        regions.append((len(text), len(text) + len(passage.text)))
        text += passage.text
    return SpanPrompt((), (), (), asked=question, text=text, regions=tuple(regions))


@dataclass(frozen=True, slots=True)
class Window:
    """L tokens of the encoder: special tokens, question, and a stretch of the text."""

    ids: list[int]
    types: list[int]
    """Segment of each token; empty where the model has none."""
    texts: tuple[int, int]
    """The window's tokens of the text: from, to."""
    starts: Tensor
    """(L,) offset in the text of each token's first letter; 0 outside the text."""
    ends: Tensor
    """(L,) offset after its last letter."""
    may_start: Tensor
    """(L,) True where a span may start."""
    may_end: Tensor
    """(L,) True where one may end."""
    region: Tensor
    """(L,) number of the passage, ``NOT_TEXT`` elsewhere."""

    def possible(self, longest: int) -> Tensor:
        """(L, D) the spans that may be answers; see ``possible_spans``."""
        return possible_spans(self.may_start, self.may_end, self.region, longest)


def question_length(tokenizer: Any, question: str) -> int:
    """Tokens of a question and of the special tokens of a pair."""
    with turn(tokenizer):
        asked = tokenizer(question, add_special_tokens=False, split_special_tokens=True).input_ids
        return len(asked) + int(tokenizer.num_special_tokens_to_add(pair=True))


def windows_of(tokenizer: Any, prompt: SpanPrompt, config: SpanConfig) -> list[Window]:
    """The windows of one prompt, in the order of the text; each has the whole question."""
    room = config.window - question_length(tokenizer, prompt.asked)
    with turn(tokenizer):
        read = tokenizer(
            prompt.asked,
            prompt.text,
            truncation="only_second",
            padding=False,
            max_length=config.window,
            stride=min(config.stride, max(0, room // 2)),
            split_special_tokens=True,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
    inside = _inside_words(prompt.text) if config.whole_words else bytes(len(prompt.text) + 1)
    types = read.get("token_type_ids") or [[] for _ in read["input_ids"]]
    found = []
    for number, ids in enumerate(read["input_ids"]):
        own = [place for place, part in enumerate(read.sequence_ids(number)) if part == 1]
        texts = (own[0], own[-1] + 1) if own else (0, 0)
        places = _places(prompt, read["offset_mapping"][number], texts, inside)
        found.append(Window(list(ids), list(types[number]), texts, *places))
    return found


def _places(
    prompt: SpanPrompt, offsets: Sequence[tuple[int, int]], texts: tuple[int, int], inside: bytes
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``starts``, ``ends``, ``may_start``, ``may_end`` and ``region`` of a window."""
    count = len(offsets)
    starts, ends, region = [0] * count, [0] * count, [NOT_TEXT] * count
    may_start, may_end = [False] * count, [False] * count
    text, regions, number = prompt.text, prompt.regions, 0
    for place in range(*texts):
        start, end = offsets[place]
        while start < end and text[start].isspace():  # some tokenizers count the space before a word
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        while number < len(regions) and start >= regions[number][1]:
            number += 1
        starts[place], ends[place] = start, end
        if start < end and number < len(regions) and regions[number][0] <= start and end <= regions[number][1]:
            region[place] = number
            may_start[place], may_end[place] = not inside[start], not inside[end]
    may = torch.tensor([may_start, may_end], dtype=torch.bool)
    places = torch.tensor([starts, ends, region], dtype=torch.long)
    return places[0], places[1], may[0], may[1], places[2]


def _inside_words(text: str) -> bytes:
    """For each offset 0..len(text), 1 where it lies between two letters or two digits of one word."""
    inside = bytearray(len(text) + 1)
    for run in _RUN.finditer(text):
        length = run.end() - run.start() - 1
        inside[run.start() + 1 : run.end()] = b"\1" * length
    return bytes(inside)

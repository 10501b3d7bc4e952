"""What a span model learns from: a question, a passage, and the answers that the passage states, if any."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.generator.span_windows import (
    LEAST_ROOM,
    SpanConfig,
    SpanPrompt,
    Window,
    question_length,
    span_prompt,
    windows_of,
)
from mixrag.probability import possible_spans


@dataclass(frozen=True, slots=True)
class SpanExample:
    """A question about a passage."""

    question: str
    passage: Passage
    """Its title, context and text are read."""
    answers: tuple[str, ...] = ()
    """Those that its text states, each wherever it occurs; none: the passage does not state one."""


@dataclass(frozen=True, slots=True)
class ReadExample:
    """An example in tokens of the encoder; L of them."""

    ids: Tensor
    """(L,) int32."""
    types: Tensor
    """(L,) uint8 segments; (0,) where the model has none."""
    may_start: Tensor
    """(L,) bool."""
    may_end: Tensor
    """(L,) bool."""
    right: tuple[tuple[int, int], ...]
    """Spans that are right: first token, further tokens. None: the empty answer is."""


def read_example(tokenizer: Any, example: SpanExample, config: SpanConfig) -> ReadExample | None:
    """The window of an example that states an answer, or the first one where there is none to state.

    None where the answers do not occur in the text or are too long for a span, or the question is too long.
    """
    prompt = span_prompt(example.question, (example.passage,))
    if question_length(tokenizer, example.question) > config.window - LEAST_ROOM:
        return None
    windows = windows_of(tokenizer, prompt, config)
    if not example.answers:
        return _read(windows[0], ()) if windows else None
    wanted = [place for answer in example.answers for place in occurrences(prompt, answer)]
    for window in windows:
        if right := right_spans(window, wanted, config.longest):
            return _read(window, right)
    return None


def occurrences(prompt: SpanPrompt, answer: str) -> list[tuple[int, int]]:
    """Offsets of an answer in the passages of a prompt, whatever white space is between its words.

    As it is written, or where it does not occur so, in capital or small letters.
    """
    words = answer.split()
    if not words:
        return []
    pattern = r"\s+".join(map(re.escape, words))
    for flags in (re.NOFLAG, re.IGNORECASE):
        compiled = re.compile(pattern, flags)
        if found := [m.span() for region in prompt.regions for m in compiled.finditer(prompt.text, *region)]:
            return found
    return []


def right_spans(window: Window, wanted: Sequence[tuple[int, int]], longest: int) -> tuple[tuple[int, int], ...]:
    """The possible spans of a window at these offsets; for offsets inside words, the shortest that has them."""
    starts = [(int(window.starts[i]), i) for i in window.may_start.nonzero()[:, 0].tolist()]
    ends = [(int(window.ends[i]), i) for i in window.may_end.nonzero()[:, 0].tolist()]
    found = []
    for start, end in wanted:
        first = max((i for offset, i in starts if offset <= start), default=None)
        last = min((i for offset, i in ends if offset >= end), default=None)
        inside = starts and ends and starts[0][0] <= start and end <= ends[-1][0]
        if inside and first is not None and last is not None and 0 <= last - first < longest:
            found.append((first, last - first))
    return tuple(dict.fromkeys(found))


def span_batch(
    examples: Sequence[ReadExample], longest: int, length: int, padding: int
) -> tuple[Any, Tensor, Tensor]:
    """Inputs (B, L) of the model, and the possible and the right spans (B, L, D), padded to ``length`` tokens."""
    size = (len(examples), length)
    ids = torch.full(size, padding, dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    may_start, may_end = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    right = torch.zeros((*size, longest), dtype=torch.bool)
    for row, example in enumerate(examples):
        count = len(example.ids)
        ids[row, :count], mask[row, :count] = example.ids.long(), 1
        may_start[row, :count], may_end[row, :count] = example.may_start, example.may_end
        types[row, : len(example.types)] = example.types.long()
        for first, further in example.right:
            right[row, first, further] = True
    inputs = {"input_ids": ids, "attention_mask": mask}
    if len(examples[0].types):
        inputs["token_type_ids"] = types
    # One passage in each: all spans are in one region.
    return inputs, possible_spans(may_start, may_end, torch.zeros_like(ids), longest), right


def _read(window: Window, right: tuple[tuple[int, int], ...]) -> ReadExample:
    ids = torch.tensor(window.ids, dtype=torch.int32)
    types = torch.tensor(window.types, dtype=torch.uint8)
    return ReadExample(ids, types, window.may_start.clone(), window.may_end.clone(), right)

"""The distribution of a span model over the spans of a text and the empty answer: one softmax over all windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.span_windows import SpanConfig, SpanPrompt, Window
from mixrag.probability import log_normalise, span_scores
from mixrag.utils.turns import turn

EMPTY = torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True, slots=True)
class SpanDistribution:
    """p(span | question, text): n spans and the empty answer."""

    text: str
    starts: Tensor
    """(n,) offsets of the spans in ``text``."""
    ends: Tensor
    """(n,) offsets after their last letters."""
    log_probs: Tensor
    """(n + 1,) float64 log p of each span, and last of the empty answer; their total is one."""

    @property
    def log_empty(self) -> float:
        """log p(∅ | question, text)."""
        return float(self.log_probs[-1])


def nothing_to_read(text: str = "") -> SpanDistribution:
    """The distribution without any span: the empty answer has probability one."""
    return SpanDistribution(text, EMPTY, EMPTY, torch.zeros(1, dtype=torch.float64))


@torch.inference_mode()
def end_scores(model: Any, windows: Sequence[Window]) -> list[tuple[Tensor, Tensor]]:
    """(L,) scores of each token as first and as last of a span, for each window, in float32 on the CPU.

    On a processor windows are read one by one: to the last bit, none depends on the others.
    """
    size = 1 if model.device.type == "cpu" else 32
    found: list[tuple[Tensor, Tensor]] = []
    for place in range(0, len(windows), size):
        found += batch_scores(model, windows[place : place + size])
    return found


def batch_scores(model: Any, windows: Sequence[Window]) -> list[tuple[Tensor, Tensor]]:
    """As ``end_scores``, in one batch, with gradient where the model's weights have one."""
    if not windows:
        return []
    with turn(model):
        output = model(**batch_of(windows, model.device, model.config.pad_token_id or 0))
    start, end = output.start_logits.float().cpu(), output.end_logits.float().cpu()
    return [(start[i, : len(w.ids)], end[i, : len(w.ids)]) for i, w in enumerate(windows)]


def batch_of(windows: Sequence[Window], device: Any, padding: int, length: int = 0) -> dict[str, Tensor]:
    """The inputs (R, L) of R windows; L is the longest of them, at least ``length``."""
    length = max(length, *(len(window.ids) for window in windows))
    ids = torch.full((len(windows), length), padding, dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        mask[row, : len(window.ids)] = 1
        if window.types:
            types[row, : len(window.types)] = torch.tensor(window.types)
    inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
    return inputs | ({"token_type_ids": types.to(device)} if windows[0].types else {})


def span_distribution(
    prompt: SpanPrompt, windows: Sequence[Window], scores: Sequence[tuple[Tensor, Tensor]], config: SpanConfig
) -> SpanDistribution:
    """The softmax over the spans of all windows and the empty answer.

    A span that several windows have counts once, with its score in the window where most is read beside it.
    The empty answer has the lowest of its scores in the windows: a text does not state the answer if no part does.

    Args:
        prompt: the question and the text.
        windows: of the text, in order; none for a text of white space alone.
        scores: (L,) scores of the ends, of each window, as ``end_scores`` gives them.
        config: how the model reads.
    """
    if not windows:
        return nothing_to_read(prompt.text)
    columns = [_spans(window, start, end, config) for window, (start, end) in zip(windows, scores, strict=True)]
    starts, ends, found, room = (torch.cat(column) for column in zip(*columns, strict=True))
    if len(windows) > 1:
        best = _best_places(starts, ends, room, len(prompt.text) + 1)
        starts, ends, found = starts[best], ends[best], found[best]
    empty = torch.stack([(start[0].double() + end[0].double()) for start, end in scores]).min()
    return SpanDistribution(prompt.text, starts, ends, log_normalise(torch.cat([found, empty[None]]), 0))


def _spans(
    window: Window, start: Tensor, end: Tensor, config: SpanConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Offsets, scores (float64) of the n spans of one window, and the fewest tokens beside each."""
    first, extra = window.possible(config.longest).nonzero(as_tuple=True)
    score = span_scores(start.double(), end.double(), config.longest)[first, extra]
    last = first + extra
    room = torch.minimum(first - window.texts[0], window.texts[1] - 1 - last)
    return window.starts[first], window.ends[last], score, room


def _best_places(starts: Tensor, ends: Tensor, room: Tensor, size: int) -> Tensor:
    """The place of each distinct span that has most room; of several, the first."""
    spans, place = torch.unique(starts * size + ends, return_inverse=True)
    most = torch.full((len(spans),), -1, dtype=torch.long).scatter_reduce(0, place, room, "amax")
    candidates = (room == most[place]).nonzero()[:, 0]
    first = torch.full((len(spans),), len(starts), dtype=torch.long)
    return first.scatter_reduce(0, place[candidates], candidates, "amin")

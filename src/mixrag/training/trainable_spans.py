"""The extractive reader under training, by the objectives of a mixture: the counterpart of ``TrainableGenerator``.

At switch 0 all tokens of a branch have one coefficient c, so that what goes backward is

    Σ c log p(y | x, z),    p(y | x, z) = Σ over the spans s of z with text y of p(s | x, z)

and p(∅ | x, z) where y is the empty answer. Dropout is off, as in the pass that the coefficients come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag.config.training_settings import TrainingSettings
from mixrag.generator import ExtractiveGenerator, Prompt
from mixrag.generator.adapter import added, check_adapter
from mixrag.generator.extractive import Answers, row_log_likelihoods
from mixrag.generator.huggingface import ModelGenerator
from mixrag.generator.span_scores import batch_scores
from mixrag.generator.span_windows import Window
from mixrag.probability import log_sum
from mixrag.training.generators import (
    ScoredRows,
    TrainableGenerator,
    autocast,
    checkpoint_activations,
    compile_layers,
)
from mixrag.training.likelihoods import Likelihoods, span_tokens_of, tokens_of
from mixrag.training.span_training import with_new_adapter

KNOWN = 1024
"""Prompts whose windows are remembered: those of a few steps."""


class TrainableSpans:
    """An extractive reader whose weights, or adapter and head, are trained. ``adapted`` is peft's model, if any.

    Args:
        generator: with the model in float32, no adapter merged into it where one is trained further.
        settings: of the run.
        adapter: the folder of an adapter that is trained further; None is a new one.
        base: how messages and the adapter's folder call the model that the adapter is for.
    """

    any_answer = False
    """An answer that is no span has probability zero."""

    def __init__(
        self, generator: ExtractiveGenerator, settings: TrainingSettings, adapter: Path | None, base: str
    ) -> None:
        self.generator, self.settings, self.base = generator, settings, base
        self._known: dict[Prompt, list[Window]] = {}
        model = generator.model
        model.requires_grad_(settings.method == "full")
        self.adapted: Any = None
        if settings.method == "lora":
            self.adapted = _adapted(model, settings, adapter, base)
        model.to(generator.device).eval()
        if settings.checkpointing:
            checkpoint_activations(model)
        if settings.compile:
            compile_layers(model)

    def weights(self) -> dict[str, Tensor]:
        """The trained weights, by name."""
        return {name: p for name, p in self.generator.model.named_parameters() if p.requires_grad}

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """(R, T) without gradient, zero after each answer's end; -inf where no span begins so."""
        found: dict[Prompt, Answers] = {}
        with torch.no_grad():
            for some in self._at_once(list(dict.fromkeys(prompts))):
                found |= self._read(some)
            return row_log_likelihoods([found[prompt] for prompt in prompts], answers)

    def tokens_read(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> int:
        """Tokens that the encoder reads to score R rows: each prompt once, whatever is asked of it."""
        return sum(len(window.ids) for prompt in dict.fromkeys(prompts) for window in self._windows(prompt))

    def backward(self, rows: ScoredRows) -> Tensor:
        """As ``TrainableGenerator.backward``, for coefficients that are equal for all tokens of a row.

        A prompt is read once for all its rows. Memory is that of ``settings.rows`` windows, or of one prompt.
        """
        values = torch.zeros(len(rows.prompts), dtype=torch.float64)
        own: dict[Prompt, list[int]] = {}
        for number, prompt in enumerate(rows.prompts):
            own.setdefault(prompt, []).append(number)
        for some in self._at_once(list(own)):
            found = self._read(some)
            numbers = [number for prompt in some for number in own[prompt]]
            weighted = torch.stack([_weighted(rows, number, found) for number in numbers])
            if weighted.requires_grad:  # not so where there is nothing to read
                weighted.sum().backward()
            values[numbers] = weighted.detach()
        return values

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Matrix products in bfloat16, where the settings say so."""
        with autocast(self.generator.model, self.adapted, self.settings.dtype):
            yield

    def _at_once(self, prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
        """Prompts with at most ``settings.rows`` windows together, or one; short ones first."""
        read = [(prompt, [len(window.ids) for window in self._windows(prompt)]) for prompt in prompts]
        some: list[Prompt] = []
        windows = 0
        for prompt, lengths in sorted(read, key=lambda each: sum(each[1])):
            if some and windows + len(lengths) > self.settings.rows:
                yield some
                some, windows = [], 0
            some.append(prompt)
            windows += len(lengths)
        if some:
            yield some

    def _read(self, prompts: Sequence[Prompt]) -> dict[Prompt, Answers]:
        """The answers of the prompts, all windows in one batch; the generator's own memory would be stale."""
        generator = self.generator
        windows = [self._windows(prompt) for prompt in prompts]
        with self.autocast():
            scores = iter(batch_scores(generator.model, [window for own in windows for window in own]))
        return {
            prompt: generator.answers_from(prompt, own, [next(scores) for _ in own])
            for prompt, own in zip(prompts, windows, strict=True)
        }

    def _windows(self, prompt: Prompt) -> list[Window]:
        if prompt not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[prompt] = self.generator.windows(prompt)
        return self._known[prompt]


Trainable = TrainableGenerator | TrainableSpans
LearningGenerator = ModelGenerator | ExtractiveGenerator
"""Generators that training knows, frozen or trained: they score rows, each with an answer of its own."""


def likelihoods_of(scoring: Trainable | LearningGenerator, *, frozen: bool) -> Likelihoods:
    """The table of a generator that is trained, or does not change while it lasts (``frozen``)."""
    if isinstance(scoring, Trainable):
        return Likelihoods(scoring.log_likelihoods, frozen, scoring.tokens_read)
    measure = partial(span_tokens_of, scoring) if isinstance(scoring, ExtractiveGenerator) else tokens_of
    return Likelihoods(scoring.log_likelihoods, frozen, measure)


def _weighted(rows: ScoredRows, number: int, found: Mapping[Prompt, Answers]) -> Tensor:
    """() c log p(y | x, z) of one row, where log p is the log-sum-exp over the spans with its text."""
    answers = found[rows.prompts[number]]
    log_prob = log_sum(answers.log_probs[answers.spelling(rows.answers[number])], 0)
    return rows.coefficients[number][0].double() * log_prob


def _adapted(model: Any, settings: TrainingSettings, adapter: Path | None, base: str) -> Any:
    """peft's model with a new adapter, whose product is zero, or with an existing one; the head is trained too."""
    if adapter is not None:
        check_adapter(adapter)
        return added(model, adapter, base, trainable=True)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return with_new_adapter(model, settings.rank)

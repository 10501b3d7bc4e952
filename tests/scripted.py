"""A language model that follows a script: a law over whole answers for each marker word of a passage."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mixrag.generator import TableGenerator

Laws = Mapping[str, Mapping[str, float]]
"""Marker -> {answer: probability}; "" is the law where no marker stands in the passages."""


def scripted(laws: Laws, context_size: int = 4096) -> TableGenerator:
    """The model; of several markers in a prompt the first counts. What a law leaves over is spread over all its
    answers and those of the other laws, so that nothing is impossible."""
    texts = sorted({answer for law in laws.values() for answer in law})
    vocabulary = sorted({word for text in texts for word in text.split()} | set(laws) - {""})
    words = (*vocabulary, "<end>")
    ids = {word: index for index, word in enumerate(words)}
    answers = {text: (*(ids[word] for word in text.split()), len(words) - 1) for text in texts}

    def next_token(passages: tuple[int, ...], written: tuple[int, ...]) -> Tensor:
        marker = next((words[token] for token in passages if token >= 0 and words[token] in laws), "")
        law = laws.get(marker, {})
        rest = (1.0 - math.fsum(law.values())) / len(texts)
        mass = torch.zeros(len(words), dtype=torch.float64)
        for text, tokens in answers.items():
            if tokens[: len(written)] == written and len(tokens) > len(written):
                mass[tokens[len(written)]] += law.get(text, 0.0) + rest
        if mass.sum() == 0.0:  # what no answer begins with ends at once
            mass[-1] = 1.0
        return mass / mass.sum()

    return TableGenerator(words, next_token, context_size)

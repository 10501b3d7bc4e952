"""Log-likelihoods of packed rows (``packing.py``) by a model, and their gradient.

Not every model can read them: its attention must take a mask of its own for each token, and its positions must be
given. A trial on the rows of the run decides; where it fails, every branch is read in a row of its own.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from mixrag.generator import CausalGenerator
from mixrag.generator.huggingface import ModelGenerator
from mixrag.generator.thoughts import without_tokens
from mixrag.training.generators import ScoredRows, TrainableGenerator, compile_layers
from mixrag.training.packing import Layout, Row, Tree, branches_of, lay_out, separate

TOLERANCE, HALF_TOLERANCE = 1e-2, 0.5
"""How far the log-probabilities of one token may differ between packed and separate rows: float32, half precision.
A token that saw another branch or stood at another position differs by far more."""
TRIED = 3
"""Branches of each passage in the trial."""
_logger = logging.getLogger("mixrag.training")


class RowReader:
    """Reads packed rows, or each of their branches by itself where the model cannot."""

    def __init__(self, trained: TrainableGenerator, length: int, trial: Sequence[Row]) -> None:
        self.trained, self.length = trained, length
        row, half = _trial_row(trial, length), trained.settings.dtype == "bfloat16"
        self.packed = reads_packed_rows(trained.generator, row, length, trained.autocast() if half else None)
        if trained.settings.compile:
            compile_layers(trained.generator.model, dynamic=not self.packed)
        if not self.packed:
            _logger.warning(
                f"{trained.generator.name} cannot read a passage once for several questions: every question is "
                "read with a passage of its own, which is exact and takes several times as long"
            )

    def log_likelihoods(self, rows: Sequence[Row]) -> Tensor:
        """(B,) float64: log p(answer | passage, question) of each branch, without gradient."""
        found: list[Tensor] = []
        with torch.no_grad():
            for some in self._at_once(rows):
                if self.packed:
                    layout = lay_out(some, self.length)
                    with self.trained.autocast():
                        found.append(_by_branch(layout, packed_log_probs(self.trained.generator, layout)))
                else:
                    found.append(self.trained.log_likelihoods(*separate(some)).double().sum(-1).cpu())
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    def backward(self, rows: Sequence[Row], total: float) -> Tensor:
        """Add the gradient of -(Σ weight · log p(answer)) / ``total`` to the trained weights.

        Returns (B,) float64: log p(answer | passage, question) of each branch.
        """
        found = [self._backward(some, total) for some in self._at_once(rows)]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    def _at_once(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        size = self.trained.settings.rows
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _backward(self, rows: Sequence[Row], total: float) -> Tensor:
        weights = torch.tensor([branch.weight for branch in branches_of(rows)], dtype=torch.float64)
        if not self.packed:
            prompts, answers = separate(rows)
            coefficients = [
                torch.full((len(answer),), -float(weight) / total, dtype=torch.float64)
                for answer, weight in zip(answers, weights, strict=True)
            ]
            values = self.trained.backward(ScoredRows(prompts, answers, coefficients, torch.arange(len(answers))))
            return -values * total / weights
        layout = lay_out(rows, self.length)
        with self.trained.autocast():
            log_probs = packed_log_probs(self.trained.generator, layout)
        shares = (weights[layout.owners] / total).to(log_probs)
        (-(log_probs * shares).sum()).backward()
        return _by_branch(layout, log_probs.detach())


def packed_log_probs(generator: ModelGenerator, layout: Layout) -> Tensor:
    """(N,) log p of the token at each place of the layout, with gradient, on the model's device.

    Raises:
        Exception: whatever the model's code raises where it takes no such mask.
    """
    model, device = generator.model, generator.device
    kept, index = layout.places.unique(return_inverse=True)
    options = {}
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        options["logits_to_keep"] = kept.to(device)
    else:
        index = layout.places
    # Zero where a token is seen, else the least number: what every attention of transformers adds to its scores.
    unseen = torch.finfo(model.dtype).min
    mask = torch.zeros(layout.attended.shape, dtype=model.dtype).masked_fill_(~layout.attended, unseen)
    output = model(
        input_ids=layout.ids.to(device),
        attention_mask=mask[:, None].to(device),
        position_ids=layout.positions.to(device),
        use_cache=False,
        **options,
    )
    logits = output.logits[layout.rows.to(device), index.to(device)].float()
    logits = without_tokens(logits, generator.never)
    return -torch.nn.functional.cross_entropy(logits, layout.targets.to(device), reduction="none")


def reads_packed_rows(
    generator: ModelGenerator,
    row: Row,
    length: int,
    precision: AbstractContextManager[None] | None = None,
) -> bool:
    """True where the tokens of a row have the log-probabilities that they have in rows of their own."""
    from mixrag.generator.kv_cache import uncacheable

    if not isinstance(generator, CausalGenerator) or not row:
        return False
    whole = replace(generator, prefix_cache_bytes=None)
    prompts, answers = separate([row])
    layout = lay_out([row], length)
    try:
        # Windows of attention, and positions that depend on the length of a row, go by places in the row.
        if uncacheable(generator.model.config) is not None:
            return False
        with torch.no_grad(), precision or nullcontext():
            found = packed_log_probs(whole, layout)
            expected = whole.log_likelihoods(prompts, answers)
    except Exception:  # a model's own code may raise anything when it is given a mask of another form
        return False
    ends = [len(answer) for answer in answers]
    each = torch.cat([line[:end] for line, end in zip(expected, ends, strict=True)])
    tolerance = TOLERANCE if found.dtype == torch.float32 and precision is None else HALF_TOLERANCE
    return bool(((found.cpu() - each).abs() < tolerance).all())


def _trial_row(rows: Sequence[Row], length: int) -> Row:
    """Two passages with some branches each, as far as the rows have them: what a trial can tell apart."""
    trees = sorted((tree for row in rows for tree in row), key=lambda tree: -len(tree.branches))[:2]
    found: list[Tree] = []
    for tree in trees:
        room = length // 2
        passage, branches = tree.passage[: room // 4], []
        size = len(passage)
        for branch in sorted(tree.branches, key=lambda branch: branch.size)[:TRIED]:
            if size + branch.size <= room:
                branches.append(branch)
                size += branch.size
        found += [Tree(passage, tuple(branches))] if branches else []
    return tuple(found)


def _by_branch(layout: Layout, log_probs: Tensor) -> Tensor:
    """(B,) sums over the tokens of each branch."""
    sums = torch.zeros(layout.branches, dtype=torch.float64)
    return sums.index_add_(0, layout.owners, log_probs.double().cpu())

"""The curves of a training run as one picture.

Colours are those of Okabe and Ito (2008), which colour-blind people can tell apart; line styles differ as well.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mixrag.errors import TrainingError
from mixrag.evaluation.plots import BLACK, BLUE, GREEN, ORANGE, VERMILION, new_figure, whole_numbers
from mixrag.utils.arrays import Floats
from mixrag.utils.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Metrics = Sequence[Mapping[str, Any]]
REACH = 0.04
"""The smoothed line averages over this share of all points on each side of a step."""
SMOOTHED_FROM = 25
"""Fewer points are drawn as they are."""


@dataclass(frozen=True)
class Line:
    """How one series is drawn."""

    kind: str
    name: str
    """Kind and name in the metrics."""
    label: str
    colour: str
    style: str = "-"
    smooth: bool = True
    """Draw the values faintly, and a moving average over them."""


@dataclass(frozen=True)
class Scale:
    """Lines that share an axis."""

    label: str
    lines: tuple[Line, ...]
    kind: Literal["linear", "log", "share"] = "linear"
    """share: from 0 to 1."""


# One panel each; a second scale is on its right side.
PANELS: tuple[tuple[Scale, ...], ...] = (
    (
        Scale(
            "nats per answer",
            (
                Line("train", "loss", "training loss", BLUE),
                Line("dev", "nll", "−log p(gold answer), dev pairs", VERMILION, "--", smooth=False),
            ),
        ),
    ),
    (
        Scale(
            "effective number of passages",
            (
                Line("train", "effective_prior", "under the prior", BLUE),
                Line("train", "effective_posterior", "under the posterior", VERMILION, "--"),
            ),
        ),
    ),
    (
        Scale("KL divergence, nats", (Line("train", "kl", "KL(posterior ‖ prior)", BLUE),)),
        Scale(
            "share of questions",
            (Line("train", "gold_found", "gold answer in a retrieved passage", VERMILION, "--"),),
            "share",
        ),
    ),
    (
        Scale(
            "learning rate",
            (
                Line("train", "rate_generator", "generator's rate", BLUE, smooth=False),
                Line("train", "rate_encoder", "encoder's rate", ORANGE, "-.", smooth=False),
                Line("train", "rate_scalars", "scalars' rate", GREEN, ":", smooth=False),
            ),
            "log",
        ),
        Scale(
            "retrieval temperature", (Line("train", "temperature", "temperature", VERMILION, "--", smooth=False),)
        ),
    ),
)


def draw_curves(metrics: Metrics, path: Path, title: str) -> None:
    """Draw the lines of a metrics file as a PNG, which appears complete or not at all.

    Series that are missing leave their line or panel out; null and NaN are gaps. Dotted vertical lines are alarms.

    Raises:
        TrainingError: it cannot be written.
    """
    content = io.BytesIO()
    figure_of(metrics, title).savefig(content, format="png", dpi=150)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise TrainingError(
            f"room to write {path}", str(error), "free it and run the same command again"
        ) from error


def figure_of(metrics: Metrics, title: str) -> Figure:
    """The figure that ``draw_curves`` saves."""
    panels = [present for panel in PANELS if (present := _present(panel, metrics))]
    columns = min(2, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(5.6 * columns, 0.5 + 3.5 * rows, "train")
    figure.suptitle(title, parse_math=False)  # a title is data: a "$" in it begins no formula
    if not panels:
        figure.text(0.5, 0.5, "nothing was measured", ha="center", va="center")
    for place, scales in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, place), scales, metrics)
    return figure


def _present(panel: Sequence[Scale], metrics: Metrics) -> list[Scale]:
    """Its scales with the lines that have a value."""
    found = []
    for scale in panel:
        lines = tuple(line for line in scale.lines if np.isfinite(_series(metrics, line)[1]).any())
        if lines:
            found.append(Scale(scale.label, lines, scale.kind))
    return found


def _draw_panel(left: Axes, scales: Sequence[Scale], metrics: Metrics) -> None:
    left.set_xlabel("optimizer step")
    whole_numbers(left)
    left.grid(alpha=0.25)
    left.spines[["top", "right"]].set_visible(False)
    drawn: list[Line2D] = []
    for place, scale in enumerate(scales):
        axes = left
        if place > 0:
            axes = left.twinx()
            axes.spines[["top", "left"]].set_visible(False)
        drawn += _draw_scale(axes, scale, metrics)
    alarms = sorted({entry["step"] for entry in metrics if entry["kind"] == "alarm"})
    drawn += [left.axvline(step, color=BLACK, ls=":", lw=1.2, label="alarm") for step in alarms]
    named = {str(line.get_label()): line for line in drawn}
    # Above the panel, where it hides nothing.
    left.legend(
        named.values(), named, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small"
    )


def _draw_scale(axes: Axes, scale: Scale, metrics: Metrics) -> list[Line2D]:
    axes.set_ylabel(scale.label)
    drawn = [_draw_line(axes, line, *_series(metrics, line)) for line in scale.lines]
    if len(scale.lines) == 1:
        axes.yaxis.label.set_color(scale.lines[0].colour)
    if scale.kind == "share":
        axes.set_ylim(-0.02, 1.02)
    if scale.kind == "log" and any(bool((_series(metrics, line)[1] > 0).any()) for line in scale.lines):
        axes.set_yscale("log", nonpositive="mask")
    return drawn


def _draw_line(axes: Axes, line: Line, steps: Floats, values: Floats) -> Line2D:
    if line.smooth and len(values) >= SMOOTHED_FROM:
        axes.plot(steps, values, color=line.colour, lw=0.8, alpha=0.3)
        values = _smoothed(values)
    # Few values are points: a line alone does not show where they are, or a single one at all.
    marker = "o" if len(values) < SMOOTHED_FROM else ""
    return axes.plot(
        steps, values, color=line.colour, ls=line.style, lw=1.8, marker=marker, ms=3.5, label=line.label
    )[0]


def _series(metrics: Metrics, line: Line) -> tuple[Floats, Floats]:
    """Steps and values; what is not a finite number is NaN."""
    found = [
        (entry["step"], entry[line.name]) for entry in metrics if entry["kind"] == line.kind and line.name in entry
    ]
    values = [float(value) if isinstance(value, (int, float)) else math.nan for _, value in found]
    steps = np.array([step for step, _ in found], dtype=np.float64)
    return steps, np.array([value if math.isfinite(value) else math.nan for value in values], dtype=np.float64)


def _smoothed(values: Floats) -> Floats:
    """The mean of the neighbours on both sides, fewer of them towards the ends; gaps stay gaps."""
    box = np.ones(2 * max(1, round(REACH * len(values))) + 1)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), box, "same")
    return np.where(known, total / np.maximum(np.convolve(known, box, "same"), 1), np.nan)

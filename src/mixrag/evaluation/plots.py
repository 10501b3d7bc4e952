"""Pictures of an evaluation, as PNG: readable in print and by the colour-blind.

Colours are those of Okabe and Ito (2008); line styles and markers differ as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixrag.evaluation.analysis import Evaluation
from mixrag.evaluation.proportions import share
from mixrag.evaluation.scoring import Record
from mixrag.evaluation.trust import Trust
from mixrag.evaluation.trust_measures import reliability, risk_coverage
from mixrag.utils.arrays import Floats
from mixrag.utils.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"),
    "#000000",
)
STYLES = ((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"), (ORANGE, ":", "D"), (PURPLE, "--", "v"))
"""Colour, line, marker of the first, second, … series."""
Picture = tuple[str, str, bytes]
"""File name, caption, PNG."""


def new_figure(width: float, height: float, extra: str) -> Figure:
    """An empty figure of this size in inches.

    Not pyplot's, which would take over the process's backend and list of figures.

    Raises:
        MissingPackageError: matplotlib is not installed; ``extra`` is the one that the message names.
    """
    figure: Figure = require("matplotlib.figure", extra, "pictures").Figure(
        figsize=(width, height), layout="constrained"
    )
    require("matplotlib.backends.backend_agg", extra, "pictures").FigureCanvasAgg(figure)
    return figure


def whole_numbers(axes: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def pictures(found: Evaluation) -> list[Picture]:
    """All pictures for which there is something to show."""
    drawn = []
    for name, caption, draw in _PICTURES:
        axes_count, fill = draw(found)
        if axes_count:
            drawn.append((name, caption, _png(axes_count, fill)))
    return drawn


Fill = Callable[[Sequence["Axes"]], None]


def _reliability(found: Evaluation) -> tuple[int, Fill]:
    chosen = _chosen(found)

    def fill(axes: Sequence[Axes]) -> None:
        assert chosen is not None and found.method is not None
        raw = found.methods["none"]
        for axis, trust, title in ((axes[0], raw, "probability as it is"), (axes[1], chosen, found.method)):
            _reliability_panel(axis, trust, f"{title}: ECE {trust.ece:.3f}")

    return (0 if chosen is None else 2), fill


def _reliability_panel(axis: Axes, trust: Trust, title: str) -> None:
    bins = reliability(trust.confidences, trust.outcomes)
    axis.plot([0, 1], [0, 1], color=BLACK, linewidth=0.8, linestyle=":", label="perfect")
    axis.bar(
        [(each.low + each.high) / 2 for each in bins],
        [each.accuracy for each in bins],
        width=0.09,
        color=SKY,
        edgecolor=BLUE,
        label="share right",
    )
    confidences, accuracies = [each.confidence for each in bins], [each.accuracy for each in bins]
    axis.plot(confidences, accuracies, "o", color=VERMILION, label="mean confidence")
    for each in bins:
        axis.annotate(str(each.n), ((each.low + each.high) / 2, 0.02), ha="center", fontsize=7)
    _shares(axis, "confidence", "share of answers that are right", title)
    axis.legend(loc="upper left", fontsize=7)


def _coverage(found: Evaluation) -> tuple[int, Fill]:
    chosen = _chosen(found)

    def fill(axes: Sequence[Axes]) -> None:
        assert chosen is not None
        series = {"calibrated confidence": chosen, "probability as it is": found.methods["none"]}
        for (name, trust), (colour, line, _) in zip(series.items(), STYLES, strict=False):
            coverage, accuracy = risk_coverage(trust.confidences, trust.outcomes)
            axes[0].plot(coverage, accuracy, line, color=colour, label=name)
        axes[0].axhline(
            float(chosen.outcomes.mean()), color=BLACK, linewidth=0.8, linestyle=":", label="all answered"
        )
        _shares(axes[0], "share of questions answered, the surest first", "share of them right", "Abstention")
        axes[0].legend(fontsize=7)

    return (0 if chosen is None else 1), fill


def _weights(found: Evaluation) -> tuple[int, Fill]:
    records = [record for record in found.records[found.trusted] if len(record.priors) > 1]
    flags = np.array([flag for record in records for flag in record.relevant], bool)
    some = bool(flags.any()) and not bool(flags.all())

    def fill(axes: Sequence[Axes]) -> None:
        for axis, name, title in ((axes[0], "priors", "prior"), (axes[1], "posteriors", "posterior")):
            weights = np.array([weight for record in records for weight in getattr(record, name)])
            _ecdf(axis, weights[flags], f"relevant ({flags.sum()})", 0)
            _ecdf(axis, weights[~flags], f"irrelevant ({(~flags).sum()})", 1)
            _shares(axis, f"weight of the passage ({title})", "share of passages with at most this weight", title)
            axis.legend(loc="lower right", fontsize=7)

    return (2 if some else 0), fill


def _ecdf(axis: Axes, values: Floats, label: str, style: int) -> None:
    colour, line, _ = STYLES[style]
    ordered = np.sort(values)
    axis.plot(ordered, np.arange(1, len(ordered) + 1) / len(ordered), line, color=colour, label=label)


def _distractors(found: Evaluation) -> tuple[int, Fill]:
    kinds = found.distractors

    def fill(axes: Sequence[Axes]) -> None:
        for axis, (kind, systems) in zip(axes, kinds.items(), strict=True):
            for (name, by_count), style in zip(systems.items(), STYLES * 3, strict=False):
                _degradation(axis, {0: found.records[name], **by_count}, name, style)
            axis.set(xlabel=f"{kind} distractors added", ylabel="exact match", title=kind)
            whole_numbers(axis)
            axis.set_ylim(bottom=0)
            axis.legend(fontsize=7)

    return len(kinds), fill


def _degradation(
    axis: Axes, by_count: Mapping[int, Sequence[Record]], name: str, style: tuple[str, str, str]
) -> None:
    colour, line, marker = style
    means = [share([record.exact for record in records]) for records in by_count.values()]
    centre = [mean.mean for mean in means]
    spread = [[m.mean - m.low for m in means], [m.high - m.mean for m in means]]
    axis.errorbar([*by_count], centre, spread, color=colour, linestyle=line, marker=marker, capsize=3, label=name)


def _adaptive(found: Evaluation) -> tuple[int, Fill]:
    ks = found.adaptive_k

    def fill(axes: Sequence[Axes]) -> None:
        for (mass, values), style in zip(ks.items(), range(len(STYLES)), strict=False):
            _ecdf(axes[0], np.asarray(values, np.float64), f"mass outside ≤ {mass:g}", style)
        axes[0].set_xscale("log")
        axes[0].set(xlabel="passages used (k)", ylabel="share of questions", title="Adaptive k")
        axes[0].legend(fontsize=7)

    return (1 if any(ks.values()) else 0), fill


_PICTURES = (
    (
        "reliability.png",
        "How often an answer of a given confidence is right; the numbers count answers.",
        _reliability,
    ),
    ("coverage.png", "Accuracy when the least sure answers are withheld.", _coverage),
    ("weights.png", "Weights of relevant and irrelevant passages, before and after the answer.", _weights),
    ("distractors.png", "Exact match as irrelevant passages are added, with 95 % intervals.", _distractors),
    ("adaptive-k.png", "Passages needed until so little prior mass is left outside.", _adaptive),
)


PICTURES = tuple(name for name, _, _ in _PICTURES)


def _chosen(found: Evaluation) -> Trust | None:
    return None if found.method is None else found.methods[found.method]


def _shares(axis: Axes, x: str, y: str, title: str) -> None:
    axis.set(xlabel=x, ylabel=y, title=title, xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3, linewidth=0.5)


def _png(panels: int, fill: Fill) -> bytes:
    figure = new_figure(4.6 * panels, 3.6, "eval")
    figure.set_dpi(140)
    fill([figure.add_subplot(1, panels, place + 1) for place in range(panels)])
    content = io.BytesIO()
    # Not savefig, which draws everything twice for the same bytes.
    canvas: Any = figure.canvas
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()

"""The picture of a run: which panels it has, and that odd metrics do not stop it."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixrag.errors import TrainingError
from mixrag.training.curves import SMOOTHED_FROM, _smoothed, draw_curves, figure_of


def train(step: int, **values: Any) -> dict[str, Any]:
    return {"step": step, "kind": "train", **values}


def full(steps: int = 40) -> list[dict[str, Any]]:
    rows = [
        train(
            step,
            loss=5.0 / step,
            effective_prior=4.0,
            effective_posterior=2.0,
            kl=0.5,
            gold_found=0.75,
            rate_generator=1e-4,
            temperature=0.05,
        )
        for step in range(1, steps + 1)
    ]
    return [*rows, {"step": 20, "kind": "dev", "nll": 3.0}, {"step": 30, "kind": "alarm", "text": "collapse"}]


def labels(metrics: list[dict[str, Any]]) -> list[str]:
    return [axes.get_ylabel() for axes in figure_of(metrics, "run").axes]


def drawn(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    lines = [line for axes in figure_of(metrics, "run").axes for line in axes.get_lines()]
    return {str(line.get_label()): line for line in lines if not str(line.get_label()).startswith("_")}


def test_a_full_run_has_all_panels_with_units(tmp_path: Path) -> None:
    assert labels(full()) == [
        "nats per answer",
        "effective number of passages",
        "KL divergence, nats",
        "share of questions",
        "learning rate",
        "retrieval temperature",
    ]
    draw_curves(full(), tmp_path / "curves.png", "run")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_lines_of_one_panel_differ_in_colour_and_in_style() -> None:
    lines = drawn(full())
    prior, posterior = lines["under the prior"], lines["under the posterior"]
    assert prior.get_color() != posterior.get_color() and prior.get_linestyle() != posterior.get_linestyle()
    assert list(lines["alarm"].get_xdata()) == [30, 30]


def test_missing_series_leave_their_line_or_panel_out() -> None:
    closed_book = [train(step, loss=1.0, rate_generator=1e-4) for step in range(5)]
    assert labels(closed_book) == ["nats per answer", "learning rate"]
    assert "training loss" in drawn(closed_book) and "temperature" not in drawn(closed_book)
    only_right = [train(step, temperature=0.1) for step in range(5)]
    assert labels(only_right) == ["retrieval temperature"]


@pytest.mark.parametrize("metrics", [[], [train(1, loss=None)], [train(1, loss=math.nan)], [train(1, text="x")]])
def test_nothing_to_draw_is_a_picture_that_says_so(tmp_path: Path, metrics: list[dict[str, Any]]) -> None:
    assert labels(metrics) == []
    assert figure_of(metrics, "run").texts[-1].get_text() == "nothing was measured"
    draw_curves(metrics, tmp_path / "curves.png", "run")
    assert (tmp_path / "curves.png").exists()


def test_null_nan_and_infinite_values_are_gaps() -> None:
    values = [3.0, None, math.nan, math.inf, "x", 1.0]
    line = drawn([train(step, loss=value) for step, value in enumerate(values)])["training loss"]
    assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(line.get_ydata(), [3.0, *[math.nan] * 4, 1.0])


@pytest.mark.filterwarnings("error")
def test_a_rate_of_zero_on_a_logarithmic_scale_is_drawn_without_it(tmp_path: Path) -> None:
    for rates in ([0.0, 1e-4], [0.0, 0.0]):
        metrics = [train(step, rate_generator=rate) for step, rate in enumerate(rates)]
        draw_curves(metrics, tmp_path / "curves.png", "run")


def test_a_constant_stays_itself_when_smoothed_and_gaps_stay_gaps() -> None:
    values = np.full(60, 2.0)
    values[10:14] = math.nan
    np.testing.assert_allclose(_smoothed(values), values)


def test_smoothing_is_the_mean_of_both_sides() -> None:
    values = np.arange(50.0) ** 2
    smooth = _smoothed(values)
    assert smooth[20] == pytest.approx(values[18:23].mean()) and smooth[0] == pytest.approx(values[:3].mean())


def test_long_series_are_smoothed_over_the_faint_values_and_short_ones_are_points() -> None:
    def loss_lines(count: int) -> list[Any]:
        return figure_of([train(s, loss=float(s % 2)) for s in range(count)], "run").axes[0].get_lines()

    raw, smooth = loss_lines(SMOOTHED_FROM)
    assert raw.get_alpha() < 1 and max(raw.get_ydata()) == 1.0 and max(smooth.get_ydata()) < 1.0
    (points,) = loss_lines(SMOOTHED_FROM - 1)
    assert points.get_marker() == "o" and max(points.get_ydata()) == 1.0


def test_a_title_is_text_not_a_formula(tmp_path: Path) -> None:
    draw_curves(full(), tmp_path / "curves.png", r"costs $\frac{ in $ and _ % #")
    assert figure_of(full(), "$x$")._suptitle.get_parse_math() is False


def test_pyplot_is_left_alone() -> None:
    before = "matplotlib.pyplot" in sys.modules
    figure_of(full(), "run")
    assert ("matplotlib.pyplot" in sys.modules) is before


def test_a_picture_that_cannot_be_written_is_a_training_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="room to write"):
        draw_curves(full(), tmp_path / "missing" / "curves.png", "run")

"""How the cost of an answer grows with K and with the length of passages, beside transformers; as pictures.

    python benchmarks/curves.py [--rounds N]

What is measured, and against whom, is that of ``generation.py``, in bfloat16: the decoding step for K from 1 to
50, and the first token for passages of 50 to 1,000 tokens at K = 10, read for the first time and read before.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from generation import STEPS, Peer, as_it_comes, loaded, mixture, ours_step
from mixrag.evaluation.plots import STYLES
from mixrag.generator import CausalGenerator
from mixrag.inference.stepwise import most_probable
from side_by_side import seconds

PICTURES = Path(__file__).parent.parent / "docs" / "measurements" / "pictures"
KS = (1, 2, 5, 10, 20, 50)
LENGTHS = (50, 150, 300, 500, 1000)
Curves = Mapping[str, Sequence[float]]
"""By name: milliseconds at each place of the horizontal axis."""


def main() -> None:
    """Measure, print two tables, draw two pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    ours, peer = loaded("bfloat16"), as_it_comes(loaded("bfloat16"))
    steps = curves(KS, lambda k: {"mixrag": ours_step(ours, k), "transformers": peer_step(peer, k)}, rounds)
    shown("K", KS, steps)
    drawn("cost-of-k.png", "components K", "milliseconds of a decoding step", KS, steps)
    firsts = curves(LENGTHS, lambda length: first_tokens(ours, peer, length), rounds)
    shown("tokens of passage", LENGTHS, firsts)
    drawn(
        "cost-of-length.png", "tokens of each of 10 passages", "milliseconds to the first token", LENGTHS, firsts
    )


def curves(places: Sequence[int], at: Callable[[int], Mapping[str, Callable[[], float]]], rounds: int) -> Curves:
    """Medians in milliseconds, of rounds in which all take turns, after one that does not count."""
    found: dict[str, list[float]] = {}
    for place in places:
        each = at(place)
        times = [{name: measure() for name, measure in each.items()} for _ in range(rounds + 1)][1:]
        for name in each:
            found.setdefault(name, []).append(1000 * statistics.median(time[name] for time in times))
    return found


def peer_step(generator: CausalGenerator, k: int) -> Callable[[], float]:
    """Seconds of a step of transformers' own loop."""
    peer = Peer(generator, mixture(generator, k, 150))

    def measured() -> float:
        log_p = peer.start()
        return seconds(lambda: [peer.step(log_p.argmax(-1)) for _ in range(STEPS)]) / STEPS

    return measured


def first_tokens(ours: CausalGenerator, peer: CausalGenerator, length: int) -> Mapping[str, Callable[[], float]]:
    """Seconds to the first token behind ten passages of this length."""
    given, other = mixture(ours, 10, length), Peer(peer, mixture(peer, 10, length))

    def first() -> float:
        assert ours.prefix_cache is not None
        ours.prefix_cache.clear()
        return again()

    def again() -> float:
        return seconds(lambda: most_probable(given.start()))

    return {
        "mixrag, passages read before": again,
        "mixrag, read for the first time": first,
        "transformers": lambda: seconds(other.start),
    }


def shown(name: str, places: Sequence[int], found: Curves) -> None:
    """Print a Markdown table."""
    print(f"| {name} | {' | '.join(map(str, places))} |\n|{' --- |' * (len(places) + 1)}")
    for label, values in found.items():
        print(f"| {label}, ms | {' | '.join(f'{value:.0f}' for value in values)} |")


def drawn(file: str, across: str, up: str, places: Sequence[int], found: Curves) -> None:
    """Write one picture, both axes logarithmic, into docs/measurements/pictures."""
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    axis = figure.add_subplot()
    for (label, values), (colour, line, marker) in zip(found.items(), STYLES, strict=False):
        axis.loglog(places, values, color=colour, linestyle=line, marker=marker, label=label)
    axis.set(xlabel=across, ylabel=up)
    axis.set_xticks(places, [str(place) for place in places])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(PICTURES / file, format="png")


if __name__ == "__main__":
    main()

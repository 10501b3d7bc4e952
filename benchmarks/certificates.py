"""How often the certificates for models behind a server are given, what they cost, and that they are never wrong.

    python benchmarks/certificates.py [--models N]

Random language models given by tables (one to four passages, 24 tokens, answers of up to three tokens; passages
agree more or less, distributions are flat or peaked, switch 0, 0.3 and 1), behind the fake server of the tests,
which lists 5 or 20 next tokens. All 12,720 answers of each model are enumerated. What is compared with them:
every certificate of an answer and of a token, every probability, interval and posterior. A wrong one is printed,
and is an error. Columns: answers certified to be the most probable of all; tokens certified to be the most
probable next one; median width of the interval of p(answer); batches of calls one after the other; prompts sent,
for each passage.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from table_servers import RandomTables, mixed, thorough  # type: ignore[import-not-found]

Way = Callable[[Any, int, float], Any]
SWITCHES = (0.0, 0.0, 0.3, 1.0)
WAYS: dict[str, Way] = {
    "thorough decoding": thorough,
    "token mixing, lists alone": lambda model, count, switch: mixed(model, count, switch, scores=False),
    "token mixing, tokens scored": lambda model, count, switch: mixed(model, count, switch, scores=True),
}


def main() -> None:
    """Ask every model in every way, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=2000)
    models = parser.parse_args().models
    print(f"{models} models for each length of lists")
    print(
        "| listed | way | answers certified | tokens certified | width | calls | prompts | wrong |\n|"
        + " --- |" * 8
    )
    wrong = 0
    for count in (5, 20):
        found: dict[str, list[tuple[Any, int]]] = {name: [] for name in WAYS}
        for model, switch in random_models(count, models):
            for name, way in WAYS.items():
                found[name].append((way(model, count, switch), model.components))
        for name, each in found.items():
            print(row(count, name, each), flush=True)
            for one, _ in each:
                wrong += len(one.wrong)
                for text in one.wrong:
                    print(f"wrong: {text}", file=sys.stderr)
    if wrong:
        sys.exit(f"{wrong} statements are wrong")


def random_models(count: int, models: int) -> Iterator[tuple[Any, float]]:
    """The models, with the switch of each; those for lists of 5 and of 20 differ."""
    for seed in range(models):
        yield RandomTables(2 * seed + (count == 20)), SWITCHES[seed // 4 % 4]


def row(count: int, name: str, found: Sequence[tuple[Any, int]]) -> str:
    """A row of the table."""
    all_of = [each for each, _ in found]
    tokens, certain = sum(each.tokens for each in all_of), sum(each.certain for each in all_of)
    cells = [
        str(count),
        name,
        f"{statistics.fmean(each.certified for each in all_of):.1%}",
        "" if name == "thorough decoding" else f"{certain / tokens:.1%}",
        f"{statistics.median(each.width for each in all_of):.2g}",
        f"{statistics.fmean(each.calls for each in all_of):.2f}",
        f"{statistics.fmean(each.rows / components for each, components in found):.2f}",
        str(sum(len(each.wrong) for each in all_of)),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

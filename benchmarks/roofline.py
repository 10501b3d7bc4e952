"""How far from what the machine can do: bytes and operations of a step over measured bandwidth and matrix rate.

    python benchmarks/roofline.py [--rounds N]

Counted for the packaged model at 150 tokens of passage and 20 of question: a decoding step reads all weights of
the linear layers once and the states of every row; a row multiplies every weight once and adds. The limit
is the longer of both times. Bandwidth: the sum of 1 GiB of numbers; matrix rate: a product of 2,048 by 2,048 by
2,048 numbers, by torch and, in int8, by our own layer. Steps and first tokens are those of ``generation.py``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from generation import QUESTION, loaded, mixture, ours_step
from mixrag.generator import CausalGenerator
from mixrag.generator.kernels.int8_linear import Int8Linear
from mixrag.inference.mixture import Mixture
from mixrag.inference.stepwise import most_probable
from side_by_side import seconds

PASSAGE = 150
SIDE = 2048
FORMATS = (("bfloat16", "torch"), ("int8", "torch"), ("int8", "openvino"))
"""Numbers and engine."""


@dataclass(frozen=True)
class Work:
    """What is read and computed."""

    bytes: float
    operations: float


def main() -> None:
    """Measure the machine, then every scenario; print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    numbers = torch.ones(2**28)
    bandwidth = 2**30 / median(lambda: seconds(numbers.sum), rounds)
    print(f"bandwidth {bandwidth / 1e9:.0f} GB/s")
    print("| numbers | scenario | MB read | GFLOP | limit, ms | ours, ms | share of the limit |\n|" + " --- |" * 7)
    for dtype, engine in FORMATS:
        counted, rate = loaded(dtype), matrix_rate(dtype, rounds)
        timed = counted if engine == "torch" else loaded(dtype, engine)
        name = dtype if engine == "torch" else f"{dtype}, {engine}"
        print(f"{name}: {rate / 1e9:.0f} G operations/s", flush=True)
        for k in (1, 10, 50):
            took = median(ours_step(timed, k), rounds)
            line(name, f"step, K={k}", step(counted, k), bandwidth, rate, took)
        took = median(partial(begun, mixture(timed, 10, PASSAGE)), rounds)
        line(name, "first token, K=10, read before", first_token(counted, 10), bandwidth, rate, took)


def begun(given: Mixture) -> float:
    """Seconds to its first token."""
    return seconds(lambda: most_probable(given.start()))


def median(measure: Callable[[], float], rounds: int) -> float:
    """Of several rounds, after one that does not count."""
    return statistics.median([measure() for _ in range(rounds + 1)][1:])


def matrix_rate(dtype: str, rounds: int) -> float:
    """Operations a second, additions and multiplications, of a large product: torch's own, or ``Int8Linear``'s."""
    weight = torch.randn(SIDE, SIDE)
    numbers = torch.float32 if dtype == "float32" else torch.bfloat16
    layer: nn.Module = (
        Int8Linear(weight, None) if dtype == "int8" else nn.Linear(SIDE, SIDE, bias=False).to(numbers)
    )
    given = torch.randn(SIDE, SIDE).to(numbers)
    with torch.inference_mode():
        return float(2 * SIDE**3 / median(lambda: seconds(lambda: layer(given)), rounds))


def weights(generator: CausalGenerator) -> tuple[int, int]:
    """Numbers in all linear layers, and their bytes."""
    layers = [each for each in generator.model.modules() if isinstance(each, (nn.Linear, Int8Linear))]
    return sum(each.weight.numel() for each in layers), sum(each.weight.nbytes for each in layers)


def states(generator: CausalGenerator) -> tuple[int, int]:
    """Of one token: key-value numbers of all layers, times heads of a group (products with a query); and bytes."""
    config = generator.model.config
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return numbers * config.num_attention_heads // config.num_key_value_heads, 2 * numbers


def step(generator: CausalGenerator, k: int) -> Work:
    """One token of K rows."""
    (count, size), (products, states_bytes) = weights(generator), states(generator)
    length = PASSAGE + QUESTION
    return Work(size + k * length * states_bytes, 2.0 * k * (count + length * products))


def first_token(generator: CausalGenerator, k: int) -> Work:
    """The question of K rows, behind passages read before; the output layer on the last position only."""
    (count, size), (products, states_bytes) = weights(generator), states(generator)
    head = generator.model.get_output_embeddings().weight.numel()
    length = PASSAGE + QUESTION
    read = QUESTION * (count - head) + head + QUESTION * length * products
    return Work(size + k * length * states_bytes, 2.0 * k * read)


def line(dtype: str, scenario: str, work: Work, bandwidth: float, rate: float, took: float) -> None:
    """One row of the table."""
    limit = max(work.bytes / bandwidth, work.operations / rate)
    counted = f"{work.bytes / 1e6:.0f} | {work.operations / 1e9:.1f} | {1000 * limit:.1f}"
    print(f"| {dtype} | {scenario} | {counted} | {1000 * took:.1f} | {limit / took:.0%} |", flush=True)


if __name__ == "__main__":
    main()

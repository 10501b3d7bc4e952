"""The decoding step of OpenVINO with other options of its compiler, beside those that mixrag gives it.

    python benchmarks/openvino_options.py [--dtype int8] [--rows 10 50] [--rounds N] [--only TEXT ...]
        [--processor-time]

The packaged model without its reader, 150 tokens of passage and 20 of question, alternately with the options in
use ("ours" is the changed one): a ratio above 1 means that mixrag's are faster. Also the parts of a step: the
engine alone, and a row that is followed by itself while all stay.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from generation import STEPS, loaded, mixture, ours_step
from mixrag.generator import CausalGenerator
from mixrag.generator.openvino import files
from mixrag.generator.openvino.model import compile_options
from mixrag.generator.openvino.runtime import core, openvino
from mixrag.inference.stepwise import most_probable
from side_by_side import Row, alternately, seconds, show, use_processor_time

WEIGHTS = "weights in bfloat16"
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "keys and values in eight bits": {"KV_CACHE_PRECISION": "u8"},
    "keys and values in float16": {"KV_CACHE_PRECISION": "f16"},
    "products rounded in groups of 64": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 64},
    "products rounded in groups of 128": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
    "products not rounded": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0},
    "threads bound to cores": {"ENABLE_CPU_PINNING": True},
    "one thread": {"INFERENCE_NUM_THREADS": 1},
    "activations in float32": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
    "sparse weights not decompressed": {"CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.5},
    "hint: latency": {"PERFORMANCE_HINT": "LATENCY"},
}


def main() -> None:
    """Compile, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument(
        "--processor-time", action="store_true", help="of one thread, where others use the machine"
    )
    options = parser.parse_args()
    if options.processor_time:
        use_processor_time()
    ours = loaded(options.dtype, "openvino")
    for k in options.rows:
        show([*parts(ours, k, options.rounds)])
    if any(each in WEIGHTS for each in options.only):
        other = loaded("bfloat16", "openvino")
        show([beside(WEIGHTS, other, ours, k, options.rounds) for k in options.rows])
    for name, changes in CHANGES.items():
        if any(each in name for each in options.only):
            try:
                with changed(changes):
                    other = loaded(options.dtype, "openvino")
            except Exception as error:  # an option that this version does not have
                print(f"{name}: {' '.join(str(error).split())[:200]}", flush=True)
                continue
            show([beside(name, other, ours, k, options.rounds) for k in options.rows])


@contextmanager
def changed(changes: Mapping[str, Any]) -> Iterator[None]:
    """Compile with other options meanwhile."""

    def compiled(file: Any, weights: str, activations: str, threads: int, remembered: Any = None) -> Any:
        return core().compile_model(file, "CPU", {**compile_options(weights, activations, threads), **changes})

    module: Any = files
    former, module.compiled = module.compiled, compiled
    try:
        yield
    finally:
        module.compiled = former


def beside(name: str, other: CausalGenerator, ours: CausalGenerator, k: int, rounds: int) -> Row:
    """A row of one change."""
    found = alternately(name, f"K={k}", "", ours_step(other, k), ours_step(ours, k), rounds)
    return replace(found, ratio=1 / found.ratio, spread=(1 / found.spread[1], 1 / found.spread[0]))


def parts(generator: CausalGenerator, k: int, rounds: int) -> Iterator[Row]:
    """The engine alone beside the whole step, and copies of all states out of the engine."""
    yield alternately("the engine alone", f"K={k}", "", engine_step(generator, k), ours_step(generator, k), rounds)
    yield alternately(
        "copy of one row out of it, and its next step",
        f"K={k}",
        "",
        copied(generator, k),
        ours_step(generator, k),
        3,
    )


def engine_step(generator: CausalGenerator, k: int) -> Callable[[], float]:
    """Seconds of a pass, whose logits nobody reads."""
    given = mixture(generator, k, 150)

    def measured() -> float:
        branches: Any = given.start().branches
        states, length = branches.cache, branches.attended.shape[1]
        ids = torch.full((k, 1), 7)

        def run() -> None:
            for step in range(STEPS):
                generator.model(
                    input_ids=ids,
                    attention_mask=torch.ones(k, length + step + 1, dtype=torch.long),
                    position_ids=torch.full((k, 1), length + step),
                    logits_to_keep=torch.tensor([0]),
                    past_key_values=states,
                )

        return seconds(run) / STEPS

    return measured


def copied(generator: CausalGenerator, k: int) -> Callable[[], float]:
    """Seconds to follow one row of K, while all of them stay."""
    given = mixture(generator, k, 150)

    def measured() -> float:
        state = given.start()
        token = torch.tensor([most_probable(state)])
        return seconds(lambda: state.branches.select(torch.tensor([0])).advance(torch.tensor([0]), token))

    return measured


if __name__ == "__main__":
    openvino()
    main()

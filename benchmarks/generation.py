"""Passages read before, and the decoding step, beside transformers' own batched forward pass.

    python benchmarks/generation.py [--rounds N] [--dtype bfloat16] [--engine torch]

The packaged language model, without its reader, in one number format for both; beside int8, which transformers
does not have on processors, the peer computes in bfloat16, its fastest. Peer: all K prompts as one batch
through the model, its own attention (scaled-dot-product) and ``DynamicCache``; both end with the distribution
of the next token under each passage, and ours with the most probable token of their mixture as well. First they
are compared in float32: the same distribution within 1e-3 nats.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mixrag.generator import CausalGenerator, Prompt, load_generator
from mixrag.generator.devices import DTYPES
from mixrag.generator.kernels.onednn_linear import use_torch_linears
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture
from mixrag.inference.stepwise import most_probable
from side_by_side import Row, alternately, keep, seconds, show

QUESTION = 20
"""Tokens of question and frame."""
STEPS = 5
"""Tokens written in one measurement of the decoding step."""


def main() -> None:
    """Check, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--engine", default="torch", help="of ours: torch or openvino")
    options = parser.parse_args()
    check(options.engine)
    ours, peer = (
        loaded(options.dtype, options.engine),
        loaded(options.dtype if options.dtype in DTYPES else "bfloat16"),
    )
    as_it_comes(peer)
    rows = [
        first_token(ours, peer, 10, 150, "6", options.rounds),
        first_token(ours, peer, 10, 512, "15", options.rounds),
        step(ours, peer, 10, "3.5", options.rounds),
        step(ours, peer, 50, "4", options.rounds),
        one_and_ten(ours, options.rounds),
    ]
    numbers = options.dtype if options.engine == "torch" else f"{options.engine} {options.dtype}"
    rows = [replace(row, scenario=f"{row.scenario}, {numbers}") for row in rows]
    show(rows)
    keep(rows)


def loaded(dtype: str, engine: str = "torch") -> CausalGenerator:
    """The packaged model, with room for all passages of the largest scenario."""
    found = load_generator(adapter="none", dtype=dtype, device="cpu", prefix_cache=4096, engine=engine)
    assert isinstance(found, CausalGenerator)
    return found


def mixture(generator: CausalGenerator, k: int, passage: int) -> Mixture:
    """K prompts of so many tokens of passage and ``QUESTION`` of question; the tokens are drawn."""
    source = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(100, 40_000, (count,), generator=source).tolist())

    question = drawn(QUESTION)
    components = tuple(Component((), Prompt((), drawn(passage), question)) for _ in range(k))
    log_prior = torch.arange(0, -k, -1).double().mul(0.1).log_softmax(0)
    return Mixture(generator, "", components, log_prior, 0.0, None)


def as_it_comes(generator: CausalGenerator) -> CausalGenerator:
    """The model as transformers makes it: its own attention, torch's linear layers."""
    use_torch_linears(generator.model)
    generator.model.set_attn_implementation("sdpa")
    return generator


def check(engine: str) -> None:
    """Both compute the same, in float32."""
    generator, peer = loaded("float32", engine), as_it_comes(loaded("float32"))
    given = mixture(generator, 4, 50)
    expected = Peer(peer, given)
    for _ in range(2):  # the second time from the cache
        state = given.start()
        agree(state.branches.log_probs, expected.start())
        token = state.log_mixed()[0].argmax()
        agree(state.advance(torch.tensor([0]), token[None]).branches.log_probs, expected.step(token.expand(4)))


def agree(ours: Tensor, peer: Tensor) -> None:
    """Stop where they do not."""
    difference = float((ours - peer).abs().max())
    if not difference <= 1e-3:
        raise SystemExit(f"expected equal distributions of the next token; they differ by {difference:.1g} nats")


class Peer:
    """transformers alone: the batch of whole prompts, and its loop."""

    def __init__(self, generator: CausalGenerator, given: Mixture) -> None:
        self.model: Any = generator.model
        self.ids = torch.tensor([component.prompt.tokens for component in given.components])
        self.cache = DynamicCache(config=self.model.config)

    @torch.inference_mode()
    def start(self) -> Tensor:
        """(K, V) after reading all prompts."""
        self.cache = DynamicCache(config=self.model.config)
        return self._law(self.ids)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """(K, V) after one more token of each row."""
        return self._law(tokens[:, None])

    def _law(self, ids: Tensor) -> Tensor:
        output = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        log_p: Tensor = output.logits[:, -1].float().log_softmax(-1)
        return log_p


def first_token(ours: CausalGenerator, peer: CausalGenerator, k: int, passage: int, goal: str, rounds: int) -> Row:
    """From prompts to the distribution of the first token; ours has read the passages before."""
    given, other = mixture(ours, k, passage), Peer(peer, mixture(peer, k, passage))
    return alternately(
        "1 first token, passages seen before",
        f"K={k}, {passage} tokens of passage, {QUESTION} of question",
        f">= {goal}",
        lambda: seconds(lambda: most_probable(given.start())),
        lambda: seconds(other.start),
        rounds,
    )


def step(ours: CausalGenerator, peer: CausalGenerator, k: int, goal: str, rounds: int) -> Row:
    """One token of every branch, mixed, behind 150 + 20 tokens."""
    other = Peer(peer, mixture(peer, k, 150))

    def theirs() -> float:
        log_p = other.start()
        return seconds(lambda: [other.step(log_p.argmax(-1)) for _ in range(STEPS)]) / STEPS

    return alternately(
        "2 decoding step",
        f"K={k}, 150 tokens of passage, {QUESTION} of question",
        f">= {goal}",
        ours_step(ours, k),
        theirs,
        rounds,
    )


def one_and_ten(ours: CausalGenerator, rounds: int) -> Row:
    """The step of ten branches beside that of one: the ratio is the inverse of its cost."""
    return alternately(
        "2 decoding step",
        "K=10 (ours) beside K=1 (peer: ours as well)",
        ">= 0.5",
        ours_step(ours, 10),
        ours_step(ours, 1),
        rounds,
    )


def ours_step(generator: CausalGenerator, k: int) -> Callable[[], float]:
    """Seconds of a step of the mixture: advance, mix, choose."""
    given = mixture(generator, k, 150)

    def measured() -> float:
        state = given.start()

        def write() -> None:
            nonlocal state
            for _ in range(STEPS):
                state = state.advance(torch.tensor([0]), torch.tensor([most_probable(state)]))

        return seconds(write) / STEPS

    return measured


if __name__ == "__main__":
    main()

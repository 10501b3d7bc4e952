"""One-pass beam search against the paper's thorough decoding, at equal rows of the language model.

    python benchmarks/one_pass_beam.py [--mixtures 300] [--spread 1.5]

Random mixtures small enough that the most probable answer is known by enumeration: K=5 passages, V=8 words,
answers of T=5 words. Thorough decoding has width 4 for each passage; the one-pass beam gets the largest width
whose rows do not exceed what thorough decoding took on the same mixture.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from mixrag.generator import Prompt, TableGenerator
from mixrag.generator.table import TableBranches
from mixrag.inference.beam_search import SearchResult, beam, thorough
from mixrag.inference.components import Component
from mixrag.inference.mixture import Mixture

K, V, T = 5, 8, 5
SPREAD = 1.5
"""Standard deviation of the random logits: small ones give nearly flat distributions."""
WIDTH = 4
"""Of thorough decoding, for each passage."""
STARTS, STEPS, SCORED = "rows started", "rows advanced", "tokens scored"


@dataclass(frozen=True)
class CountedGenerator(TableGenerator):
    """Without a stop token: every answer has T words. Counts the rows that a language model would compute."""

    rows: Counter[str] = field(default_factory=Counter)

    @property
    def stop_tokens(self) -> frozenset[int]:
        return frozenset()

    def start(self, prompts: Sequence[Prompt]) -> CountedBranches:
        self.rows[STARTS] += len(prompts)
        return CountedBranches(self, tuple(prompts), ((),) * len(prompts))

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        self.rows[SCORED] += len(prompts) * len(answer)
        return super().log_likelihood(prompts, answer)


@dataclass(frozen=True)
class CountedBranches(TableBranches):
    def advance(self, rows: Tensor, tokens: Tensor) -> CountedBranches:
        assert isinstance(self.generator, CountedGenerator)
        self.generator.rows[STEPS] += len(rows)
        after = super().advance(rows, tokens)
        return CountedBranches(after.generator, after.prompts, after.answers)


@dataclass(frozen=True)
class Random:
    """A random mixture: for every prefix of t words a distribution for each passage, log p (K, 8^t, V)."""

    log_prior: Tensor
    log_ps: tuple[Tensor, ...]

    @classmethod
    def drawn(cls, seed: int, spread: float = SPREAD) -> Random:
        source = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=source, dtype=torch.float64)

        log_ps = tuple((spread * normal(K, V**t, V)).log_softmax(-1) for t in range(T))
        return cls(normal(K).log_softmax(-1), log_ps)

    def mixture(self) -> Mixture:
        probabilities = [list(log_p.exp().unbind(0)) for log_p in self.log_ps]

        def next_token(passage: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
            index = 0
            for word in answer:
                index = index * V + word
            return probabilities[len(answer)][passage[0]][index]

        generator = CountedGenerator(tuple("abcdefgh"), next_token)
        components = tuple(Component((), Prompt((), (j,), ())) for j in range(K))
        return Mixture(generator, "", components, self.log_prior, 0.0, None)

    def log_probs(self) -> Tensor:
        """(8^T,) log p(y | x) of every answer, in the order of its words."""
        log_joint = self.log_prior[:, None]
        for log_p in self.log_ps:
            log_joint = (log_joint[:, :, None] + log_p).flatten(1)
        return log_joint.logsumexp(0)


def rows_of_beam(width: int) -> int:
    """Row-steps of a beam search: all prompts once, then the live answers at each further token."""
    sizes: list[int] = [V**t for t in range(1, T)]
    return K + K * sum(min(width, size) for size in sizes)


@dataclass(frozen=True)
class Outcome:
    """What both methods found on one mixture."""

    optimum: tuple[int, ...]
    log_optimum: float
    one_pass: SearchResult
    thorough: SearchResult
    rows_one_pass: int
    rows_thorough: int

    @property
    def found(self) -> tuple[bool, bool]:
        return self.one_pass.answers[0].tokens == self.optimum, self.thorough.answers[0].tokens == self.optimum


def outcome(seed: int, spread: float = SPREAD) -> Outcome:
    """Both methods on one mixture, the beam as wide as thorough decoding's rows allow."""
    drawn = Random.drawn(seed, spread)
    log_probs = drawn.log_probs()
    best = int(log_probs.argmax())
    optimum = tuple(best // V**t % V for t in reversed(range(T)))
    by_thorough, thoroughly = run(drawn, lambda mixture: thorough(mixture, WIDTH, T))
    width = max(w for w in range(1, V ** (T - 1)) if rows_of_beam(w) <= thoroughly)
    by_beam, passed = run(drawn, lambda mixture: beam(mixture, width, T))
    assert passed == rows_of_beam(width)
    return Outcome(optimum, float(log_probs[best]), by_beam, by_thorough, passed, thoroughly)


def run(drawn: Random, method: Callable[[Mixture], SearchResult]) -> tuple[SearchResult, int]:
    """What a method found, and the row-steps that it took."""
    mixture = drawn.mixture()
    assert isinstance(mixture.generator, CountedGenerator)
    found = method(mixture)
    return found, mixture.generator.rows.total()


def main() -> None:
    """Print the table of docs/background/comparison.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=int, default=300)
    parser.add_argument("--spread", type=float, default=SPREAD, help="standard deviation of the logits")
    options = parser.parse_args()
    seeds, spread = range(options.mixtures), options.spread
    outcomes = [outcome(seed, spread) for seed in seeds]
    print("method                      optimum found   mean log p(y|x)   mean row-steps   certified")
    report("the optimum itself", outcomes, [(o.log_optimum, True, 0, True) for o in outcomes])
    report("one pass, equal rows", outcomes, [row(o, o.one_pass, o.rows_one_pass) for o in outcomes])
    report(f"thorough, {WIDTH} per passage", outcomes, [row(o, o.thorough, o.rows_thorough) for o in outcomes])
    for width in (WIDTH, WIDTH * K):
        rows = [of_width(o, Random.drawn(seed, spread), width) for o, seed in zip(outcomes, seeds, strict=True)]
        report(f"one pass, width {width}", outcomes, rows)


Row = tuple[float, bool, int, bool]


def row(each: Outcome, search: SearchResult, rows: int) -> Row:
    """log p, whether it is the optimum, row-steps, certified."""
    best = search.answers[0]
    return best.log_prob, best.tokens == each.optimum, rows, search.certified


def of_width(each: Outcome, drawn: Random, width: int) -> Row:
    """What a one-pass beam of this width finds."""
    return row(each, *run(drawn, lambda mixture: beam(mixture, width, T)))


def report(name: str, outcomes: list[Outcome], rows: list[Row]) -> None:
    """One line of the table."""
    log_probs, found, steps, certified = zip(*rows, strict=True)
    print(f"{name:<27} {sum(found):>13} {fmean(log_probs):>17.4f} {fmean(steps):>16.1f} {sum(certified):>11}")


if __name__ == "__main__":
    main()

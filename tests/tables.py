"""Mixtures over a TableGenerator, whose exact values can be enumerated."""

from __future__ import annotations

import torch
from torch import Tensor

from enumeration import Toy
from mixrag.corpus import Passage
from mixrag.generator import TableGenerator
from mixrag.inference.mixture import Mixture, condition


def passage(name: str, text: str | None = None) -> Passage:
    text = name if text is None else text
    return Passage(id=name, text=text, document=f"/{name}.txt", title=name, start=0, end=len(text))


def table_generator(toy: Toy, mark: str = "") -> TableGenerator:
    """The toy as a language model: passage number j is the text "pj"; the last token ends an answer.

    Token 0 has a ``mark`` at its end.
    """
    words = (f"w0{mark}", *(f"w{i}" for i in range(1, toy.vocabulary - 1)), "<end>")
    cache: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def law(tokens: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        if (tokens, answer) not in cache:
            # Texts "p0", "p1 p1", ... are known by their length; no passage at all is component -1.
            cache[tokens, answer] = torch.tensor(toy.next_token(len(tokens) - 1, answer), dtype=torch.float64)
        return cache[tokens, answer]

    return TableGenerator(words, law)


def toy_passages(toy: Toy) -> list[Passage]:
    return [passage(f"p{j}", " ".join(["p"] * (j + 1))) for j in range(len(toy.prior))]


def toy_mixture(toy: Toy, switch: float, mark: str = "", **options: object) -> Mixture:
    generator = table_generator(toy, mark)
    return condition(generator, "question", toy_passages(toy), toy.log_prior, switch=switch, **options)


def sentence_mixture(toy: Toy, switch: float, **options: object) -> Mixture:
    """A mixture whose passage may change after token 0, which ends a sentence."""
    return toy_mixture(toy, switch, ".", switch_at="sentence", **options)


def by_sentence(switch: float, answer: tuple[int, ...]) -> list[float]:
    """ρ_t of an answer of ``sentence_mixture``."""
    return [switch if token == 0 else 0.0 for token in answer]

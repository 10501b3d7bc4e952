"""Answers taken apart whose every probability is known: a language model given by a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mixrag.answers.answer import build_answer
from mixrag.answers.explanation import Explanation, explain
from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.generator import TableGenerator
from mixrag.inference.mixture import condition
from mixrag.retrieval.retriever import Retrieval

WORDS = ("nine", "crowns", "every", "winter", "<end>")
ANSWER = "nine crowns every winter"
QUESTION = "What does the licence cost, and when?"
FIRST = "The licence costs nine crowns and is sold at the harbour."
SECOND = "It has to be paid every winter, before the ice is thick enough to walk on."
WRITES_FIRST = (0.9, 0.9, 0.1, 0.1, 0.5)
"""Probability of each token of the answer, its end included."""
WRITES_SECOND = (0.1, 0.1, 0.9, 0.9, 0.5)
EITHER = (0.5, 0.5, 0.5, 0.5, 0.5)


def explained(
    texts: Sequence[str] = (FIRST, SECOND),
    likelihoods: Sequence[Sequence[float]] = (WRITES_FIRST, WRITES_SECOND),
    prior: Sequence[float] = (0.6, 0.4),
    *,
    answer: str = ANSWER,
    question: str = QUESTION,
    switch: float = 1.0,
    null: float | None = None,
    group: int | None = 1,
    outside: float | None = 0.0,
    certified: bool | None = None,
    normaliser: str = "top-k",
    rounding: float = 0.0,
    words: Sequence[str] = WORDS,
    switch_at: str = "token",
) -> Explanation:
    """The answer, had passage j the probability ``likelihoods[j][t]`` for token t and prior ``prior[j]``.

    ``texts`` are known by their number of words; any other prompt (no passage, a group) has ``EITHER``.
    """
    passages = tuple(passage(number, text) for number, text in enumerate(texts, 1))
    by_length = {len(text.split()): probabilities for text, probabilities in zip(texts, likelihoods, strict=True)}
    assert len(by_length) == len(texts)
    log_prior = torch.tensor(prior, dtype=torch.float64).log()
    log_null = None if null is None else math.log(null)
    products = torch.arange(len(texts), 0, -1).double() / 10
    options = {"group": group, "switch": switch, "outside": outside, "log_null": log_null, "reserve": 8}
    options["switch_at"] = switch_at
    model = generator(by_length, words)
    object.__setattr__(model, "rounding", rounding)
    mixture = condition(model, question, passages, log_prior, **options)
    retrieval = Retrieval(passages, log_prior, products, log_null=log_null, outside=outside, temperature=0.5)
    settings = Settings(switch=switch, max_tokens=8, normaliser=normaliser)
    return explain(build_answer(mixture.score(answer), retrieval, settings, certified=certified))


def passage(number: int, text: str) -> Passage:
    return Passage(f"id:{number}", text, f"/files/{number}.txt", f"{number}.txt", 100, 100 + len(text))


def generator(by_length: Mapping[int, Sequence[float]], words: Sequence[str] = WORDS) -> TableGenerator:
    def next_token(tokens: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
        t = min(len(answer), len(WORDS) - 1)
        p = by_length.get(len(tokens), EITHER)[t]
        others = torch.full((len(WORDS),), (1 - p) / (len(WORDS) - 1), dtype=torch.float64)
        others[t] = p  # the answer is the words in their order
        return others

    return TableGenerator(tuple(words), next_token)

"""Random language models given by tables, behind a fake server that cuts its lists, and what certificates say.

Everything that a certificate states is compared with the complete enumeration of the mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fake_server import FakeServer
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.generator.remote.client import Client
from mixrag.generator.remote.completions import Completions
from mixrag.generator.remote.generator import ListingGenerator, RemoteGenerator
from mixrag.generator.table import TableGenerator
from mixrag.inference.candidates import best_candidate
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.token_mixing import BoundedAnswer, TokenMixing, bounded_answer
from mixrag.probability import log_marginal
from tables import passage

URL = "http://server.test/v1"
CLOSE = 1e-9
"""Of probabilities: rounding of float64 on the way."""


class RandomTables:
    """K next-token distributions that depend on the whole prefix; the last of V tokens ends an answer."""

    def __init__(self, seed: int, vocabulary: int = 24, length: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.components = 1 + seed // 2 % 4
        self.vocabulary, self.length = vocabulary, length
        self.stop = self.vocabulary - 1
        scale = 0.5 + 7.5 * torch.rand((), generator=generator)
        shared = torch.rand((), generator=generator)  # how far the components agree
        self.tables = []  # for each t: (K, V^t, V)
        for t in range(self.length):
            size = (self.components, self.vocabulary**t, self.vocabulary)
            common = torch.randn(size[1:], generator=generator, dtype=torch.float64)
            own = torch.randn(size, generator=generator, dtype=torch.float64)
            self.tables.append((scale * (shared * common + (1 - shared) * own)).log_softmax(-1))
        weights = torch.rand(self.components, generator=generator, dtype=torch.float64) + 1e-3
        self.log_prior = (weights / weights.sum()).log()

    def next_token(self, j: int, prefix: tuple[int, ...]) -> Tensor:
        if len(prefix) >= self.length:  # what a server writes after the last token that is scored
            return torch.zeros(self.vocabulary, dtype=torch.float64).log_softmax(0)
        return self.tables[len(prefix)][j, self.place(prefix)]

    def place(self, prefix: tuple[int, ...]) -> int:
        place = 0
        for token in prefix:
            place = place * self.vocabulary + token
        return place

    def likelihood(self, answer: tuple[int, ...]) -> Tensor:
        rows = [
            [float(self.next_token(j, answer[:t])[answer[t]]) for t in range(len(answer))]
            for j in range(self.components)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def greedy(self, j: int) -> tuple[int, ...]:
        answer: tuple[int, ...] = ()
        while len(answer) < self.length and (not answer or answer[-1] != self.stop):
            answer = (*answer, int(self.next_token(j, answer).argmax()))
        return answer

    def answers(self, switch: float) -> list[Tensor]:
        """p of every answer of t + 1 tokens, (V^t, V): the recursion of the mixture over all prefixes at once."""
        return [level * ends for level, ends in zip(self.prefixes(switch), self._ends(), strict=True)]

    def prefixes(self, switch: float) -> list[Tensor]:
        """p of every beginning of t + 1 tokens, (V^t, V); zero after an answer's end."""
        found = []
        prior = self.log_prior.exp()
        alive = torch.ones(1, dtype=torch.float64)
        alpha = prior[:, None]  # (K, V^t)
        going = torch.arange(self.vocabulary) != self.stop
        for t in range(self.length):
            weights = alpha if t == 0 else (1 - switch) * alpha + switch * prior[:, None] * alpha.sum(0)
            joint = weights[:, :, None] * self.tables[t].exp()
            found.append(joint.sum(0) * alive[:, None])
            alive, alpha = (alive[:, None] * going).flatten(), joint.flatten(1)
        return found

    def _ends(self) -> list[Tensor]:
        ends = torch.arange(self.vocabulary) == self.stop
        return [ends] * (self.length - 1) + [torch.ones_like(ends)]

    def behind(self, count: int) -> FakeServer:
        """A server that lists ``count`` tokens; passage number j is a text of j + 1 words."""

        def next_token(row: tuple[int, ...]) -> Tensor:
            words = sum(token < 0 for token in row)  # of the passage, and one of the question
            return self.next_token(words - 2, row[words:])

        return FakeServer(next_token, frozenset({self.stop}), largest=count)


@dataclass(frozen=True)
class Found:
    """What one way of asking a server found of one model."""

    certified: bool
    """The answer is said to be the most probable one."""
    tokens: int
    """Of the answer."""
    certain: int
    """Of these, how many are said to be the most probable next one."""
    width: float
    """Of the interval of p(answer)."""
    calls: int
    """Batches of requests, one after the other."""
    rows: int
    """Prompts sent, over all calls."""
    wrong: Sequence[str] = ()
    """What is not so."""


def thorough(model: RandomTables, count: int, switch: float) -> Found:
    """Protocol 1: candidates of each passage, all scored."""
    server = model.behind(count)
    result = best_candidate(_mixture(model, server, count, switch, scores=True), model.length)
    best = result.answers[0]
    every, own = _largest(model, switch), math.exp(best.log_prob)
    wrong = [
        f"log p of {each.tokens}" for each in result.answers if not _is(model, switch, each.tokens, each.log_prob)
    ]
    if result.certified and every > own * (1 + CLOSE):
        wrong.append(f"{best.tokens} certified with {own:.6g}, another answer has {every:.6g}")
    return Found(bool(result.certified), len(best.tokens), 0, 0.0, *_asked(server), wrong)


def mixed(model: RandomTables, count: int, switch: float, *, scores: bool) -> Found:
    """Protocol 2: token by token; a server that ``scores`` is asked for what the lists lack."""
    server = model.behind(count)
    mixture = _mixture(model, server, count, switch, scores=scores)
    found = bounded_answer(mixture, model.length)
    lower, upper = found.log_interval
    every, exact = (
        _largest(model, switch),
        float(log_marginal(model.log_prior, model.likelihood(found.tokens), switch)),
    )
    wrong = [f"token {t}" for t in range(len(found.tokens)) if not _step_holds(model, switch, found, t)]
    if not lower - CLOSE <= exact <= upper + CLOSE:
        wrong.append(f"log p {exact} outside of {lower} to {upper}")
    if found.certified and every > math.exp(exact) * (1 + CLOSE):
        wrong.append(f"{found.tokens} certified with {math.exp(exact):.6g}, another answer has {every:.6g}")
    if (ends := found.posterior_interval) is not None:
        joint = (model.log_prior + model.likelihood(found.tokens).sum(-1)).softmax(0)
        if (joint < ends[0] - CLOSE).any() or (joint > ends[1] + CLOSE).any():
            wrong.append(f"posterior {joint.tolist()} outside of {[each.tolist() for each in ends]}")
    certain = sum(step.certified for step in found.steps)
    width = math.exp(upper) - math.exp(lower)
    return Found(found.certified, len(found.tokens), certain, width, *_asked(server), wrong)


def exactly_mixed(model: RandomTables, count: int, switch: float) -> Found:
    """The decoder that makes every number exact by asking."""
    server = model.behind(count)
    *_, result = TokenMixing().decode(_mixture(model, server, count, switch, scores=True), model.length)
    answer = result.answers[0]  # type: ignore[union-attr]
    wrong = [] if _is(model, switch, answer.tokens, answer.log_prob) else [f"log p of {answer.tokens}"]
    if result.certified and _largest(model, switch) > math.exp(answer.log_prob) * (1 + CLOSE):  # type: ignore[union-attr]
        wrong.append(f"{answer.tokens} certified")
    return Found(bool(result.certified), len(answer.tokens), 0, 0.0, *_asked(server), wrong)  # type: ignore[union-attr]


def by_sentence(model: RandomTables, count: int, switch: float) -> tuple[list[int], list[int], set[int]]:
    """What token mixing writes where tokens of even number end a sentence, those of a loop, and the ends."""
    words = tuple(f"Word{v}." if v % 2 == 0 else f"word{v}" for v in range(model.stop))
    mixture = _mixture(model, model.behind(count), count, switch, scores=True, words=words)
    mixture = replace(mixture, switch_at="sentence")
    *_, result = TokenMixing().decode(mixture, model.length)
    ends = {v for v in range(model.stop) if mixture.switch_after((v,)) > 0.0}
    prior, answer = model.log_prior.exp(), tuple[int, ...]()
    weights = prior
    while len(answer) < model.length and model.stop not in answer:
        rows = torch.stack([model.next_token(j, answer).exp() for j in range(model.components)])
        token = int((weights @ rows).argmax())
        weights, answer = weights * rows[:, token], (*answer, token)
        rho = switch if token in ends else 0.0
        weights = (1 - rho) * weights + rho * prior * weights.sum()
    return list(result.answers[0].tokens), list(answer), ends  # type: ignore[union-attr]


def _mixture(
    model: RandomTables,
    server: FakeServer,
    count: int,
    switch: float,
    *,
    scores: bool,
    words: tuple[str, ...] | None = None,
) -> Mixture:
    words = (*(words or (f"w{v}" for v in range(model.stop))), "<end>")
    texts = TableGenerator(words, lambda *_: torch.tensor([]))
    client = Client(URL, transport=server.transport())
    engine = Completions(client, URL, "http://server.test", "model")
    capabilities = Capabilities("vllm", "model", given_text=scores, top=count, listed=True, token_ids=True)
    generator = (
        RemoteGenerator(engine, texts, capabilities, "fake")
        if scores
        else ListingGenerator(engine, texts, capabilities, "fake", None)  # type: ignore[arg-type]
    )
    passages = [passage(f"p{j}", " ".join(["p"] * (j + 1))) for j in range(model.components)]
    return condition(generator, "question", passages, model.log_prior, switch=switch)


def _largest(model: RandomTables, switch: float) -> float:
    return max(float(level.max()) for level in model.answers(switch))


def _is(model: RandomTables, switch: float, answer: tuple[int, ...], log_prob: float) -> bool:
    exact = float(log_marginal(model.log_prior, model.likelihood(answer), switch))
    return math.isclose(exact, log_prob, rel_tol=CLOSE, abs_tol=CLOSE)


def _step_holds(model: RandomTables, switch: float, found: BoundedAnswer, t: int) -> bool:
    """A certified token has no better one after the same beginning."""
    step = found.steps[t]
    after = model.prefixes(switch)[t][model.place(found.tokens[:t])]
    return not step.certified or float(after[step.token]) * (1 + CLOSE) >= float(after.max())


def _asked(server: FakeServer) -> tuple[int, int]:
    return len(server.requests), sum(len(document["prompt"]) for _, document, _ in server.requests)

"""Decoding token by token: greedy and sampled answers, exact and in one pass.

The next token's distribution is a mixture for every switch, so that K branches and their filtered weights are all
that is carried from one token to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from mixrag.generator.protocol import writes_answers
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer, start_together
from mixrag.inference.protocol import DecodedToken
from mixrag.inference.pruning import Pruning, copies_slowly
from mixrag.probability import log_sampling, log_sum

NOTHING: Mapping[str, float] = MappingProxyType({})


def greedy(mixture: Mixture, max_tokens: int, pruning: Pruning | None = None) -> Iterator[DecodedToken]:
    """The most probable next token of the mixture, until an answer ends."""
    return stepwise(mixture, max_tokens, most_probable, pruning)


def most_probable(state: DecodingState) -> int:
    """The token that leads log p(next token) of the one answer of a state."""
    weights = state.log_weights
    nothing = torch.tensor([], dtype=torch.long, device=weights.device)
    _, _, tokens = state.leading(weights.new_zeros(1), 1, nothing)
    return int(tokens[0]) if len(tokens) else int(state.log_mixed()[0].argmax())


def sample(
    mixture: Mixture,
    max_tokens: int,
    seed: int,
    pruning: Pruning | None = None,
    sampling: Mapping[str, float] = NOTHING,
) -> Iterator[DecodedToken]:
    """An answer drawn from p(y | x), token by token; equal seeds give equal answers.

    With ``sampling`` settings it is drawn from what ``log_sampling`` makes of each of the mixture's distributions
    of the next token.
    """
    draw = Draw(seed, sampling)
    for step in stepwise(mixture, max_tokens, draw, pruning):
        yield replace(step, log_drawn=draw.log_drawn)


class Draw:
    """Draws the tokens of one answer; equal seeds draw equal ones.

    Attributes:
        log_drawn: log-probability with which the last one was drawn.
    """

    def __init__(self, seed: int, sampling: Mapping[str, float] = NOTHING) -> None:
        self.sampling, self.log_drawn = sampling, 0.0
        self._source = torch.Generator().manual_seed(seed)

    def __call__(self, state: DecodingState) -> int:
        """The next token of the one answer of a state."""
        log_q = _log_sampling(state.log_mixed()[0].cpu(), self.sampling)
        token = int(torch.multinomial(log_q.exp(), 1, generator=self._source))
        self.log_drawn = float(log_q[token])
        return token


def _log_sampling(log_probs: Tensor, sampling: Mapping[str, float]) -> Tensor:
    temperature, top_p = sampling.get("temperature", 1.0), sampling.get("top_p", 1.0)
    return log_sampling(log_probs, temperature, int(sampling.get("top_k", 0)), top_p)


def stepwise(
    mixture: Mixture, max_tokens: int, choose: Callable[[DecodingState], int], pruning: Pruning | None = None
) -> Iterator[DecodedToken]:
    """The tokens of one answer, each as ``choose`` finds it in the state before it, until the answer ends.

    Args:
        mixture: what is decoded.
        max_tokens: longest answer.
        choose: from the state of the one answer (W = 1) to the id of its next token.
        pruning: the budget for components to be dropped on the way; None: none is.
    """
    state, pruning = mixture.start(), pruning or Pruning()
    pruning.reads_again = copies_slowly(mixture.generator)
    for position in range(max_tokens):
        step = next_step(state, choose, pruning)
        yield step
        if step.token in mixture.generator.stop_tokens:
            return
        if position + 1 < max_tokens:
            followed = pruning.drop(state, step.token, position, max_tokens - position - 1)
            if followed is not None:
                state = state.only(followed, state.branches.select(followed))
            state = state.advance(torch.tensor([0]), torch.tensor([step.token]))


def next_step(state: DecodingState, choose: Callable[[DecodingState], int], pruning: Pruning) -> DecodedToken:
    """The next token of the one answer of a state, as ``choose`` finds it there."""
    token = choose(state)
    only, chosen = (torch.tensor([each], device=state.log_weights.device) for each in (0, token))
    under_each = state.likelihood(only, chosen)[0]
    likelihood = pruning.spread(under_each, math.nan).cpu()
    posterior = pruning.spread(state.filtered(only, chosen)[0].exp(), 0.0).cpu()
    return DecodedToken(token, float(log_sum(state.log_weights[0] + under_each, 0)), likelihood, posterior)


def scored(mixture: Mixture, steps: Iterable[DecodedToken], pruning: Pruning | None = None) -> ScoredAnswer:
    """The answer that decoding steps make up; computed again is only what dropped components have not read."""
    steps = list(steps)
    tokens = tuple(step.token for step in steps)
    table = torch.stack([step.log_likelihood for step in steps], -1).double()
    return ScoredAnswer(mixture, tokens, table if pruning is None else pruning.restored(table, tokens, mixture))


def each_alone(mixture: Mixture, max_tokens: int) -> list[ScoredAnswer]:
    """What every component by itself would answer, greedily; all in one batch."""
    if writes_answers(mixture.generator):
        alone = [mixture.alone(j) for j in range(len(mixture.components))]
        texts = mixture.generator.write([each.components[0].prompt for each in alone], max_tokens)
        return [each.score_tokens(text.tokens) for each, text in zip(alone, texts, strict=True)]
    branches = start_together([mixture])
    rows = torch.arange(len(mixture.components), device=branches.log_probs.device)
    tokens, columns = [], []
    stops = torch.tensor(sorted(mixture.generator.stop_tokens), dtype=torch.long, device=rows.device)
    running = torch.ones_like(rows, dtype=torch.bool)
    for position in range(max_tokens):
        best = branches.log_probs.max(-1)
        tokens.append(best.indices.tolist())
        columns.append(best.values.cpu())
        running = running & ~torch.isin(best.indices, stops)
        if not running.any() or position + 1 == max_tokens:
            break
        branches = branches.advance(rows, best.indices)
    table = torch.stack(columns, -1).double()  # (K, T)
    answers = []
    for j, written in enumerate(zip(*tokens, strict=True)):
        end = next(
            (t + 1 for t, token in enumerate(written) if token in mixture.generator.stop_tokens), len(written)
        )
        answers.append(ScoredAnswer(mixture.alone(j), written[:end], table[j : j + 1, :end]))
    return answers

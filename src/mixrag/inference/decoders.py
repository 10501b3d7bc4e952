"""Decoding over any mixture: greedy, sampling and beam search, exact and in one pass.

The next token's distribution is a mixture for every switch, so K branches and their filtered weights are all
that a search needs to carry. The paper's thorough and fast decoding stand beside it for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.errors import SettingError
from mixrag.inference.mixture import DecodingState, Mixture, ScoredAnswer
from mixrag.inference.pruning import Pruning
from mixrag.probability import log_sum


@dataclass(frozen=True, slots=True)
class DecodedToken:
    """One token of an answer, as it is decided."""

    token: int
    log_prob: float
    """log p(token | x, answer so far)."""
    log_likelihood: Tensor
    """(K,) the same under each component; NaN for those that were dropped (``Pruning``)."""
    posterior: Tensor
    """(K,) p(z = j | x, answer so far with this token): the live posterior; 0 for those that were dropped."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search over whole answers found."""

    answers: tuple[ScoredAnswer, ...]
    """Most probable first; never empty."""
    certified: bool
    """True where no answer is more probable than the first, among all cut off at the same number of tokens."""
    log_pruned: float
    """log p of the most probable prefix that was cut from a beam; +inf where a method has no such bound."""


def greedy(mixture: Mixture, max_tokens: int, pruning: Pruning | None = None) -> Iterator[DecodedToken]:
    """The most probable next token of the mixture, until an answer ends."""
    return _walk(mixture, max_tokens, most_probable, pruning or Pruning())


def most_probable(state: DecodingState) -> int:
    """The token that leads log p(next token) of the one answer of a front."""
    weights = state.log_weights
    nothing = torch.tensor([], dtype=torch.long, device=weights.device)
    _, _, tokens = state.leading(weights.new_zeros(1), 1, nothing)
    return int(tokens[0]) if len(tokens) else int(state.log_mixed()[0].argmax())


def sample(mixture: Mixture, max_tokens: int, seed: int, pruning: Pruning | None = None) -> Iterator[DecodedToken]:
    """Answers drawn from p(y | x) itself, one token at a time; equal seeds give equal answers."""
    source = torch.Generator().manual_seed(seed)

    def draw(state: DecodingState) -> int:
        probabilities = state.log_mixed()[0].exp().cpu()
        return int(torch.multinomial(probabilities / probabilities.sum(), 1, generator=source))

    return _walk(mixture, max_tokens, draw, pruning or Pruning())


def _walk(
    mixture: Mixture, max_tokens: int, choose: Callable[[DecodingState], int], pruning: Pruning
) -> Iterator[DecodedToken]:
    state = DecodingState.start(mixture)
    for position in range(max_tokens):
        step = next_step(state, choose, pruning)
        yield step
        if step.token in mixture.generator.stop_tokens:
            return
        if position + 1 < max_tokens:
            kept = pruning.drop(state, step.token, position, max_tokens - position - 1)
            if kept is not None:
                state = state.only(kept, state.branches.select(kept))
            state = state.advance(torch.tensor([0]), torch.tensor([step.token]))


def next_step(state: DecodingState, choose: Callable[[DecodingState], int], pruning: Pruning) -> DecodedToken:
    """The next token of the one answer of a front, as ``choose`` finds it there."""
    token, size = choose(state), len(state.mixture.components)
    only, chosen = (torch.tensor([each], device=state.log_weights.device) for each in (0, token))
    under_each = state.likelihood(only, chosen)[0]
    likelihood = pruning.spread(under_each, size, math.nan).cpu()
    posterior = pruning.spread(state.filtered(only, chosen)[0].exp(), size, 0.0).cpu()
    return DecodedToken(token, float(log_sum(state.log_weights[0] + under_each, 0)), likelihood, posterior)


def scored(mixture: Mixture, steps: Iterable[DecodedToken], pruning: Pruning | None = None) -> ScoredAnswer:
    """The answer that decoding steps make up; computed again is only what dropped components have not read."""
    steps = list(steps)
    tokens = tuple(step.token for step in steps)
    table = torch.stack([step.log_likelihood for step in steps], -1).double()
    return ScoredAnswer(mixture, tokens, table if pruning is None else pruning.restored(table, tokens))


def each_alone(mixture: Mixture, max_tokens: int) -> list[ScoredAnswer]:
    """What every component by itself would answer, greedily; all in one batch."""
    branches = mixture.generator.start([component.prompt for component in mixture.components])
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


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    parent: int
    """Which answer of the front it continues."""
    tokens: tuple[int, ...]
    log_prob: float
    columns: tuple[Tensor, ...]
    """T tensors (K,): the likelihood table, column by column."""

    def scored(self, mixture: Mixture) -> ScoredAnswer:
        return ScoredAnswer(mixture, self.tokens, torch.stack(self.columns, -1).double().cpu())


def beam(mixture: Mixture, width: int, max_tokens: int, wanted: int = 1) -> SearchResult:
    """Beam search over the mixture's own next-token distribution, ``width`` · K rows of the model a step.

    It ends when ``wanted`` finished answers are at least as probable as every prefix still followed. A prefix
    is at least as probable as all its continuations, so the first answer is the most probable one whenever it
    reaches the most probable prefix that was pruned: the certificate.
    """
    state = DecodingState.start(mixture)
    live = [_Hypothesis(0, (), 0.0, ())]
    done: list[_Hypothesis] = []
    log_pruned = -math.inf
    for position in range(max_tokens):
        ended, live, next_best = _extend(state, live, width)
        done = sorted([*done, *ended], key=lambda h: -h.log_prob)[: max(width, wanted)]
        log_pruned = max(log_pruned, next_best)
        if not live or (len(done) >= wanted and done[wanted - 1].log_prob >= live[0].log_prob):
            break
        if position + 1 < max_tokens:
            state = _advance(state, live)
    found = sorted([*done, *live], key=lambda h: -h.log_prob)
    kept = (done if len(done) >= wanted else found)[: max(width, wanted)]
    certified = kept[0].log_prob >= max(log_pruned, found[0].log_prob)
    return SearchResult(tuple(h.scored(mixture) for h in kept), certified, log_pruned)


def _extend(
    state: DecodingState, live: list[_Hypothesis], width: int
) -> tuple[list[_Hypothesis], list[_Hypothesis], float]:
    """All that end now, the ``width`` best that go on, and the log-probability of the best that is pruned."""
    device = state.log_weights.device
    before = torch.tensor([h.log_prob for h in live], dtype=torch.float64, device=device)
    stops = torch.tensor(sorted(state.mixture.generator.stop_tokens), dtype=torch.long, device=device)
    ended = _ended(state, live, before, stops)
    values, parents, tokens = state.leading(before, width + 1, stops)
    next_best = float(values[width]) if len(values) > width else -math.inf
    return ended, _continued(state, live, values[:width], parents[:width], tokens[:width]), next_best


def _ended(state: DecodingState, live: list[_Hypothesis], before: Tensor, stops: Tensor) -> list[_Hypothesis]:
    """Every live answer with every token that ends it and is possible."""
    parents = torch.arange(len(live), device=stops.device).repeat_interleave(len(stops))
    tokens = stops.repeat(len(live))
    values = before[parents] + log_sum(state.log_weights[parents] + state.likelihood(parents, tokens), -1)
    possible = values > -math.inf
    return _continued(state, live, values[possible], parents[possible], tokens[possible])


def _continued(
    state: DecodingState, live: list[_Hypothesis], values: Tensor, parents: Tensor, tokens: Tensor
) -> list[_Hypothesis]:
    columns = state.likelihood(parents, tokens).cpu()
    return [
        _Hypothesis(p, (*live[p].tokens, t), value, (*live[p].columns, column))
        for p, t, value, column in zip(parents.tolist(), tokens.tolist(), values.tolist(), columns, strict=True)
    ]


def _advance(state: DecodingState, live: list[_Hypothesis]) -> DecodingState:
    return state.advance(torch.tensor([h.parent for h in live]), torch.tensor([h.tokens[-1] for h in live]))


def thorough(mixture: Mixture, width: int, max_tokens: int) -> SearchResult:
    """Lewis et al. 2020, section 2.5: one beam search for each component, then every candidate rescored.

    Takes K searches of ``width`` and a pass of every distinct candidate through all components.
    """
    candidates = {
        answer.tokens for found in _per_component(mixture, width, max_tokens) for answer in found.answers
    }
    answers = [mixture.score_tokens(tokens) for tokens in sorted(candidates)]
    return SearchResult(tuple(sorted(answers, key=lambda a: -a.log_prob)), False, math.inf)


def fast(mixture: Mixture, width: int, max_tokens: int) -> SearchResult:
    """Lewis et al. 2020, section 2.5: as ``thorough``, but p(y | x, z_j) counts as zero where beam j lacks y.

    The order is by that lower bound; the answer returned is then scored in full, so that its probability is
    p(y | x). Defined at switch 0 only.

    Raises:
        SettingError: another switch.
    """
    if mixture.switch != 0.0:
        raise SettingError("switch 0 for fast decoding", str(mixture.switch), "use beam, or set switch to 0")
    parts: dict[tuple[int, ...], list[float]] = {}
    for j, found in enumerate(_per_component(mixture, width, max_tokens)):
        for answer in found.answers:
            parts.setdefault(answer.tokens, []).append(float(mixture.log_prior[j]) + answer.log_prob)
    best = max(
        sorted(parts), key=lambda tokens: float(torch.tensor(parts[tokens], dtype=torch.float64).logsumexp(0))
    )
    return SearchResult((mixture.score_tokens(best),), False, math.inf)


def _per_component(mixture: Mixture, width: int, max_tokens: int) -> list[SearchResult]:
    return [beam(mixture.alone(j), width, max_tokens, wanted=width) for j in range(len(mixture.components))]

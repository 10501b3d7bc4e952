"""Beam search over the mixture, exact and in one pass; the paper's thorough and fast decoding for comparison."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mixrag.errors import SettingError
from mixrag.inference.certificate import Others
from mixrag.inference.decoding_state import DecodingState
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.probability import log_sum


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search over whole answers found."""

    answers: tuple[ScoredAnswer, ...]
    """Most probable first; never empty."""
    certified: bool
    """True where no answer is more probable than the first, among all cut off at the same number of tokens, also
    without the rounding that ``Mixture.rounding`` allows for."""
    log_pruned: float
    """log p of the most probable prefix that was cut from a beam; +inf where a method has no such bound."""


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    parent: int
    """Which answer of the state it continues."""
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
    state, search = mixture.start(), BeamSearch(mixture, width, wanted)
    for position in range(max_tokens):
        if search.extend(state) or position + 1 == max_tokens:
            break
        state = state.advance(*search.continued)
    return search.result()


class BeamSearch:
    """A beam search under way, whose passes of the model the caller makes."""

    def __init__(self, mixture: Mixture, width: int, wanted: int = 1) -> None:
        self.mixture, self.width, self.wanted = mixture, width, wanted
        self._others, self._stops = Others(mixture), sorted(mixture.generator.stop_tokens)
        self._live = [_Hypothesis(0, (), 0.0, ())]
        self._done: list[_Hypothesis] = []
        self._log_pruned = -math.inf

    def extend(self, state: DecodingState) -> bool:
        """Choose what follows the answers in the beam, whose state this is; True where the search has ended."""
        stops = torch.tensor(self._stops, dtype=torch.long, device=state.log_weights.device)
        ended, following, next_best = _extend(state, self._live, self.width, stops)
        followed = {(h.parent, h.tokens[-1]) for h in following}
        self._others.cut(state, [h.columns for h in self._live], followed, stops, next_best)
        self._live = following
        done, most = sorted([*self._done, *ended], key=lambda h: -h.log_prob), max(self.width, self.wanted)
        self._others.seen([h.columns for h in done[most:]])
        self._done = done[:most]
        self._log_pruned = max(self._log_pruned, next_best)
        return not following or (
            len(done) >= self.wanted and done[self.wanted - 1].log_prob >= following[0].log_prob
        )

    @property
    def continued(self) -> tuple[Tensor, Tensor]:
        """(W',) which answers of that state are followed further, and (W',) by which tokens."""
        return torch.tensor([h.parent for h in self._live]), torch.tensor([h.tokens[-1] for h in self._live])

    def result(self) -> SearchResult:
        """What has been found so far."""
        found = sorted([*self._done, *self._live], key=lambda h: -h.log_prob)
        best = (self._done if len(self._done) >= self.wanted else found)[: max(self.width, self.wanted)]
        self._others.seen([h.columns for h in found if h is not best[0]])
        answers = tuple(h.scored(self.mixture) for h in best)
        return SearchResult(answers, self._others.certify(answers[0]), self._log_pruned)


def _extend(
    state: DecodingState, live: list[_Hypothesis], width: int, stops: Tensor
) -> tuple[list[_Hypothesis], list[_Hypothesis], float]:
    """All that end now, the ``width`` best that continue, and the log-probability of the best that is pruned."""
    before = torch.tensor([h.log_prob for h in live], dtype=torch.float64, device=stops.device)
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


def thorough(mixture: Mixture, width: int, max_tokens: int) -> SearchResult:
    """Lewis et al. 2020, section 2.5: one beam search for each component, then every candidate rescored.

    Takes K searches of ``width`` and a pass of every distinct candidate through all components.
    """
    candidates = {
        answer.tokens for found in _per_component(mixture, width, max_tokens) for answer in found.answers
    }
    answers = [mixture.score_tokens(tokens) for tokens in sorted(_stated(mixture, candidates))]
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
        sorted(_stated(mixture, parts)),
        key=lambda tokens: float(torch.tensor(parts[tokens], dtype=torch.float64).logsumexp(0)),
    )
    return SearchResult((mixture.score_tokens(best),), False, math.inf)


def _stated(mixture: Mixture, candidates: Collection[tuple[int, ...]]) -> Collection[tuple[int, ...]]:
    """Without the empty answer that a component certain of ∅ gives, unless there is no other."""
    if not mixture.empty_answer:
        return candidates
    stops = mixture.generator.stop_tokens
    return [each for each in candidates if each and each[0] not in stops] or candidates


def _per_component(mixture: Mixture, width: int, max_tokens: int) -> list[SearchResult]:
    return [beam(mixture.alone(j), width, max_tokens, wanted=width) for j in range(len(mixture.components))]

"""Decoding with a model that lists the most probable next tokens: each token certified, its numbers in intervals.

The lists of the components bound the mixture's next token (``probability.listed_mixture``). Where they do not
say which one is the most probable, the model is asked for more of them, if it has more. The answer is the greedy
one of the mixture as long as every token is certified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, cast

import torch
from torch import Tensor

from mixrag.errors import ModelError
from mixrag.generator.protocol import TokenLister, questions_at_a_time
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import DecodedToken, DecoderResult
from mixrag.probability import (
    Interval,
    Listed,
    NextToken,
    interval_after,
    interval_before_next,
    log_most_elsewhere,
    log_normalise,
    log_sum,
    next_token,
    posterior_interval,
    token_interval,
)
from mixrag.utils.concurrently import concurrently


@dataclass(frozen=True, slots=True)
class MixedToken:
    """One token of an answer, and what is known when it is decided."""

    token: int
    certified: bool
    """Whether no other token is more probable, given the answer so far."""
    lists: tuple[Listed, ...]
    """(K,) what each component lists in its place."""
    log_joint: Interval
    """(K,) log p(z = j, answer so far with this token | x)."""


@dataclass(frozen=True)
class BoundedAnswer:
    """An answer whose numbers are known exactly or in an interval."""

    mixture: Mixture
    steps: tuple[MixedToken, ...]
    max_tokens: int

    @property
    def tokens(self) -> tuple[int, ...]:
        """(T,) the last one ends the answer, unless it was cut off."""
        return tuple(step.token for step in self.steps)

    @property
    def text(self) -> str:
        """The answer without its stop token."""
        return self.mixture.generator.text(self.tokens)

    @property
    def finished(self) -> bool:
        """False where the answer was cut off before it ended."""
        return bool(self.steps) and self.steps[-1].token in self.mixture.generator.stop_tokens

    @property
    def greedy(self) -> bool:
        """Whether it is certainly the greedy answer of the mixture: each token the most probable next one."""
        return all(step.certified for step in self.steps)

    @cached_property
    def log_interval(self) -> tuple[float, float]:
        """Between what log p(y | x) lies; both ends are it where every component lists every token."""
        lower, upper = (min(0.0, float(log_sum(end, 0))) for end in self.steps[-1].log_joint)
        return lower, upper

    @cached_property
    def posterior_interval(self) -> tuple[Tensor, Tensor] | None:
        """(K,) between what p(z_j | x, y) lies, at switch 0; None elsewhere."""
        if self.mixture.switch != 0.0:
            return None
        lower, upper = posterior_interval(self.steps[-1].log_joint)
        return lower.exp(), upper.exp()

    @cached_property
    def certified(self) -> bool:
        """Whether no other answer of at most ``max_tokens`` tokens is more probable."""
        known = [
            {self.tokens[:t]: step.lists[j] for t, step in enumerate(self.steps)}
            for j in range(len(self.mixture.components))
        ]
        mixture = self.mixture
        switch = mixture.switches_inside([self.tokens])
        most = log_most_elsewhere(mixture.log_prior, known, [self.tokens], self.max_tokens, switch)
        return self.log_interval[0] >= most

    def scored(self) -> ScoredAnswer:
        """The same where every number is exact."""
        columns = [token_interval(step.lists, step.token)[0] for step in self.steps]
        return ScoredAnswer(self.mixture, self.tokens, torch.stack(columns, -1))


@dataclass(frozen=True, slots=True)
class TokenMixing:
    """The most probable next token of the mixture, for a generator that says more of tokens when it is asked."""

    streams: ClassVar[bool] = True
    certifies: ClassVar[bool] = True
    batches: ClassVar[bool] = True

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``.

        Raises:
            ModelError: the generator does not say how probable a token is that it did not list.
        """
        steps = list[MixedToken]()
        before = 0.0
        for step in mixed_tokens(mixture, max_tokens, exact=True):
            steps.append(step)
            total = float(log_sum(step.log_joint[0], 0))
            own, most = token_interval(step.lists, step.token)
            if not torch.equal(own, most):
                remedy = "use rag.write, which shows intervals"
                raise ModelError("a model that gives any token its probability", mixture.generator.name, remedy)
            yield DecodedToken(step.token, total - before, own, log_normalise(step.log_joint[0], 0).exp())
            before = total
        found = BoundedAnswer(mixture, tuple(steps), max_tokens)
        yield DecoderResult((found.scored(),), certified=found.certified)

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """See ``BatchDecoder.decode_batch``; a server is asked for several questions at a time."""
        if mixtures:
            work = (partial(self._whole, mixture, max_tokens) for mixture in mixtures)
            yield from concurrently(work, questions_at_a_time(mixtures[0].generator))

    def _whole(self, mixture: Mixture, max_tokens: int) -> DecoderResult:
        *_, result = self.decode(mixture, max_tokens)
        return cast(DecoderResult, result)


def bounded_answer(mixture: Mixture, max_tokens: int) -> BoundedAnswer:
    """The answer that the lists say most for, with the intervals that they leave."""
    return BoundedAnswer(mixture, tuple(mixed_tokens(mixture, max_tokens)), max_tokens)


def mixed_tokens(mixture: Mixture, max_tokens: int, *, exact: bool = False) -> Iterator[MixedToken]:
    """The tokens of one answer, as they are decided, until it ends.

    Args:
        mixture: its generator is a ``TokenLister``.
        max_tokens: longest answer.
        exact: ask also for what components do not list of a token that is certain.
    """
    lister = cast(TokenLister, mixture.generator)
    log_prior = mixture.log_prior.double()
    weights, tokens = (log_prior, log_prior), tuple[int, ...]()
    while len(tokens) < max_tokens:
        place = _Place(lister, mixture, tokens)
        found = place.decide(weights)
        if exact:
            place.ask([found.token])
        log_joint = interval_after(weights, token_interval(place.lists, found.token))
        yield MixedToken(found.token, found.certified, tuple(place.lists), log_joint)
        tokens = (*tokens, found.token)
        if found.token in mixture.generator.stop_tokens:
            return
        weights = interval_before_next(log_joint, log_prior, mixture.switch_after(tokens))


class _Place:
    """What is known of the next token at one place of an answer."""

    def __init__(self, lister: TokenLister, mixture: Mixture, answer: tuple[int, ...]) -> None:
        self.lister, self.answer = lister, answer
        self.prompts = [component.prompt for component in mixture.components]
        self.lists = lister.next_listed(self.prompts, [answer] * len(self.prompts))

    def decide(self, weights: Interval) -> NextToken:
        """The most probable token; the model is asked for more until it is certain, or there is no more."""
        while True:
            found = next_token(weights, self.lists)
            if found.certified:
                return found
            rivals = [found.token, *found.rivals]
            if not self.ask(rivals if found.rivals else []) and not (found.beyond and self.ask([])):
                return found

    def ask(self, tokens: Sequence[int]) -> bool:
        """Ask for these tokens where they are not listed, or else for all there are; whether there were more."""
        missing = [[token for token in tokens if token not in each.log_probs] for each in self.lists]
        rows = [
            j for j, each in enumerate(self.lists) if missing[j] or (not tokens and each.log_rest > -torch.inf)
        ]
        if not rows:
            return False
        asked = [[*missing[j]] for j in rows]
        found = self.lister.next_longer([self.prompts[j] for j in rows], [self.answer] * len(rows), asked)
        before = sum(len(each.log_probs) for each in self.lists)
        for j, longer in zip(rows, found, strict=True):
            self.lists[j] = self.lists[j].with_others(longer)
        return sum(len(each.log_probs) for each in self.lists) > before

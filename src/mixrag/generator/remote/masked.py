"""Servers whose answers open no thought: tokens that no answer has are removed from what a server returns.

A server knows nothing of these tokens (``generator.thoughts``): its probabilities are those of a model that may
write them. Given that it writes none, each other token has

    p(v) / (1 - m),   m = Σ p(w) over the tokens w that no answer has

as with a model in this process. Where a server's list lacks some of them, they are scored as given texts; where
nothing can be scored, m lies in an interval, and so does the probability of each token that is listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mixrag.errors import ServerError
from mixrag.generator.protocol import Written
from mixrag.generator.remote.engine import Engine, Lister
from mixrag.probability import Listed

NEGLIGIBLE = 1e-5
"""Mass that counts as none: probabilities that a server returns add up to one no better than that."""


def unlisted_mass(found: Listed, never: Sequence[int]) -> float:
    """What the probabilities of those tokens ``never`` that are not listed are at most, together."""
    count = sum(token not in found.log_probs for token in never)
    if not count:
        return 0.0
    left = 1.0 - math.fsum(map(math.exp, found.log_probs.values()))
    return min(count * math.exp(found.log_rest), max(left, 0.0) + NEGLIGIBLE)


def without_listed(found: Listed, never: Sequence[int]) -> Listed:
    """What is known of a distribution given that none of the tokens ``never`` comes, which have log p -inf then.

    Raises:
        ServerError: it is certain that one of them comes, so that nothing is known of what else would.
    """
    unlisted = unlisted_mass(found, never)
    mass = math.fsum(math.exp(found.log_probs[token]) for token in never if token in found.log_probs)
    others = math.fsum(math.exp(value) for token, value in found.log_probs.items() if token not in never)
    # Both are at most what is left; one of them has lost its digits where nearly all or nearly nothing is.
    left = max(1.0 - mass, others)
    if left <= NEGLIGIBLE:
        remedy = "give the argument that switches thoughts off (--template-arg), or use another model"
        raise ServerError("a model that may answer without a thought", "one that certainly opens one", remedy)
    least = max(left - unlisted, others, NEGLIGIBLE)
    log_probs = {token: min(0.0, value - math.log(left)) for token, value in found.log_probs.items()}
    log_probs |= dict.fromkeys(never, -math.inf)
    log_slack = math.log(left / least) if unlisted > NEGLIGIBLE else 0.0
    return Listed(log_probs, min(0.0, found.log_rest - math.log(least)), log_slack)


@dataclass(frozen=True, slots=True)
class MaskedLister:
    """A ``Lister`` that writes none of the tokens ``never``; of what it lists, probabilities may be intervals."""

    engine: Lister
    never: tuple[int, ...]
    stops: frozenset[int]
    """Tokens that end an answer."""

    def write(self, rows: Sequence[tuple[int, ...]], max_tokens: int, count: int) -> list[Written]:
        """See ``Lister.write``.

        Where the server writes one of the tokens ``never``, the most probable other one takes its place, and the
        server continues after that: what it would write if it could not write them.
        """
        found, left = [Written((), ())] * len(rows), {max_tokens: [*range(len(rows))]}
        while left:
            room, places = left.popitem()
            asked = [(*rows[at], *found[at].tokens) for at in places]
            for at, more in zip(places, self.engine.write(asked, room, count), strict=True):
                part, goes_on = self._without(more)
                found[at] = Written((*found[at].tokens, *part.tokens), (*found[at].known, *part.known))
                room_after = max_tokens - len(found[at].tokens)
                if goes_on and room_after > 0:
                    left.setdefault(room_after, []).append(at)
        return found

    def _without(self, written: Written) -> tuple[Written, bool]:
        """What was written up to the first token of ``never``, and another one there; whether it goes on."""
        tokens = written.tokens
        place = next((t for t, token in enumerate(tokens) if token in self.never or token in self.stops), None)
        if place is None or tokens[place] in self.stops:
            return replace(written, known=self._known(written.known)), False
        known = self._known(written.known[: place + 1])
        others = {} if len(written.known) <= place else written.known[place].log_probs
        others = {token: value for token, value in others.items() if token not in self.never}
        if not others:  # no other is listed: what was written so far is an answer as well
            return Written(tokens[:place], known[:place]), False
        best = max(others, key=others.__getitem__)
        return Written((*tokens[:place], best), known), best not in self.stops

    def _known(self, known: Sequence[Listed]) -> tuple[Listed, ...]:
        return tuple(without_listed(each, self.never) for each in known)


@dataclass(frozen=True, slots=True)
class MaskedEngine(MaskedLister):
    """An ``Engine`` that writes none of the tokens ``never``; of what it lists, all probabilities are exact."""

    engine: Engine

    def read(
        self, rows: Sequence[tuple[int, ...]], lengths: Sequence[int], count: int
    ) -> list[tuple[Listed, ...]]:
        """See ``Engine.read``; a given token of ``never`` has log p -inf.

        One more batch where tokens of ``never`` are not listed, and may have more than ``NEGLIGIBLE`` of the mass.
        """
        found = self.engine.read(rows, lengths, count)
        begun = [
            [row[: len(row) - length + t] for t in range(length)]
            for row, length in zip(rows, lengths, strict=True)
        ]
        known = {
            prefix: each
            for prefixes, lists in zip(begun, found, strict=True)
            for prefix, each in zip(prefixes, lists, strict=True)
        }
        scored = self._scored(known, count)
        return [
            tuple(
                without_listed(_joined(each, scored.get(prefix, {})), self.never)
                for prefix, each in zip(prefixes, lists, strict=True)
            )
            for prefixes, lists in zip(begun, found, strict=True)
        ]

    def tokenize(self, text: str) -> tuple[int, ...] | None:
        """See ``Engine.tokenize``."""
        return self.engine.tokenize(text)

    def other(self) -> MaskedEngine | None:
        """See ``Engine.other``."""
        other = self.engine.other()
        return None if other is None else replace(self, engine=other)

    def _scored(
        self, known: Mapping[tuple[int, ...], Listed], count: int
    ) -> dict[tuple[int, ...], dict[int, float]]:
        """After each row whose list does not say them, log p of the tokens of ``never``."""
        asked = [
            (*row, token)
            for row, each in known.items()
            if unlisted_mass(each, self.never) > NEGLIGIBLE
            for token in self.never
            if token not in each.log_probs
        ]
        scored: dict[tuple[int, ...], dict[int, float]] = {}
        if asked:
            for row, (each,) in zip(asked, self.engine.read(asked, [1] * len(asked), count), strict=True):
                scored.setdefault(row[:-1], {})[row[-1]] = each.log_probs[row[-1]]
        return scored

    def _known(self, known: Sequence[Listed]) -> tuple[Listed, ...]:
        """As far as they are exact: what comes after can be read."""
        unsure = (t for t, each in enumerate(known) if unlisted_mass(each, self.never) > NEGLIGIBLE)
        end = next(unsure, len(known))
        return tuple(without_listed(each, self.never) for each in known[:end])


def _joined(found: Listed, scored: Mapping[int, float]) -> Listed:
    return Listed({**found.log_probs, **scored}, found.log_rest) if scored else found

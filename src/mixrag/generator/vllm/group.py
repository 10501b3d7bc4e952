"""The branches of one question inside an engine: what each step decides, and when it must not be believed.

An engine computes rows: one for each request, K of them for a question with K prompts. Rows that are of one
group are given the same next token, the one that the mixture of all of them decides:

    p(v | x, y_<t) = Σ_j w_j p(v | x, z_j, y_<t),    w_j ← w_j p(y_t | x, z_j, y_<t) / Σ_i ...,    then the switch

That is right only where all K rows are at the same place of the same answer. An engine may compute some of them
and not others, read a prompt in parts and throw away what it samples in between, or stop requests and read them
again later. So a decision holds once every row has read its token, and is taken back where none has. In all other
cases the group is broken: from then on its rows are given ``marker``, a token that ends a request and that no
answer has. An answer whose K rows have ended without it was decided by all of them at every token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mixrag.generator.thoughts import without_tokens
from mixrag.probability import (
    leading,
    log_answered_rows,
    log_mix,
    log_normalise,
    log_sampling,
    log_transition,
    split_first_token,
)

ARGUMENT = "mixrag"
"""The name of a row's arguments among the ``extra_args`` of its request."""


@dataclass(frozen=True)
class GroupSpec:
    """What is the same for all rows of a group; plain values, which an engine hands to its workers."""

    group: str
    """A name that no other group has had."""
    log_prior: tuple[float, ...]
    """(K,)"""
    switch: float
    """ρ."""
    marker: int
    """The token that rows of a broken group are given."""
    stop_tokens: tuple[int, ...] = ()
    answered: bool = False
    """Whether the first token's distributions are given that it is no stop token."""
    never: tuple[int, ...] = ()
    """Tokens that no answer has."""
    seed: int | None = None
    """None: nothing is drawn."""
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for values out of range."""
        logs = all(isinstance(each, float) and each <= 1e-6 for each in self.log_prior)
        named = isinstance(self.group, str) and bool(self.group)
        if not named or not self.log_prior or not logs or not 0.0 <= self.switch <= 1.0:
            raise ValueError("expected a name, log-probabilities of K components and a switch in [0, 1]")
        tokens = (self.marker, *self.stop_tokens, *self.never)
        if not all(isinstance(each, int) and each >= 0 for each in tokens) or self.marker in self.stop_tokens:
            raise ValueError("expected token ids, and a marker that is no stop token")
        if not (self.temperature >= 0.0 and self.top_k >= 0 and 0.0 < self.top_p <= 1.0):
            raise ValueError("expected temperature >= 0, top_k >= 0 and top_p in (0, 1]")

    @property
    def largest(self) -> int:
        """The largest token id that is named."""
        return max((self.marker, *self.stop_tokens, *self.never))

    def arguments(self, row: int, prompt: int) -> dict[str, Any]:
        """The ``extra_args`` of the request for component ``row``, whose prompt has ``prompt`` tokens."""
        own = {**vars(self), "log_prior": [*self.log_prior]}
        own |= {"stop_tokens": [*self.stop_tokens], "never": [*self.never], "row": row, "prompt": prompt}
        return {ARGUMENT: own}


@dataclass(frozen=True)
class Member:
    """A request of a group."""

    spec: GroupSpec
    row: int
    """j, its component."""
    prompt: int
    """Tokens of its prompt."""


def member_of(extra_args: Mapping[str, Any] | None) -> Member | None:
    """The group that a request says it is of; None where it says nothing.

    Raises:
        ValueError: it says something else than ``GroupSpec.arguments``.
    """
    given = (extra_args or {}).get(ARGUMENT)
    if given is None:
        return None
    try:
        own: dict[str, Any] = dict(given)
        row, prompt = int(own.pop("row")), int(own.pop("prompt"))
        tuples: dict[str, Any] = {name: tuple(own.pop(name)) for name in ("log_prior", "stop_tokens", "never")}
        spec = GroupSpec(**own, **tuples)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"expected extra_args[{ARGUMENT!r}] as mixrag makes it; found {error}") from error
    if not 0 <= row < len(spec.log_prior) or prompt < 0:
        raise ValueError(f"expected a row below {len(spec.log_prior)} and a length; found {row} and {prompt}")
    return Member(spec, row, prompt)


@dataclass(frozen=True)
class Row:
    """A row of one step."""

    place: int
    """Among the rows of the step."""
    member: Member
    time: int
    """Answer tokens that it has read; below 0 while its prompt is not read to the end."""
    last: int | None
    """The last of these tokens."""


@dataclass(frozen=True)
class _Decision:
    token: int
    log_weights: Tensor
    """(K,) of the token after it."""
    log_drawn: float
    source: Tensor | None
    """State of the source of chance before it."""


class Group:
    """The answer that a group writes.

    Attributes:
        time: tokens that are decided and were read by all rows.
        broken: why the group is broken; empty where it is not.
    """

    def __init__(self, spec: GroupSpec) -> None:
        self.spec, self.time, self.broken = spec, 0, ""
        self.log_prior = torch.tensor(spec.log_prior, dtype=torch.float64)
        self._log_weights, self._log_drawn = self.log_prior, 0.0
        self._pending: _Decision | None = None
        self._source = None if spec.seed is None else torch.Generator().manual_seed(spec.seed)

    @property
    def log_drawn(self) -> float:
        """log-probability with which all tokens so far were drawn, also the last one; 0 where none is."""
        return self._log_drawn + (0.0 if self._pending is None else self._pending.log_drawn)

    @cached_property
    def _stops(self) -> Tensor:
        return torch.tensor(self.spec.stop_tokens, dtype=torch.long)

    def step(self, rows: Sequence[Row], logits: Tensor) -> int:
        """The token that all these rows of a step are given.

        Args:
            rows: those of the group that the step computes.
            logits: (R, V) of all rows of the step.
        """
        if not self.broken:
            reading = all(row.time < self.time for row in rows)
            if reading:  # prompts, or answers that are read again: what is sampled is thrown away
                return self.spec.marker
            self.broken = self._fault(rows)
        if self.broken:
            return self.spec.marker
        self._settle(rows)
        ordered = sorted(rows, key=lambda row: row.member.row)
        places = torch.tensor([row.place for row in ordered], device=logits.device)
        decision = self._decide(logits[places])
        if decision is None:
            self.broken = "numbers that are no logits"
            return self.spec.marker
        self._pending = decision
        return decision.token

    def _fault(self, rows: Sequence[Row]) -> str:
        """Why these rows decide nothing; empty where they are at the place that is to be decided."""
        if any(row.member.spec != self.spec for row in rows):
            return "two groups of one name"
        if sorted(row.member.row for row in rows) != [*range(len(self.spec.log_prior))]:
            return f"{len(rows)} of {len(self.spec.log_prior)} rows in one step"
        times = {row.time for row in rows}
        if len(times) > 1:
            return f"answers of {min(times)} to {max(times)} tokens"
        (time,) = times
        if self._pending is not None and time == self.time + 1:
            return "" if all(row.last == self._pending.token for row in rows) else "another token than the decided"
        return "" if time == self.time else f"an answer of {time} tokens where {self.time} are decided"

    def _settle(self, rows: Sequence[Row]) -> None:
        """The last decision holds where the rows have read its token; else it was thrown away."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if rows[0].time > self.time:
            self.time, self._log_weights = rows[0].time, pending.log_weights
            self._log_drawn += pending.log_drawn
        elif self._source is not None and pending.source is not None:
            self._source.set_state(pending.source)

    def _decide(self, logits: Tensor) -> _Decision | None:
        """The next token from the logits (K, V) of all components; None where they are no numbers."""
        log_probs = self._log_probs(logits)
        if bool(log_probs.isnan().any()):
            return None
        log_weights = self._log_weights.to(log_probs.device)
        source = None if self._source is None else self._source.get_state()
        if self._source is None:
            token, log_drawn = _most_probable(log_weights, log_probs), 0.0
        else:
            token, log_drawn = self._drawn(log_mix(log_weights, log_probs.double()), self._source)
        filtered = log_normalise(log_weights + log_probs[:, token].double(), -1)
        later = log_transition(filtered, self.log_prior.to(filtered.device), self.spec.switch)
        return _Decision(token, later, log_drawn, source)

    def _log_probs(self, logits: Tensor) -> Tensor:
        """(K, V) log p(next token | x, z_j, answer so far), in float32 as in other generators."""
        exact = logits if logits.dtype == torch.float64 else logits.float()
        rows = without_tokens(exact, self.spec.never).log_softmax(-1)
        if not self.spec.answered or self.time > 0:
            return rows
        return log_answered_rows(rows, split_first_token(rows, self._stops)[1], self._stops)

    def _drawn(self, log_mixed: Tensor, source: torch.Generator) -> tuple[int, float]:
        """A token drawn as ``inference.stepwise.sample`` draws it, and its log-probability then."""
        spec = self.spec
        log_q = log_sampling(log_mixed.cpu(), spec.temperature, spec.top_k, spec.top_p)
        token = int(torch.multinomial(log_q.exp(), 1, generator=source))
        return token, float(log_q[token])


def _most_probable(log_weights: Tensor, log_probs: Tensor) -> int:
    """The token that leads the mixture, as ``inference.stepwise.most_probable`` finds it."""
    nothing = torch.tensor([], dtype=torch.long, device=log_weights.device)
    values, tokens = leading(log_weights.new_zeros(1), log_weights[None], log_probs[None], 1, nothing)
    return int(tokens[0]) if float(values[0]) > -math.inf else int(log_mix(log_weights, log_probs).argmax())

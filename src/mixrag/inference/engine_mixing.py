"""Decoding with a generator whose engine mixes the branches itself (``BranchMixer``): greedy and drawn answers.

The engine returns the tokens and the table of their likelihoods, from which all else follows as always. An answer
whose branches were not computed side by side is written here instead, from the distributions of next tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

import torch

from mixrag.generator.branch_mixing import BranchGroup, BranchMixer, Draw, MixedAnswer
from mixrag.inference.empty_answer import log_answered_table
from mixrag.inference.mixture import Mixture, ScoredAnswer, start_together
from mixrag.inference.protocol import DecodedToken, DecoderResult
from mixrag.inference.stepwise import greedy, sample, scored
from mixrag.inference.token_mixing import TokenMixing
from mixrag.probability import log_predictive_weights, log_sum


@dataclass(frozen=True, slots=True)
class EngineMixing:
    """What ``Greedy`` and ``Sample`` find, mixed inside the engine; several questions at once.

    No component is dropped on the way, and an answer is there when it is complete.
    """

    drawn: bool = False
    """Whether the first answer is drawn."""
    seed: int = 0
    samples: int = 0
    """Further answers drawn, with the seeds after ``seed``."""
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    """As ``Settings.sampling``."""
    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = False
    batches: ClassVar[bool] = True

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        yield from self.decode_batch([mixture], max_tokens)

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """See ``BatchDecoder.decode_batch``."""
        if not mixtures:
            return
        if any(mixture.empty_answer or mixture.needs_question for mixture in mixtures):
            start_together(mixtures)  # the weights that only the model knows, of all questions at once
        draws = [Draw(self.seed + each, self.sampling) for each in range(self.samples + 1)]
        wanted: list[Draw | None] = [draws[0] if self.drawn else None, *draws[1:]]
        asked = [(mixture, draw) for mixture in mixtures for draw in wanted]
        found = [_Found(*each) for each in asked]
        inside = [place for place, each in enumerate(found) if each.mixable]
        mixer = cast(BranchMixer, mixtures[0].generator)
        answers = mixer.mix([found[place].group for place in inside], max_tokens) if inside else []
        mixed = dict(zip(inside, answers, strict=True))
        complete = [each.complete(mixed.get(place), max_tokens) for place, each in enumerate(found)]
        for first in range(0, len(complete), len(wanted)):
            own = complete[first : first + len(wanted)]
            yield DecoderResult(tuple(answer for answer, _ in own), log_drawn=own[0][1])


@dataclass(frozen=True, slots=True)
class _Found:
    """One answer to be found."""

    mixture: Mixture
    draw: Draw | None

    @property
    def mixable(self) -> bool:
        """Whether an engine can write it, which knows tokens and no texts, and returns no distributions."""
        mixture = self.mixture
        certain = mixture.empty_answer and mixture.log_answered is None  # of the empty answer
        known = self.draw is None or cast(BranchMixer, mixture.generator).knows_drawn(self.draw.sampling)
        return known and not certain and not mixture.by_sentence

    @property
    def group(self) -> BranchGroup:
        """What the engine has to know."""
        mixture = self.mixture
        prompts = tuple(component.prompt for component in mixture.components)
        return BranchGroup(prompts, mixture.log_prior, mixture.switch, mixture.empty_answer, self.draw)

    def complete(self, found: MixedAnswer | None, max_tokens: int) -> tuple[ScoredAnswer, float | None]:
        """The answer, and the log-probability with which it was drawn."""
        forgotten = found is not None and found.log_drawn is None and self.draw is not None and self.draw.sampling
        if found is None or forgotten:
            return self._otherwise(max_tokens)
        table, mixture = found.log_likelihood, self.mixture
        if mixture.empty_answer:
            stops = torch.tensor(sorted(mixture.generator.stop_tokens), dtype=torch.long)
            assert mixture.log_answered is not None
            table = log_answered_table(table, found.tokens, mixture.log_answered, stops)
        answer = ScoredAnswer(mixture, found.tokens, table)
        if self.draw is None:
            return answer, None
        return answer, _log_drawn(answer) if found.log_drawn is None else found.log_drawn

    def _otherwise(self, max_tokens: int) -> tuple[ScoredAnswer, float | None]:
        """The same answer from distributions of next tokens, or from lists of them where these suffice."""
        mixture, draw = self.mixture, self.draw
        if draw is not None:
            steps = [*sample(mixture, max_tokens, draw.seed, sampling=draw.sampling)]
            return scored(mixture, steps), sum(step.log_drawn or 0.0 for step in steps)
        if mixture.empty_answer or mixture.by_sentence:
            return scored(mixture, greedy(mixture, max_tokens)), None
        *_, result = TokenMixing().decode(mixture, max_tokens)
        return cast(DecoderResult, result).answers[0], None


def _log_drawn(answer: ScoredAnswer) -> float:
    """log q of an answer that was drawn from the mixture itself: each token from its normalised distribution."""
    weights = log_predictive_weights(answer.mixture.log_prior, answer.log_likelihood, answer.switch)
    totals = log_sum(weights[:, :-1], 0)
    return float((answer.token_log_probs - totals).sum())


def mixed_inside(decoder: object, name: str) -> EngineMixing | None:
    """What takes the place of a built-in decoder; None of those that need whole distributions.

    Args:
        decoder: ``Greedy`` or ``Sample``, whose options are taken over, but for pruning.
        name: of the decoder in the settings.
    """
    if name not in ("greedy", "sample"):
        return None
    options = {each: getattr(decoder, each) for each in ("seed", "samples", "sampling")}
    return replace(EngineMixing(drawn=name == "sample"), **options)

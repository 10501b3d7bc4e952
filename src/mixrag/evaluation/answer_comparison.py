"""The expected answers against the one that was written: under the mixture, and under a passage alone.

No decision rests on a score of words alone: an answer is right where it matches exactly, and of two sequences of
tokens the more probable one is ahead.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from mixrag.config.settings import Settings
from mixrag.corpus import Passage
from mixrag.evaluation.stages import Decoded, Used, Weighted
from mixrag.generator import Prompt
from mixrag.inference.beam_search import beam
from mixrag.inference.decoders import decoder_for, decoder_name
from mixrag.inference.length import longest_answer
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.stepwise import each_alone
from mixrag.pairs.matching import exact_match, passage_holds
from mixrag.probability import log_evidence_ratio, log_prior_to_lead

_ROUNDING = 1e-9
"""What sums of priors may lack to one."""


@dataclass(frozen=True)
class AnswerComparison:
    """Right answers and, where there is one, the written answer, each scored under one mixture."""

    mixture: Mixture
    settings: Settings
    expected: tuple[str, ...]
    ids: Collection[str]
    """Of the passages that hold an expected answer."""
    written: ScoredAnswer | None

    @cached_property
    def holders(self) -> dict[int, ScoredAnswer]:
        """The components with such a passage, and what each of them alone answers, decoded in the same manner."""
        inside = [j for j, c in enumerate(self.mixture.components) if any(p.id in self.ids for p in c.passages)]
        return dict(zip(inside, _alone(self.mixture, inside, self.settings), strict=True))

    @cached_property
    def rights(self) -> list[ScoredAnswer]:
        """Every expected answer, and what a holder alone wrote where it is one of them in other letters."""
        wrote = [answer.tokens for answer in self.holders.values() if answer.finished and self.is_right(answer)]
        golds = map(self.mixture.generator.answer_tokens, self.expected)
        return [self.mixture.score_tokens(tokens) for tokens in dict.fromkeys([*golds, *wrote])]

    @cached_property
    def best(self) -> ScoredAnswer:
        """The right answer that is most probable under the mixture."""
        return max(self.rights, key=lambda answer: answer.log_prob)

    def is_right(self, answer: ScoredAnswer) -> bool:
        """The answer is one of those expected."""
        return exact_match(answer.text, self.expected) == 1.0

    @cached_property
    def chosen(self) -> int:
        """Of the holders that answer right the one with most prior; else the one that comes nearest to it."""
        rights = [j for j in self.holders if self.answers_right(j)]
        if rights:
            return max(rights, key=lambda j: float(self.mixture.log_prior[j]))
        return max(self.holders, key=self.best_under)

    def answers_right(self, j: int) -> bool:
        """Component j alone writes a right answer, or finds one ahead of what it writes and of the rival."""
        rivals = [self.holders[j].log_prob]
        if self.rival is not None:
            rivals.append(float(self.rival.log_component[j]))
        return self.is_right(self.holders[j]) or self.best_under(j) > max(rivals)

    def best_under(self, j: int) -> float:
        """log p(the right answer that is most probable under component j | question, component j)."""
        return max(float(answer.log_component[j]) for answer in self.rights)

    @cached_property
    def begun(self) -> ScoredAnswer | None:
        """The right answer whose beginning was written before it was cut off; None where that is not so."""
        if self.written is None or self.written.finished:
            return None
        written = self.written.tokens
        return next((right for right in self.rights if right.tokens[: len(written)] == written), None)

    @cached_property
    def searched(self) -> ScoredAnswer | None:
        """What beam search finds, where a right answer is ahead of the written one; None: not searched."""
        if self.written is None or self.begun or self.is_right(self.written):
            return None
        if decoder_for(self.settings).certifies or self.best.log_prob <= self.written.log_prob:
            return None
        return _beam(self.mixture, self.settings)

    @cached_property
    def rival(self) -> ScoredAnswer | None:
        """The answer that a right one must beat: the written one, or a more probable one that is wrong as well."""
        found = self.searched
        if self.written is None or found is None or self.is_right(found):
            return self.written
        return max(self.written, found, key=lambda answer: answer.log_prob)

    @cached_property
    def is_decided(self) -> bool:
        """The mixture prefers a right answer, or gives all the prior to a component that answers right."""
        if self.written is None or self.rival is None:
            return False
        if self.is_right(self.written) or self.begun or self.best.log_prob > self.rival.log_prob:
            return True
        return any(self.answers_right(j) and float(self.mixture.log_prior[j]) > -_ROUNDING for j in self.holders)


def decoded(comparison: AnswerComparison) -> Decoded | None:
    """The last stage; None where nothing was written."""
    written, best, settings = comparison.written, comparison.best, comparison.settings
    if written is None:
        return None
    passed = comparison.is_right(written) or not comparison.is_decided
    beam_search = comparison.searched
    return Decoded(
        passed=passed,
        answer=written.text,
        log_prob=written.log_prob,
        expected=best.text,
        expected_log_prob=best.log_prob,
        decoder=decoder_name(settings.decoder),
        tokens=len((comparison.begun or best).tokens),
        is_cut_off=comparison.begun is not None,
        beam=None if beam_search is None else beam_search.text,
        beam_log_prob=None if beam_search is None else beam_search.log_prob,
        beam_is_right=None if beam_search is None else comparison.is_right(beam_search),
    )


def weighted(comparison: AnswerComparison) -> Weighted | None:
    """The prior against the one that was needed; None where no holder was retrieved."""
    if comparison.written is None or comparison.rival is None or not comparison.holders:
        return None
    j = comparison.chosen
    failed = not comparison.is_decided and comparison.answers_right(j)
    return Weighted(
        passed=comparison.is_decided or (False if failed else None),
        prior=float(comparison.mixture.log_prior[j].exp()),
        posterior=float(comparison.written.posterior[j]),
        needed=_needed(comparison, comparison.rival, j) if failed else None,
        is_first=j == 0,
    )


def used(comparison: AnswerComparison) -> Used | None:
    """What the language model makes of the passage alone; None where no component holds an expected answer."""
    if not comparison.holders:
        return None
    j = comparison.chosen
    component, answer = comparison.mixture.components[j], comparison.holders[j]
    best = max(comparison.rights, key=lambda right: float(right.log_component[j]))
    short = next((s for s in component.prompt.shortened if s.passage in comparison.ids), None)
    log_likelihood = comparison.best_under(j)
    null = comparison.mixture.closed_book().score_tokens(best.tokens)
    ratio = float(log_evidence_ratio(best.log_likelihood[j : j + 1], null.log_likelihood[0])[0])
    return Used(
        passages=component.passages,
        passed=comparison.is_decided or comparison.answers_right(j),
        answer=answer.text,
        answer_log_prob=answer.log_prob,
        expected=best.text,
        log_likelihood=log_likelihood,
        log_evidence_ratio=None if math.isnan(ratio) else ratio,
        shortened=None if short is None else (short.kept, short.total),
        is_cut_off=short is not None and _lost(comparison, component.passages, component.prompt),
    )


def _needed(comparison: AnswerComparison, rival: ScoredAnswer, j: int) -> float | None:
    """The least prior with which component j makes a right answer as probable as the rival."""
    mixture = comparison.mixture
    if mixture.switch != 0.0:
        return None
    log_needed = min(
        float(log_prior_to_lead(mixture.log_prior, right.log_component, rival.log_component)[j])
        for right in comparison.rights
    )
    return None if log_needed > 0.0 else math.exp(log_needed)


def _alone(mixture: Mixture, components: Sequence[int], settings: Settings) -> list[ScoredAnswer]:
    """What some components by themselves answer; a sampled answer is compared with the most probable words."""
    if not decoder_for(settings).streams:
        return [_beam(mixture.alone(j), settings) for j in components]
    if not components:
        return []
    some = mixture.part(components)
    return each_alone(some, longest_answer(settings.max_tokens, some))


def _beam(mixture: Mixture, settings: Settings) -> ScoredAnswer:
    return beam(mixture, settings.beams, longest_answer(settings.max_tokens, mixture)).answers[0]


def _lost(comparison: AnswerComparison, passages: Sequence[Passage], prompt: Prompt) -> bool:
    """True where a passage holds an expected answer, and the part of it that the model reads does not."""
    read = comparison.mixture.generator.prompt_text(Prompt((), prompt.passages, ()))
    return any(passage_holds(p.text, comparison.expected) for p in passages) and not passage_holds(
        read, comparison.expected
    )

"""Decoding with a model that writes and scores whole answers: thorough decoding in two calls, with a certificate.

The model writes one answer for each component, which are the candidates, and every candidate is scored under every
component: p(y | x) of each is exact. What both calls list of the next tokens bounds all other answers
(``probability.listed``): a candidate that reaches that bound is the most probable answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch

from mixrag.errors import SettingError
from mixrag.generator.branch_mixing import mixes_branches
from mixrag.generator.protocol import AnswerWriter, lists_tokens, questions_at_a_time, writes_answers
from mixrag.inference.engine_mixing import mixed_inside
from mixrag.inference.mixture import Mixture, ScoredAnswer
from mixrag.inference.protocol import DecodedToken, Decoder, DecoderResult
from mixrag.inference.token_mixing import TokenMixing
from mixrag.probability import Listed, log_most_elsewhere
from mixrag.utils.concurrently import concurrently


@dataclass(frozen=True, slots=True)
class Candidates:
    """The most probable of what the model writes for each component, scored under all of them."""

    streams: ClassVar[bool] = False
    certifies: ClassVar[bool] = True
    batches: ClassVar[bool] = True

    def decode(self, mixture: Mixture, max_tokens: int) -> Iterator[DecodedToken | DecoderResult]:
        """See ``Decoder.decode``."""
        yield best_candidate(mixture, max_tokens)

    def decode_batch(self, mixtures: Sequence[Mixture], max_tokens: int) -> Iterator[DecoderResult]:
        """See ``BatchDecoder.decode_batch``; a server is asked for several questions at a time."""
        if mixtures:
            work = (partial(best_candidate, mixture, max_tokens) for mixture in mixtures)
            yield from concurrently(work, questions_at_a_time(mixtures[0].generator))


def decoder_on(mixture: Mixture, decoder: Decoder, name: object) -> Decoder:
    """The decoder itself, or what does the same by other calls of the mixture's generator.

    Generators whose engine mixes branches have ``EngineMixing`` in the place of greedy decoding and sampling.
    Generators that write whole answers have ``Candidates``. Those that list next tokens and can be asked for more
    have ``TokenMixing`` in the place of greedy decoding: the same tokens and numbers from a part of the data.

    Args:
        mixture: of the question.
        decoder: that the settings ask for.
        name: what they call it, or the object.

    Raises:
        SettingError: one of the built-in decoders that needs next-token distributions.
    """
    generator = mixture.generator
    if not isinstance(name, str):
        return decoder
    if mixes_branches(generator):
        return mixed_inside(decoder, name) or decoder
    if not writes_answers(generator):
        # What is conditioned on the empty answer needs the whole first distribution, and what is drawn each one.
        lists = lists_tokens(generator) and generator.says_more and not mixture.empty_answer
        return TokenMixing() if lists and name == "greedy" and decoder.batches else decoder
    if name not in ("greedy", "thorough"):
        found = f"{name} with a server that gives no whole next-token distributions"
        raise SettingError("decoder greedy or thorough, which score whole answers", found, "choose one of these")
    return Candidates()


def best_candidate(mixture: Mixture, max_tokens: int) -> DecoderResult:
    """The most probable candidate, the others after it, and whether no answer at all is more probable.

    As in beam search, answers that were cut off come after those that ended; where one of them is more probable,
    the first is not certified.
    """
    writer = cast(AnswerWriter, mixture.generator)
    prompts = [component.prompt for component in mixture.components]
    log_prior = mixture.log_prior  # before any answer is written, since it may need a pass of the model itself
    written = writer.write(prompts, max_tokens)
    candidates = [*dict.fromkeys(each.tokens for each in written)]
    read = writer.read(prompts, candidates)
    answers = [_scored(mixture, tokens, rows) for tokens, rows in zip(candidates, read, strict=True)]
    known: list[dict[tuple[int, ...], Listed]] = [{} for _ in prompts]
    for tokens, rows in zip(candidates, read, strict=True):
        for own, row in zip(known, rows, strict=True):
            _add(own, tokens, row)
    for own, each in zip(known, written, strict=True):
        _add(own, each.tokens, each.known)
    switch = mixture.switches_inside(candidates)
    most = log_most_elsewhere(log_prior, known, candidates, max_tokens, switch)
    answers.sort(key=lambda answer: (not answer.finished, -answer.log_prob))
    most = max([most, *(other.log_interval[1] for other in answers[1:])])
    return DecoderResult(tuple(answers), certified=answers[0].log_interval[0] >= most)


def _scored(mixture: Mixture, tokens: tuple[int, ...], rows: Sequence[Sequence[Listed]]) -> ScoredAnswer:
    table = [[each.log_probs[token] for each, token in zip(row, tokens, strict=True)] for row in rows]
    return ScoredAnswer(mixture, tokens, torch.tensor(table, dtype=torch.float64))


def _add(known: dict[tuple[int, ...], Listed], tokens: tuple[int, ...], row: Sequence[Listed]) -> None:
    for t, each in enumerate(row):
        before = known.get(tokens[:t])
        known[tokens[:t]] = each if before is None else before.with_others(each)

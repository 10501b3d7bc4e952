"""Scores of one system on question-answer pairs: a record for each question."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mixrag.answers.answer import Answer
from mixrag.answers.confidence import conditions
from mixrag.answers.pipeline import Pipeline
from mixrag.answers.signals import Signals, form_of
from mixrag.errors import PairsError, QuestionError
from mixrag.evaluation.records import each_pair, with_filter
from mixrag.evaluation.relevance import first_relevant, relevant
from mixrag.generator.protocol import questions_at_a_time
from mixrag.inference.mixture import Mixture
from mixrag.pairs.matching import contains, exact_match, f1
from mixrag.pairs.pairs import Pair
from mixrag.utils.concurrently import concurrently
from mixrag.utils.progress import Progress

ASKED_AT_ONCE = 16
"""Questions that are asked together: a run that is cut off loses as many at most."""


@dataclass(frozen=True, slots=True)
class Record:
    """One question answered by one system."""

    question: str
    document: str | None
    """The document that the pair names."""
    answer: str
    """What the system wrote."""
    exact: float
    """1.0 where it is one of the gold answers, normalised; else 0.0."""
    f1: float
    """Words in common with the best gold answer, in [0, 1]."""
    contained: bool
    """It contains the words of a gold answer in a row."""
    log_prob: float
    """log p(answer | question) of the written answer, in nats."""
    nll: float
    """-log Σ p(gold answer | question) over the distinct gold answers, in nats, the end of each included; 0 where
    the question has none."""
    nll_tokens: int
    """Tokens of the most probable gold answer, its end included; 0 where there is none."""
    rank: int | None
    """Rank, from 1, of the first relevant passage; None where it is not among ``recall_k``, or not measured."""
    recall_k: int
    """Passages asked for to find ``rank``; 0 where the system retrieves nothing, and no rank is measured."""
    log_mass: float
    """log Σ p(y | question) over the answers found that say the same as the written one, in nats."""
    support: float
    """Largest inner product of the question with a passage."""
    tokens: int
    """Tokens written, the end included."""
    priors: tuple[float, ...]
    """p(z | x) of each passage that was used, best first."""
    posteriors: tuple[float, ...]
    """Its posterior, given the written answer."""
    relevant: tuple[bool, ...]
    """Whether it is relevant."""
    seconds: float
    """From the question to the whole answer, the gold answers' scores not in it; of questions that were asked
    together, an equal share of what all took."""
    p_empty: float | None = None
    """p(∅ | question): that no answer is stated, with ``empty_answer``, under which ``log_prob``, ``log_mass``
    and ``nll`` are given that one is. None without, and in files written before there was one."""
    entropy: float | None = None
    """Of the posterior over components, in nats; None in records of an earlier version, as the next two."""
    best_prior: float | None = None
    """Prior of the component with the largest posterior."""
    overlap: float | None = None
    """Share of the question's content words in the passages of that component."""
    agreement: float = 0.0
    """How far the generators of a mixture of several agree on the answer; 0 of one."""
    most_empty: float | None = None
    """The largest p_g(∅ | question) of the generators of a mixture of several; None of one."""
    sentence: float | None = None
    """Share of the question's content words in the sentence that has the answer; None in records of an earlier
    version, as the next."""
    best_sentence: float | None = None
    """The largest share of any sentence of that component."""
    labels: float | None = None
    """Share of the question's numbers and letters that the passages of that component have; None in records of an
    earlier version."""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Those that a calibration depends on."""
    models: str = ""
    """Digest of the models."""
    finished: bool | None = None
    """False where the answer was cut off at max_tokens; None in records of an earlier version."""

    @property
    def answerable(self) -> bool:
        """Whether the pair has a gold answer; where it has none, whatever is written is wrong."""
        return self.nll_tokens > 0

    @property
    def signals(self) -> Signals:
        """What the confidence of the answer is computed from."""
        return Signals(
            self.log_mass,
            self.support,
            self.p_empty or 0.0,
            self.entropy,
            self.best_prior,
            self.tokens,
            form_of(self.answer),
            self.overlap,
            self.agreement,
            self.most_empty,
            self.sentence,
            self.best_sentence,
            self.labels,
        )


def score_pair(rag: Pipeline, pair: Pair, changes: Mapping[str, Any], recall_k: int = 20) -> Record:
    """Ask a pair's question, score its gold answers under the same mixture, and look for a relevant passage.

    Args:
        rag: the system, with its settings.
        pair: its ``where`` is added to the filter of the settings.
        changes: to the settings, as in ``Pipeline.ask``.
        recall_k: passages among which the first relevant one is searched, whatever the system's k.

    Raises:
        PairsError: question and answers do not fit into the model's context.
        MixragError: as ``Pipeline.ask``.
    """
    changes = with_filter(rag, pair, changes)
    with _named(pair):
        start = time.perf_counter()
        answer = rag.ask(pair.question, **changes)
        seconds = time.perf_counter() - start
    return _record(rag, pair, answer, seconds, changes, recall_k)


def score_together(
    rag: Pipeline, pairs: Sequence[Pair], changes: Mapping[str, Any], recall_k: int = 20
) -> list[Record]:
    """As ``score_pair`` of each of several pairs with one filter, whose questions are asked together."""
    asked = with_filter(rag, pairs[0], changes)
    try:
        start = time.perf_counter()
        answers = rag.ask_many([pair.question for pair in pairs], **asked)
        seconds = (time.perf_counter() - start) / len(pairs)
    except QuestionError:  # which does not say whose it is
        return [score_pair(rag, pair, changes, recall_k) for pair in pairs]
    work = (
        partial(_record, rag, pair, answer, seconds, asked, recall_k)
        for pair, answer in zip(pairs, answers, strict=True)
    )
    return [*concurrently(work, questions_at_a_time(rag.generator))]


@contextmanager
def _named(pair: Pair) -> Iterator[None]:
    """Say whose question or answer does not fit."""
    try:
        yield
    except QuestionError as error:
        found = f"{error.found} at {pair.source or repr(pair.question)}"
        raise PairsError(error.expected, found, f"{error.remedy}, or leave this pair out") from error


def _record(
    rag: Pipeline, pair: Pair, answer: Answer, seconds: float, changes: Mapping[str, Any], recall_k: int
) -> Record:
    recall_k = 0 if changes.get("k", rag.settings.k) == 0 else recall_k
    wider = {**changes, "k": recall_k, "max_outside": None}
    rank = first_relevant(rag, pair, wider) if recall_k and pair.answers else None
    with _named(pair):
        nll, nll_tokens = _gold_nll(rag, pair, answer, changes)
    return Record(
        question=pair.question,
        document=pair.document,
        answer=answer.best_guess,
        exact=exact_match(answer.best_guess, pair.answers),
        f1=f1(answer.best_guess, pair.answers),
        contained=contains(answer.best_guess, pair.answers),
        log_prob=answer.log_prob,
        nll=nll,
        nll_tokens=nll_tokens,
        rank=rank,
        recall_k=recall_k,
        log_mass=answer.log_mass,
        support=answer.support,
        tokens=len(answer.tokens),
        priors=tuple(weighted.prior for weighted in answer.passages),
        posteriors=tuple(weighted.posterior for weighted in answer.passages),
        relevant=relevant(rag.store, pair, answer.scored.mixture.passages),
        seconds=seconds,
        p_empty=answer.p_empty,
        entropy=answer.signals.entropy,
        best_prior=answer.signals.best_prior,
        overlap=answer.signals.overlap,
        agreement=answer.signals.agreement,
        most_empty=answer.signals.most_empty,
        sentence=answer.signals.sentence,
        best_sentence=answer.signals.best_sentence,
        labels=answer.signals.labels,
        settings=conditions(replace(rag.settings, **changes)),
        models=rag.models_digest,
        finished=answer.finished,
    )


def score_pairs(
    rag: Pipeline,
    pairs: Sequence[Pair],
    changes: Mapping[str, Any],
    *,
    out: Path | None = None,
    system: str = "",
    progress: Progress | None = None,
) -> list[Record]:
    """``score_pair`` of every pair, in their order, ``ASKED_AT_ONCE`` of them asked together.

    Args:
        rag: the system, with its settings.
        pairs: what to ask.
        changes: to the settings, as in ``Pipeline.ask``.
        out: JSONL file to which every record is added as it comes. What it already holds of this system, with
            these settings, is not computed again; a last line cut off by a kill is. Models and store are not
            compared: give each its own file or system name.
        system: name of the system in ``out``.
        progress: called now and then, stage "answering": questions done, in all; ``system`` as its detail.

    Raises:
        MixragError: ``out`` is another kind of file, or as ``score_pair``.
    """
    return each_pair(
        rag,
        pairs,
        changes,
        lambda some: score_together(rag, some, changes),
        record_of,
        out,
        system,
        progress,
        ASKED_AT_ONCE,
    )


def _gold_nll(rag: Pipeline, pair: Pair, answer: Answer, changes: Mapping[str, Any]) -> tuple[float, int]:
    if not pair.answers:
        return 0.0, 0
    golds = list(dict.fromkeys(map(rag.generator.answer_tokens, pair.answers)))
    mixture = with_room(rag, answer.scored.mixture, max(map(len, golds)), changes)
    log_probs = [mixture.score_tokens(tokens).log_prob for tokens in golds]
    best = max(range(len(golds)), key=log_probs.__getitem__)
    log_sum = torch.tensor(log_probs, dtype=torch.float64).logsumexp(0)
    return -float(log_sum), len(golds[best])


def with_room(rag: Pipeline, mixture: Mixture, tokens: int, changes: Mapping[str, Any]) -> Mixture:
    """The mixture itself, or one whose prompts leave room for an answer of so many tokens."""
    if tokens <= mixture.reserve:
        return mixture
    return rag.condition(mixture.question, **{**changes, "max_tokens": tokens})


_IMPOSSIBLE = {"nll": math.inf, "log_prob": -math.inf, "log_mass": -math.inf}
"""What null stands for in a file of scores: JSON has no logarithm of zero."""
_ALWAYS_STORED = frozenset(each.name for each in fields(Record) if each.default is each.default_factory is MISSING)
"""What a line of a file of scores must have."""


def record_of(row: Mapping[str, Any]) -> Record:
    """The record that ``score_pairs`` wrote as this line of its file; other keys are passed over.

    Raises:
        KeyError, TypeError: the line is no such record.
    """
    values = {
        each.name: row[each.name] for each in fields(Record) if each.name in row or each.name in _ALWAYS_STORED
    }
    values |= {name: infinity for name, infinity in _IMPOSSIBLE.items() if values[name] is None}
    listed = {name: tuple(values[name]) for name in ("priors", "posteriors", "relevant")}
    return Record(**{**values, **listed})

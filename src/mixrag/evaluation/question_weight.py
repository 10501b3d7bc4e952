"""The power β of the question's likelihood in the prior (``probability.reweighted``), fitted on pairs.

β is the maximum of the marginal likelihood of the answers, at switch 0. The gain that it has on the pairs it was
chosen on is never negative, so it is judged on others: the pairs are split into folds, β is fitted without each
fold in turn, and the gain in log p(answer) is taken on that fold. Where the 95 % interval of its mean over
questions (paired bootstrap) is not above zero, the weight is 0: the retriever's prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from mixrag.answers.pipeline import Pipeline
from mixrag.errors import PairsError, SettingError
from mixrag.evaluation.bootstrap import Interval, bootstrap
from mixrag.evaluation.relevance import relevant
from mixrag.generator.protocol import QuestionReader
from mixrag.generator.questions import check_reads_questions
from mixrag.inference.length import leaving_room
from mixrag.pairs.pairs import Pair
from mixrag.probability import best_question_weight, log_reweighted_marginal, log_reweighted_prior, log_sum

Columns = tuple[Tensor, Tensor, Tensor, Tensor]
"""log π, log p(x | z), log p(y | x, z), log(1 - p(∅ | x, z)), each (B, K)."""
FOLDS = 5
FEWEST_PAIRS = 2 * FOLDS


@dataclass(frozen=True, slots=True)
class PairTable:
    """What a pair says of β; K components, float64."""

    log_prior: Tensor
    """(K,) log π_j, as retrieved."""
    log_question: Tensor
    """(K,) log p(x | z_j)."""
    log_likelihood: Tensor
    """(K,) log p(any of the right answers | x, z_j)."""
    log_answered: Tensor
    """(K,) log(1 - p(∅ | x, z_j)); zero without an empty answer."""
    relevant: tuple[bool, ...]
    """(K,) whether a component has a passage that is relevant to the pair."""

    def first_is_relevant(self, weight: float) -> bool:
        """Whether the component of highest prior is relevant, under this β."""
        return self.relevant[int(log_reweighted_prior(self.log_prior, self.log_question, weight).argmax())]

    def log_relevant(self, weight: float) -> float:
        """log of the prior's share on relevant components, under this β; -inf where there is none."""
        prior = log_reweighted_prior(self.log_prior, self.log_question, weight)
        inside = torch.tensor(self.relevant)
        return float(log_sum(prior[inside], 0) - log_sum(prior, 0)) if bool(inside.any()) else float("-inf")


@dataclass(frozen=True, slots=True)
class QuestionWeight:
    """A fitted β."""

    weight: float
    """What to set ``question_likelihood`` to: ``fitted``, or 0 where its gain is not significant."""
    fitted: float
    """The β of highest likelihood on all the pairs."""
    gain: Interval
    """In log p(answer) a question, in nats, over β = 0, on pairs that β was not fitted on."""
    by_fold: tuple[float, ...]
    """The β fitted without each of the folds."""
    of_question: tuple[float, ...]
    """For each pair, the β that was fitted without it."""


def pair_table(rag: Pipeline, pair: Pair, **changes: Any) -> PairTable:
    """The table of one pair; takes two or three passes of the language model over its prompts.

    Args:
        rag: the system, with its settings.
        pair: its ``where`` is added to the filter of the settings.
        changes: to the settings, as in ``Pipeline.ask``.

    Raises:
        ModelError: the generator gives no probability to the question.
        SettingError: switch above 0, at which the likelihood is no sum over components.
        MixragError: as ``Pipeline.condition``.
    """
    check_reads_questions(rag.generator)
    where = {**changes.pop("where", rag.settings.where), **pair.where}
    golds = list(dict.fromkeys(map(rag.generator.answer_tokens, pair.answers)))
    longest = leaving_room(rag.settings.max_tokens, max(map(len, golds), default=0), rag.generator)
    changes = {"max_tokens": longest, **changes, "question_likelihood": 0.0}
    mixture = rag.condition(pair.question, **changes, where=where)
    if mixture.switch != 0.0:
        raise SettingError("switch 0 to fit question_likelihood", f"{mixture.switch:g}", "set switch to 0")
    everything = mixture.unconditioned()
    answers = torch.stack([everything.score_tokens(tokens).log_component for tokens in golds])
    prompts = [component.prompt for component in mixture.components]
    answered = mixture.log_answered
    found = relevant(rag.store, pair, mixture.passages)
    holders = {j for j, flag in zip(mixture.component_of_passage, found, strict=True) if flag}
    return PairTable(
        log_prior=mixture.unconditioned_log_prior,
        log_question=cast(QuestionReader, mixture.generator).question_log_likelihood(prompts),
        log_likelihood=log_sum(answers, 0),
        log_answered=torch.zeros(len(prompts), dtype=torch.float64) if answered is None else answered,
        relevant=tuple(j in holders for j in range(len(prompts))),
    )


def fit_question_likelihood(tables: Sequence[PairTable], folds: int = FOLDS, seed: int = 0) -> QuestionWeight:
    """The β for these pairs, 0 where what it gains on pairs it was not fitted on may be nothing.

    Args:
        tables: one for each pair, in any order; K may differ.
        folds: at least 2, and at most as many as there are pairs.
        seed: of the split and the bootstrap.

    Raises:
        PairsError: fewer than ``FEWEST_PAIRS``.
    """
    if len(tables) < FEWEST_PAIRS:
        raise PairsError(
            f"at least {FEWEST_PAIRS} pairs to fit question_likelihood", f"{len(tables)}", "add pairs"
        )
    columns = _padded(tables)
    order = torch.randperm(len(tables), generator=torch.Generator().manual_seed(seed))
    fold = torch.empty_like(order).index_put((order,), torch.arange(len(tables)) % folds)
    gains, by_fold = torch.zeros(len(tables), dtype=torch.float64), []
    for each in range(folds):
        by_fold.append(best_question_weight(*_rows(columns, fold != each)))
        gains[fold == each] = _gains(_rows(columns, fold == each), by_fold[-1])
    gain = bootstrap(gains.tolist(), seed=seed)
    fitted = best_question_weight(*columns)
    of_question = tuple(by_fold[each] for each in fold.tolist())
    return QuestionWeight(fitted if gain.low > 0.0 else 0.0, fitted, gain, tuple(by_fold), of_question)


def log_likelihoods(tables: Sequence[PairTable], weight: float) -> list[float]:
    """log p(any right answer | question) of each pair, given ≠∅ where there is an empty answer, under this β."""
    return _marginal(_padded(tables), weight).tolist()


def _rows(columns: Columns, chosen: Tensor) -> Columns:
    log_prior, log_question, log_likelihood, log_answered = columns
    return log_prior[chosen], log_question[chosen], log_likelihood[chosen], log_answered[chosen]


def _gains(columns: Columns, weight: float) -> Tensor:
    """(B,) over β = 0; none where no component explains the answer."""
    return (_marginal(columns, weight) - _marginal(columns, 0.0)).nan_to_num(nan=0.0)


def _marginal(columns: Columns, weight: float) -> Tensor:
    log_prior, log_question, log_likelihood, log_answered = columns
    return log_reweighted_marginal(log_prior, log_question, log_likelihood, weight, log_answered)


def _padded(tables: Sequence[PairTable]) -> Columns:
    """(B, K) of each; a component that is not there has no prior."""
    size = max(len(table.log_prior) for table in tables)

    def column(of: Callable[[PairTable], Tensor], fill: float) -> Tensor:
        rows = (torch.nn.functional.pad(of(table), (0, size - len(of(table))), value=fill) for table in tables)
        return torch.stack([*rows])

    return (
        column(lambda table: table.log_prior, float("-inf")),
        column(lambda table: table.log_question, 0.0),
        column(lambda table: table.log_likelihood, 0.0),
        column(lambda table: table.log_answered, 0.0),
    )

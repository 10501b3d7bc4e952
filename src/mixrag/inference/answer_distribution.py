"""The whole distribution of the answer, where every component has finitely many: p(y | x) = Σ_j π_j p(y | x, z_j).

Answers are equal where their texts are after SQuAD's normalisation (``mixrag.pairs.matching``), and their
probabilities add up before anything is compared. The empty answer ∅ is one of them: "the documents do not say".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from mixrag.errors import ModelError, SettingError
from mixrag.generator.protocol import FiniteAnswers
from mixrag.inference.mixture import Mixture
from mixrag.pairs.matching import normalise
from mixrag.probability import answer_information, log_enumerated, log_posterior_of

EMPTY = 0
"""The number of the empty answer among the outcomes."""


@dataclass(frozen=True, slots=True)
class PossibleAnswer:
    """An answer with all texts that count as equal to it."""

    text: str
    """The most probable one of these texts; empty for the empty answer."""
    probability: float
    """p(y | x), the sum over these texts."""
    posterior: Tensor
    """(K,) p(z_j | x, y) of the components; where p(y | x) is zero, zero."""


@dataclass(frozen=True)
class AnswerDistribution:
    """p(y | x) of every answer y and of the empty answer, most probable first.

    Attributes:
        mixture: whose distribution it is.
        texts: A texts, each the most probable one of those that are equal to it; one of them is empty, for ∅.
        probabilities: (A,) float64, largest first; their total is that of the prior, 1 or 1 - ε.
        entropy: H(y | x) in nats, of the answers given that one of these components is right.
        information: I(y; z | x) = H(y | x) - Σ_j π_j H(y | x, z_j) in nats: how much of it is about which passage
            is right, and not about which place in it.
    """

    mixture: Mixture
    texts: tuple[str, ...]
    probabilities: Tensor
    entropy: float
    information: float
    _order: Tensor = field(repr=False)
    _outcomes: tuple[Tensor, Tensor, Tensor] = field(repr=False)

    def __len__(self) -> int:
        """A, the empty answer included."""
        return len(self.texts)

    def __getitem__(self, rank: int) -> PossibleAnswer:
        """The answer of a rank, 0 for the most probable one."""
        return self._at(range(len(self))[rank])

    def __iter__(self) -> Iterator[PossibleAnswer]:
        """All of them, most probable first."""
        return (self._at(rank) for rank in range(len(self)))

    @cached_property
    def p_empty(self) -> float:
        """p(∅ | x): the probability that these passages do not state it; of a truncated prior, their part."""
        return float(self.probabilities[self.texts.index("")])

    @cached_property
    def best(self) -> PossibleAnswer | None:
        """The most probable answer that is not empty; None where there is none."""
        return next(self._answers(), None)

    @cached_property
    def runner_up(self) -> PossibleAnswer | None:
        """The second most probable one."""
        answers = self._answers()
        next(answers, None)
        return next(answers, None)

    def probability(self, text: str) -> float:
        """p(y | x) of a text and those equal to it; 0 where no passage has it, and of "" p(∅ | x)."""
        found = self._ranks.get(normalise(text) if text.strip() else "")
        return 0.0 if found is None else float(self.probabilities[found])

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return {normalise(text) if text else "": rank for rank, text in enumerate(self.texts)}

    def _answers(self) -> Iterator[PossibleAnswer]:
        return (self._at(rank) for rank, text in enumerate(self.texts) if text)

    def _at(self, rank: int) -> PossibleAnswer:
        answer, component, log_prob = self._outcomes
        wanted = int(self._order[rank])
        posterior = log_posterior_of(self.mixture.log_prior, answer, component, log_prob, wanted).exp()
        return PossibleAnswer(self.texts[rank], float(self.probabilities[rank]), posterior)


def answer_distribution(mixture: Mixture) -> AnswerDistribution:
    """Every answer of a mixture whose generator has finitely many, as ``FiniteGenerator`` says.

    Raises:
        ModelError: the generator is another.
        SettingError: a switch: the answers of two passages may then be mixed within one.
    """
    finite_answers = getattr(mixture.generator, "finite_answers", None)
    if finite_answers is None:
        expected = "a generator with finitely many answers, such as --generator extractive"
        raise ModelError(
            expected, mixture.generator.name, "give such a generator, or ask and score single answers"
        )
    if mixture.switch != 0.0:
        raise SettingError("switch 0 to enumerate answers", f"{mixture.switch}", "set switch to 0")
    mixture = mixture.unconditioned()  # the empty answer is one of them
    found: list[FiniteAnswers] = finite_answers([component.prompt for component in mixture.components])
    log_prior = mixture.log_prior
    text_of, numbers = _numbered(text for each in found for text in each.texts)
    component = torch.repeat_interleave(torch.tensor([len(each.texts) for each in found]))
    log_prob = torch.cat([each.log_probs for each in found])
    log_texts = log_enumerated(log_prior, numbers, component, log_prob, len(text_of))
    _, answer_of_text = _numbered(map(_Normaliser(), text_of), first="")
    answer = answer_of_text[numbers]
    count = int(answer_of_text.max()) + 1
    log_answers = log_enumerated(log_prior, answer, component, log_prob, count)
    entropy, information = answer_information(log_prior, answer, component, log_prob, count)
    shown: dict[int, str] = {EMPTY: ""}
    order = log_texts.argsort(stable=True).tolist()  # of equal answers, the last text is the most probable
    shown |= {number: text_of[place] for place, number in zip(order, answer_of_text[order].tolist(), strict=True)}
    ranks = log_answers.argsort(descending=True, stable=True)
    return AnswerDistribution(
        mixture,
        tuple(shown[number] for number in ranks.tolist()),
        log_answers[ranks].exp(),
        float(entropy),
        float(information),
        ranks,
        (answer, component, log_prob),
    )


def _numbered(texts: Iterable[str], first: str | None = None) -> tuple[list[str], Tensor]:
    """The distinct texts in order, and the number of each text among them; ``first`` has number 0."""
    known: dict[str, int] = {} if first is None else {first: 0}
    numbers = [known.setdefault(text, len(known)) for text in texts]
    return list(known), torch.tensor(numbers, dtype=torch.long)


class _Normaliser:
    """``normalise`` for very many texts of few words: a word is normalised once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        words = text.split()
        if not words:
            return ""
        found = " ".join(filter(None, map(self._word, words)))
        return found or normalise(text)

    def _word(self, word: str) -> str:
        if word not in self._known:
            # Between two other words: an article, or a mark alone, then leaves nothing.
            self._known[word] = normalise(f"x {word} x")[2:-2].strip()
        return self._known[word]

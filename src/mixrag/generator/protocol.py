"""Generator: what a language model must offer to be the likelihood of a mixture.

Three ways to supply one, from the least work to the most freedom:

- a Hugging Face model, by name, path or object: ``load_generator``;
- a subclass of ``BaseGenerator``, which has a tokenizer and writes one method, ``next_log_probs``;
- any object with the members of ``Generator``; ``TableGenerator`` is a complete example in one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.probability import Listed


@dataclass(frozen=True, slots=True)
class Shortened:
    """A passage that did not fit into the model's context and lost its end."""

    passage: str
    """Id of the passage."""
    kept: int
    """Tokens of the passage that the model reads."""
    total: int
    """Tokens of the whole passage."""
    characters: int | None = None
    """Characters of the passage's text, from its beginning, that the model reads; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads before the answer: three parts, tokenised separately so that they are stable."""

    header: tuple[int, ...]
    passages: tuple[int, ...]
    question: tuple[int, ...]
    shortened: tuple[Shortened, ...] = ()
    own_question: tuple[int, int] | None = field(default=None, kw_only=True)
    """Place of the first token of ``question`` that is the question's own, and the place after its last one; what
    is around them is the template's. None: all of them are."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """All token ids in reading order."""
        return self.header + self.passages + self.question

    @property
    def content(self) -> str:
        """All that the model reads; different prompts differ in it."""
        return f"{self.tokens}"


class Branches(Protocol):
    """R texts that one model is writing side by side, each with its own prompt and the tokens appended so far.

    ``rows`` and ``tokens`` are integer tensors, on the CPU or on the device of ``log_probs``.
    """

    @property
    def log_probs(self) -> Tensor:
        """(R, V): log p(next token) of each row, normalised, on a device that has float64."""
        ...

    def advance(self, rows: Tensor, tokens: Tensor) -> Branches:
        """Copy the rows ``rows`` (R',), append one token to each (R',), run the model once.

        May reuse the memory of these branches, which must not be used afterwards.
        """
        ...

    def select(self, rows: Tensor) -> Branches:
        """Copies of the rows ``rows`` (R',); these branches stay as they are."""
        ...

    def score(self, tokens: Sequence[int]) -> Tensor:
        """(R, T): log p of each of T >= 1 tokens appended to every row, in one pass.

        May reuse the memory of these branches, which must not be used afterwards.
        """
        ...


class JoiningBranches(Branches, Protocol):
    """Branches to which those of further prompts can be added while their texts are being written."""

    @property
    def joins(self) -> bool:
        """Whether ``join`` can be used: of some models the rows of a batch must have been read together."""
        ...

    def join(self, rows: Tensor, others: Sequence[tuple[Any, Tensor]]) -> Branches:
        """Copies of the rows ``rows`` (R',) of these branches, then of rows (R',) of each of the others.

        Args:
            rows: of these branches.
            others: branches of the same kind and model, and which of their rows.

        They may have read texts of any length. All of them stay as they are.
        """
        ...


def can_join(branches: Branches) -> TypeGuard[JoiningBranches]:
    """Whether branches are ``JoiningBranches`` that can be joined with others."""
    return bool(getattr(branches, "joins", False))


@dataclass(frozen=True, slots=True)
class FiniteAnswers:
    """A distribution over finitely many answers: n texts, some of which may be equal."""

    texts: tuple[str, ...]
    """The empty text is the empty answer: "not stated here"."""
    log_probs: Tensor
    """(n,) float64; their total is one."""


class Generator(Protocol):
    """A language model as a conditional distribution over answers."""

    @property
    def name(self) -> str:
        """What messages and reports call it: a path, a hub name, or a name of your own."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """V."""
        ...

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Ids that end an answer; their probability is part of the answer's."""
        ...

    @property
    def context_size(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """The prompt of one component; ``reserve`` tokens of the context are left to the answer.

        Raises:
            QuestionError: the question alone does not fit.
        """
        ...

    def prompt_text(self, prompt: Prompt) -> str:
        """The exact text of a prompt, special tokens spelled out."""
        ...

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """Token ids of an answer, with the stop token at its end."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of answer tokens without stop tokens."""
        ...

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """(K, T): log p(y_t | prompt_j, y_<t) of every token of one answer under every prompt."""
        ...

    def start(self, prompts: Sequence[Prompt]) -> Branches:
        """Read K prompts as one batch; the rows are in the order of the prompts."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """An answer that a model wrote, one most probable token after the other."""

    tokens: tuple[int, ...]
    """(T,) with the stop token at its end, unless it was cut off."""
    known: tuple[Listed, ...]
    """What is known of the distributions of its first tokens; at most T."""


class AnswerWriter(Protocol):
    """A generator that writes and reads whole answers, and does not give whole next-token distributions.

    It has the members of ``Generator``, of which ``start`` raises ``ModelError``.
    """

    def write(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Written]:
        """What the model writes for each of K prompts."""
        ...

    def read(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[list[tuple[Listed, ...]]]:
        """For each answer and each of K prompts, the distributions (T,) of its tokens, which list them."""
        ...


def writes_answers(generator: object) -> TypeGuard[AnswerWriter]:
    """Whether a generator is an ``AnswerWriter``."""
    return hasattr(generator, "write") and hasattr(generator, "read")


class TokenLister(Protocol):
    """A generator that lists the most probable next tokens."""

    @property
    def says_more(self) -> bool:
        """Whether ``next_longer`` gives any token its probability, so that all numbers can be exact."""
        ...

    def next_listed(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[Listed]:
        """What is known of the token after each of R prompts and what was answered so far."""
        ...

    def next_longer(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
    ) -> list[Listed]:
        """The same with more: each list has the tokens asked for; the longest one there is where none is named.

        A list without any token is one of which there is no more.
        """
        ...


def lists_tokens(generator: object) -> TypeGuard[TokenLister]:
    """Whether a generator is a ``TokenLister``."""
    return hasattr(generator, "next_listed") and hasattr(generator, "next_longer")


QUESTIONS_AT_A_TIME = 16
"""Of a model behind a server, which has its own limit of requests at a time."""


def questions_at_a_time(generator: Generator) -> int:
    """How many questions may be answered in threads of their own: several where a server computes."""
    return 1 if getattr(generator, "capabilities", None) is None else QUESTIONS_AT_A_TIME


class QuestionReader(Protocol):
    """A generator that reads the question after the passages, and so gives it a probability.

    Where it also has a method ``start_with_question(prompts) -> (Branches, Tensor)``, which does this and
    ``start`` in one pass, that is used (questions.py).
    """

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        """(K,) float64 log p(x | z_j): of the question's own tokens, each given all that is read before it."""
        ...


class MeasuringGenerator(Protocol):
    """A generator whose model reads something else than the ``tokens`` of a prompt: it says how much."""

    def prompt_length(self, prompt: Prompt) -> int:
        """Tokens that the model reads of a prompt."""
        ...


def prompt_length(generator: Generator, prompt: Prompt) -> int:
    """Tokens that the model of a generator reads of a prompt."""
    own = getattr(generator, "prompt_length", None)
    return len(prompt.tokens) if own is None else int(own(prompt))


def answer_room(generator: Generator, prompts: Sequence[Prompt]) -> int:
    """Tokens that an answer may have after every one of these prompts, by the length of the model's context.

    A generator whose answers have a context of their own says so by a method ``answer_room(prompts)``.
    """
    own = getattr(generator, "answer_room", None)
    if own is not None:
        return int(own(prompts))
    return generator.context_size - max(prompt_length(generator, prompt) for prompt in prompts)


class FiniteGenerator(Protocol):
    """A generator whose answers can be enumerated: ``answer_distribution`` computes with all of them."""

    def finite_answers(self, prompts: Sequence[Prompt]) -> list[FiniteAnswers]:
        """Every answer that has a probability above zero, under each prompt."""
        ...

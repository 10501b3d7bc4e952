"""A generator whose answers are spans of passages: p(y | x, z) = Σ over spans s of z with text y of p(s | x, z).

A span model (an encoder with a score for each token as first and as last of a span) gives a distribution over
finitely many texts and the empty answer ∅. As a ``Generator`` it is one over sequences of tokens: p(next token |
tokens so far) is, of the probability of the answers that begin with the tokens so far, the share of those that
continue so, and exactly zero for all other tokens. The empty answer is the stop token at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError, QuestionError
from mixrag.generator.answer_tokens import AnswerTokenizer, TokenisedSpans
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT
from mixrag.generator.protocol import FiniteAnswers, Prompt
from mixrag.generator.rounding import rounding_of_model
from mixrag.generator.span_scores import (
    SpanDistribution,
    end_scores,
    span_distribution,
)
from mixrag.generator.span_windows import (
    LEAST_ROOM,
    SpanConfig,
    SpanPrompt,
    Window,
    question_length,
    span_prompt,
    windows_of,
)
from mixrag.probability import log_sum, log_sum_by

CACHED = 64
"""Texts whose distributions are remembered, for the question asked last."""


class Answers:
    """The answers of one prompt: spans with their probabilities and tokens."""

    def __init__(self, spans: SpanDistribution, tokenizer: AnswerTokenizer) -> None:
        self.spans, self.tokenizer = spans, tokenizer
        self.log_probs = spans.log_probs
        """(n + 1,); the last is the empty answer."""

    @cached_property
    def tokens(self) -> TokenisedSpans:
        """Tokens of the n spans."""
        return TokenisedSpans(self.spans.text, self.spans.starts, self.spans.ends, self.tokenizer)

    def at(self, members: Tensor, place: int) -> Tensor:
        """(m,) the token at ``place`` of the answers (m,)."""
        found = torch.full_like(members, self.tokenizer.stop_token)
        spans = members < len(self.spans.starts)
        if bool(spans.any()):
            found[spans] = self.tokens.at(members[spans], place)
        return found

    def spelling(self, tokens: Sequence[int]) -> Tensor:
        """(m,) the answers whose tokens are these, the stop token at their end included; none: it is no answer."""
        members = torch.arange(len(self.log_probs))
        for place, token in enumerate(tokens):
            members = members[self.at(members, place) == token]
        return members

    def texts(self) -> list[str]:
        """The n + 1 texts; the empty answer is the empty text."""
        text, pairs = self.spans.text, torch.stack([self.spans.starts, self.spans.ends], -1).tolist()
        return [*(" ".join(text[start:end].split()) for start, end in pairs), ""]


class Prefix:
    """The tokens written so far under one prompt, as the answers that begin with them."""

    def __init__(self, answers: Answers, members: Tensor, length: int) -> None:
        self.answers, self.members, self.length = answers, members, length

    @cached_property
    def next_tokens(self) -> Tensor:
        """(m,) the next token of each answer that begins so."""
        return self.answers.at(self.members, self.length)

    @cached_property
    def log_next(self) -> tuple[Tensor, Tensor]:
        """The tokens that may follow (n,), and log p of each.

        Where no answer begins so, which has probability zero, the text ends.
        """
        if not len(self.members):
            return torch.tensor([self.answers.tokenizer.stop_token]), torch.zeros(1, dtype=torch.float64)
        tokens, place = torch.unique(self.next_tokens, return_inverse=True)
        totals = log_sum_by(self.answers.log_probs[self.members], place, len(tokens))
        return tokens, totals - log_sum(totals, 0)

    def then(self, token: int) -> Prefix:
        """With one more token."""
        return Prefix(self.answers, self.members[self.next_tokens == token], self.length + 1)

    def log_prob(self, token: int) -> Tensor:
        """() log p(token | tokens so far)."""
        tokens, log_probs = self.log_next
        return log_sum(log_probs.masked_fill(tokens != token, -torch.inf), 0)


@dataclass(frozen=True)
class SpanBranches:
    """Rows of an ``ExtractiveGenerator``; on the CPU, in float64."""

    size: int
    """V."""
    rows: tuple[Prefix, ...]

    @cached_property
    def log_probs(self) -> Tensor:
        """(R, V); -inf for every token that continues no answer."""
        table = torch.full((len(self.rows), self.size), -torch.inf, dtype=torch.float64)
        for row, prefix in zip(table, self.rows, strict=True):
            tokens, log_probs = prefix.log_next
            row[tokens] = log_probs
        return table

    def advance(self, rows: Tensor, tokens: Tensor) -> SpanBranches:
        """See ``Branches.advance``."""
        chosen = zip(rows.tolist(), tokens.tolist(), strict=True)
        return SpanBranches(self.size, tuple(self.rows[row].then(token) for row, token in chosen))

    def select(self, rows: Tensor) -> SpanBranches:
        """See ``Branches.select``."""
        return SpanBranches(self.size, tuple(self.rows[row] for row in rows.tolist()))

    @property
    def joins(self) -> bool:
        """Always."""
        return True

    def join(self, rows: Tensor, others: Sequence[tuple[SpanBranches, Tensor]]) -> SpanBranches:
        """See ``JoiningBranches.join``."""
        parts = [self.select(rows), *(each.select(some) for each, some in others)]
        return SpanBranches(self.size, tuple(row for part in parts for row in part.rows))

    def score(self, tokens: Sequence[int]) -> Tensor:
        """See ``Branches.score``."""
        rows = []
        for prefix in self.rows:
            values = []
            for token in tokens:
                values.append(prefix.log_prob(token))
                prefix = prefix.then(token)
            rows.append(torch.stack(values))
        return torch.stack(rows)


@dataclass(frozen=True)
class ExtractiveGenerator:
    """A span model as a generator; see the module.

    Attributes:
        name: what messages call it.
        model: a transformers model for extractive question answering, in evaluation mode.
        tokenizer: its tokenizer, a fast one.
        answers: the tokens in which answers are written.
        config: how it reads; its window is at most what the model can read.

    Raises:
        ModelError: a tokenizer that does not say where its tokens are in the text.
    """

    name: str
    model: Any
    tokenizer: Any
    answers: AnswerTokenizer
    config: SpanConfig = field(default_factory=SpanConfig)
    _known: OrderedDict[Prompt, Answers] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the tokenizer."""
        if not getattr(self.tokenizer, "is_fast", False):
            found = f"{type(self.tokenizer).__name__} of {self.name}"
            raise ModelError("a fast tokenizer (of the library tokenizers)", found, "save one beside the model")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    @property
    def rounding(self) -> float:
        """See ``generator/rounding.py``; the score of a span is the sum of two."""
        return 2.0 * rounding_of_model(self.model)

    @property
    def vocabulary_size(self) -> int:
        """V, of the answers' tokens."""
        return self.answers.size

    @property
    def stop_tokens(self) -> frozenset[int]:
        """See ``Generator.stop_tokens``."""
        return self.answers.stop_tokens

    @property
    def stop_token(self) -> int:
        """The one that ends an answer."""
        return self.answers.stop_token

    @property
    def context_size(self) -> int:
        """See ``Generator.context_size``: a text of any length is read, in windows."""
        return UNLIMITED_CONTEXT

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> SpanPrompt:
        """See ``Generator.prompt``; nothing is shortened, and nothing reserved.

        Raises:
            QuestionError: the question leaves no room for a text in the encoder's window.
        """
        length, most = question_length(self.tokenizer, question), self.config.window - LEAST_ROOM
        if length > most:
            expected = f"a question of at most {most} tokens for {self.name}"
            raise QuestionError(expected, f"{length}", "shorten the question, or choose another language model")
        return span_prompt(question, passages)

    def prompt_text(self, prompt: Prompt) -> str:
        """The question and the text, as the tokenizer pairs them."""
        own = _own(prompt)
        return f"{own.asked}\n\n{own.text}" if own.text else own.asked

    def prompt_length(self, prompt: Prompt) -> int:
        """Tokens that the encoder reads: all of every window, of which each has the question."""
        return sum(len(window.ids) for window in self.windows(prompt))

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """See ``Generator.answer_tokens``; white space counts as single spaces."""
        return self.answers.answer_tokens(answer)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return self.answers.text(tokens)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``: exact, and -inf where no span has the text."""
        return self.start(prompts).score(answer)

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """(R, T): as ``log_likelihood``, of R rows, each with its own answer; zero after its end."""
        return row_log_likelihoods(self.read(prompts), answers)

    def start(self, prompts: Sequence[Prompt]) -> SpanBranches:
        """See ``Generator.start``."""
        return SpanBranches(self.vocabulary_size, tuple(begun(each) for each in self.read(prompts)))

    def finite_answers(self, prompts: Sequence[Prompt]) -> list[FiniteAnswers]:
        """See ``FiniteGenerator.finite_answers``; a text that a passage has twice is there twice."""
        return [FiniteAnswers(tuple(each.texts()), each.log_probs) for each in self.read(prompts)]

    def read(self, prompts: Sequence[Prompt]) -> list[Answers]:
        """The answers of each prompt; each text is read once."""
        found: dict[Prompt, Answers] = {}
        with self._lock:
            for prompt in prompts:
                if prompt in self._known:
                    self._known.move_to_end(prompt)
                    found[prompt] = self._known[prompt]
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        for prompt in missing:
            windows = self.windows(prompt)
            found[prompt] = self.answers_from(prompt, windows, end_scores(self.model, windows))
        with self._lock:
            self._known.update({prompt: found[prompt] for prompt in missing})
            while len(self._known) > CACHED:
                self._known.popitem(last=False)
        return [found[prompt] for prompt in prompts]

    def windows(self, prompt: Prompt) -> list[Window]:
        """What the encoder reads of a prompt; nothing where no passage has a text."""
        own = _own(prompt)
        return windows_of(self.tokenizer, own, self.config) if own.has_text else []

    def answers_from(
        self, prompt: Prompt, windows: Sequence[Window], scores: Sequence[tuple[Tensor, Tensor]]
    ) -> Answers:
        """The answers of a prompt by the scores (L,) of the ends in its windows, with gradient in them."""
        return Answers(span_distribution(_own(prompt), windows, scores, self.config), self.answers)


def begun(answers: Answers) -> Prefix:
    """No token written yet."""
    return Prefix(answers, torch.arange(len(answers.log_probs)), 0)


def row_log_likelihoods(found: Sequence[Answers], answers: Sequence[Sequence[int]]) -> Tensor:
    """(R, T) float64 log p(y_t | prompt, y_<t) of one answer under each of R prompts; zero after its end."""
    table = torch.zeros(len(answers), max(map(len, answers), default=0), dtype=torch.float64)
    for row, each, answer in zip(table, found, answers, strict=True):
        prefix = begun(each)
        for place, token in enumerate(answer):
            row[place] = prefix.log_prob(token)
            prefix = prefix.then(token)
    return table


def _own(prompt: Prompt) -> SpanPrompt:
    if not isinstance(prompt, SpanPrompt):
        raise ModelError("a prompt of an extractive generator", type(prompt).__name__, "make it with its prompt()")
    return prompt

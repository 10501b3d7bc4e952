"""Generators whose model runs behind a server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from mixrag.config.prompt_template import PromptTemplate
from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError
from mixrag.generator.base import BaseGenerator, TokenizerMethods
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.protocol import Prompt, Written
from mixrag.generator.questions import teacher_forced
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.generator.remote.documents import unexpected
from mixrag.generator.remote.engine import Engine, Lister
from mixrag.generator.remote.llamacpp import MOST_DIFFERENCE, LlamaCpp
from mixrag.generator.remote.masked import NEGLIGIBLE, unlisted_mass, without_listed
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.generator.thoughts import without_tokens
from mixrag.probability import Listed

LISTED = 100
"""Tokens that llama.cpp's server is asked to list, before it is asked for all."""


class Texts(Protocol):
    """The part of a generator that needs no model: texts to tokens and back; see ``Generator`` for each member."""

    @property
    def vocabulary_size(self) -> int: ...
    @property
    def stop_tokens(self) -> frozenset[int]: ...
    @property
    def context_size(self) -> int: ...
    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt: ...
    def prompt_text(self, prompt: Prompt) -> str: ...
    def answer_tokens(self, answer: str) -> tuple[int, ...]: ...
    def text(self, tokens: Sequence[int]) -> str: ...


class TokenizedTexts(TokenizerMethods):
    """Texts in the tokens of a Hugging Face tokenizer, which has an end-of-text token."""

    def __init__(self, tokens: PromptTokenizer, stops: frozenset[int] = frozenset()) -> None:
        self.tokens = tokens
        end = int(tokens.tokenizer.eos_token_id)
        self.stop_token = tokens.turn_end({end, *stops}) or end
        self.stop_tokens = frozenset({end, self.stop_token, *stops})
        self.vocabulary_size = len(tokens.tokenizer)


@dataclass(frozen=True)
class _Behind:
    """A model behind a server that takes and gives token ids, with the tokenizer's part of ``Generator``."""

    engine: Lister
    texts: Texts
    capabilities: Capabilities
    name: str

    @property
    def rounding(self) -> None:
        """Not known: numbers are those that the server returned, which it may have rounded."""
        return

    @property
    def vocabulary_size(self) -> int:
        """V, of the tokenizer."""
        return self.texts.vocabulary_size

    @property
    def stop_tokens(self) -> frozenset[int]:
        """See ``Generator.stop_tokens``."""
        return self.texts.stop_tokens

    @property
    def context_size(self) -> int:
        """See ``Generator.context_size``."""
        return self.texts.context_size

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``."""
        return self.texts.prompt(question, passages, reserve)

    def prompt_text(self, prompt: Prompt) -> str:
        """See ``Generator.prompt_text``."""
        return self.texts.prompt_text(prompt)

    def answer_tokens(self, answer: str) -> tuple[int, ...]:
        """See ``Generator.answer_tokens``."""
        return self.texts.answer_tokens(answer)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return self.texts.text(tokens)

    def start(self, prompts: Sequence[Prompt]) -> NoReturn:
        """No next-token distributions come from this server.

        Raises:
            ModelError: always.
        """
        found = f"{self.name}, which lists {self.capabilities.top} tokens of each"
        remedy = "use settings that score whole answers: decoder greedy or thorough, without empty_answer and copy"
        raise ModelError("a model that gives whole next-token distributions", found, remedy)

    @property
    def says_more(self) -> bool:
        """See ``TokenLister.says_more``: where given texts are scored."""
        return self.capabilities.given_text

    def next_listed(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[Listed]:
        """See ``TokenLister.next_listed``.

        Raises:
            ServerError: the server ended an answer and did not say by which token.
        """
        rows = _continued(prompts, answers)
        distinct = [*dict.fromkeys(rows)]
        found = self.engine.write(distinct, 1, self.capabilities.top)
        known = {row: each.known[0] for row, each in zip(distinct, found, strict=True) if each.known}
        if unsaid := [row for row in distinct if row not in known]:
            known |= zip(unsaid, self._unsaid(unsaid), strict=True)
        return [known[row] for row in rows]

    def _unsaid(self, rows: Sequence[tuple[int, ...]]) -> Sequence[Listed]:
        """Of rows after which the server wrote nothing, or a token with which it gave no exact list."""
        raise unexpected("the probability of the token that ends an answer", "none")


@dataclass(frozen=True)
class RemoteGenerator(_Behind):
    """A model behind a server that scores given texts; an ``AnswerWriter``.

    Its numbers are those that the server returns.
    """

    engine: Engine

    def write(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Written]:
        """See ``AnswerWriter.write``; of equal prompts one is sent."""
        rows = [prompt.tokens for prompt in prompts]
        distinct = [*dict.fromkeys(rows)]
        found = self.engine.write(distinct, max_tokens, self.capabilities.top)
        whole = {row: self._whole(each, max_tokens) for row, each in zip(distinct, found, strict=True)}
        return [whole[row] for row in rows]

    def read(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[list[tuple[Listed, ...]]]:
        """See ``AnswerWriter.read``; all in one call of the engine."""
        asked = [((*prompt.tokens, *answer), len(answer)) for answer in answers for prompt in prompts]
        distinct = [*dict.fromkeys(asked)]
        found = self.engine.read(
            [row for row, _ in distinct], [length for _, length in distinct], self.capabilities.top
        )
        known = dict(zip(distinct, found, strict=True))
        read = [known[each] for each in asked]
        return [read[first : first + len(prompts)] for first in range(0, len(read), len(prompts))]

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``."""
        return log_likelihood_of(self.read(prompts, [answer])[0], answer)

    def question_log_likelihood(self, prompts: Sequence[Prompt]) -> Tensor:
        """See ``QuestionReader``."""
        return teacher_forced(self, prompts)

    def next_longer(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
    ) -> list[Listed]:
        """See ``TokenLister.next_longer``: tokens are scored as given ones."""
        rows = _continued(prompts, answers)
        asked = [(*row, token) for row, each in zip(rows, tokens, strict=True) for token in each]
        read = iter(self.engine.read(asked, [1] * len(asked), self.capabilities.top) if asked else [])
        found = []
        for each in tokens:
            longer = Listed({}, 0.0)
            for _ in each:
                longer = longer.with_others(next(read)[0])
            found.append(longer)
        return found

    def _unsaid(self, rows: Sequence[tuple[int, ...]]) -> Sequence[Listed]:
        end = self.answer_tokens("")[-1]
        read = self.engine.read([(*row, end) for row in rows], [1] * len(rows), self.capabilities.top)
        return [each[0] for each in read]

    def _whole(self, written: Written, max_tokens: int) -> Written:
        """Up to the first stop token; with one where the server stopped, and did not say by which."""
        stops = self.stop_tokens
        end = next((t + 1 for t, token in enumerate(written.tokens) if token in stops), None)
        tokens = written.tokens[: max_tokens if end is None else min(end, max_tokens)]
        if len(tokens) < max_tokens and (not tokens or tokens[-1] not in stops):
            tokens = (*tokens, self.answer_tokens("")[-1])
        return Written(tokens, written.known[: len(tokens)])


@dataclass(frozen=True)
class ListingGenerator(_Behind):
    """A model behind a server that lists next tokens and scores no given text; a ``TokenLister``."""

    writer: TextWriter
    """The same server, asked for text alone."""

    def next_longer(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
    ) -> list[Listed]:
        """See ``TokenLister.next_longer``: there is no more."""
        return [Listed({}, 0.0)] * len(prompts)

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> NoReturn:
        """No given text is scored by this server.

        Raises:
            ModelError: always.
        """
        raise no_exact_numbers(self.capabilities)

    def start(self, prompts: Sequence[Prompt]) -> NoReturn:
        """As ``log_likelihood``.

        Raises:
            ModelError: always.
        """
        raise no_exact_numbers(self.capabilities)


def no_exact_numbers(capabilities: Capabilities) -> ModelError:
    """The error for what needs the exact probability of an answer."""
    remedy = "use mixrag ask or rag.write, which show intervals, or another server"
    return ModelError("a server that scores given texts", capabilities.describe(), remedy)


def _continued(prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    return [(*prompt.tokens, *answer) for prompt, answer in zip(prompts, answers, strict=True)]


def log_likelihood_of(read: Sequence[Sequence[Listed]], answer: Sequence[int]) -> Tensor:
    """(K, T) float64: the answer's own tokens in what was read under K prompts."""
    rows = [[each.log_probs[token] for each, token in zip(row, answer, strict=True)] for row in read]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(read), len(answer))


class LlamaCppGenerator(BaseGenerator):
    """A model behind llama.cpp's server, which returns whole next-token distributions: all decoders, all exact.

    Each token of an answer is one request for each component. It is a ``TokenLister`` too, since a list of the
    most probable tokens is a thousandth of the whole and mostly suffices.
    """

    def __init__(
        self,
        engine: LlamaCpp,
        tokenizer: Any,
        capabilities: Capabilities,
        *,
        name: str,
        template: PromptTemplate,
        context_size: int,
        vocabulary_size: int,
        stops: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(
            tokenizer, name=name, template=template, context_size=context_size, vocabulary_size=vocabulary_size
        )
        self.stop_tokens |= stops
        self.engine, self.capabilities = engine, capabilities

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """See ``BaseGenerator.next_log_probs``."""
        distinct = [*dict.fromkeys(rows)]
        tables = self.engine.next_log_probs(distinct)
        if self.tokens.never:
            tables = without_tokens(tables, self.tokens.never).log_softmax(-1)
        found = dict(zip(distinct, tables, strict=True))
        return torch.stack([found[row] for row in rows])

    says_more = True
    rounding = None
    """Not known: numbers are those that the server returned, which it may have rounded."""

    def log_likelihood(self, prompts: Sequence[Prompt], answer: Sequence[int]) -> Tensor:
        """See ``Generator.log_likelihood``: all places in one batch, whole ones where a list lacks the token."""
        answer, count = tuple(answer), len(prompts)
        begun = [answer[:t] for t in range(len(answer))]
        places = [
            (prompt, before, token) for prompt in prompts for before, token in zip(begun, answer, strict=True)
        ]
        lists = self.next_listed([prompt for prompt, *_ in places], [before for _, before, _ in places])
        lacking = [at for at, (*_, token) in enumerate(places) if token not in lists[at].log_probs]
        if lacking:
            rows = _continued([places[at][0] for at in lacking], [places[at][1] for at in lacking])
            for at, row in zip(lacking, self.next_log_probs(rows), strict=True):
                lists[at] = Listed({places[at][2]: float(row[places[at][2]])}, 0.0)
        found = [each.log_probs[token] for each, (*_, token) in zip(lists, places, strict=True)]
        return torch.tensor(found, dtype=torch.float64).reshape(count, len(answer))

    def next_listed(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> list[Listed]:
        """See ``TokenLister.next_listed``."""
        rows = _continued(prompts, answers)
        distinct = [*dict.fromkeys(rows)]
        found = dict(zip(distinct, self.engine.next_listed(distinct, LISTED), strict=True))
        if self.tokens.never:
            found = self._without_thoughts(found)
        return [found[row] for row in rows]

    def _without_thoughts(self, found: dict[tuple[int, ...], Listed]) -> dict[tuple[int, ...], Listed]:
        """The lists given that no thought is opened or closed; whole ones where the server does not say enough."""
        never = self.tokens.never
        asked = [
            (row, token)
            for row, each in found.items()
            if unlisted_mass(each, never) > NEGLIGIBLE
            for token in never
            if token not in each.log_probs
        ]
        said, unsaid = dict(found), dict[tuple[int, ...], None]()
        for (row, token), value in zip(asked, self.engine.log_probs_of(asked), strict=True):
            if value is None or value > found[row].log_rest + MOST_DIFFERENCE:
                unsaid[row] = None
            else:
                said[row] = Listed({**said[row].log_probs, token: value}, found[row].log_rest)
        tables = self.next_log_probs([*unsaid]) if unsaid else ()
        whole = {row: _whole_list(table) for row, table in zip(unsaid, tables, strict=True)}
        return {row: whole.get(row) or without_listed(each, never) for row, each in said.items()}

    def next_longer(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
    ) -> list[Listed]:
        """See ``TokenLister.next_longer``: whatever is asked for, the whole distribution."""
        return [_whole_list(row) for row in self.next_log_probs(_continued(prompts, answers))]


def _whole_list(row: Tensor) -> Listed:
    return Listed(dict(enumerate(row.tolist())), -math.inf)

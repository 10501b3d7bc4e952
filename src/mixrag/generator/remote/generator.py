"""Generators whose model runs behind a server."""

from __future__ import annotations

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
from mixrag.generator.remote.engine import Engine
from mixrag.generator.remote.llamacpp import LlamaCpp
from mixrag.probability import Listed


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

    def __init__(self, tokens: PromptTokenizer) -> None:
        self.tokens = tokens
        end = int(tokens.tokenizer.eos_token_id)
        self.stop_token = tokens.turn_end({end}) or end
        self.stop_tokens = frozenset({end, self.stop_token})
        self.vocabulary_size = len(tokens.tokenizer)


@dataclass(frozen=True)
class RemoteGenerator:
    """A model behind a server that scores given texts; an ``AnswerWriter``.

    Its numbers are those that the server returns.
    """

    engine: Engine
    texts: Texts
    capabilities: Capabilities
    name: str

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

    def start(self, prompts: Sequence[Prompt]) -> NoReturn:
        """No next-token distributions come from this server.

        Raises:
            ModelError: always.
        """
        found = f"{self.name}, which lists {self.capabilities.top} tokens of each"
        remedy = "use settings that score whole answers: decoder greedy or thorough, without empty_answer and copy"
        raise ModelError("a model that gives whole next-token distributions", found, remedy)

    def _whole(self, written: Written, max_tokens: int) -> Written:
        """Up to the first stop token; with one where the server stopped, and did not say by which."""
        stops = self.stop_tokens
        end = next((t + 1 for t, token in enumerate(written.tokens) if token in stops), None)
        tokens = written.tokens[: max_tokens if end is None else min(end, max_tokens)]
        if len(tokens) < max_tokens and (not tokens or tokens[-1] not in stops):
            tokens = (*tokens, self.answer_tokens("")[-1])
        return Written(tokens, written.known[: len(tokens)])


def log_likelihood_of(read: Sequence[Sequence[Listed]], answer: Sequence[int]) -> Tensor:
    """(K, T) float64: the answer's own tokens in what was read under K prompts."""
    rows = [[each.log_probs[token] for each, token in zip(row, answer, strict=True)] for row in read]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(read), len(answer))


class LlamaCppGenerator(BaseGenerator):
    """A model behind llama.cpp's server, which returns whole next-token distributions: all decoders, all exact.

    Each token of an answer is one request for each component.
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
    ) -> None:
        super().__init__(
            tokenizer, name=name, template=template, context_size=context_size, vocabulary_size=vocabulary_size
        )
        self.engine, self.capabilities = engine, capabilities

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """See ``BaseGenerator.next_log_probs``."""
        distinct = [*dict.fromkeys(rows)]
        found = dict(zip(distinct, self.engine.next_log_probs(distinct), strict=True))
        return torch.stack([found[row] for row in rows])

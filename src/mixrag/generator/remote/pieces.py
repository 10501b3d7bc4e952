"""Tokens that a server names by their text alone: each text gets a number here, and prompts are texts as well."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NoReturn

from mixrag.config.prompt_template import PromptTemplate
from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT
from mixrag.generator.protocol import Prompt


class Pieces:
    """Numbers of byte strings, in the order in which they are seen; may be used from several threads."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._pieces: list[bytes] = []
        self._adding = threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pieces)

    def number(self, piece: bytes) -> int:
        """The number of a piece, which is a new one where it was not seen before."""
        with self._adding:
            if piece not in self._numbers:
                self._numbers[piece] = len(self._pieces)
                self._pieces.append(piece)
            return self._numbers[piece]

    def joined(self, numbers: Sequence[int]) -> bytes:
        """The bytes that several pieces make."""
        return b"".join(self._pieces[number] for number in numbers)


class PieceTexts:
    """The part of a generator that needs no model, where a prompt is one text and an answer is made of pieces.

    See ``Texts`` for the members. The server makes the chat format, and refuses what is longer than its context.
    """

    context_size = UNLIMITED_CONTEXT

    def __init__(self, pieces: Pieces, stops: frozenset[int], template: PromptTemplate) -> None:
        self.pieces, self.stop_tokens, self.template = pieces, stops, template

    @property
    def vocabulary_size(self) -> int:
        """Pieces that were seen."""
        return len(self.pieces)

    def prompt(self, question: str, passages: Sequence[Passage], reserve: int) -> Prompt:
        """See ``Generator.prompt``; nothing is shortened."""
        return Prompt((), (), (self.pieces.number(message(self.template, question, passages).encode()),))

    def prompt_text(self, prompt: Prompt) -> str:
        """What is sent as the user's message."""
        return self.pieces.joined(prompt.tokens).decode()

    def answer_tokens(self, answer: str) -> NoReturn:
        """How the server splits a given text is not known.

        Raises:
            ModelError: always.
        """
        remedy = "use mixrag ask or rag.write, or another server"
        raise ModelError("a server that scores given texts", "one that does not", remedy)

    def text(self, tokens: Sequence[int]) -> str:
        """See ``Generator.text``."""
        return self.pieces.joined([each for each in tokens if each not in self.stop_tokens]).decode(
            errors="replace"
        )


def message(template: PromptTemplate, question: str, passages: Sequence[Passage]) -> str:
    """The text of a prompt, without any chat format."""
    parts = [template.header if passages else template.header_without_passage]
    parts += ["".join(template.passage_text(each.title, each.text, each.context)) for each in passages]
    return "".join([*parts, template.question_text(question)])

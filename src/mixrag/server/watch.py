"""What may look on while questions are answered: figures and traces are made of it."""

from __future__ import annotations

from typing import Protocol

from mixrag.answers.answer import Answer
from mixrag.answers.stream import Stream
from mixrag.rag import RAG


class Watched:
    """One question under way. Its methods are called in this order, and do nothing here; ``ended`` always is."""

    def began(self, stream: Stream) -> None:
        """Its passages are retrieved and read."""

    def token(self) -> None:
        """A token was decided."""

    def answered(self, answer: Answer) -> None:
        """The answer is whole."""

    def failed(self, error: BaseException) -> None:
        """An error ended it."""

    def ended(self) -> None:
        """It was closed: answered, failed, or left by its client."""


class Watch(Protocol):
    """Looks on at all questions."""

    def asked(self, rag: RAG) -> Watched:
        """A question was put to a store, and waits for its turn."""


class WatchedByAll(Watched):
    """One question, for several watches."""

    def __init__(self, each: list[Watched]) -> None:
        self._each, self._answered, self._ended = each, False, False

    def began(self, stream: Stream) -> None:
        """See ``Watched``."""
        for each in self._each:
            each.began(stream)

    def token(self) -> None:
        """See ``Watched``."""
        for each in self._each:
            each.token()

    def answered(self, answer: Answer) -> None:
        """See ``Watched``; counts once, however often the answer is read."""
        if not self._answered:
            self._answered = True
            for each in self._each:
                each.answered(answer)

    def failed(self, error: BaseException) -> None:
        """See ``Watched``."""
        for each in self._each:
            each.failed(error)

    def ended(self) -> None:
        """See ``Watched``; counts once."""
        if not self._ended:
            self._ended = True
            for each in self._each:
                each.ended()

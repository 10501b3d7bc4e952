"""A question under way, whichever language model answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from mixrag.answers.stream import Stream
from mixrag.server.conversation import Question
from mixrag.server.disconnect import unless_gone
from mixrag.server.openai.answered import reply_of
from mixrag.server.openai.replies import Reply
from mixrag.server.openai.written import written_reply
from mixrag.server.questions import Asked
from mixrag.server.remote import server_of
from mixrag.server.service import Service, client_of
from mixrag.server.stores import Choice


@dataclass(frozen=True)
class UnderWay:
    """An answer under way; ``close`` it in any case."""

    asked: Asked | None
    stream: Stream | None
    best_guess: bool
    whole: Reply | None = None
    """Known at once, of a server that gives no probabilities."""

    @property
    def live(self) -> bool:
        """Whether tokens may be shown as they are decided: nothing can take them back."""
        return self.stream is not None and self.stream.decoder.streams and not self.stream.may_abstain

    async def tokens(self) -> AsyncIterator[tuple[str, float]]:
        """Text and log-probability of each token as it is decided; none where they may not be shown."""
        if self.live and self.asked is not None:
            async for token in self.asked:
                yield token.text, token.log_prob

    async def reply(self) -> Reply:
        """The whole answer."""
        if self.whole is not None:
            return self.whole
        assert self.asked is not None
        return await self.asked.made(lambda answer: reply_of(answer, best_guess=self.best_guess))

    async def whole_reply(self, request: Request) -> Reply:
        """The whole answer, for a response that is no stream; the work ends where its client goes away."""
        return await unless_gone(request, self.reply())

    def close(self) -> None:
        """End the work."""
        if self.asked is not None:
            self.asked.close()


async def begin(
    request: Request,
    service: Service,
    choice: Choice,
    question: Question,
    changes: dict[str, Any],
    *,
    best_guess: bool,
) -> UnderWay:
    """Retrieve and begin to answer: errors of the request are found here, before a stream begins.

    Raises:
        MixragError: as ``RAG.stream`` or ``RAG.write``, and where too many questions wait.
    """
    rag, questions = choice.rag, service.questions
    server = await server_of(rag, questions)
    if server is not None and not server.returns_probabilities:

        def write() -> Reply:
            return written_reply(rag.write(question.text, **changes), rag.passages(question.text, **changes))

        whole = await unless_gone(request, questions.run(write, client_of(request)))
        return UnderWay(None, None, best_guess, whole)
    asked = questions.ask(rag, question.text, changes, client_of(request))
    try:
        return UnderWay(asked, await unless_gone(request, asked.stream()), best_guess)
    except BaseException:
        asked.close()
        raise

"""What requests to mixrag's own endpoints have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mixrag.config.server_address import is_remote
from mixrag.errors import SettingError
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.rag import RAG
from mixrag.server.questions import Questions
from mixrag.server.service import checked_changes
from mixrag.server.stores import Choice

QUESTION_LENGTH = 20_000
"""Characters of the longest question, and of the longest answer that is scored."""
Text = Annotated[str, Field(min_length=1, max_length=QUESTION_LENGTH)]


class OwnRequest(BaseModel):
    """A request; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[
        str | None, Field(max_length=300, description="STORE or STORE:PRESET; without it the first store.")
    ] = None
    settings: Annotated[
        dict[str, Any] | None,
        Field(max_length=100, description="Changes to settings of `ask`, for this request alone."),
    ] = None

    def changes(self, choice: Choice) -> dict[str, Any]:
        """The settings of the preset, and the request's own over them.

        Raises:
            RequestError: a setting that does not exist.
        """
        return {**choice.changes, **checked_changes(self.settings)}


class QuestionRequest(OwnRequest):
    """A request with a question."""

    question: Text


async def server_of(rag: RAG, questions: Questions) -> Capabilities | None:
    """What the server of a remote language model can return, which may have to be asked first; None for others.

    Raises:
        ServerError: it cannot be reached.
    """
    if rag.is_loaded or not is_remote(rag.models.generator):
        return rag.server
    return await questions.run(lambda: rag.server)


async def check_probabilities(rag: RAG, questions: Questions, what: str) -> None:
    """Refuse what cannot be computed from what the language model's server returns.

    Raises:
        SettingError: the server gives no exact probabilities.
        ServerError: it cannot be reached.
    """
    server = await server_of(rag, questions)
    if server is not None and not server.returns_probabilities:
        expected = f"a server of language models that gives exact probabilities, for {what}"
        raise SettingError(expected, server.describe(), "ask /v1/answers instead, without explain")

"""What can be asked of a language model behind a server."""

from __future__ import annotations

from mixrag.config.server_address import is_remote
from mixrag.errors import SettingError
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.rag import RAG
from mixrag.server.questions import Questions


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

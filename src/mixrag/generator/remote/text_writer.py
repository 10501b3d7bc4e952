"""Servers that return text alone: what they write for each prompt, without any probability."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.server_address import Address
from mixrag.config.settings import MaxTokens
from mixrag.corpus.passage import Passage
from mixrag.errors import ModelError, SettingError
from mixrag.generator.prompt_tokenizer import NO_THOUGHTS
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.generator.remote.client import Client, Refused, Request
from mixrag.generator.remote.documents import part
from mixrag.generator.remote.ollama import chat_request
from mixrag.generator.remote.pieces import message
from mixrag.generator.thoughts import without_thoughts

logger = logging.getLogger("mixrag.generator")
CHATS = ("openai", "ollama")
"""Kinds of servers whose interface scores no given text."""
TEMPLATED = ("vllm", "sglang", "llamacpp")
"""Kinds of servers that take arguments of the chat template, as ``chat_template_kwargs``."""
_OFF = "switch thoughts off (--template-arg enable_thinking=false)"
_INSTEAD = {
    "ollama": "leave it out: thoughts are switched off by a setting of Ollama's own (think)",
    "openai": "leave it out: this interface has none, and its reasoning settings are not sent",
}


@dataclass(frozen=True, slots=True)
class WrittenText:
    """What a server wrote."""

    text: str
    finished: bool
    """False where it was cut off before it ended."""
    in_thought: bool = False
    """Whether it was cut off before a thought had ended, so that there is no text."""


def check_arguments(kind: str, template: PromptTemplate) -> None:
    """Whether a server that makes the chat format itself takes the arguments of the chat template that are given.

    Raises:
        SettingError: there are some, and it takes none.
    """
    if template.template_args and kind not in TEMPLATED:
        found = f"{', '.join(template.template_args)} for {kind or 'a server of unknown kind'}"
        expected = "a server that takes arguments of the chat template (--template-arg)"
        raise SettingError(expected, found, _INSTEAD.get(kind, "leave it out, or name the server's kind"))


@dataclass(frozen=True, slots=True)
class TextWriter:
    """A model behind a server that returns text alone; all that needs probabilities raises ``ModelError``.

    It has the members of ``Generator``, so that it can be opened as one.
    """

    client: Client
    address: Address
    kind: str
    model: str
    template: PromptTemplate
    capabilities: Capabilities

    @property
    def name(self) -> str:
        """Model and address."""
        return f"{self.model} at {self.address.url}"

    @property
    def stop_tokens(self) -> frozenset[int]:
        """None is known."""
        return frozenset()

    @property
    def vocabulary_size(self) -> int:
        """Not known."""
        self._refuse()

    @property
    def context_size(self) -> int:
        """Not known."""
        self._refuse()

    def texts(
        self, question: str, components: Sequence[Sequence[Passage]], max_tokens: MaxTokens
    ) -> list[WrittenText]:
        """What the server writes for each of K components, at temperature 0; one request each.

        With "all" the server has its own limit of tokens. Thoughts that a model writes first are left out.

        Raises:
            ServerError: it refuses, or returns no text.
        """
        contents = [message(self.template, question, each) for each in components]
        requests = [self._request(content, max_tokens) for content in contents]
        try:
            documents = self.client.all(requests)
        except Refused as error:
            if "temperature" not in error.found:
                raise
            # Models that think first have a temperature of their own.
            documents = self.client.all([_without_temperature(request) for request in requests])
        found = [self._text(document) for document in documents]
        if cut := sum(each.in_thought for each in found):
            line = "%d of %d answers were cut off inside of a thought and are empty; raise --max-tokens%s"
            logger.warning(line, cut, len(found), f", or {_OFF}" if self.kind in TEMPLATED else "")
        return found

    def prompt(self, *args: object) -> NoReturn:
        """See ``Generator.prompt``.

        Raises:
            ModelError: always.
        """
        self._refuse()

    prompt_text = answer_tokens = text = log_likelihood = start = prompt

    def _request(self, content: str, max_tokens: MaxTokens) -> Request:
        messages = [{"role": "user", "content": content}]
        if self.kind == "ollama":
            options = {"temperature": 0, "num_predict": -1 if max_tokens == "all" else max_tokens}
            return chat_request(self.address.root, self.model, messages, options)
        document: dict[str, Any] = {"model": self.model, "messages": messages}
        newer = self.address.host == "api.openai.com"
        limit = "max_completion_tokens" if newer else "max_tokens"
        limits: dict[str, Any] = {} if max_tokens == "all" else {limit: max_tokens}
        if self.kind in TEMPLATED:
            given = dict(self.template.template_args)
            off = {} if given.keys() & NO_THOUGHTS.keys() else NO_THOUGHTS
            limits["chat_template_kwargs"] = {**off, **given}
        return Request(f"{self.address.url}/chat/completions", {**document, "temperature": 0, **limits})

    def _text(self, document: Any) -> WrittenText:
        if self.kind == "ollama":
            ended = document.get("done_reason") if isinstance(document, dict) else None
            said = part(document, dict, "message")
        else:
            ended = part(document, dict, "choices", 0).get("finish_reason")
            said = part(document, dict, "choices", 0, "message")
        # A server that takes thoughts out by itself has no content where all that was written is one.
        aside = any(said.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
        written = "" if aside and said.get("content") is None else part(said, str, "content")
        text, cut = without_thoughts(written).strip(), ended != "stop"
        return WrittenText(text, not cut, in_thought=cut and not text and bool(aside or written.strip()))

    def _refuse(self) -> NoReturn:
        remedy = "use mixrag ask or rag.write, which show text without probabilities, or another server"
        raise ModelError("a server that returns log-probabilities", self.capabilities.describe(), remedy)


def _without_temperature(request: Request) -> Request:
    document = dict(request.document or {})
    document.pop("temperature", None)
    return Request(request.url, document)

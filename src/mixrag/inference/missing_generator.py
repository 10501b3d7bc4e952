"""The substitute for the language model in an answer that was read from a pickle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from mixrag.errors import ModelError


@dataclass(frozen=True, slots=True)
class MissingGenerator:
    """Name, stop tokens and rounding of a language model that is not here; all other uses raise ``ModelError``."""

    name: str
    stop_tokens: frozenset[int]
    rounding: float | None = 0.0

    @property
    def vocabulary_size(self) -> int:
        """Not known."""
        self._refuse()

    @property
    def context_size(self) -> int:
        """Not known."""
        self._refuse()

    def prompt(self, *args: object) -> NoReturn:
        """See ``Generator.prompt``."""
        self._refuse()

    prompt_text = answer_tokens = text = log_likelihood = start = question_log_likelihood = prompt

    def _refuse(self) -> NoReturn:
        found, remedy = "an answer read from a pickle, which has none", "ask again, and use that answer"
        raise ModelError(f"a language model ({self.name})", found, remedy)

"""What a server of language models can return, as the probe found it; nothing else is used."""

from __future__ import annotations

from dataclasses import dataclass

RETURNED = "for the numbers that the server returned, which it may have rounded"
"""What exact numbers and certificates are about."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server returned when it was asked, at connection."""

    server: str
    """Its kind: vllm, sglang, llamacpp, ollama, openai; empty where it does not say."""
    model: str
    """The model's name on the server."""
    given_text: bool = False
    """Log-probabilities of tokens that it is given."""
    top: int = 0
    """How many of the most probable next tokens come with their log-probability."""
    listed: bool = False
    """Whether it lists them after any answer begun, so that answers have an interval."""
    whole: bool = False
    """Whether the log-probabilities of all tokens come."""
    token_ids: bool = False
    """Whether tokens are named by their ids."""
    tokenizer_checked: bool = False
    """Whether the server splits texts into the same tokens; where it differs, it is refused."""
    context_size: int | None = None
    """Tokens that prompt and answer may have together; None where the server does not say."""
    reason: str = ""
    """Why log-probabilities are not used where they are not."""

    @property
    def returns_probabilities(self) -> bool:
        """Whether an answer can have an exact probability."""
        return self.whole or self.given_text

    def describe(self) -> str:
        """One or two lines for people: what is returned, and what follows from it."""
        where = f"{self.model} on {self.server or 'a server of unknown kind'}"
        checked = "the same tokenizer" if self.tokenizer_checked else "a tokenizer that could not be compared"
        if self.whole:
            return f"{where}: whole next-token distributions, {checked}; everything is exact {RETURNED}"
        if self.given_text:
            listed = f"the {self.top} most probable next tokens" if self.top else "no list of next tokens"
            return (
                f"{where}: log-probabilities of given texts, {listed}, {checked}; probabilities are exact "
                f"{RETURNED}, and the most probable answer is certified where the list allows it"
            )
        if self.listed:
            same = f", {checked}" if self.token_ids else ""
            return (
                f"{where}: the {self.top} most probable next tokens{same}; probabilities are intervals, and each "
                f"token is certified where the lists allow it, {RETURNED}"
            )
        because = f" ({self.reason})" if self.reason else ""
        return f"{where}: text alone{because}; answers have no probability"

"""What requests to mixrag's own endpoints have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mixrag.server.service import checked_changes
from mixrag.server.stores import Choice

QUESTION_LENGTH = 20_000
"""Characters of the longest question, and of the longest answer that is scored."""
Text = Annotated[str, Field(min_length=1, max_length=QUESTION_LENGTH)]


class OwnRequest(BaseModel):
    """A request; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True)

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

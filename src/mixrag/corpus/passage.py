"""Document and Passage: what goes into a store, and the unit that the mixture runs over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scalar = str | int | float | bool | None
"""A metadata value: what JSON can express without nesting."""

_SEPARATORS = dict.fromkeys(range(0x1C, 0x20), " ")

BlockKind = Literal["text", "heading", "list", "table", "code"]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a document with one role and one place: what a splitter divides only where it must.

    Blocks are disjoint and in the order of the text; between them is whitespace. Each line of a "list" is one
    item, each line of a "table" one row: a passage holds whole lines of them.
    """

    start: int
    end: int
    """Offset after the last character."""
    kind: BlockKind = "text"
    level: int = 0
    """Of a heading: 1 for the highest. 0 for all other blocks."""
    page: int | None = None
    """Page of a PDF, or slide of a presentation, from 1; None where the format has none."""
    place: str = ""
    """How a citation names the place: "page 12", "slide 3", "sheet Fees"; empty where the format has none."""
    caption: str = ""
    """Of a table: its caption and, unless each row repeats them, its column headers. They stand in front of every
    passage of the table but the one that they are part of."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its title and metadata: what parsers return, and what ``RAG.add`` takes.

    >>> Document("A licence costs nine crowns.", id="fees-7", title="Fees", metadata={"year": 2024}).id
    'fees-7'
    """

    text: str
    id: str | None = None
    """Names the document within its source: the record of a file, or the document that ``RAG.add`` takes, where
    adding the same id again updates it. None: the file is one document; ``RAG.add`` derives one from the content.
    """
    title: str = ""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    """The structure of the text, for the splitter; empty where the parser knows none."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: the unit that is retrieved, weighted and conditioned on."""

    id: str
    """Stable over re-indexing: content hash of the document, colon, ordinal."""
    text: str
    document: str
    """Absolute path of the source, with '#id' appended for a record of a file; the id alone of a document that was
    added from memory. Of several sources with the same content, the first in sorted order that exists."""
    title: str
    start: int
    """Offset of the first character in the document's extracted text."""
    end: int
    """Offset after the last character: ``extracted[start:end] == text``."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    page: int | None = None
    """Page or slide where the passage starts, from 1; None where the source has none."""
    place: str = ""
    """Where it starts, as a citation names it: "page 12", "sheet Fees"; empty where the source has none."""
    context: str = ""
    """What stands between title and text for encoder, BM25 and language model: headings above the passage, caption
    of its table. Empty with ``context="title"`` or ``"none"``."""
    front_title: str = ""
    """The title that encoder and BM25 read before it: that of the document, else the file's name; empty for a
    record without title, and with ``context="none"``."""

    @property
    def body(self) -> str:
        """Context and text, as they are read together."""
        return with_context(self.context, self.text)


def with_context(context: str, text: str) -> str:
    """The context on lines of its own, then the text of a passage."""
    return f"{context}\n{text}" if context else text


def title_and_text(title: str, text: str) -> str:
    """The text to embed: title, line end, context and text; these alone where there is no title."""
    return spaced(f"{title}\n{text}" if title else text)


@dataclass(frozen=True, slots=True)
class TitleBefore:
    """``title_and_text`` with something else than a line end between title and text."""

    separator: str

    def __call__(self, title: str, text: str) -> str:
        """The text to embed."""
        return spaced(f"{title} {self.separator} {text}") if title else title_and_text(title, text)


def spaced(text: str) -> str:
    """The text with spaces for the four separators of ASCII, which are whitespace to Python and not to tokenizers.

    Passages are trimmed by Python: what it removes must not belong to a token.
    """
    return text.translate(_SEPARATORS)


def searched_text(title: str, context: str, text: str) -> str:
    """What lexical search reads of a passage: its title, its context, each on lines of its own, and its text."""
    return title_and_text(title, with_context(context, text))

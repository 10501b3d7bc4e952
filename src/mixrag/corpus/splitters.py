"""Text to passages: disjoint character spans that leave out nothing but whitespace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Protocol

from mixrag.errors import MixragError, PluginError, SettingError
from mixrag.utils.extras import require

Offsets = tuple[int, int]
"""Offsets of the first character and after the last one."""

# Chinese and Japanese put no spaces between words: there, one character counts as a word. Elsewhere a run
# of 100 characters without a space (Thai, base64) counts as one, so that no passage grows without bound.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,100}}")


class Splitter(Protocol):
    r"""Divides the text of a document into passages.

    One of your own, here one passage a paragraph, is passed as ``RAG.open(..., splitter=ParagraphSplitter())``:

    >>> class ParagraphSplitter:
    ...     name = "paragraphs"
    ...
    ...     def split(self, text):
    ...         return [match.span() for match in re.finditer(r"\S.*(?:\n.*\S.*)*", text)]
    >>> ParagraphSplitter().split("One line.\nAnother.\n\nA new paragraph.")
    [(0, 18), (20, 36)]
    """

    @property
    def name(self) -> str:
        """Kind and parameters, e.g. "words:100". A document is split again when it changes, so two splitters of
        one name must give the same spans.
        """
        ...

    def split(self, text: str) -> Sequence[Offsets]:
        """Spans (start, end) of the passages, in the order of the text.

        Each is inside the text and contains more than whitespace. Spans may overlap; what no span covers cannot be
        retrieved.
        """
        ...


def checked_spans(splitter: Splitter, text: str, shown: str) -> list[Offsets]:
    """The spans of a document, which ``shown`` names in errors.

    Raises:
        PluginError: the splitter fails, or a span is not a part of the text.
    """
    expected = (
        f"spans (start, end) with 0 <= start < end <= {len(text)}, not blank, from splitter {splitter.name!r}"
    )
    try:
        spans = list(splitter.split(text))
    except MixragError:
        raise
    except Exception as error:
        found = f"{type(error).__name__} ({' '.join(str(error).split())[:100]}) at document {shown}"
        raise PluginError(expected, found, "correct its method split") from error
    checked = []
    for span in spans:
        try:
            start, end = map(index, span)
            inside = 0 <= start < end <= len(text) and not text[start:end].isspace()
        except (TypeError, ValueError):
            inside = False
        if not inside:
            raise PluginError(expected, f"{repr(span)[:100]} at document {shown}", "correct its method split")
        checked.append((start, end))
    return checked


def count_words(text: str) -> int:
    """Number of words: runs without whitespace; each Chinese or Japanese character is one."""
    return sum(1 for _ in _WORD.finditer(text))


@dataclass(frozen=True, slots=True)
class WordSplitter:
    """Disjoint passages of a fixed number of words, the last one shorter (Lewis et al. 2020).

    >>> WordSplitter(2).split("to be or not")
    [(0, 5), (6, 12)]
    """

    words: int = 100

    def __post_init__(self) -> None:
        _check(self.words)

    @property
    def name(self) -> str:
        return f"words:{self.words}"

    def split(self, text: str) -> list[Offsets]:
        spans = [match.span() for match in _WORD.finditer(text)]
        groups = (spans[i : i + self.words] for i in range(0, len(spans), self.words))
        return [(group[0][0], group[-1][1]) for group in groups]


@dataclass(frozen=True, slots=True)
class SentenceSplitter:
    """Disjoint passages of at most ``words`` words that end at paragraphs or sentences where they can."""

    words: int = 100

    def __post_init__(self) -> None:
        _check(self.words)

    @property
    def name(self) -> str:
        return f"sentences:{self.words}"

    def split(self, text: str) -> list[Offsets]:
        splitter = require("semantic_text_splitter", "files", "passages of whole sentences").TextSplitter
        pieces = splitter.from_callback(count_words, self.words).chunk_indices(text)
        # Trimmed again: Python's whitespace is wider than the library's (\x1c to \x1f).
        spans = ((i + len(piece) - len(piece.lstrip()), i + len(piece.rstrip())) for i, piece in pieces)
        return [(start, end) for start, end in spans if start < end]


def splitter_named(name: str) -> Splitter:
    """Splitter of a name such as "words:100" or "sentences:80".

    Raises:
        SettingError: no such kind, or not a positive number of words.
    """
    match = re.fullmatch(r"(words|sentences):([0-9]{1,6})", name)
    if not match:
        raise SettingError("a splitter such as words:100 or sentences:100", repr(name), "name one of the two")
    kind = WordSplitter if match[1] == "words" else SentenceSplitter
    return kind(int(match[2]))


def _check(words: int) -> None:
    if words < 1:
        raise SettingError("at least 1 word a passage", str(words), "give a positive number, e.g. words:100")

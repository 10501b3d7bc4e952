"""Splitter: what divides a document into passages, and the check of what one of the caller's own returns."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, Literal, Protocol, get_args

from mixrag.corpus.passage import Document
from mixrag.errors import MixragError, PluginError, SettingError

Offsets = tuple[int, int]
"""Offsets of the first character and after the last one."""
Context = Literal["full", "title", "none"]
"""What encoder and BM25 read of a passage besides its text. "full": the title of its document, the headings above
it and the caption of its table; "title": the title alone; "none": nothing."""
CONTEXTS: tuple[Context, ...] = get_args(Context)


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

    Optional members:

    - ``split_document(document) -> spans``: in the place of ``split``, for a splitter that reads the ``title`` and
      the ``blocks`` of a ``Document`` as well.
    - ``context``: "full" (default), "title" or "none"; see ``Context``.

    Page, place and context of each passage are found from the blocks, whatever the splitter.
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


def context_of(splitter: Splitter) -> Context:
    """The splitter's own choice of context, else "full".

    Raises:
        PluginError: it is none of ``CONTEXTS``.
    """
    context: Any = getattr(splitter, "context", "full")
    if context not in CONTEXTS:
        expected = f"one of {', '.join(CONTEXTS)} as context of the splitter {splitter.name!r}"
        raise PluginError(expected, repr(context)[:60], "choose one of them")
    found: Context = context
    return found


def checked_context(context: str) -> None:
    """Refuse an unknown context.

    Raises:
        SettingError: it is none of ``CONTEXTS``.
    """
    if context not in CONTEXTS:
        raise SettingError(f"a context among {', '.join(CONTEXTS)}", repr(context)[:60], "choose one of them")


def stored_name(splitter: Splitter) -> str:
    """What tells whether a document must be split again: the splitter's name, and its context if not "full"."""
    context = context_of(splitter)
    return splitter.name if context == "full" else f"{splitter.name}, context {context}"


def checked_spans(splitter: Splitter, document: Document, shown: str) -> list[Offsets]:
    """The spans of a document, which ``shown`` names in errors.

    Raises:
        PluginError: the splitter fails, or a span is not a part of the text.
    """
    text, own = document.text, getattr(splitter, "split_document", None)
    method = "split" if own is None else "split_document"
    expected = (
        f"spans (start, end) with 0 <= start < end <= {len(text)}, not blank, from splitter {splitter.name!r}"
    )
    try:
        spans = list(splitter.split(text) if own is None else own(document))
    except MixragError:
        raise
    except Exception as error:
        found = f"{type(error).__name__} ({' '.join(str(error).split())[:100]}) at document {shown}"
        raise PluginError(expected, found, f"correct its method {method}") from error
    checked = []
    for span in spans:
        try:
            start, end = map(index, span)
            inside = 0 <= start < end <= len(text) and not text[start:end].isspace()
        except (TypeError, ValueError):
            inside = False
        if not inside:
            raise PluginError(expected, f"{repr(span)[:100]} at document {shown}", f"correct its method {method}")
        checked.append((start, end))
    return checked

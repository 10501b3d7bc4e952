"""What goes between the process that parses and ours: frames of JSON with their length in front.

The receiver trusts nothing: a damaged or hostile sender can make it raise ``WireError``, and no more. There is no
pickle, no code, and a limit on the number of bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped
from mixrag.corpus.passage import Block, BlockKind, Document, Scalar

LENGTH = struct.Struct(">Q")
"""Of the length, in bytes, in front of each frame."""
SIZE = "#"
"""Key under which a received message has its own length in bytes."""
TIMEOUT_MARK = b"Timeout ("
"""What faulthandler writes on standard error before it ends a process."""
_BATCH_CHARACTERS = 2**20
_BATCH_DOCUMENTS = 1000
_LARGEST_REASON = 2000
_KINDS = frozenset(get_args(BlockKind))


class WireError(ValueError):
    """What was received is not what the other side should send."""


def framed(message: Mapping[str, Any]) -> bytes:
    """A message with its length in front; halves of surrogate pairs become U+FFFD."""
    data = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    encoded = data.encode("utf-8", "replace")
    return LENGTH.pack(len(encoded)) + encoded


def unframed(data: bytes) -> dict[str, Any]:
    """The message of one frame, without its length.

    Raises:
        WireError: no JSON object in UTF-8.
    """
    try:
        message = json.loads(data.decode("utf-8"), parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise WireError("invalid JSON") from error
    if not isinstance(message, dict):
        raise WireError("no JSON object")
    return {**message, SIZE: len(data)}


def messages(result: ParseResult) -> Iterator[dict[str, Any]]:
    """A result as messages of some thousand documents or a million characters, the last one with the key "end"."""
    batch: list[Any] = []
    characters = 0
    for document in result.documents:
        batch.append(packed(document))
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield {"documents": batch}
            batch, characters = [], 0
    yield {
        "documents": batch,
        "end": True,
        "skipped": [[each.path, each.reason] for each in result.skipped],
        "notices": [[each.kind, each.count, each.detail] for each in result.notices],
    }


def documents_of(message: Mapping[str, Any]) -> list[Document]:
    """The documents in a message, each value checked.

    Raises:
        WireError: something else than ``messages`` writes.
    """
    return [document_of(each) for each in _list(message.get("documents"))]


def result_of(documents: list[Document], end: Mapping[str, Any]) -> ParseResult:
    """The result that ``messages`` wrote, whose last message is ``end``.

    Raises:
        WireError: something else than ``messages`` writes.
    """
    skipped = [Skipped(*_texts(each, 2)) for each in _list(end.get("skipped"))]
    return ParseResult(tuple(documents), tuple(skipped), tuple(map(_notice, _list(end.get("notices")))))


def reason_of(message: Mapping[str, Any]) -> tuple[str, str, str]:
    """Expected, found and remedy of a message with the key "error".

    Raises:
        WireError: they are not three texts.
    """
    expected, found, remedy = (text[:_LARGEST_REASON] for text in _texts(message.get("error"), 3))
    return expected, found, remedy


def packed(document: Document) -> list[Any]:
    """A document as JSON has it; ``document_of`` reads it."""
    blocks = [[b.start, b.end, b.kind, b.level, b.page, b.place, b.caption] for b in document.blocks]
    return [document.text, document.id, document.title, dict(document.metadata), blocks]


def document_of(given: Any) -> Document:
    """The document that ``packed`` wrote, each value checked.

    Raises:
        WireError: something else.
    """
    text, id_, title, metadata, blocks = _list(given, 5)
    if not isinstance(metadata, dict) or not all(map(_is_scalar, metadata.values())):
        raise WireError("metadata that are no scalars")
    _texts([text, title], 2)
    if id_ is not None and not isinstance(id_, str):
        raise WireError("an id that is no text")
    found: list[Block] = []
    end = 0
    for each in _list(blocks):
        block = _block(each, end, len(text))
        found.append(block)
        end = block.end
    return Document(text, id_, title, metadata, tuple(found))


def _block(given: Any, after: int, length: int) -> Block:
    start, end, kind, level, page, place, caption = _list(given, 7)
    numbers = (start, end, level, 0 if page is None else page)
    if not all(type(number) is int for number in numbers) or not after <= start < end <= length:
        raise WireError("blocks that are not in the order of the text")
    if kind not in _KINDS or not isinstance(place, str) or not isinstance(caption, str):
        raise WireError("a block of no known kind")
    return Block(start, end, kind, level, page, place, caption)


def _notice(given: Any) -> Notice:
    kind, count, detail = _list(given, 3)
    _texts([kind, detail], 2)
    if type(count) is not int:
        raise WireError("a count that is no number")
    return Notice(kind[:_LARGEST_REASON], count, detail[:_LARGEST_REASON])


def _texts(given: Any, count: int) -> list[str]:
    """So many texts that can be stored: JSON may escape half of a surrogate pair."""
    texts = _list(given, count)
    for text in texts:
        if not isinstance(text, str):
            raise WireError("no text")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise WireError("a lone surrogate") from error
    return texts


def _list(given: Any, count: int | None = None) -> list[Any]:
    if not isinstance(given, list) or (count is not None and len(given) != count):
        raise WireError("no list" if count is None else f"no list of {count}")
    return given


def _is_scalar(value: Scalar | Any) -> bool:
    return not (isinstance(value, float) and not math.isfinite(value)) and (
        value is None or isinstance(value, str | int | float)
    )


def _refused(constant: str) -> None:
    raise WireError(f"the number {constant}")

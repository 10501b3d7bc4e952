"""E-mail: one message of an EML file, or each of an MBOX file, with sender, recipients and date."""

from __future__ import annotations

import re
from contextlib import suppress
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from itertools import pairwise

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.encoding import html_encoding
from mixrag.corpus.parsers.office.page import add_page, decoded
from mixrag.corpus.parsers.office.tally import Tally, finish
from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped, UnreadableError
from mixrag.corpus.passage import Document, Scalar

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_MOST_PARTS = 1000
_LEAST_PLAIN = 50
"""A page is at most so many times longer than the plain text that says the same."""
_SEPARATOR = re.compile(rb"^From [^\r\n]*\r?\n(?=[!-9;-~]+:)", re.MULTILINE)
_SPACE = re.compile(r"\s+")


def read_mail(data: bytes, name: str) -> ParseResult:
    """The message of an EML file.

    Raises:
        UnreadableError: it has no text.
    """
    return _Reader().result(data)


def read_mailbox(data: bytes, name: str) -> ParseResult:
    """The messages of an MBOX file, numbered from 1.

    Raises:
        UnreadableError: no message has text.
    """
    starts = [match.start() for match in _SEPARATOR.finditer(data)]
    documents: list[Document] = []
    skipped: list[Skipped] = []
    counts: dict[str, int] = {}
    for number, (start, end) in enumerate(pairwise([*starts, len(data)]), start=1):
        message = re.sub(rb"^>(>*From )", rb"\1", data[start:end].partition(b"\n")[2], flags=re.MULTILINE)
        try:
            result = _Reader().result(message, str(number))
        except UnreadableError as error:
            line = data.count(b"\n", 0, start) + 1
            skipped.append(Skipped(f"{name}:{line}", str(error)))
            continue
        documents += result.documents
        for notice in result.notices:
            counts[notice.kind] = counts.get(notice.kind, 0) + notice.count
    if not documents:
        raise UnreadableError("a mailbox with messages", "none with text", "leave it out")
    notices = tuple(Notice(kind, count, f"{kind} were left out") for kind, count in counts.items())
    return ParseResult(tuple(documents), tuple(skipped), notices)


class _Reader:
    def __init__(self) -> None:
        self.builder, self.tally = DocumentBuilder(), Tally()
        self.files: list[str] = []

    def result(self, data: bytes, id: str | None = None) -> ParseResult:
        message = message_from_bytes(data, policy=policy.compat32)
        self._head(message)
        self._parts(message)
        names = ", ".join(self.files[:5])
        self.tally.add("attachments", len(self.files), f"attachments were left out: {names}")
        result = finish(self.builder, self.tally)
        document = self.builder.document(_header(message, "Subject"), _metadata(message), id)
        return ParseResult((document,), notices=result.notices)

    def _head(self, message: Message) -> None:
        lines = ((name, _header(message, name)) for name in _SHOWN)
        self.builder.paragraph("\n".join(f"{name}: {text}" for name, text in lines if text))

    def _parts(self, message: Message) -> None:
        """Texts of a message, those of forwarded messages among them; of alternatives the plain one."""
        waiting: list[Message] = [message]
        seen = 0
        while waiting:
            part = waiting.pop()
            seen += 1
            if seen > _MOST_PARTS:
                self.tally.add("parts of messages", 1 + len(waiting))
                return
            inner = part.get_payload() if part.is_multipart() else []
            children = [each for each in inner if isinstance(each, Message)] if isinstance(inner, list) else []
            kind = part.get_content_type()
            if kind == "message/rfc822" and children:
                self._head(children[0])
                waiting.append(children[0])
            elif kind == "multipart/alternative" and children:
                waiting.append(_best(children))
            elif children:
                waiting += reversed(children)
            else:
                self._text(part, kind)

    def _text(self, part: Message, kind: str) -> None:
        if part.get_content_disposition() == "attachment" or kind not in ("text/plain", "text/html"):
            if not part.is_multipart():
                self.files.append(_file_name(part) or kind)
            return
        payload = part.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
        charset = _parameter(part, "charset")
        text = decoded(data, charset or (html_encoding(data) if kind == "text/html" else ""), self.tally)
        if kind == "text/html":
            add_page(self.builder, text, self.tally)
            return
        if _parameter(part, "format").lower() == "flowed":
            text = _unflowed(text, _parameter(part, "delsp").lower() == "yes")
        for paragraph in re.split(r"\r?\n[ \t]*\r?\n", text):
            self.builder.paragraph(paragraph)


def _best(children: list[Message]) -> Message:
    """Of alternatives the plain text, unless it only says that there is a page; else the page, else the last."""
    sizes = {kind: (_size(each), each) for each in children for kind in [each.get_content_type()] if _size(each)}
    plain, page = sizes.get("text/plain"), sizes.get("text/html")
    if plain and (not page or plain[0] * _LEAST_PLAIN >= page[0]):
        return plain[1]
    nested = [each for each in children if each.is_multipart()]
    return page[1] if page else (nested or children)[-1]


def _size(part: Message) -> int:
    payload = part.get_payload(decode=True)
    return len(payload.strip()) if isinstance(payload, bytes) else 0


def _header(message: Message, name: str) -> str:
    """A header on one line, its encoded words decoded; as it stands where that fails."""
    raw = message.get(name)
    if raw is None:
        return ""
    try:
        text = str(make_header(decode_header(raw)))
    except (LookupError, ValueError, UnicodeError, AttributeError):
        text = str(raw)
    # Bytes outside ASCII that no header may have: UTF-8 in most cases.
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _SPACE.sub(" ", text).strip()


def _metadata(message: Message) -> dict[str, Scalar]:
    """Sender, recipients and date (ISO 8601) of a message."""
    found = {"from": _header(message, "From"), "to": _header(message, "To"), "date": _header(message, "Date")}
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        found["date"] = parsedate_to_datetime(found["date"]).isoformat()
    return {name: text for name, text in found.items() if text}


def _parameter(part: Message, name: str) -> str:
    try:
        found = part.get_param(name)
    except (LookupError, ValueError, UnicodeError):
        return ""
    text = found[2] if isinstance(found, tuple) else found
    return text.strip() if isinstance(text, str) else ""


def _file_name(part: Message) -> str:
    try:
        return _SPACE.sub(" ", part.get_filename() or "")[:80]
    except (LookupError, ValueError, UnicodeError):
        return ""


def _unflowed(text: str, deletes_space: bool) -> str:
    """Lines that end with a space joined to the next (RFC 3676)."""
    out: list[str] = []
    for line in text.splitlines():
        line = line[1:] if line.startswith(" ") else line
        if out and out[-1].endswith(" ") and out[-1] != "-- " and not line.startswith(">"):
            out[-1] = (out[-1][:-1] if deletes_space else out[-1]) + line
        else:
            out.append(line)
    return "\n".join(out)

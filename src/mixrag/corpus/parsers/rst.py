"""reStructuredText: headings, paragraphs, lists and literal blocks; marks of the language are taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile, takewhile

from mixrag.corpus.parsers.builder import DocumentBuilder
from mixrag.corpus.parsers.cleaning import plain_characters
from mixrag.corpus.parsers.encoding import decode_text
from mixrag.corpus.parsers.plain import Headings, one_text, paragraphs
from mixrag.corpus.parsers.result import ParseResult
from mixrag.corpus.parsers.titles import useful_title

_LITERAL = frozenset(("code", "code-block", "sourcecode", "parsed-literal", "math", "doctest", "prompt"))
_DIRECTIVE = re.compile(r"(\s*)\.\. ([\w:-]+?)::[ \t]*(.*)")
_INVISIBLE = re.compile(r"\s*\.\.(?: .*)?")
_FOOTNOTE = re.compile(r"\s*\.\. (\[[^\]]+\] .*)")
_OPTION = re.compile(r"\s*:[\w-]+:(?:\s.*)?")
_BULLET = re.compile(r"\s*(?:[-*+•]|\(?(?:\d{1,3}|#|[a-zA-Z])[.)])\s+\S")
_BORDER = re.compile(r"\s*(?:\+[-=+]+\+|=+(?: +=+)+)\s*")
_INLINE = re.compile(
    r":[\w:-]+:`([^`<]+?)\s*(?:<[^`]*>)?`|`([^`<]+?)\s*<[^`]*>`__?|``(.+?)``|`([^`]+)`_{0,2}"
    r"|\*\*(\S(?:[^*]*\S)?)\*\*|(?<!\w)\*(\S(?:[^*]*\S)?)\*|\|(\w[\w ]*\w)\|_{0,2}"
)


def read_rst(data: bytes, name: str) -> ParseResult:
    """One document; its title is the first heading. Comments, targets and options of directives are left out.

    Raises:
        UnreadableError: binary data, or no text.
    """
    text, notices = decode_text(data)
    builder, headings, first = DocumentBuilder(), Headings(), ""
    for literal, lines in _blocks(plain_characters(text).expandtabs(8).split("\n")):
        if literal or any(map(_BORDER.fullmatch, lines)):
            builder.code(_dedented(lines))
            continue
        title, level, used = headings.title(lines)
        if used:
            first = first or inline(title)
            builder.heading(inline(title), level)
        rest = lines[used:]
        if rest and _BULLET.match(rest[0]):
            builder.items(list(map(inline, _items(rest))))
        else:
            builder.paragraph(inline("\n".join(line.strip() for line in rest)))
    return one_text(builder, notices, useful_title(first))


def inline(text: str) -> str:
    """The text without the marks of roles, references, literals and emphasis."""
    return _INLINE.sub(lambda found: next(filter(None, found.groups()), ""), text)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Paragraphs without what is invisible, and literal blocks, which are marked."""
    waiting: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        end = _end_of_indented(lines, number, _indent(line)) if ".." in line or "::" in line else number
        directive = _DIRECTIVE.fullmatch(line)
        literal = directive is not None and directive[2].lower() in _LITERAL
        if directive and not literal:  # a note, a figure, a table: its argument, and the text below
            waiting += ["", directive[3], ""]
            number += sum(1 for _ in takewhile(_OPTION.fullmatch, lines[number:end]))
        elif note := _FOOTNOTE.fullmatch(line):
            waiting += ["", note[1]]
        elif _INVISIBLE.fullmatch(line) and not literal:
            number = end
        elif literal or line.rstrip().endswith("::"):
            waiting += [] if literal else [re.sub(r"\s*::\s*$", ":" if line.strip() != "::" else "", line)]
            yield from ((False, paragraph) for paragraph in paragraphs(waiting))
            yield True, list(dropwhile(_OPTION.fullmatch, lines[number:end]) if literal else lines[number:end])
            waiting, number = [], end
        else:
            waiting.append(line)
    yield from ((False, paragraph) for paragraph in paragraphs(waiting))


def _end_of_indented(lines: Sequence[str], number: int, indent: int) -> int:
    """The line after those that are blank or indented more than ``indent`` spaces."""
    while number < len(lines) and (not lines[number].strip() or _indent(lines[number]) > indent):
        number += 1
    return number


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _items(lines: Sequence[str]) -> list[str]:
    items: list[str] = []
    for line in lines:
        if _BULLET.match(line) or not items:
            items.append(line)
        else:
            items[-1] = f"{items[-1]} {line.strip()}"
    return items


def _dedented(lines: Sequence[str]) -> str:
    indents = [_indent(line) for line in lines if line.strip()]
    return "\n".join(line[min(indents, default=0) :] for line in lines)

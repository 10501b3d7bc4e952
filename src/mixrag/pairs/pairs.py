"""Question-answer pairs: what training learns from and evaluation scores against.

A file holds one JSON object a line: ``{"question", "answers": [...], "doc", "where": {...}}``. A string or a list
under "answer" (as in NQ-open) does as well as a list under "answers"; "doc" and "where" may be missing, and other
keys are ignored. A file of one JSON object with "data" is read as SQuAD's (``squad.py``).

Where passages are asked for, as training by the composite likelihood does, a line may have its own: the text under
"passage" with its "title". Its list of answers may be empty, which means that the passage does not state one.
Where questions without an answer are asked for, as a guarantee does, any list may be empty: no document says it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from mixrag.config.filters import filter_text
from mixrag.errors import PairsError, SettingError
from mixrag.pairs.matching import normalise
from mixrag.pairs.squad import squad_rows
from mixrag.utils.text import printable_name

T = TypeVar("T")
_FORM = '{"question": "...", "answers": ["..."], "doc": "FILE"} on every line'
_FIX = "correct or remove this line"
IN_MEMORY = "pairs in memory"


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the answers that are right. Equality is that of the content, wherever it was read."""

    question: str
    answers: tuple[str, ...]
    """Distinct gold answers in the order of the file. None only where there is a ``passage``, or where pairs are
    read with ``unanswerable``."""
    document: str | None = None
    """File or record that holds the answer ("doc" in the file); None where it is not known."""
    where: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Only passages whose document has these metadata can answer; empty: any."""
    source: str = field(default="", compare=False)
    """"FILE:LINE", for messages."""
    passage: str | None = None
    """The text that it is asked about ("passage" in the file); None: whatever is retrieved. With it ``answers``
    may be empty: the text does not state one."""
    title: str = ""
    """Of the passage."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs from files or from memory."""

    pairs: tuple[Pair, ...]
    """In their order, at least one."""
    notices: tuple[str, ...]
    """What was done to the pairs, one line each."""
    sources: tuple[str, ...] = ()
    """Names of the files, without their folders; "pairs in memory" for others."""
    digests: tuple[str, ...] = ()
    """SHA-256 (hexadecimal) of each file; of pairs in memory, ``digest``."""


PairSource = str | Path | Iterable[str | Path | Pair | Mapping[str, Any]]
"""A file, files, or pairs in memory: ``Pair`` objects, or mappings with the keys of a line of such a file."""


def are_given(source: PairSource | None) -> TypeGuard[PairSource]:
    """False for None, and for an empty tuple, which is what a command line without such files has."""
    return not (source is None or (isinstance(source, tuple) and not source))


def pairs_from(source: PairSource, *, passages: bool = False, unanswerable: bool = False) -> Pairs:
    """The pairs of files or of memory, as ``read_pairs`` gives them.

    >>> pairs_from([{"question": "Who is it?", "answers": ["Ada", "ada"]}]).pairs[0].answers
    ('Ada', 'ada')

    Raises:
        PairsError: a file cannot be read, an item is not a pair, or there is no pair at all.
    """
    if isinstance(source, (str, Path)):
        return read_pairs([Path(source)], passages=passages, unanswerable=unanswerable)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        single = f"a single {type(source).__name__}"
        raise PairsError("a path, paths, or question-answer pairs", single, "give a list of pairs")
    items: list[Any] = (
        source.to_dict("records") if hasattr(source, "to_dict") else list(source)
    )  # a DataFrame's rows
    paths = [Path(item) for item in items if isinstance(item, (str, Path))]
    if paths and len(paths) == len(items):
        return read_pairs(paths, passages=passages, unanswerable=unanswerable)
    found = [
        _from_memory(item, _Line(f"pairs[{number}]", passages, unanswerable)) for number, item in enumerate(items)
    ]
    return replace(_collected(found, [], (IN_MEMORY,)), digests=(digest(found),))


def read_pairs(paths: Sequence[Path], *, passages: bool = False, unanswerable: bool = False) -> Pairs:
    """Read JSONL files of pairs (UTF-8; blank lines are ignored).

    Pairs of one question, document and filter become one with the answers of all. ``passages``: pairs may have
    a passage of their own; else that key is ignored like any other. ``unanswerable``: pairs may have no answer.

    Raises:
        PairsError: a file cannot be read, a line is not a pair, or there is no pair at all.
    """
    files = [_read_file(path, passages, unanswerable) for path in paths]
    read = [pair for file in files for pair in file.pairs]
    notices = [notice for file in files for notice in file.notices]
    found = _collected(read, notices, tuple(printable_name(path.name) for path in paths), paths)
    return replace(found, digests=tuple(file.sha256 for file in files))


def _from_memory(item: Any, line: _Line) -> Pair:
    if isinstance(item, Pair):
        line = replace(line, source=item.source or line.source)
        # Checked as a line is: an object is made without checks.
        item = {
            "question": item.question,
            "answers": list(item.answers),
            "doc": item.document,
            "where": item.where,
            "passage": item.passage,
            "title": item.title,
        }
    if not isinstance(item, Mapping):
        raise PairsError("a Pair, or a mapping with question and answers", f"{line.source}: {_kind(item)}", _FIX)
    row = {**item, "where": dict(item["where"]) if isinstance(item.get("where"), Mapping) else item.get("where")}
    if isinstance(row.get("answers"), tuple):
        row["answers"] = list(row["answers"])
    return line.pair_of(row)


def _collected(
    read: Sequence[Pair], notices: Sequence[str], sources: tuple[str, ...], paths: Sequence[Path] = ()
) -> Pairs:
    if not read:
        found = f"none in {', '.join(map(printable_name, paths)) or 'no file'}"
        raise PairsError("at least one question-answer pair", found, f"write {_FORM}")
    groups: dict[tuple[Any, ...], list[Pair]] = defaultdict(list)
    for pair in read:
        asked_of = (pair.document, tuple(sorted(pair.where.items())), pair.passage, pair.title)
        groups[_spaced(pair.question), *asked_of].append(pair)
    merged = [
        replace(same[0], answers=_distinct([answer for pair in same for answer in pair.answers]))
        for same in groups.values()
    ]
    fewer = len(read) - len(merged)
    merges = [f"{fewer} of {len(read)} pairs repeat a question and were merged with it"] if fewer else []
    return Pairs(tuple(merged), (*notices, *merges), sources)


def split_pairs(pairs: Sequence[Pair], share: float, seed: int) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Hold out about ``share`` of the pairs: (train, dev), neither of them empty.

    Where every pair names its document, whole documents are held out, else whole questions: nothing that the
    dev pairs ask about is on both sides. Pairs with a passage of their own are held out by passage. The result is
    a function of the set of pairs and the seed.

    Raises:
        PairsError: ``share`` is not between 0 and 1, or there is but one document (or question) to split.
    """
    if not 0 < share < 1:
        raise PairsError("a held-out share between 0 and 1", f"{share}", "hold out 0.2, say")
    by_document = all(pair.document is not None for pair in pairs if pair.passage is None)
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=_content):
        asked = (by_document and pair.document) or _spaced(pair.question)
        groups[asked if pair.passage is None else f"{pair.title}\n{pair.passage}"].append(pair)
    if len(groups) < 2:
        noun = "documents" if by_document else "questions"
        remedy = "add pairs, or give held-out pairs in a file of their own"
        raise PairsError(f"pairs on at least 2 {noun} to hold some out", f"{len(groups)}", remedy)
    chosen = _held_out({name: len(group) for name, group in groups.items()}, share * len(pairs), seed)
    train = tuple(pair for name, group in groups.items() if name not in chosen for pair in group)
    return train, tuple(pair for name, group in groups.items() if name in chosen for pair in group)


def sample(items: Sequence[T], count: int, seed: int) -> list[T]:
    """At most ``count`` of the pairs (or whatever it is), chosen by the seed, in their order."""
    chosen = sorted(random.Random(seed).sample(range(len(items)), min(count, len(items))))
    return [items[i] for i in chosen]


def digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 (hexadecimal) of the pairs and their order, wherever they were read: equal pairs, equal digest."""
    return hashlib.sha256("\n".join(map(_content, pairs)).encode()).hexdigest()


def question_digest(question: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a question, normalised as answers are.

    >>> question_digest("Who issues  the licence?") == question_digest("who issues licence")
    True
    """
    return hashlib.sha256(normalise(question).encode()).hexdigest()[:16]


def as_lines(pairs: Sequence[Pair]) -> str:
    """The pairs as ``read_pairs`` reads them, one JSON object a line."""
    lines = []
    for pair in pairs:
        row = {
            "question": pair.question,
            "answers": list(pair.answers),
            "doc": pair.document,
            "where": dict(pair.where),
            "passage": pair.passage,
            "title": pair.title,
        }
        present = {key: value for key, value in row.items() if value or key == "answers"}
        lines.append(json.dumps(present, ensure_ascii=False) + "\n")
    return "".join(lines)


def _content(pair: Pair) -> str:
    content = [pair.document, pair.question, sorted(pair.where.items()), pair.answers]
    own = [] if pair.passage is None else [pair.passage, pair.title]
    return json.dumps([*content, *own], ensure_ascii=False)


def _held_out(sizes: Mapping[str, int], wanted: float, seed: int) -> set[str]:
    """Groups in a random order, each taken where it brings the number of pairs closer to ``wanted``."""
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).digest())
    chosen, count, total = set[str](), 0, sum(sizes.values())
    for name in order:
        after = count + sizes[name]
        if after < total and abs(after - wanted) < abs(count - wanted):
            chosen.add(name)
            count = after
    return chosen or {min(order, key=lambda name: sizes[name])}


def _distinct(answers: Sequence[str]) -> tuple[str, ...]:
    """Answers that are not blank, in order; of answers that differ in white space alone, the first."""
    first: dict[str, str] = {}
    for answer in answers:
        first.setdefault(_spaced(answer), answer.strip())
    return tuple(answer for spaced, answer in first.items() if spaced)


def _spaced(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True, slots=True)
class _File:
    """What one file gives."""

    pairs: Sequence[Pair]
    notices: Sequence[str]
    sha256: str


def _read_file(path: Path, passages: bool, unanswerable: bool) -> _File:
    text, sha256 = _text(path)
    data = _squad(text)
    if data is None:
        # Not splitlines: a JSON string may hold U+2028 and the like as they are.
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        name = printable_name(path)
        read = [_Line(f"{name}:{number}", passages, unanswerable).pair(line) for number, line in lines]
        return _File(read, (), sha256)
    rows = squad_rows(data, printable_name(path))
    wanted = [(source, row) for source, row in rows if row["answers"] or unanswerable]
    left_out = len(rows) - len(wanted)
    notice = f"{left_out} questions of {printable_name(path)} have no answer and were left out"
    read = [_Line(source, unanswerable=unanswerable).pair_of(row) for source, row in wanted]
    return _File(read, (notice,) if left_out else (), sha256)


def _squad(text: str) -> Any:
    """The "data" of a file that is one JSON object with that key; None for any other file."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return whole.get("data") if isinstance(whole, dict) and "question" not in whole else None


def _text(path: Path) -> tuple[str, str]:
    """The text of a file, and the SHA-256 of its bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        found = f"{printable_name(path)}: {error.strerror or error}"
        raise PairsError("a file of question-answer pairs", found, "check the path") from error
    try:
        return data.decode("utf-8-sig"), hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        found = f"{printable_name(path)}:{line}: byte 0x{error.object[error.start]:02x}"
        raise PairsError("pairs in UTF-8", found, "save the file as UTF-8") from error


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a file, which every message names."""

    source: str
    passages: bool = False
    """Whether it may have a passage of its own."""
    unanswerable: bool = False
    """Whether it may have no answer."""

    def pair(self, line: str) -> Pair:
        return self.pair_of(self._row(line))

    def pair_of(self, row: Mapping[str, Any]) -> Pair:
        question = self._string("question", row.get("question")).strip()
        if not question:
            raise self._error('a "question"', "an empty one")
        passage, title = self._passage(row)
        answers = self._answers(row, none=self.unanswerable or passage is not None)
        document = None if row.get("doc") is None else self._string("doc", row["doc"]).strip() or None
        where = {} if row.get("where") is None else row["where"]
        if not isinstance(where, dict):
            raise self._error('"where" to be an object of conditions', _kind(where))
        try:
            where = {key: filter_text(self._string("where", key), each) for key, each in sorted(where.items())}
        except SettingError as error:
            raise self._error(error.expected, error.found) from error
        for each in where.values():
            self._string("where", each)
        return Pair(question, answers, document, where, self.source, passage, title)

    def _passage(self, row: Mapping[str, Any]) -> tuple[str | None, str]:
        if not self.passages or row.get("passage") is None:
            return None, ""
        passage = self._string("passage", row["passage"]).strip()
        if not passage:
            raise self._error('text under "passage"', "an empty one")
        return passage, "" if row.get("title") is None else self._string("title", row["title"]).strip()

    def _row(self, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise self._error(f"one JSON object a line, {_FORM}", f"{error.msg}, column {error.colno}") from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
            raise self._error(f"one JSON object a line, {_FORM}", type(error).__name__) from error
        if not isinstance(row, dict):
            raise self._error(f"a JSON object, {_FORM}", _kind(row))
        return row

    def _answers(self, row: Mapping[str, Any], none: bool = False) -> tuple[str, ...]:
        listed = row.get("answers")
        if listed is not None and not isinstance(listed, list):
            raise self._error('"answers" to be a list of strings', _kind(listed))
        also = row.get("answer")
        single = also if isinstance(also, list) else [] if also is None else [also]
        single = [self._string("answer", each) for each in single]
        distinct = _distinct([*single, *(self._string("answers", each) for each in listed or [])])
        if not distinct and not none:
            raise self._error('an answer under "answers"', "none")
        return distinct

    def _string(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._error(f'strings under "{name}"', "nothing" if value is None else _kind(value))
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise self._error(f'text under "{name}"', "a NUL or half a surrogate pair")
        return value

    def _error(self, expected: str, found: str) -> PairsError:
        return PairsError(expected, f"{self.source}: {found}", _FIX)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")

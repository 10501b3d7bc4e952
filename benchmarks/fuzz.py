"""Read many damaged files of every format: nothing may crash us, hang, or lose text without a word.

    python benchmarks/fuzz.py --files 300

Each file is a sound one (``fuzz_samples.py``) after one to three seeded mutations. Text counts as lost without a
word where a sentence stands in the damaged bytes, unchanged and in the open, but not in what was read, and neither
a skipped file or record nor a notice says so.
"""

from __future__ import annotations

import argparse
import io
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz_samples import SAMPLES, zipped
from mixrag.corpus import SUFFIXES, ParseLimits, UnreadableError
from mixrag.corpus.documents import checked
from mixrag.corpus.parsers.isolation import Worker, borrowed_worker

LIMITS = ParseLimits(seconds=30.0, megabytes=1024)
_SENTENCE = re.compile(rb"harbour (mark\d+) is \d+ crowns")
_SEEN = re.compile(r"mark\d+")
_SPECIAL = (
    b"\0",
    b"\xff",
    b"<",
    b">",
    b'"',
    b"{",
    b"}",
    b"&",
    b"\\",
    b"\n",
    b"\r",
    b"9" * 20,
    b"-1",
    b"<!--",
    b"%",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one damaged file."""

    kind: str
    """"read", "refused", "crashed", "slow" or "memory"."""
    in_sight: int
    """Sentences in its bytes; 0 where they cannot be seen."""
    lost: int
    """Of these, those lost without a word."""
    seconds: float
    reason: str = ""


def names() -> list[str]:
    """The samples that some parser reads."""
    return [name for name in SAMPLES if Path(name).suffix in SUFFIXES]


def damaged(name: str, seed: int) -> tuple[bytes, set[str]]:
    """The bytes of a damaged file, and the sentences that can be seen in them."""
    random = Random(f"{name}:{seed}")
    data = SAMPLES[name]()
    for _ in range(random.choice((1, 1, 2, 3))):
        if data.startswith(b"PK") and random.random() < 0.7:
            data = _member_mutated(data, random)
        else:
            data = random.choice(MUTATIONS)(data, random)
    return data, _in_sight(data)


def outcome(worker: Worker, name: str, seed: int) -> Outcome:
    """Read one damaged file."""
    data, in_sight = damaged(name, seed)
    start = time.perf_counter()
    worker.submit(f"/fuzz/{name}", data, LIMITS)
    try:
        result = worker.collect()
    except UnreadableError as error:
        kinds = {"crashed": "crashed", "within": "slow", "memory": "memory"}
        kind = next((kind for word, kind in kinds.items() if word in f"{error.expected} {error.found}"), "refused")
        kind = "memory" if "MB of memory" in error.expected else kind
        return Outcome(kind, len(in_sight), 0, time.perf_counter() - start, str(error))
    seconds = time.perf_counter() - start
    seen: set[str] = set()
    for document in result.documents:
        checked(document, "a document")  # what the store takes
        seen.update(_SEEN.findall(document.text))
    said = bool(result.skipped or result.notices)
    return Outcome("read", len(in_sight), 0 if said else len(in_sight - seen), seconds)


def run(name: str, seeds: Iterable[int]) -> list[Outcome]:
    """Read many damaged files of one format."""
    with borrowed_worker() as worker:
        return [outcome(worker, name, seed) for seed in seeds]


def lost_share(outcomes: Iterable[Outcome]) -> float:
    """Share of the sentences in sight that were lost without a word."""
    found = list(outcomes)
    return sum(each.lost for each in found) / max(1, sum(each.in_sight for each in found))


# mutations


def _flip(data: bytes, random: Random) -> bytes:
    found = bytearray(data)
    for _ in range(random.choice((1, 4, 20))):
        if found:
            found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _slice(data: bytes, random: Random, most: int) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.randrange(1, most))


def _cut(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random, 200)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random, 100)
    return data[:end] + data[start:end] * random.choice((1, 10, 1000)) + data[end:]


def _splice(data: bytes, random: Random) -> bytes:
    start, end = _slice(data, random, 400)
    place = random.randrange(len(data) + 1)
    return data[:place] + data[start:end] + data[place:]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice((*_SPECIAL, random.randbytes(8))) + data[place:]


def _nest(data: bytes, random: Random) -> bytes:
    """A piece from one mark to the next, such as a tag or a bracket, thousands of times."""
    place = max(data.find(mark, random.randrange(len(data) + 1)) for mark in (b"<", b"{", b"(", b"["))
    return data[:place] + data[place : place + 12] * 3000 + data[place:] if place >= 0 else data


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip,
    _truncate,
    _cut,
    _repeat,
    _splice,
    _insert,
    _nest,
)


def _member_mutated(data: bytes, random: Random) -> bytes:
    """An archive with one of its parts mutated, or gone."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return _flip(data, random)
    chosen = random.choice(sorted(parts))
    if random.random() < 0.1:
        del parts[chosen]
    else:
        parts[chosen] = random.choice(MUTATIONS)(parts[chosen], random)
    return zipped(parts)


def _in_sight(data: bytes) -> set[str]:
    """Marks of the sentences that stand in the bytes, or in the parts of a sound archive."""
    texts = [data]
    if data.startswith(b"PK"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                texts = [archive.read(name) for name in archive.namelist()]
        except Exception:
            return set()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        texts = [data.decode("utf-16", "replace").encode()]
    return {mark.decode() for text in texts for mark in _SENTENCE.findall(text)}


def main() -> None:
    """Print a line for each format, and what was worst in it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", type=int, default=300, help="damaged files of each format")
    options.add_argument("--format", help="one sample only, such as a.pdf")
    given = options.parse_args()
    print("sample        read refused crashed slow memory  lost without a word  slowest")
    for name in [given.format] if given.format else names():
        found = run(name, range(given.files))
        counts = Counter(each.kind for each in found)
        shown = " ".join(f"{counts[kind]:7}" for kind in ("read", "refused", "crashed", "slow", "memory"))
        slowest = max(each.seconds for each in found)
        print(f"{name:12}{shown}   {lost_share(found):8.2%}   {slowest:8.2f} s", flush=True)
        for seed, each in enumerate(found):
            if each.kind not in ("read", "refused") or each.lost > 4:
                print(f"    seed {seed}: {each.kind}, {each.lost} of {each.in_sight} lost {each.reason[:120]}")


if __name__ == "__main__":
    main()

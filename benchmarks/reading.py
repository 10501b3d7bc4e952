"""How fast files of each format are read, in one process, with kreuzberg alone as the peer.

    python benchmarks/reading.py [--sentences 4000] [--rounds 3]

The files are made here: so many sentences of about eleven words, as paragraphs, rows or slides. MB are those of
the text that was read; passages are those of the default splitter, with an estimate of tokens, no tokenizer.
kreuzberg gives plain text and no passages; "-" where it reads no such file.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import fuzz_samples
from mixrag.corpus.parsers.registry import ParserRegistry
from mixrag.corpus.passage import Document
from mixrag.corpus.splitters import StructureSplitter
from side_by_side import seconds

_OFFICE = "application/vnd.openxmlformats-officedocument"
_MIME = {
    "pdf": "application/pdf",
    "docx": f"{_OFFICE}.wordprocessingml.document",
    "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    "pptx": f"{_OFFICE}.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "epub": "application/epub+zip",
    "eml": "message/rfc822",
    "rtf": "application/rtf",
    "html": "text/html",
    "md": "text/markdown",
    "csv": "text/csv",
    "json": "application/json",
    "xml": "application/xml",
    "tex": "application/x-latex",
    "txt": "text/plain",
}


def main() -> None:
    """Make, read, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| format | text, MB | ours, MB/s | passages/s | kreuzberg, MB/s | ours / kreuzberg |")
    print("| --- | --- | --- | --- | --- | --- |")
    for suffix, data in files(options.sentences).items():
        documents = read(suffix, data)
        megabytes = sum(len(document.text.encode()) for document in documents) / 2**20
        count = len(passages(documents))
        ours, peer = alternately(lambda s=suffix, d=data: read(s, d), peer_of(suffix, data), options.rounds)  # type: ignore[misc]
        whole = ours + seconds(lambda d=documents: passages(d))  # type: ignore[misc]
        cells = [f"{megabytes:.2f}", f"{megabytes / ours:.1f}", f"{count / whole:,.0f}"]
        cells += ["-", "-"] if peer is None else [f"{megabytes / peer:.1f}", f"{peer / ours:.2f}"]
        print(f"| {suffix} | {' | '.join(cells)} |", flush=True)


def files(sentences: int) -> dict[str, bytes]:
    """A file of every format, by its suffix."""
    words = fuzz_samples.WORDS
    fuzz_samples.SENTENCES[:] = [
        f"The {words[n % len(words)]} of harbour mark{n} is {n + 3} crowns, and was {n} a year before."
        for n in range(sentences)
    ]
    pages = max(1, sentences // 40)
    made = {name.removeprefix("a."): make for name, make in fuzz_samples.SAMPLES.items() if name.startswith("a.")}
    made["pdf"] = lambda: fuzz_samples.pdf(pages)
    return {suffix: made[suffix]() for suffix in _MIME}


def read(suffix: str, data: bytes) -> tuple[Document, ...]:
    """The documents of a file."""
    return ParserRegistry().parse(Path(f"a.{suffix}"), data).documents


def passages(documents: tuple[Document, ...]) -> list[tuple[int, int]]:
    """Spans of all passages."""
    splitter = StructureSplitter()
    return [span for document in documents for span in splitter.split_document(document)]


def peer_of(suffix: str, data: bytes) -> Callable[[], object] | None:
    """Reads the same file with kreuzberg; None where it cannot."""
    import kreuzberg

    config = kreuzberg.ExtractionConfig(use_cache=False, output_format="plain")
    mime = _MIME[suffix]
    try:
        kreuzberg.extract_bytes_sync(data, mime, config=config)
    except Exception:
        return None
    return lambda: kreuzberg.extract_bytes_sync(data, mime, config=config)


def alternately(
    ours: Callable[[], object], peer: Callable[[], object] | None, rounds: int
) -> tuple[float, float | None]:
    """Medians of the seconds of both, taken in turn."""
    times = [(seconds(ours), seconds(peer) if peer else None) for _ in range(rounds)]
    other = [second for _, second in times if second is not None]
    return statistics.median(first for first, _ in times), statistics.median(other) if other else None


if __name__ == "__main__":
    main()

"""Engines of lexical search on synthetic passages (words.py): ours, SQLite's FTS5, tantivy and bm25s.

    python benchmarks/lexical.py [--passages 100000] [--engines ours,fts5,trigram,tantivy,bm25s]
    python benchmarks/lexical.py --passages 1000000 --engines postings

Each counts all passages, answers questions of ten words with the ten best passages, takes one passage more and
loses one. Times of questions are processor time, one after the other. tantivy and bm25s are no dependencies: where
one is not installed, its row is left out. "all scores" is the time in which an engine gives the scores of all
passages; "-" where it gives those of the best only. Ours finds the best among the scores of all, which
the prior needs. "postings" is ours without a store.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mixrag.corpus import Document, Store
from mixrag.corpus.store.prepared import NewPassage, ParsedFile, SplitDocument, text_hash
from mixrag.retrieval.lexical import LexicalIndex, Scored, inverted, open_lexical, opening
from mixrag.retrieval.lexical.postings import Block
from words import ASKED, LENGTH, Vocabulary

BEST, QUESTIONS, WARM = 10, 100, 30


class Engine(Protocol):
    def build(self, texts: Iterable[str], folder: Path) -> None: ...

    def top(self, question: str) -> Any: ...

    def add(self, text: str) -> None: ...

    def remove(self) -> None: ...


class Ours:
    """The store with its postings; removal and addition are of a document."""

    store: Store
    index: LexicalIndex

    def build(self, texts: Iterable[str], folder: Path) -> None:
        opening.FILE_LIMIT = 0
        self.store = Store.open(folder / "store", create=True)
        fill(self.store, texts)
        self.index = open_lexical(self.store)

    def top(self, question: str) -> Any:
        return Scored(*self.index.scores(question)).best(BEST)

    def every(self, question: str) -> Any:
        return self.index.scores(question)

    def add(self, text: str) -> None:
        fill(self.store, [text], "added")
        self.index = open_lexical(self.store)

    def remove(self) -> None:
        self.store.remove(Path("/added-0"))
        self.index = open_lexical(self.store)


def fill(store: Store, texts: Iterable[str], name: str = "many", block: int = 2000) -> None:
    """Write passages without vectors, ``block`` of them a file."""
    rest = iter(texts)
    for number in range(10**9):
        found = list(islice(rest, block))
        if not found:
            return
        document = Document(f"{name} {number}")
        passages = tuple(NewPassage(0, 1, text, text_hash(text), None, "", "") for text in found)
        split = SplitDocument(document, f"{name}-{number}", passages)
        store.put([ParsedFile(f"/{name}-{number}", "", "", (split,))])


class Counted:
    """Our postings of drawn words, without a store and without taking texts apart: quick for a million."""

    def __init__(self, passages: int) -> None:
        self.vocabulary, self.passages = Vocabulary.of(passages), passages

    def build(self, texts: Iterable[str], folder: Path) -> None:
        numbers = {word: number for number, word in enumerate(self.vocabulary.words.tolist())}
        postings = inverted(self._blocks())
        self.index = LexicalIndex(
            inverted(()), postings, None, lambda asked: {word: numbers[word] for word in asked if word in numbers}
        )

    def _blocks(self) -> Iterator[Block]:
        first = 0
        for drawn in self.vocabulary.drawn(self.passages, LENGTH, seed=0):
            rows = np.arange(first, first + len(drawn))
            yield rows, np.full(len(drawn), LENGTH), drawn.ravel().astype(np.uint32)
            first += len(drawn)

    def top(self, question: str) -> Any:
        return Scored(*self.index.scores(question)).best(BEST)

    def every(self, question: str) -> Any:
        return self.index.scores(question)

    def add(self, text: str) -> None:
        pass

    def remove(self) -> None:
        pass


class FTS5:
    def __init__(self, tokenizer: str) -> None:
        self.tokenizer = tokenizer

    def build(self, texts: Iterable[str], folder: Path) -> None:
        self.db = sqlite3.connect(folder / "fts.sqlite")
        self.db.execute(f"CREATE VIRTUAL TABLE lexicon USING fts5 (text, tokenize = '{self.tokenizer}')")
        self.db.executemany("INSERT INTO lexicon (text) VALUES (?)", ((text,) for text in texts))
        self.db.commit()

    def top(self, question: str) -> Any:
        asked = " OR ".join(f'"{word}"' for word in dict.fromkeys(question.split()))
        sql = (
            "SELECT rowid, -bm25(lexicon) AS score FROM lexicon WHERE lexicon MATCH ? ORDER BY score DESC LIMIT ?"
        )
        return self.db.execute(sql, (asked, BEST)).fetchall()

    def every(self, question: str) -> Any:
        asked = " OR ".join(f'"{word}"' for word in dict.fromkeys(question.split()))
        return self.db.execute(
            "SELECT rowid, -bm25(lexicon) FROM lexicon WHERE lexicon MATCH ?", (asked,)
        ).fetchall()

    def add(self, text: str) -> None:
        self.db.execute("INSERT INTO lexicon (text) VALUES (?)", (text,))
        self.db.commit()

    def remove(self) -> None:
        self.db.execute("DELETE FROM lexicon WHERE rowid = 1")
        self.db.commit()


class Tantivy:
    def build(self, texts: Iterable[str], folder: Path) -> None:
        self.module: Any = import_module("tantivy")
        (folder / "tantivy").mkdir()
        builder = self.module.SchemaBuilder()
        builder.add_integer_field("id", stored=True, indexed=True)
        builder.add_text_field("text", stored=False, tokenizer_name="en_stem")
        self.engine = self.module.Index(builder.build(), path=str(folder / "tantivy"))
        self.writer = self.engine.writer(heap_size=200_000_000, num_threads=1)
        for number, text in enumerate(texts):
            self.writer.add_document(self.module.Document(id=number, text=text))
        self._commit()

    def _commit(self) -> None:
        self.writer.commit()
        self.engine.reload()
        self.searcher = self.engine.searcher()

    def top(self, question: str) -> Any:
        return self.searcher.search(self.engine.parse_query(question, ["text"]), BEST).hits

    def add(self, text: str) -> None:
        self.writer.add_document(self.module.Document(id=-1, text=text))
        self._commit()

    def remove(self) -> None:
        self.writer.delete_documents_by_term("id", 1)
        self._commit()


class BM25S:
    """It counts all passages again where one is added or removed."""

    def build(self, texts: Iterable[str], folder: Path) -> None:
        self.module: Any = import_module("bm25s")
        self.stemmer = import_module("Stemmer").Stemmer("english")
        self.texts, self.folder = list(texts), folder
        self._count()

    def _count(self) -> None:
        tokens = self.module.tokenize(self.texts, stopwords=None, stemmer=self.stemmer, show_progress=False)
        self.engine = self.module.BM25(method="lucene", k1=1.2, b=0.75)
        self.engine.index(tokens, show_progress=False)
        self.engine.save(self.folder / "bm25s")

    def top(self, question: str) -> Any:
        asked = self.module.tokenize([question], stopwords=None, stemmer=self.stemmer, show_progress=False)
        return self.engine.retrieve(asked, k=BEST, show_progress=False)

    def every(self, question: str) -> Any:
        return self.engine.get_scores(self.stemmer.stemWords(question.split()))

    def add(self, text: str) -> None:
        self.texts.append(text)
        self._count()

    def remove(self) -> None:
        self.texts.pop()
        self._count()


ENGINES: dict[str, Callable[[int], Engine]] = {
    "ours": lambda _: Ours(),
    "postings": Counted,
    "fts5": lambda _: FTS5("porter unicode61 remove_diacritics 2"),
    "trigram": lambda _: FTS5("trigram"),
    "tantivy": lambda _: Tantivy(),
    "bm25s": lambda _: BM25S(),
}


def main() -> None:
    """Print a row for each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--engines", default="ours,fts5,trigram,tantivy,bm25s")
    options = parser.parse_args()
    vocabulary = Vocabulary.of(options.passages)
    questions = list(vocabulary.texts(WARM + QUESTIONS, ASKED, seed=1))
    print(f"{options.passages:,} passages of {LENGTH} words, questions of {ASKED}\n")
    heads = ("engine", "index s", "MB", "best 10: median ms", "p95", "all scores: median ms", "p95", "add 1: ms")
    print(f"| {' | '.join(heads)} | remove 1: ms |\n{'| --- ' * 9}|")
    for name in options.engines.split(","):
        with tempfile.TemporaryDirectory() as folder:
            try:
                cells = measured(
                    ENGINES[name](options.passages), vocabulary, options.passages, questions, Path(folder)
                )
                print(f"| {name} | {' | '.join(cells)} |", flush=True)
            except ModuleNotFoundError as error:
                print(f"{name} is left out: {error}")


def measured(
    engine: Engine, vocabulary: Vocabulary, passages: int, questions: list[str], folder: Path
) -> list[str]:
    """The cells of one row."""
    start = time.perf_counter()
    engine.build(vocabulary.texts(passages, LENGTH, seed=0), folder)
    built = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    every = getattr(engine, "every", None)
    added = seconds(lambda: engine.add("zebrk " * LENGTH))
    return [
        f"{built:.1f}",
        f"{size:.0f}",
        *times(engine.top, questions),
        *(times(every, questions) if every else ("-", "-")),
        f"{1000 * added:.0f}",
        f"{1000 * seconds(engine.remove):.0f}",
    ]


def times(ask: Callable[[str], Any], questions: list[str]) -> tuple[str, str]:
    """Median and 95th percentile of processor time, which other work on the machine does not lengthen, in ms."""
    for question in questions[:WARM]:
        ask(question)
    found = []
    for question in questions[WARM:]:
        start = time.process_time()
        ask(question)
        found.append(1000 * (time.process_time() - start))
    return f"{np.median(found):.2f}", f"{np.percentile(found, 95):.2f}"


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

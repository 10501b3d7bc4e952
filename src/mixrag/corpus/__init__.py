"""The corpus floor: files to passages, kept with their vectors in one SQLite file."""

from mixrag.corpus.ingest import IndexReport, ingest, title_and_text
from mixrag.corpus.parsers.registry import SUFFIXES, read
from mixrag.corpus.parsers.result import ParseResult, Skipped, UnreadableError
from mixrag.corpus.passage import Document, Passage, Scalar
from mixrag.corpus.splitters import SentenceSplitter, Splitter, WordSplitter, splitter_named
from mixrag.corpus.store.changes import Removed
from mixrag.corpus.store.database import Counts, DocumentRecord, EncoderRecord, Store
from mixrag.corpus.store.search import Stretch
from mixrag.corpus.store.vectors import check_encoder
from mixrag.corpus.walk import Found, find_files

__all__ = [
    "SUFFIXES",
    "Counts",
    "Document",
    "DocumentRecord",
    "EncoderRecord",
    "Found",
    "IndexReport",
    "ParseResult",
    "Passage",
    "Removed",
    "Scalar",
    "SentenceSplitter",
    "Skipped",
    "Splitter",
    "Store",
    "Stretch",
    "UnreadableError",
    "WordSplitter",
    "check_encoder",
    "find_files",
    "ingest",
    "read",
    "splitter_named",
    "title_and_text",
]

"""The corpus: documents to passages, stored with their vectors in one SQLite file."""

from mixrag.corpus.documents import content_id, documents_in, documents_of_texts
from mixrag.corpus.ingest import add_documents, ingest
from mixrag.corpus.parsers.isolation import DEFAULT_LIMITS, ParseLimits
from mixrag.corpus.parsers.protocol import Parser
from mixrag.corpus.parsers.registry import SUFFIXES, ParserRegistry, read
from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped, UnreadableError
from mixrag.corpus.passage import Document, Passage, Scalar, title_and_text
from mixrag.corpus.report import IndexReport, ReportedNotice
from mixrag.corpus.splitters import (
    SentenceSplitter,
    Splitter,
    StructureSplitter,
    Tokens,
    WordSplitter,
    splitter_named,
    splitter_stored,
)
from mixrag.corpus.store.changes import Removed
from mixrag.corpus.store.contents import DocumentRecord, Extent
from mixrag.corpus.store.database import Counts, Store
from mixrag.corpus.store.search import Stretch
from mixrag.corpus.store.stored_vectors import EncoderRecord
from mixrag.corpus.store.vectors import check_encoder
from mixrag.corpus.walk import FoundFiles, find_files

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "Counts",
    "Document",
    "DocumentRecord",
    "EncoderRecord",
    "Extent",
    "FoundFiles",
    "IndexReport",
    "Notice",
    "ParseLimits",
    "ParseResult",
    "Parser",
    "ParserRegistry",
    "Passage",
    "Removed",
    "ReportedNotice",
    "Scalar",
    "SentenceSplitter",
    "Skipped",
    "Splitter",
    "Store",
    "Stretch",
    "StructureSplitter",
    "Tokens",
    "UnreadableError",
    "WordSplitter",
    "add_documents",
    "check_encoder",
    "content_id",
    "documents_in",
    "documents_of_texts",
    "find_files",
    "ingest",
    "read",
    "splitter_named",
    "splitter_stored",
    "title_and_text",
]

"""The corpus: documents to passages, stored with their vectors."""

from mixrag.corpus.documents import content_id, documents_in, documents_of_texts
from mixrag.corpus.ingest import add_documents, ingest
from mixrag.corpus.parsers.isolation import DEFAULT_LIMITS, ParseLimits
from mixrag.corpus.parsers.protocol import Parser
from mixrag.corpus.parsers.registry import SUFFIXES, ParserRegistry, read
from mixrag.corpus.parsers.result import Notice, ParseResult, Skipped, UnreadableError
from mixrag.corpus.parts import Part
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
from mixrag.corpus.store.location import Location, parse_location
from mixrag.corpus.store.opening import has_store, open_store
from mixrag.corpus.store.protocol import Store
from mixrag.corpus.store.records import Counts, DocumentRecord, EncoderRecord, Extent, Removed, Stretch
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
    "Location",
    "Notice",
    "ParseLimits",
    "ParseResult",
    "Parser",
    "ParserRegistry",
    "Part",
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
    "has_store",
    "ingest",
    "open_store",
    "parse_location",
    "read",
    "splitter_named",
    "splitter_stored",
    "title_and_text",
]

"""``/v1/documents``: files into a store, the list of its documents, their text, and out again, while serving."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from sse_starlette import ServerSentEvent

from mixrag.corpus import Extent, Passage
from mixrag.errors import MixragError
from mixrag.rag import RAG
from mixrag.retrieval.shards.store import as_sharded
from mixrag.server.errors import NotFoundError
from mixrag.server.native import examples
from mixrag.server.native.receiving import receive, refused_by_disk
from mixrag.server.native.uploads import UploadReport, Uploads
from mixrag.server.security.policy import Security
from mixrag.server.service import Service, WithService
from mixrag.server.sse import Events, error_event, event
from mixrag.utils.progress import Progress, ProgressEvent

_LOG = logging.getLogger("mixrag.server")
router = APIRouter(prefix="/v1/documents", tags=["mixrag"])
GAP = 1000
"""A part of a document ends before a longer stretch that is in no passage."""

Store = Annotated[
    str | None,
    Query(max_length=300, description="Name of the store; without it the first one. A preset is ignored."),
]
Document = Annotated[
    str, Query(min_length=1, max_length=5000, description="As the list names it; no other path is looked at.")
]
_Place = {"ge": 0, "le": 2**53}


@router.post("", response_model=None, openapi_extra=examples.upload(), responses=examples.UPLOADS)
async def upload_documents(
    request: Request,
    service: WithService,
    store: Store = None,
    stream: Annotated[bool, Query(description="Progress as server-sent events: progress, report, error.")] = False,
) -> Response:
    """Add files to a store: they are put into the folder `uploads` of the store, and indexed.

    The report is that of `mixrag index --json`, with `files` besides: what became of each. A file of the same
    name is replaced. A file that cannot be read is left out, and said to be. Questions see new documents at once.
    """
    name, rag = _served(service, store)
    rag.check_one_store()
    uploads = Uploads(rag, service.writers.limits.file_bytes)
    files = await receive(request, uploads.new_file, service.writers.limits)

    def change(progress: Progress | None = None) -> UploadReport:
        try:
            return uploads.add(files, progress)
        except OSError as error:
            raise refused_by_disk(error) from error
        finally:
            drop()

    def drop() -> None:
        for path in files.values():
            path.unlink(missing_ok=True)

    if not stream:
        report = await service.writers.run(name, change, drop)
        return JSONResponse(report.to_dict(uploads.folder))
    steps = _Steps()
    task = asyncio.ensure_future(service.writers.run(name, lambda: change(steps.add), drop))
    return Events(steps.events(task, uploads.folder), lambda: None)


@router.get("", responses=examples.DOCUMENTS)
def list_documents(
    request: Request,
    service: WithService,
    store: Store = None,
    contains: Annotated[str, Query(max_length=1000, description="Part of a path or title, in any case.")] = "",
    offset: Annotated[int, Query(**_Place)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """The documents of a store, by path; `document` is the name by which they are read and deleted."""
    name, rag = _served(service, store)
    uploads, wanted = Uploads(rag), contains.casefold()
    with rag.store.snapshot():
        known, counts = rag.store.documents(), rag.store.counts()
        found = [each for each in known if wanted in f"{each.path}\n{each.title}".casefold()]
        listed = []
        for each in found[offset : offset + limit]:
            row = rag.store.document_row(each.path)
            pages = None if row is None else rag.store.extent(row).pages
            listed.append(
                {
                    "document": each.path,
                    "title": each.title,
                    "passages": each.passages,
                    "pages": pages,
                    "bytes": _size(rag, row),
                    "uploaded": uploads.holds(each.path),
                }
            )
    return {
        "store": name,
        "documents": counts.documents,
        "passages": counts.passages,
        "matching": len(found),
        "pending": uploads.pending(),
        "limits": _upload_limits(request, service),
        "data": listed,
    }


@router.get("/content", responses=examples.CONTENTS)
def read_document(
    service: WithService,
    document: Document,
    store: Store = None,
    page: Annotated[int | None, Query(ge=1, le=2**53, description="A page or slide; else by offset.")] = None,
    offset: Annotated[int, Query(**_Place, description="Of a character in the extracted text.")] = 0,
    before: Annotated[int, Query(ge=0, le=100, description="So many passages before the one at offset.")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="Passages at most.")] = 20,
) -> dict[str, Any]:
    """A part of a document as it was indexed: `text` is characters `start` to `end` of its extracted text.

    What lies between two passages is white space here. Without a page the part begins with the passage at the
    offset, or with some before it; `next` is the offset at which the following part begins, or null.
    """
    _, rag = _served(service, store)
    with rag.store.snapshot():
        row = rag.store.document_row(document)
        if row is None:
            shown = repr(document if len(document) <= 200 else f"{document[:199]}…")
            raise NotFoundError("a document of this store", shown, "see GET /v1/documents", "document")
        extent = rag.store.extent(row)
        if page is not None:
            if page > (extent.pages or 0):
                expected = (
                    f"a page up to {extent.pages}" if extent.pages else "an offset in a document without pages"
                )
                raise NotFoundError(expected, f"page {page}", "give another, or an offset", "page")
            passages = rag.store.passages_of(row, page=page, limit=limit)
        else:
            start = rag.store.offset_before(row, offset, before) if before else offset
            passages = rag.store.passages_of(row, offset=start, limit=limit + before)
        if page is not None and not passages:
            offset = _after_page(rag, row, page, extent)
    text, taken = _joined(passages)
    end = taken[-1].end if taken else offset
    return {
        "document": document,
        "title": taken[0].title if taken else "",
        "page": taken[0].page if taken else page,
        "pages": extent.pages,
        "start": taken[0].start if taken else offset,
        "end": end,
        "length": extent.characters,
        "next": end if end < extent.characters else None,
        "text": text,
        "passages": [
            {
                "id": each.id,
                "start": each.start,
                "end": each.end,
                "page": each.page,
                "place": each.place,
                "context": each.context,
            }
            for each in taken
        ],
    }


@router.delete("", responses=examples.DELETIONS)
async def delete_document(service: WithService, document: Document, store: Store = None) -> dict[str, Any]:
    """Delete a document from the store. An uploaded file is deleted too; other files stay where they are.

    Questions under way are answered as if it were still there.
    """
    name, rag = _served(service, store)
    uploads = Uploads(rag)

    def change() -> list[str]:
        try:
            return uploads.delete(document)
        except OSError as error:
            raise refused_by_disk(error) from error

    files = await service.writers.run(name, change)
    return {"document": document, "deleted": True, "files_deleted": files}


async def settle_uploads(service: Service) -> None:
    """Index the uploads that an earlier process was killed before it had indexed; errors are logged."""
    for each in service.stores:
        if as_sharded(each.rag.store) is not None:
            continue
        try:
            indexed = await service.writers.run(each.name, Uploads(each.rag).settle)
        except Exception as error:
            known = isinstance(error, (MixragError, OSError))
            _LOG.warning("uploads of %s may not be indexed: %s", each.name, error, exc_info=not known)
        else:
            if indexed:
                _LOG.info("uploads of %s that were not indexed before: %d", each.name, len(indexed))


def _served(service: Service, store: str | None) -> tuple[str, RAG]:
    served = service.stores.choice(store).store
    return served.name, served.rag


def _upload_limits(request: Request, service: Service) -> dict[str, int]:
    """What one upload may have: files, bytes of a file, bytes of the whole request."""
    limits, security = service.writers.limits, getattr(request.app, "security", Security())
    return {"files": limits.files, "file_bytes": limits.file_bytes, "bytes": security.upload_bytes}


def _after_page(rag: RAG, row: int, page: int, extent: Extent) -> int:
    """Where the first passage begins that is on a later page than one on which none begins."""
    for later in range(page + 1, (extent.pages or 0) + 1):
        for each in rag.store.passages_of(row, page=later, limit=1):
            return each.start
    return extent.characters


def _size(rag: RAG, row: int | None) -> int | None:
    """Bytes of the first file of a document; None where there is none."""
    for path in () if row is None else rag.store.files_of(row):
        try:
            return os.stat(path).st_size  # noqa: PTH116 - a path of the store, which may be long
        except OSError:
            continue
    return None


def _joined(passages: Sequence[Passage]) -> tuple[str, list[Passage]]:
    """One text, in which each passage stands at its offset, and the passages that are in it."""
    parts, taken, end = list[str](), list[Passage](), passages[0].start if passages else 0
    for each in passages:
        if each.start - end > GAP:
            break
        if each.end > end:
            gap = max(0, each.start - end)
            parts.append(("\n" * min(gap, 2)).ljust(gap))
            parts.append(each.text[max(0, end - each.start) :])
            end = each.end
        taken.append(each)
    return "".join(parts), taken


class _Steps:
    """How far indexing has come, from its thread to the event loop."""

    def __init__(self) -> None:
        self._loop, self._steps = asyncio.get_running_loop(), asyncio.Queue[ProgressEvent | None]()

    def add(self, step: ProgressEvent) -> None:
        """A step was made; to be called in any thread."""
        self._loop.call_soon_threadsafe(self._steps.put_nowait, step)

    def events(self, task: asyncio.Task[UploadReport], folder: Path) -> AsyncIterator[ServerSentEvent]:
        """Each step, then the report; the task goes on where nobody reads them."""

        def ended(task: asyncio.Task[UploadReport]) -> None:
            self._steps.put_nowait(None)
            if not task.cancelled():
                task.exception()  # else asyncio mentions that nobody has looked at it

        task.add_done_callback(ended)
        return self._events(task, folder)

    async def _events(self, task: asyncio.Task[UploadReport], folder: Path) -> AsyncIterator[ServerSentEvent]:
        while (step := await self._steps.get()) is not None:
            document = Path(step.detail).name
            yield event(
                {"what": step.stage, "done": step.done, "total": step.total, "document": document}, "progress"
            )
        try:
            yield event(task.result().to_dict(folder), "report")
        except Exception as error:
            yield error_event(error)

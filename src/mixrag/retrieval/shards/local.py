"""A shard that is a store of this process, also what ``mixrag serve`` answers for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from mixrag.corpus import Counts, EncoderRecord, Store
from mixrag.errors import SettingError, StoreBusyError, StoreError
from mixrag.retrieval.candidates import Candidates, Query
from mixrag.retrieval.index import CompleteIndex
from mixrag.retrieval.lexical import AskedWord, Scored
from mixrag.retrieval.search import log_z_bounds, search
from mixrag.retrieval.shards.exchange import (
    MOST_NEAR,
    Bounds,
    Likelihoods,
    LikelihoodsRequest,
    PassageRecord,
    SearchRequest,
    ShardDescription,
    ShardReply,
    Share,
    Statistics,
    StatisticsRequest,
    public_name,
    rows_at_once,
)
from mixrag.retrieval.shards.protocol import ShardChangedError
from mixrag.retrieval.snapshots import Opened, Snapshots
from mixrag.utils.arrays import Rows

_logger = logging.getLogger("mixrag.retrieval")
Reader = Callable[[LikelihoodsRequest], Likelihoods]


class LocalShard:
    """A store as a shard."""

    def __init__(
        self,
        name: str,
        store: Store,
        snapshots: Snapshots,
        share: Share = "documents",
        reader: Reader | None = None,
        most: int | None = None,
    ) -> None:
        """A shard of this process, or one that others ask.

        Args:
            name: how messages call it.
            store: what it is.
            snapshots: of the store.
            share: "likelihoods": nothing of a document leaves it.
            reader: has the language model, for ``likelihoods``.
            most: passages that a search gives; None: any number.
        """
        self.name, self.store, self.share = name, store, share
        self._snapshots, self._reader, self._most = snapshots, reader, most

    def open(self) -> None:
        """Open index and words now, so that no question waits for them."""
        self._snapshots.open()

    @property
    def is_open(self) -> bool:
        """Whether a question finds index and words open."""
        return self._snapshots.are_open

    def statistics(self, request: StatisticsRequest) -> Statistics:
        """See ``Shard.statistics``; what is shared without documents has no words of them."""
        with self._without_paths():
            if not request.words and not request.measured:
                with self.store.snapshot():
                    return Statistics(shard=self._unopened(), frequencies={})
            return self._snapshots.run(lambda opened: self._statistics(opened, request))

    def search(self, request: SearchRequest) -> ShardReply:
        """See ``Shard.search``."""
        with self._without_paths():
            return self._snapshots.run(lambda opened: self._search(opened, request))

    def likelihoods(self, request: LikelihoodsRequest) -> Likelihoods:
        """See ``Shard.likelihoods``."""
        if self._reader is None:
            raise SettingError("a shard with a language model", self.name, "serve it: mixrag serve --store DIR")
        if len(request.rows) > (most := rows_at_once(request.answers)):
            tokens = sum(map(len, request.answers))
            expected = f"at most {most} passages in a request with {tokens} tokens of answers"
            found = f"{len(request.rows)} passages"
            raise SettingError(expected, found, "ask about them in several requests")
        try:
            with self._without_paths():
                return self._reader(request)
        except ShardChangedError:
            raise ShardChangedError(self.name) from None  # by the name under which it is shared

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    @contextmanager
    def _without_paths(self) -> Iterator[None]:
        """Where documents are not shared, errors that name folders of this machine go to the log alone."""
        try:
            yield
        except StoreError as error:
            if self.share == "documents" or isinstance(error, ShardChangedError):
                raise
            _logger.warning("shard %s: %s", self.name, error)
            kind = StoreBusyError if isinstance(error, StoreBusyError) else StoreError
            expected, found = f"shard {self.name} in a usable state", "that it cannot be used now"
            raise kind(expected, found, "ask its owner, whose log has why") from None

    def _statistics(self, opened: Opened, request: StatisticsRequest) -> Statistics:
        description = self._described(opened, words=True)
        if not request.words:
            return Statistics(shard=description, frequencies={})
        lexical = opened.lexical()
        known = lexical.frequencies(request.words)
        near = dict[str, list[tuple[int, str, int]]]()
        if request.near and self.share == "documents":
            unknown = (word for word in request.words if word not in known)
            near = {word: [*lexical.near(word)[:MOST_NEAR]] for word in unknown}
        return Statistics(shard=description, frequencies=known, near=near)

    def _unopened(self) -> ShardDescription:
        store = self.store
        return self._description(store.state, store.counts(), store.encoder, store.largest_norm)

    def _described(self, opened: Opened, *, words: bool) -> ShardDescription:
        found = self._description(opened.state, opened.counts, opened.encoder, opened.largest_norm)
        return found.model_copy(update={"words": opened.lexical().words}) if words else found

    def _description(
        self, state: str, counts: Counts, encoder: EncoderRecord | None, largest_norm: float | None
    ) -> ShardDescription:
        return ShardDescription(
            state=state,
            encoder=None if encoder is None else encoder.fingerprint,
            encoder_name="" if encoder is None else self._shown(encoder.name),
            dimension=0 if encoder is None else encoder.dimension,
            splitter=self.store.splitter,
            part=self.store.part,
            documents=counts.documents,
            passages=counts.passages,
            words=None,
            largest_norm=largest_norm if counts.passages else 0.0,
            share=self.share,
        )

    def _shown(self, model: str) -> str:
        return model if self.share == "documents" else public_name(model)

    def _search(self, opened: Opened, request: SearchRequest) -> ShardReply:
        if request.state not in (None, opened.state):
            raise ShardChangedError(self.name)
        if request.where and self.share == "likelihoods":  # else its answers would say which passages match
            expected = f"no filter, since {self.name} shares likelihoods alone"
            raise SettingError(expected, "one", "leave the filter out, or that store")
        description = self._described(opened, words=False)
        allowed = self.store.rows_where(request.where) if request.where else None
        count = description.passages if allowed is None else len(allowed)
        if count == 0:
            return _nothing(description)
        if len(request.vector) != description.dimension:
            found = f"{len(request.vector)} numbers"
            remedy = "ask with the encoder that made the vectors"
            raise SettingError(f"a vector of {description.dimension} numbers for shard {self.name}", found, remedy)
        query = _query(opened, request, allowed, count)
        if self._most is not None and query.k > self._most:
            expected = f"at most {self._most} passages in one reply of {self.name}"
            remedy = f"take a smaller number k, a filter, or more shards of up to {self._most} passages"
            raise SettingError(expected, f"{query.k}", remedy)
        every, best = search(opened.index, query, exact=request.exact)
        matches = query.bm25 is not None and query.bm25.any
        records = None
        if self.share == "documents":
            records = [PassageRecord.of(each) for each in self.store.passages(best.rows)]
        return ShardReply(
            shard=description,
            count=count,
            rows=best.rows.tolist(),
            inner_products=best.inner_products.tolist(),
            bm25=None if best.bm25 is None else best.bm25.tolist(),
            matches=matches,
            log_z=_log_z(opened.index, every),
            log_z_dense=None if matches or query.bm25 is None else _log_z_dense(opened.index, every),
            passages=records,
        )


def _nothing(description: ShardDescription) -> ShardReply:
    return ShardReply(
        shard=description,
        count=0,
        rows=[],
        inner_products=[],
        bm25=None,
        matches=False,
        log_z=None,
        log_z_dense=None,
        passages=None if description.share == "likelihoods" else [],
    )


def _query(opened: Opened, request: SearchRequest, allowed: Rows | None, count: int) -> Query:
    return Query(
        vector=np.array(request.vector, np.float32),
        k=count if request.k is None else min(request.k, count),
        count=count,
        allowed=allowed,
        temperature=request.temperature,
        bm25=_bm25(opened, request, allowed) if request.lexical > 0.0 else None,
        share=request.lexical,
        lexical_temperature=request.lexical_temperature,
    )


def _bm25(opened: Opened, request: SearchRequest, allowed: Rows | None) -> Scored:
    """Also where no passage here shares a word: one of another shard may, and then λ is not 0 here either."""
    lexical = opened.lexical()
    if request.collection is not None:
        lexical = lexical.in_collection(*request.collection)
    return Scored(*lexical.scores_of([AskedWord(*each) for each in request.words], allowed))


def _log_z(index: CompleteIndex, found: Candidates) -> Bounds | None:
    if found.log_z is not None:
        return [found.log_z] * 2
    return _listed(log_z_bounds(index, found))


def _log_z_dense(index: CompleteIndex, found: Candidates) -> Bounds | None:
    """The same with λ = 0, of passages that share no word."""
    query = found.query
    if found.complete:
        return [float((found.inner_products / query.temperature).logsumexp(0))] * 2
    bounds = None if query.allowed is not None else index.log_normaliser_bounds(query.vector, query.temperature)
    return None if bounds is None else [*bounds]


def _listed(bounds: Tensor | None) -> Bounds | None:
    if bounds is None or not bool(torch.isfinite(bounds).all()):
        return None
    low, high = bounds.tolist()
    return [low, high]

"""p(z | x) over the union of several shards: that of one store with all of their passages.

Each shard is asked twice, all of them side by side: how often the words of the question are in it, which is
added up and remembered for as long as the shard stays in one state, and then for its best passages, their inner
products and BM25, and its log Z. ``probability/shards.py`` has what becomes of them.

A shard that is down or late is named, and its part of the prior is unknown, or bounded where its passages and
their largest norm are known (``missing_mass.py``). BM25 then takes frequencies from the other shards, and from the
missing one what it gave before in its last state. Nothing depends on the clocks of machines.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from mixrag.config.settings import Settings
from mixrag.corpus.words import asked_words
from mixrag.errors import (
    EncoderMismatchError,
    ServerError,
    SettingError,
    ShardMissingError,
    StoreBusyError,
    StoreError,
)
from mixrag.retrieval.encoders import CompleteEncoder
from mixrag.retrieval.lexical import AskedWord
from mixrag.retrieval.merged_shards import merged
from mixrag.retrieval.retriever import Retrieval
from mixrag.retrieval.shards.answers import Answers, Missing
from mixrag.retrieval.shards.exchange import SearchRequest, ShardDescription, Statistics, StatisticsRequest, made
from mixrag.retrieval.shards.known import Known
from mixrag.retrieval.shards.local import LocalShard
from mixrag.retrieval.shards.protocol import Shard, ShardChangedError, ShardRefusedError
from mixrag.retrieval.shards.side_by_side import side_by_side
from mixrag.retrieval.shards.words import asked_of_all, counted_words
from mixrag.utils.arrays import Vectors
from mixrag.utils.turns import turn

T = TypeVar("T")
ATTEMPTS = 3
"""A shard that changes between the two steps is asked again."""
_logger = logging.getLogger("mixrag.retrieval")


class ShardedRetriever:
    """Asks all shards, and merges what they answer; safe to use in threads."""

    def __init__(
        self,
        shards: Sequence[Shard],
        encoder: Callable[[], CompleteEncoder],
        seconds: float = 10.0,
        expected: Mapping[str, ShardDescription] | None = None,
    ) -> None:
        """The retriever of some shards.

        Args:
            shards: at least one.
            encoder: called at each use.
            seconds: that a question waits for a shard.
            expected: what is known of shards by their names, such as from a manifest.
        """
        self.shards, self._encoder, self.seconds = tuple(shards), encoder, seconds
        self.expected = dict(expected or {})
        self._known = [Known(self.expected.get(shard.name)) for shard in self.shards]
        self._complete, self._counting = 0, Lock()

    def open(self) -> None:
        """Load the encoder, and check that it is that of all shards which answer. Raises as ``retrieve``."""
        self._check(self.descriptions(), self._encoder())

    def open_all(self) -> None:
        """Open index and words of the shards of this machine; one where that fails is missing, and named."""
        for shard, known in zip(self.shards, self._known, strict=True):
            if isinstance(shard, LocalShard):
                try:
                    shard.open()
                except StoreError as error:
                    known.missing = f"expected {error.expected}, found {error.found}"
                    _logger.warning("shard %s is missing: %s", shard.name, known.missing)

    @property
    def is_open(self) -> bool:
        """Whether a question finds index and words open, in each shard of this machine that is not missing."""
        here = ((s, k) for s, k in zip(self.shards, self._known, strict=True) if isinstance(s, LocalShard))
        return all(shard.is_open or known.missing is not None for shard, known in here)

    def descriptions(self, *, refusals: bool = False) -> dict[int, ShardDescription]:
        """What the shards that answer say of themselves, by their place.

        Raises:
            ShardMissingError: none answers.
            ShardRefusedError: with ``refusals``, a server wants another key, or has no such store.
        """
        missing: dict[int, str] = {}
        asked = {s: partial(shard.statistics, StatisticsRequest()) for s, shard in enumerate(self.shards)}
        found = self._asked(asked, self.seconds, missing, refusals=refusals)
        for s, each in found.items():
            self._known[s].note(each.shard)
        if not found:
            raise self._all_missing(missing)
        return {s: each.shard for s, each in found.items()}

    def states(self) -> list[dict[str, Any]]:
        """For each shard its name, passages where they are known, and why it is missing where it is."""
        found = []
        for shard, known in zip(self.shards, self._known, strict=True):
            passages = None if known.description is None else known.description.passages
            found.append({"shard": shard.name, "passages": passages, "missing": known.missing})
        return found

    def known(self) -> list[ShardDescription]:
        """The last that each shard said of itself, or was expected to; for those of which it is known."""
        return [known.description for known in self._known if known.description is not None]

    def current(self) -> list[ShardDescription]:
        """What each shard says now; of those that do not answer, what is known of them."""
        self.descriptions()
        return self.known()

    def connect(self) -> None:
        """Ask all shards what they are; say which have changed since the manifest.

        Raises:
            EncoderMismatchError: their vectors come from different encoders.
            SettingError: one shard under two names, or another part than in the manifest.
            ShardMissingError: none answers.
            ShardRefusedError: a server wants another key, or has no such store.
        """
        before = self.expected
        found = self.descriptions(refusals=True)
        filled = [(s, each) for s, each in found.items() if each.passages]
        for s, each in filled[1:]:
            first = filled[0][1]
            if each.encoder != first.encoder:
                expected = f"the encoder of the other shards, {first.encoder_name} ({(first.encoder or '')[:12]})"
                named = f"{each.encoder_name} ({(each.encoder or '')[:12]}) in {self.shards[s].name}"
                raise EncoderMismatchError(expected, named, "index that shard again: mixrag index --re-embed")
        self._check_once(found)
        for s, each in found.items():
            known = before.get(self.shards[s].name)
            if known is not None and known.state != each.state:
                said = "shard %s has changed since the manifest was written: what it says now counts, %d passages"
                _logger.warning(said, self.shards[s].name, each.passages)

    @contextmanager
    def complete(self) -> Iterator[None]:
        """While it lasts, a question to which a shard does not answer is refused, in all threads.

        Raises:
            ShardMissingError: one does not answer already now.
            SettingError: one shares no documents.
        """
        found = self.descriptions(refusals=True)
        for s, shard in enumerate(self.shards):
            if s not in found:
                raise self._incomplete(s, self._known[s].missing or "no answer")
            if found[s].share == "likelihoods":
                expected, remedy = "shards that share their documents, to judge what is found", "leave it out"
                raise SettingError(expected, f"{shard.name}, which shares likelihoods alone", remedy)
        with self._counting:
            self._complete += 1
        try:
            yield
        finally:
            with self._counting:
                self._complete -= 1

    def retrieve(self, question: str, settings: Settings) -> Retrieval:
        """See ``Retriever.retrieve``.

        Raises:
            EncoderMismatchError: the vectors of a shard come from another encoder.
            StoreEmptyError: no passage, or none that the filter lets through.
            SettingError: the full normaliser, k = "all" or adaptive k asked of an approximate index.
            ShardMissingError: no shard answers, or one is missing of what needs all of them.
            StoreBusyError: shards change faster than they can be asked.
        """
        encoder = self._encoder()
        with turn(encoder):
            vector = encoder.encode_questions([question])[0]
        for _ in range(ATTEMPTS):
            try:
                answers = self._answers(question, settings, vector, encoder)
            except ShardChangedError:
                continue
            length = float(np.linalg.norm(vector.astype(np.float64)))
            return merged(answers, settings, settings.temperature or encoder.temperature, length)
        found = f"changes at each of {ATTEMPTS} attempts"
        raise StoreBusyError("shards that stay as they are for one question", found, "ask again")

    def _answers(self, question: str, settings: Settings, vector: Vectors, encoder: CompleteEncoder) -> Answers:
        end, missing = time.monotonic() + self.seconds, dict[int, str]()
        every, words, states = list[AskedWord](), list[AskedWord](), dict[int, str]()
        collection = 0, 0
        if settings.lexical > 0.0:
            asked = asked_words(question)
            statistics = self._statistics([*asked], settings, missing)
            self._check({s: each.shard for s, each in statistics.items()}, encoder)
            every = counted_words(asked, [*statistics.values()])
            words = asked_of_all(asked, [*statistics.values()], tolerant=settings.typos)
            described = [each.shard for each in statistics.values()]
            collection = sum(each.passages for each in described), sum(each.words or 0 for each in described)
            states = {s: each.shard.state for s, each in statistics.items()}
        exact = settings.normaliser == "full" or settings.k == "all" or settings.max_outside is not None
        request = made(
            SearchRequest,
            vector=vector.tolist(),
            k=None if settings.k == "all" else settings.k,
            temperature=settings.temperature or encoder.temperature,
            lexical=settings.lexical,
            lexical_temperature=settings.lexical_temperature,
            words=[(each.word, each.weight, each.frequency) for each in words],
            collection=collection if settings.lexical > 0.0 else None,
            where=dict(settings.where),
            exact=exact,
        )
        work = {
            s: partial(shard.search, request.model_copy(update={"state": states.get(s)}))
            for s, shard in enumerate(self.shards)
            if s not in missing
        }
        replies = self._asked(work, max(0.0, end - time.monotonic()), missing)
        for s, reply in replies.items():
            self._known[s].note(reply.shard)
        self._check({s: each.shard for s, each in replies.items()}, encoder)
        if not replies:
            raise self._all_missing(missing)
        if missing and exact:
            s, reason = next(iter(missing.items()))
            needed = "all shards, for the full normaliser, k = 'all' or max_outside"
            remedy = "start it again, or ask with normaliser 'top-k' and a number k"
            raise ShardMissingError(needed, f"no {self.shards[s].name} ({reason})", remedy)
        if missing and self._complete:
            raise self._incomplete(*next(iter(missing.items())))
        absent = {
            s: Missing(self.shards[s].name, why, self._known[s].description, counted=s in states)
            for s, why in missing.items()
        }
        return Answers(self.shards, replies, absent, every, words, collection)

    def _statistics(
        self, words: Sequence[str], settings: Settings, missing: dict[int, str]
    ) -> dict[int, Statistics]:
        """How often words are in each shard; only what is not known of its state is asked for."""
        found = dict[int, Statistics]()
        wanted = dict[int, list[str]]()
        work = dict[int, Callable[[], Statistics]]()
        for s, (shard, known) in enumerate(zip(self.shards, self._known, strict=True)):
            have = known.statistics(words, near=settings.typos)
            if have is None:
                wanted[s] = known.unknown(words, near=settings.typos)
                request = made(StatisticsRequest, words=wanted[s], near=settings.typos)
                work[s] = partial(shard.statistics, request)
            else:
                found[s] = have
        # Half of the time: a shard that is late here must not leave the others none to search in.
        for s, each in self._asked(work, self.seconds / 2, missing).items():
            self._known[s].add(each, wanted[s], near=settings.typos)
            have = self._known[s].statistics(words, near=settings.typos)
            if have is None:  # it has changed since other words were asked for: all of them are
                self._known[s].forget()
                raise ShardChangedError(self.shards[s].name)
            found[s] = have
        return dict(sorted(found.items()))

    def _asked(
        self,
        work: Mapping[int, Callable[[], T]],
        seconds: float,
        missing: dict[int, str],
        *,
        refusals: bool = False,
    ) -> dict[int, T]:
        """What shards answer; those that do not are added to ``missing``. Errors of the question are raised."""
        found = dict[int, T]()
        changed: ShardChangedError | None = None
        absent = dict[int, str]()
        for s, each in zip(work, side_by_side([*work.values()], seconds), strict=True):
            if isinstance(each, ShardChangedError):
                self._known[s].forget()
                changed = each
            elif refusals and isinstance(each, ShardRefusedError):
                raise each
            elif isinstance(each, TimeoutError):
                absent[s] = f"no answer within {round(seconds, 1) or seconds:g} s"
            elif isinstance(each, (ServerError, StoreError)) and not isinstance(each, EncoderMismatchError):
                absent[s] = f"expected {each.expected}, found {each.found}"
            elif isinstance(each, Exception):
                raise each
            else:
                found[s] = each
        for s in work:
            if s in absent and self._known[s].missing is None:
                _logger.warning("shard %s is missing: %s", self.shards[s].name, absent[s])
            self._known[s].missing = absent.get(s)
        missing.update(absent)
        if changed is not None:
            raise changed
        return found

    def _check(self, described: Mapping[int, ShardDescription], encoder: CompleteEncoder) -> None:
        for s, each in described.items():
            if each.passages and each.encoder != encoder.fingerprint:
                expected = f"the encoder that made the vectors of shard {self.shards[s].name}, {each.encoder_name}"
                found = f"{encoder.name} ({encoder.fingerprint[:12]})"
                remedy = "name that encoder, or index the shard again with --re-embed"
                raise EncoderMismatchError(f"{expected} ({(each.encoder or '')[:12]})", found, remedy)

    def _check_once(self, described: Mapping[int, ShardDescription]) -> None:
        """Refuse shards that are there twice, whatever their names: each passage would count twice."""
        states, parts = dict[str, int](), dict[str, int]()
        for s, each in described.items():
            name, known = self.shards[s].name, self.expected.get(self.shards[s].name)
            if known is not None and known.part != each.part:
                found = f"shard {each.part} at {name}" if each.part else f"no part at {name}"
                remedy = "write it again: mixrag shards manifest"
                raise SettingError(f"shard {known.part or 'without a part'} of the manifest", found, remedy)
            if not each.passages:
                continue
            if (other := states.setdefault(each.state, s)) != s:
                twice = f"{self.shards[other].name} and {name}, which are one store, or a copy of it"
                raise SettingError("each shard once", twice, "name it once")
            # Those of a manifest are different by their numbers; two manifests may be of two corpora.
            if each.part is not None and known is None and (other := parts.setdefault(each.part, s)) != s:
                twice = f"{self.shards[other].name} and {name}, both shard {each.part}"
                remedy = "name one; for two corpora, write a manifest of each: mixrag shards manifest"
                raise SettingError("each shard once", twice, remedy)

    def _incomplete(self, s: int, reason: str) -> ShardMissingError:
        found = f"no {self.shards[s].name} ({reason})"
        return ShardMissingError("all shards, for an evaluation", found, "start it, and run this again")

    def _all_missing(self, missing: Mapping[int, str]) -> ShardMissingError:
        s, reason = next(iter(missing.items()))
        found = f"no answer of {self.shards[s].name} ({reason})"
        found += f", nor of {len(missing) - 1} others" if len(missing) > 1 else ""
        return ShardMissingError("a shard that answers", found, "start them, or check their addresses")

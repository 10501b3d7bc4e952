"""What is asked of a shard, and what it answers: the same objects in one process and as JSON between machines.

A question takes two steps: what its words are in each shard, which is added up, and then the search, with what was
added up. Both replies name the state of the shard, so that numbers of two states are never put together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mixrag.corpus import Passage
from mixrag.corpus.passage import Scalar
from mixrag.errors import SettingError
from mixrag.utils.text import printable_name

LIKELIHOOD_SECONDS = 120.0
"""That an owner's language model is waited for."""
MOST_PASSAGES = 10_000
"""Passages that a server gives in one reply."""
MOST_ROWS = 1000
"""Passages of one request for likelihoods."""
MOST_LIKELIHOODS = 2**18
"""Of one reply: passages times tokens of all answers. One passage always fits."""
LONGEST_WORD = 64
MOST_WORDS = 20_000
"""As many as the longest question has characters."""
MOST_NEAR = 1000
"""Words that a misspelt one may stand for, of one shard."""
Share = Literal["documents", "likelihoods"]
"""What an owner lets others have: passages with their text, or only what a language model makes of them."""
Word = Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]
Name = Annotated[str, Field(max_length=1000)]
State = Annotated[str, Field(min_length=1, max_length=100)]
Natural = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(ge=-1e300, le=1e300)]
Bounds = Annotated[list[Number], Field(min_length=2, max_length=2)]
"""Lower and upper; equal where the value is known."""


class Exchanged(BaseModel):
    """What it does not know it refuses; no number is NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Request = TypeVar("Request", bound=Exchanged)


def made(kind: type[Request], **values: Any) -> Request:
    """A request of this kind.

    Raises:
        SettingError: values outside what shards take, such as too long a filter or answer.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        found = printable_name(f"{place}: {first['msg'][:200]}")
        raise SettingError("a question that shards can be asked", found, "ask for less, or one store") from None


def public_name(name: str) -> str:
    """The name of a model without the folders of the machine that has it.

    >>> public_name("/srv/models/encoder"), public_name("intfloat/e5-small")
    ('encoder', 'intfloat/e5-small')
    """
    local = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or name[:1] in {".", "~"}
    local = local or os.path.exists(name)  # noqa: PTH110 - False for what is no path
    return PureWindowsPath(name).name if local else name


class ShardDescription(Exchanged):
    """What a shard is, whatever is asked."""

    state: State
    """Another one after every change of its passages or encoder."""
    encoder: Name | None
    """Fingerprint of the encoder that made its vectors; None while it has none."""
    encoder_name: Name
    dimension: Natural
    splitter: Name | None
    part: Annotated[str, Field(pattern=r"^[0-9]{1,5}/[0-9]{1,5}$")] | None = None
    """Which part of a corpus it was indexed as, "i/n"."""
    documents: Natural
    passages: Natural
    words: Natural | None
    """Of all passages together; None where they were not counted."""
    largest_norm: Annotated[float, Field(ge=0, le=1e300)] | None
    """At least the length of its longest vector; None where an older mixrag stored vectors without noting it."""
    share: Share = "documents"


class StatisticsRequest(Exchanged):
    """How often are these words?"""

    words: Annotated[list[Word], Field(max_length=MOST_WORDS)] = []
    measured: bool = False
    """Also what takes time to find: how many words there are."""
    near: bool = False
    """Also the words that those may stand for which no passage here has."""


class Statistics(Exchanged):
    """How often words are in the passages of a shard."""

    shard: ShardDescription
    frequencies: Annotated[dict[Word, Natural], Field(max_length=MOST_WORDS)]
    """Passages that have a word; words that none has are left out."""
    near: Annotated[
        dict[Word, Annotated[list[tuple[Natural, Word, Natural]], Field(max_length=MOST_NEAR)]],
        Field(max_length=MOST_WORDS),
    ] = {}
    """For words that none has: slips, another word, and the passages that have that one."""


class SearchRequest(Exchanged):
    """Which passages are best?"""

    vector: Annotated[list[Number], Field(min_length=1, max_length=65_536)]
    """(D,) of the question."""
    k: Annotated[int, Field(ge=1, le=10**9)] | None
    """None: all. A server gives ``MOST_PASSAGES``, and refuses more."""
    temperature: Annotated[float, Field(ge=1e-6, le=1e9)]
    lexical: Annotated[float, Field(ge=0, le=1)] = 0.0
    """λ."""
    lexical_temperature: Annotated[float, Field(ge=1e-6, le=1e9)] = 1.0
    words: Annotated[
        list[tuple[Word, Annotated[float, Field(ge=0, le=1)], Annotated[int, Field(ge=1, le=2**53)]]],
        Field(max_length=MOST_WORDS),
    ] = []
    """Of the question: word, weight, and how many passages of all shards have it."""
    collection: tuple[Natural, Natural] | None = None
    """Passages and words of all shards together; None: of this one."""
    where: Annotated[dict[Name, Name], Field(max_length=100)] = {}
    """A filter, as ``Settings.where``."""
    exact: bool = False
    """Refuse where log Z is not exact."""
    state: State | None = None
    """Refuse in any other state; None: in none."""


class PassageRecord(Exchanged):
    """A passage, with its text."""

    id: str
    text: str
    document: str
    title: str
    start: int
    end: int
    metadata: dict[str, Scalar]
    page: int | None
    place: str
    context: str
    front_title: str

    @classmethod
    def of(cls, passage: Passage) -> PassageRecord:
        """The record of a passage."""
        values: Mapping[str, Any] = {name: getattr(passage, name) for name in cls.model_fields}
        return cls.model_construct(**{**values, "metadata": dict(passage.metadata)})

    def passage(self) -> Passage:
        """The passage of a record."""
        return Passage(**{name: getattr(self, name) for name in type(self).model_fields})


class ShardReply(Exchanged):
    """The best passages of a shard, best first, and the sum over all of them."""

    shard: ShardDescription
    count: Natural
    """Passages that the filter lets through."""
    rows: list[Natural]
    """(K,) row ids."""
    inner_products: list[Number]
    """(K,) d(z)·q(x)."""
    bm25: list[Number] | None
    """(K,); None where λ is 0."""
    matches: bool
    """Whether a passage that the filter lets through shares a word with the question."""
    log_z: Bounds | None
    """Bounds on log Z_s; None where they are not known, or there is no passage."""
    log_z_dense: Bounds | None
    """The same with λ = 0, which is the prior where no shard has a passage that shares a word."""
    passages: list[PassageRecord] | None
    """(K,); None where the owner does not share them."""


class LikelihoodsRequest(Exchanged):
    """How probable are answers after passages that their owner does not share?"""

    question: Annotated[str, Field(min_length=1, max_length=20_000)]
    rows: Annotated[list[Natural], Field(min_length=1, max_length=MOST_ROWS)]
    """(K,) row ids, of one search."""
    answers: Annotated[
        list[Annotated[list[Natural], Field(min_length=1, max_length=4096)]], Field(min_length=1, max_length=64)
    ]
    """(A,) their tokens."""
    texts: Annotated[list[Annotated[str, Field(max_length=20_000)]], Field(min_length=1, max_length=64)]
    """(A,) their texts, so that both see whether they mean the same tokens."""
    reserve: Annotated[int, Field(ge=1, le=10**6)]
    """Tokens of the context that the prompts leave to an answer."""
    empty_answer: bool = False
    question_likelihood: bool = False
    copied: bool = False
    """``Settings.copy``."""
    language_model_weight: Annotated[float, Field(gt=0, lt=1)] = 0.5
    state: State


def rows_at_once(answers: Sequence[Sequence[int]]) -> int:
    """Passages after which these answers can be asked about in one request."""
    return max(1, min(MOST_ROWS, MOST_LIKELIHOODS // max(1, sum(map(len, answers)))))


class Likelihoods(Exchanged):
    """log p(y_t | x, z_j, y_<t), and what the first pass says besides; -1e300 stands for log 0."""

    generator: Name
    fingerprint: State
    """Of that model with its adapter and prompt, and int8 (``generator.fingerprint``)."""
    rounding: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """h of that model, where it is known (``generator.rounding.stated_rounding``)."""
    tables: list[list[list[Number]]]
    """(A, K, T)"""
    log_empty: list[Number] | None
    """(K,) log p(∅ | x, z_j)."""
    log_answered: list[Number] | None
    """(K,) log(1 - p(∅ | x, z_j))."""
    log_question: list[Number] | None
    """(K,) log p(x | z_j)."""

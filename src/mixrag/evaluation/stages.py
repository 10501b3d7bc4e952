"""The stages between a document and a right answer: what was measured at each, in figures and in words.

Every stage says ``passed`` (None: it cannot be decided, or does not matter any more), what was found, and its
remedy. The log-probabilities are natural logarithms and count the end of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mixrag.corpus import Passage
from mixrag.evaluation.answer_location import AnswerLocation
from mixrag.utils.text import citation_of

StageName = Literal["indexed", "retrieved", "weighted", "used", "decoded"]
STAGES: tuple[StageName, ...] = ("indexed", "retrieved", "weighted", "used", "decoded")
SHOWN = 5
"""Passages that are listed where many hold the answer."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """Does a passage that may be retrieved hold the expected answer?"""

    location: AnswerLocation
    """The passages that do, or what there is instead."""
    document: str | None
    """The document that was named."""

    @property
    def passed(self) -> bool | None:
        """None for a verdict whose document is not named."""
        return None if self.location.place == "unwritten" else self.location.is_let_through

    @property
    def finding(self) -> str:
        """What was found."""
        passages = self.location.passages
        count = "1 passage" if len(passages) == 1 else f"{len(passages)} passages"
        where = ", ".join(map(place, passages[:SHOWN]))
        where += f" and {len(passages) - SHOWN} more" if len(passages) > SHOWN else ""
        within = f"the passages of {self.document}" if self.document else "the store"
        return {
            "passage": f"{count} that may be retrieved {_verb(passages, 'holds', 'hold')} it: {where}",
            "document": f"none of {within} holds it literally; all of them ({len(passages)}) count as holding it",
            "split": f"no passage holds it; it is split over {len(passages)} neighbouring passages: {where}",
            "filtered": f"the filter shuts out {count} that {_verb(passages, 'has', 'have')} it: {where}",
            "absent": f"no passage of {within} holds it",
            "unknown document": f"no document of the store is named {self.document}",
            "unwritten": "a verdict (yes, no) is not a span of a passage, so the right one cannot be determined",
        }[self.location.place]

    @property
    def remedy(self) -> str:
        """The remedy; empty where none is needed."""
        return {
            "passage": "",
            "document": "",
            "split": "index again with longer passages or whole sentences, such as --splitter sentences:150",
            "filtered": "loosen --where",
            "absent": "index the document that holds it (mixrag info lists what is there); where documents say it "
            "in other words, name theirs with --document",
            "unknown document": "index it, or name one that mixrag info lists",
            "unwritten": "name the document that decides it with --document",
        }[self.location.place]

    def measurements(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        passages = self.location.passages
        listed = [{"id": p.id, "document": p.document, "start": p.start, "end": p.end} for p in passages[:SHOWN]]
        return {"place": self.location.place, "count": len(passages), "passages": listed}


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Is a passage that holds the answer among the k retrieved?"""

    passage: Passage
    """The one of them with the best rank; the first in the store where none has a rank."""
    rank: int | None
    """Its rank from 1 under the prior; None where it was not among the ``ranked``."""
    k: int
    """Passages retrieved."""
    passed: bool
    """It is among them."""
    ranked: int
    """Passages among which it was looked for."""
    is_exact: bool
    """True where these are all that may be retrieved; False where the index is approximate."""
    other_lexical: float | None
    """Another weight of the BM25 part, tried where retrieval failed."""
    other_rank: int | None
    """The rank under it."""
    is_adaptive: bool = False
    """k was cut down by the mass left outside (``max_outside``)."""

    @property
    def finding(self) -> str:
        """What was found."""
        among = f"{self.ranked}" if self.is_exact else f"the {self.ranked} that an approximate search gave"
        if self.rank is None:
            return f"not among {among}; {self.k} were retrieved"
        within = "among" if self.passed else "not among"
        return f"rank {self.rank} of {among}, {within} the {self.k} retrieved: {place(self.passage)}"

    @property
    def remedy(self) -> str:
        """The remedy; empty where none is needed."""
        if self.passed:
            return ""
        reached = f"-k {self.rank} reaches it" + (", without --max-outside" if self.is_adaptive else "")
        ways = ["search exactly (--index exact)"] if self.rank is None else [reached]
        if self.other_rank is not None and (self.rank is None or self.other_rank < self.rank):
            ways.append(f"--lexical {self.other_lexical:g} puts it at rank {self.other_rank}")
        return "; ".join([*ways, "or train the retriever (mixrag train PAIRS --parts question-encoder)"])

    def measurements(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        names = ("rank", "k", "ranked", "is_exact", "is_adaptive", "other_lexical", "other_rank")
        return {"passage": self.passage.id, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class Weighted:
    """Did the passage's prior let its answer win?"""

    passed: bool | None
    """False where the passage alone answers right, yet the mixture prefers another answer: with enough weight
    the answer would be right. None where no weight would help, since the passage alone does not answer right."""
    prior: float
    """p(component | question) of the component that holds it."""
    posterior: float
    """Its posterior given what was written: the expected share of those tokens that it wrote."""
    needed: float | None
    """Where the stage failed, at switch 0: the least prior with which an expected answer is as probable as the one
    preferred to it, the other components keeping their proportions; None elsewhere, or where none is enough."""
    is_first: bool
    """No component has a better rank."""

    @property
    def finding(self) -> str:
        """What was found."""
        prior = f"prior {self.prior:.4g}, posterior given what was written {self.posterior:.4g}"
        if self.passed is None:
            return f"{prior}; no weight would help, since alone it does not answer right"
        if self.passed:
            return prior
        enough = "" if self.needed is None else f", where a prior of {self.needed:.4g} would have been enough"
        return f"{prior}; alone it answers right, but the others outweigh it{enough}"

    @property
    def remedy(self) -> str:
        """The remedy; empty where none is needed."""
        if self.passed is not False:
            return ""
        fewer = "-k 1 leaves it alone; " if self.is_first else "try fewer passages (-k) or --lexical; "
        return (
            f"{fewer}calibrate the prior (mixrag train PAIRS --parts temperature,null) or train the retriever "
            "(--parts question-encoder,temperature)"
        )

    def measurements(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        return {name: getattr(self, name) for name in ("prior", "posterior", "needed")}


@dataclass(frozen=True, slots=True)
class Used:
    """Does the language model, given the passage alone, answer right?"""

    passages: tuple[Passage, ...]
    """What it was given: the component that holds the answer (several passages in a group)."""
    passed: bool
    """It does, or the mixture finds the expected answer more probable than what was written."""
    answer: str
    """What it writes, given these alone."""
    answer_log_prob: float
    """log p(that | question, these passages)."""
    expected: str
    """The expected answer that is most probable, given these passages."""
    log_likelihood: float
    """log p(expected | question, these passages)."""
    log_evidence_ratio: float | None
    """log p(expected | question, these passages) / p(expected | question, no passage); > 0: they support it. None,
    not defined, where one of the two is zero."""
    shortened: tuple[int, int] | None
    """Tokens read, and tokens there were, of a passage that did not fit into the context; None: all were read."""
    is_cut_off: bool
    """The answer is in the part that was not read."""

    @property
    def finding(self) -> str:
        """What was found."""
        if self.is_cut_off and self.shortened is not None:
            read, total = self.shortened
            return f"only {read} of its {total} tokens fit into the context, and the answer comes after them"
        alone = "this passage alone" if len(self.passages) == 1 else f"these {len(self.passages)} passages alone"
        wrote = f"given {alone} the model answers {self.answer!r} (log p {self.answer_log_prob:.3f})"
        ratio = "no log evidence ratio: without a passage, or with it, the answer is impossible"
        if self.log_evidence_ratio is not None:
            ratio = f"log evidence ratio {self.log_evidence_ratio:+.3f}"
        return f"{wrote}; {self.expected!r} has log p {self.log_likelihood:.3f}, {ratio}"

    @property
    def remedy(self) -> str:
        """The remedy; empty where none is needed."""
        if self.passed:
            return ""
        if self.is_cut_off:
            return "index shorter passages (--splitter words:50), lower --group, or choose a model that reads more"
        single = "one passage in each prompt (--group 1), " if len(self.passages) > 1 else ""
        reader = "train the reader (mixrag train PAIRS --parts generator)"
        return f"{single}{reader}, another language model (--generator) or another prompt (--prompt)"

    def measurements(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        names = ("answer", "answer_log_prob", "expected", "log_likelihood", "log_evidence_ratio")
        shortened = self.shortened and {"kept_tokens": self.shortened[0], "tokens": self.shortened[1]}
        return {
            "passages": [passage.id for passage in self.passages],
            **{name: getattr(self, name) for name in names},
            "shortened": shortened,
            "is_cut_off": self.is_cut_off,
        }


@dataclass(frozen=True, slots=True)
class Decoded:
    """Did decoding find the answer that the mixture prefers?"""

    passed: bool
    """False where the answer is wrong, though the expected one is more probable, also than what beam search finds;
    or where it was begun and cut off."""
    answer: str
    """What was written."""
    log_prob: float
    """log p(what was written | question)."""
    expected: str
    """The expected answer that is most probable under the mixture."""
    expected_log_prob: float
    """log p(expected | question)."""
    decoder: str
    """Its name."""
    tokens: int
    """Tokens of the expected answer, its end included."""
    is_cut_off: bool
    """What was written is the beginning of the expected answer, and ends at ``max_tokens``."""
    beam: str | None
    """What beam search answers, tried where the expected answer is ahead of what another decoder wrote."""
    beam_log_prob: float | None
    """log p(that | question)."""
    beam_is_right: bool | None
    """That is one of the answers expected."""

    @property
    def finding(self) -> str:
        """What was found."""
        if self.is_cut_off:
            return f"the answer was cut off at --max-tokens; the expected one takes {self.tokens} tokens"
        wrote = f"{self.decoder} decoding wrote {self.answer!r} (log p {self.log_prob:.3f})"
        other = f"{self.expected!r} has log p {self.expected_log_prob:.3f}"
        if not self.passed:
            return f"{wrote}, but the mixture prefers the expected answer: {other}"
        found = "" if self.beam is None else f"; beam search finds {self.beam!r} (log p {self.beam_log_prob:.3f})"
        return f"{wrote}; {other}{found}"

    @property
    def remedy(self) -> str:
        """The remedy; empty where none is needed."""
        if self.passed:
            return ""
        if self.is_cut_off:
            return f"--max-tokens {self.tokens}"
        return "--decoder beam, which answers right" if self.beam_is_right else "--decoder beam with more --beams"

    def measurements(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        names = ("answer", "log_prob", "expected", "expected_log_prob", "decoder", "is_cut_off")
        searched = ("beam", "beam_log_prob", "beam_is_right")
        return {name: getattr(self, name) for name in (*names, *searched)}


Stage = Indexed | Retrieved | Weighted | Used | Decoded


def place(passage: Passage) -> str:
    """The position of a passage: its source and character offsets."""
    return citation_of(passage.document, passage.place, passage.start, passage.end)


def _verb(passages: tuple[Passage, ...], one: str, many: str) -> str:
    return one if len(passages) == 1 else many

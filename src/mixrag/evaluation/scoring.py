"""Scores of one system on question-answer pairs: a record for each question, and their means.

A passage is relevant to a pair where it is from the pair's document and holds one of the answers
(``passage_holds``). Where the pair names no document, holding an answer is enough. Where the answers are no span
of the document, being from it is enough: verdicts (yes, no, maybe: a "no" in the text is no evidence), and answers
that no passage of the document holds (free wording, or a span that the splitter cut).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from mixrag.answer import Answer
from mixrag.corpus import Passage, Store
from mixrag.errors import MixragError, PairsError, QuestionError
from mixrag.matching import contains, exact_match, f1, normalise, passage_holds
from mixrag.mixture import Mixture
from mixrag.models import models_digest
from mixrag.pairs import Pair, digest
from mixrag.rag import RAG
from mixrag.settings import Settings

T = TypeVar("T")
VERDICTS = frozenset({"yes", "no", "maybe", "true", "false"})


@dataclass(frozen=True, slots=True)
class Record:
    """One question answered by one system."""

    question: str
    document: str | None
    """The document that the pair names."""
    answer: str
    """What the system wrote."""
    exact: float
    """1.0 where it is one of the gold answers, normalised; else 0.0."""
    f1: float
    """Words in common with the best gold answer, in [0, 1]."""
    contained: bool
    """The words of a gold answer stand in it in a row."""
    log_prob: float
    """log p(answer | question) of the written answer, in nats."""
    nll: float
    """-log Σ p(gold answer | question) over the distinct gold answers, in nats, the end of each included."""
    nll_tokens: int
    """Tokens of the most probable gold answer, its end included."""
    rank: int | None
    """Rank, from 1, of the first relevant passage; None where it is not among ``recall_k``, or not measured."""
    recall_k: int
    """Passages asked for to find ``rank``; 0 where the system retrieves nothing, and no rank is measured."""
    log_mass: float
    """log Σ p(y | question) over the answers found that say the same as the written one, in nats."""
    support: float
    """Largest inner product of the question with a passage."""
    tokens: int
    """Tokens written, the end included."""
    priors: tuple[float, ...]
    """p(z | x) of each passage that was used, best first."""
    posteriors: tuple[float, ...]
    """Its posterior, given the written answer."""
    relevant: tuple[bool, ...]
    """Whether it is relevant."""
    seconds: float
    """From the question to the whole answer; the gold answers' scores are not in it."""


def score_pair(rag: RAG, pair: Pair, changes: Mapping[str, Any], recall_k: int = 20) -> Record:
    """Ask a pair's question, score its gold answers under the same mixture, and look for a relevant passage.

    Args:
        rag: the system, with its settings.
        pair: its ``where`` is added to the filter of the settings.
        changes: to the settings, as in ``RAG.ask``.
        recall_k: passages among which the first relevant one is looked for, whatever the system's k.

    Raises:
        PairsError: question and answers do not fit into the model's context.
        MixragError: as ``RAG.ask``.
    """
    changes = with_filter(rag, pair, changes)
    recall_k = 0 if changes.get("k", rag.settings.k) == 0 else recall_k
    wider = {**changes, "k": recall_k, "max_outside": None}
    rank = first_relevant(rag, pair, wider) if recall_k else None
    try:
        start = time.perf_counter()
        answer = rag.ask(pair.question, **changes)
        seconds = time.perf_counter() - start
        nll, nll_tokens = _gold_nll(rag, pair, answer, changes)
    except QuestionError as error:
        found = f"{error.found} at {pair.source or repr(pair.question)}"
        raise PairsError(error.expected, found, f"{error.remedy}, or leave this pair out") from error
    return Record(
        question=pair.question,
        document=pair.document,
        answer=answer.text,
        exact=exact_match(answer.text, pair.answers),
        f1=f1(answer.text, pair.answers),
        contained=contains(answer.text, pair.answers),
        log_prob=answer.log_prob,
        nll=nll,
        nll_tokens=nll_tokens,
        rank=rank,
        recall_k=recall_k,
        log_mass=answer.log_mass,
        support=answer.support,
        tokens=len(answer.tokens),
        priors=tuple(weighted.prior for weighted in answer.passages),
        posteriors=tuple(weighted.posterior for weighted in answer.passages),
        relevant=relevant(rag.store, pair, [weighted.passage for weighted in answer.passages]),
        seconds=seconds,
    )


def score_pairs(
    rag: RAG,
    pairs: Sequence[Pair],
    changes: Mapping[str, Any],
    *,
    out: Path | None = None,
    system: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """``score_pair`` of every pair, in their order.

    Args:
        rag: the system, with its settings.
        pairs: what to ask.
        changes: to the settings, as in ``RAG.ask``.
        out: JSONL file to which every record is added as it comes. What it already holds of this system, with
            these settings, is not computed again; a last line cut off by a kill is. Models and store are not
            compared: give each its own file or system name.
        system: name of the system in ``out``.
        progress: told (questions done, questions in all) after each.

    Raises:
        MixragError: ``out`` is another kind of file, or as ``score_pair``.
    """
    done = {} if out is None else resume(out, _record)
    records = []
    for number, pair in enumerate(pairs, 1):
        key = system, fingerprint(rag, pair, changes)
        if key not in done:
            done[key] = score_pair(rag, pair, changes)
            if out is not None:
                append(out, key, done[key])
        records.append(done[key])
        if progress is not None:
            progress(number, len(pairs))
    return records


def identity(rag: RAG) -> str:
    """A digest of models, store and index: answers of others are not taken for those of this system."""
    encoder = rag.store.encoder
    content = [models_digest(rag.models), rag.models.dtype, rag.index_kind, rag.store.digest()]
    content.append(encoder.fingerprint if encoder else "none")
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def first_relevant(rag: RAG, pair: Pair, changes: Mapping[str, Any]) -> int | None:
    """Rank, from 1, of the first relevant passage among the k retrieved; see the head of this module."""
    flags = relevant(rag.store, pair, rag.passages(pair.question, **changes).passages)
    return flags.index(True) + 1 if True in flags else None


def relevant(store: Store, pair: Pair, passages: Sequence[Passage]) -> tuple[bool, ...]:
    """Whether each of the passages (k,) is relevant to a pair; see the head of this module."""
    own = tuple(in_document(passage.document, pair) for passage in passages)
    holding = tuple(
        mine and passage_holds(passage.text, pair.answers) for mine, passage in zip(own, passages, strict=True)
    )
    if any(holding) and not _is_verdict(pair):
        return holding
    return own if any(own) and not _is_span(store, pair) else (False,) * len(own)


def in_document(document: str, pair: Pair) -> bool:
    """True where a passage is from what the pair names: a path, the end of it, a record, all records of a file.

    A pair that names nothing may have its answer anywhere.
    """
    named = pair.document
    if named is None or document.endswith(f"#{named}"):
        return True
    return any(path == named or path.endswith(f"/{named}") for path in (document, document.rpartition("#")[0]))


def _is_verdict(pair: Pair) -> bool:
    return pair.document is not None and all(normalise(answer) in VERDICTS for answer in pair.answers)


def _is_span(store: Store, pair: Pair) -> bool:
    """True where a relevant passage must hold the answer, not just be from the document."""
    if pair.document is None:
        return True
    if _is_verdict(pair):
        return False
    return any(passage_holds(passage.text, pair.answers) for passage in _document_passages(store, pair))


def _document_passages(store: Store, pair: Pair) -> list[Passage]:
    paths = [record.path for record in store.documents() if in_document(record.path, pair)]
    return [passage for path in paths for passage in store.passages(store.rows_where({"document": path}))]


def with_filter(rag: RAG, pair: Pair, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes to the settings with the filter of a pair added to theirs."""
    where = {**changes.get("where", rag.settings.where), **pair.where}
    return {**changes, "where": where}


def _gold_nll(rag: RAG, pair: Pair, answer: Answer, changes: Mapping[str, Any]) -> tuple[float, int]:
    golds = list(dict.fromkeys(map(rag.generator.answer_tokens, pair.answers)))
    mixture = with_room(rag, answer.scored.mixture, max(map(len, golds)), changes)
    log_probs = [mixture.score_tokens(tokens).log_prob for tokens in golds]
    best = max(range(len(golds)), key=log_probs.__getitem__)
    log_sum = torch.tensor(log_probs, dtype=torch.float64).logsumexp(0)
    return -float(log_sum), len(golds[best])


def with_room(rag: RAG, mixture: Mixture, tokens: int, changes: Mapping[str, Any]) -> Mixture:
    """The mixture itself, or one whose prompts leave room for an answer of so many tokens (as ``RAG.score``)."""
    if tokens <= mixture.reserve:
        return mixture
    return rag.condition(mixture.question, **{**changes, "max_tokens": tokens})


def fingerprint(rag: RAG, pair: Pair, changes: Mapping[str, Any]) -> str:
    """What a record is a function of, beside the models and the store."""
    own = {field.name: getattr(rag.settings, field.name) for field in fields(Settings)}
    content = json.dumps([digest([pair]), {**own, **with_filter(rag, pair, changes)}], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


_FIRST = b'{"system": '
"""How every line of a file of records begins."""


def append(out: Path, key: tuple[str, str], record: Any) -> None:
    """Add a line with a record (a dataclass) to a file, under its system and fingerprint.

    Raises:
        MixragError: it cannot be written.
    """
    line = json.dumps({"system": key[0], "pair": key[1], **asdict(record)}, ensure_ascii=False)
    try:
        with out.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        found = f"{out}: {error.strerror or error}"
        raise MixragError("scores to be written", found, "mend it and run again: what is written stays") from error


def resume(out: Path, record: Callable[[dict[str, Any]], T]) -> dict[tuple[str, str], T]:
    """Records of a file by system and fingerprint; a last line without its end is taken off the file.

    Raises:
        MixragError: ``out`` is another kind of file, or ``record`` makes nothing of a line.
    """
    if not out.exists():
        return {}
    if not out.is_file():
        raise _foreign(out, "no file")
    *lines, torn = out.read_bytes().split(b"\n")
    done = dict(_parse(out, number, line, record) for number, line in enumerate(lines, 1))
    if torn:
        if torn[: len(_FIRST)] != _FIRST[: len(torn)]:
            raise _foreign(out, f"something else on line {len(lines) + 1}")
        with out.open("r+b") as stream:
            stream.truncate(sum(len(line) + 1 for line in lines))
    return done


def _parse(
    out: Path, number: int, line: bytes, record: Callable[[dict[str, Any]], T]
) -> tuple[tuple[str, str], T]:
    try:
        row = json.loads(line)
        return (row["system"], row["pair"]), record(row)
    except (ValueError, TypeError, KeyError) as error:
        raise _foreign(out, f"something else on line {number}") from error


def _record(row: dict[str, Any]) -> Record:
    values = {field.name: row[field.name] for field in fields(Record)}
    listed = {name: tuple(values[name]) for name in ("priors", "posteriors", "relevant")}
    return Record(**{**values, **listed})


def _foreign(out: Path, found: str) -> MixragError:
    return MixragError("a file of scores, or none yet", f"{out}: {found}", "choose another name")

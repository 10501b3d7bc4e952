"""What the composite objective reads: passages, and for each the questions that it answers or does not.

Composite likelihood of a pair (x, y) over passages z_1..z_K (Lindsay 1988; here with the empty answer ∅):

    Π_j p(y | x, z_j)^{c_j} · p(∅ | x, z_j)^{λ (1 - c_j)}

The target c_j says whether z_j states the answer: by matching 1 or 0, or the posterior p(z_j | x, y) of the models
that the run starts from (the E-step). Negatives are the K passages that the retriever itself finds.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mixrag.corpus import Passage, Store
from mixrag.errors import QuestionError, SettingError
from mixrag.evaluation.relevance import in_document, is_verdict
from mixrag.generator.huggingface import ModelGenerator
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import Pair
from mixrag.training.packing import Branch, Tree

LEAST = 0.01
"""Targets below it are 0, and above one minus it 1: such a share of a branch is not worth reading it."""
BY_CHANCE = 3
"""Characters of an answer that occurs in passages which do not state it: a number, an initial."""

ONE_LETTER = Passage("", "a", "", "", 0, 1)
"""A passage, for the tokens of a question that stands behind one."""


@dataclass(frozen=True, slots=True)
class Target:
    """A question of a passage, and how far it states the answer."""

    pair: Pair
    holds: float
    """c in [0, 1]."""


@dataclass
class ReadingSet:
    """A passage with all that is asked about it."""

    passage: Passage
    targets: list[Target] = field(default_factory=list)


def own_sets(pairs: Iterable[Pair]) -> list[ReadingSet]:
    """The sets of pairs that have a passage of their own, those of equal title and text as one."""
    found: dict[tuple[str, str], ReadingSet] = {}
    for pair in pairs:
        if pair.passage is not None:
            passage = Passage("", pair.passage, pair.document or "", pair.title, 0, len(pair.passage))
            own = found.setdefault((pair.title, pair.passage), ReadingSet(passage))
            own.targets.append(Target(pair, 1.0 if pair.answers else 0.0))
    return list(found.values())


def gathered(found: Iterable[tuple[Passage, Target]]) -> list[ReadingSet]:
    """Targets by passage, in the order in which passages first come."""
    sets: dict[str, ReadingSet] = {}
    for passage, target in found:
        sets.setdefault(passage.id, ReadingSet(passage)).targets.append(target)
    return list(sets.values())


class Matching:
    """Targets by matching: which passages of a store state the answer of a pair, and which do not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents: dict[str, list[Passage]] = {}

    def targets(self, pair: Pair, retrieved: Sequence[Passage]) -> list[tuple[Passage, Target]]:
        """What the retrieved passages of a pair, best first, are to say.

        A passage of the pair's document (any, where it names none) that holds an answer states it. If none was
        retrieved, the first one of the document is added. Where the answers are verdicts (yes, no, maybe), all
        retrieved passages of the document state them. Of answers that are too short to match by more than chance
        the best passage alone does. Passages that may state the answer and are not known to are left out: those of
        other documents in which it occurs, and those of a document in which it does not occur as it stands.
        """
        own = [in_document(passage.document, pair) for passage in retrieved]
        occurs = [passage_holds(passage.body, pair.answers) for passage in retrieved]
        if is_verdict(pair):
            stating, unknown = [p for p, mine in zip(retrieved, own, strict=True) if mine], set[str]()
        else:
            stating = [p for p, mine, found in zip(retrieved, own, occurs, strict=True) if mine and found]
            unknown = {p.id for p, found in zip(retrieved, occurs, strict=True) if found}
            if not stating and pair.document is not None:
                stating = self._first_of_document(pair)
                unknown |= set() if stating else {p.id for p, mine in zip(retrieved, own, strict=True) if mine}
            if all(len(answer) <= BY_CHANCE for answer in pair.answers):
                stating = stating[:1]
        unknown |= {passage.id for passage in stating}
        silent = [passage for passage in retrieved if passage.id not in unknown]
        return [(p, Target(pair, 1.0)) for p in stating] + [(p, Target(pair, 0.0)) for p in silent]

    def _first_of_document(self, pair: Pair) -> list[Passage]:
        return [p for p in self._passages_of(pair) if passage_holds(p.body, pair.answers)][:1]

    def _passages_of(self, pair: Pair) -> list[Passage]:
        named = pair.document or ""
        if named not in self._documents:
            paths = [record.path for record in self._store.documents() if in_document(record.path, pair)]
            rows = [row for path in paths for row in self._store.rows_where({"document": path}).tolist()]
            self._documents[named] = list(self._store.passages(rows))
        return self._documents[named]


def by_posterior(
    pair: Pair, passages: Sequence[Passage], posterior: Sequence[float]
) -> list[tuple[Passage, Target]]:
    """Targets that are the posterior (K,) of the retrieved passages."""
    rounded = (0.0 if share < LEAST else 1.0 if share > 1 - LEAST else share for share in posterior)
    return [(passage, Target(pair, share)) for passage, share in zip(passages, rounded, strict=True)]


@dataclass(frozen=True, slots=True)
class ReadableTarget:
    """A target in tokens."""

    question: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    """Of which one is drawn at each visit; none where the passage does not state one."""
    holds: float

    @property
    def longest(self) -> int:
        """Tokens of its longest branch."""
        return len(self.question) + max((len(answer) for answer in self.answers), default=1) - 1


@dataclass(frozen=True, slots=True)
class ReadableSet:
    """A reading set in tokens."""

    passage: tuple[int, ...]
    targets: tuple[ReadableTarget, ...]


class SetTokenizer:
    """Reading sets to tokens: passages shortened to what fits into a row with their longest branch.

    A set whose every branch is longer than half of a row is left out, and so are answers of more than
    ``max_answer_tokens``; ``left_out`` counts the targets.
    """

    def __init__(self, generator: ModelGenerator, length: int, max_answer_tokens: int) -> None:
        self.generator, self.length, self.max_answer_tokens = generator, length, max_answer_tokens
        self.left_out = 0
        self._questions: dict[str, tuple[int, ...]] = {}
        self._answers: dict[str, tuple[int, ...]] = {}

    def readable(self, sets: Iterable[ReadingSet]) -> list[ReadableSet]:
        """The sets that have a target left."""
        found = (self._readable(each) for each in sets)
        return [each for each in found if each.targets]

    def _readable(self, reading: ReadingSet) -> ReadableSet:
        targets = [found for each in reading.targets if (found := self._target(each)) is not None]
        self.left_out += len(reading.targets) - len(targets)
        if not targets:
            return ReadableSet((), ())
        generator, question = self.generator, reading.targets[0].pair.question
        room = self.length - max(target.longest for target in targets)
        # As much is reserved as leaves so many tokens to header and passage.
        reserve = max(0, generator.context_size - room - len(self._question(question)))
        try:
            prompt = generator.prompt(question, (reading.passage,), reserve)
        except QuestionError as error:
            expected = f"prompt text, question and answer within a row of {self.length} tokens"
            raise SettingError(expected, error.found, "raise --row-tokens") from error
        return ReadableSet(prompt.header + prompt.passages, tuple(targets))

    def _target(self, target: Target) -> ReadableTarget | None:
        pair = target.pair
        question = self._question(pair.question)
        answers = [self._answer(answer) for answer in pair.answers] if target.holds else []
        short = tuple(answer for answer in dict.fromkeys(answers) if len(answer) <= self.max_answer_tokens)
        if target.holds and not short:
            return None
        found = ReadableTarget(question, short, target.holds)
        return found if found.longest <= self.length // 2 else None

    def _question(self, question: str) -> tuple[int, ...]:
        if question not in self._questions:
            self._questions[question] = self.generator.prompt(question, (ONE_LETTER,), 0).question
        return self._questions[question]

    def _answer(self, answer: str) -> tuple[int, ...]:
        if answer not in self._answers:
            self._answers[answer] = self.generator.answer_tokens(answer)
        return self._answers[answer]


def trees(sets: Sequence[ReadableSet], stop: int, empty_weight: float, source: random.Random) -> list[Tree]:
    """The sets as they are read in one visit: of several answers one is drawn, and questions are shuffled.

    Args:
        sets: what is read.
        stop: the token that ends an answer, which alone is the empty answer.
        empty_weight: λ.
        source: of what is drawn.
    """
    found = []
    for each in sets:
        branches = []
        for target in each.targets:
            if target.holds > 0:
                branches.append(Branch(target.question, source.choice(target.answers), target.holds))
            if target.holds < 1 and empty_weight > 0:
                branches.append(Branch(target.question, (stop,), empty_weight * (1 - target.holds)))
        source.shuffle(branches)
        if branches:
            found.append(Tree(each.passage, tuple(branches)))
    return found


class Counting(Protocol):
    """A target that says how far its passage states the answer."""

    @property
    def holds(self) -> float:
        """See ``Target.holds``."""
        ...


class CountingSet(Protocol):
    """A passage with such targets."""

    @property
    def targets(self) -> Sequence[Counting]:
        """Of its passage."""
        ...


def counted(sets: Sequence[CountingSet]) -> dict[str, int]:
    """How many passages, and questions that they answer and do not answer."""
    counts: dict[str, int] = defaultdict(int, passages=len(sets))
    for each in sets:
        for target in each.targets:
            counts["answered" if target.holds >= 0.5 else "unanswered"] += 1
    return {name: counts[name] for name in ("passages", "answered", "unanswered")}

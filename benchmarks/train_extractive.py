"""Train the extractive reader on sentences, and on passages that the retriever finds.

    python benchmarks/train_extractive.py DATA GROUPS.jsonl OUT [--start READER] [--near-misses]

DATA is a folder as of ``splits.py``, with reading/docs.jsonl ({"id", "text"}, one sentence each) and
reading/train.jsonl ({"question", "answers", "doc"}) beside; GROUPS is what ``passage_groups.py`` wrote. OUT is
what ``mixrag ask --model OUT`` opens.

Sentences: each question of reading is asked of its sentence among up to three others; 15 % are asked of other
sentences as well, which do not state the answer. Half of these passages get the title of a document of general, so
that a title is nothing to go by. Another draw is made for each --reading visit.

Passages: those of GROUPS, as often as --sets says. Held-out pairs (``splits.py``) and dev.jsonl are never learnt.

--near-misses (``near_misses.py``): of the questions that a passage answers, a share is asked of the passage
without the sentences that state the answer, and a share with another number or name; of the questions on sentences
a share with another number or name. None of them is answered.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mixrag.config.bundle import read_bundle
from mixrag.config.default_models import packaged_reader
from mixrag.config.settings import TRAINED
from mixrag.config.span_training import SpanTrainingSettings
from mixrag.corpus.passage import Passage
from mixrag.pairs.pairs import read_pairs
from mixrag.training.span_examples import SpanExample
from mixrag.training.span_training import train_span_model
from mixrag.utils.progress import ProgressEvent
from near_misses import NEAR, changed_question, pools, pools_by_set, without_answer

AROUND = 3
"""Other sentences around one, at most."""
UNANSWERABLE = 0.15
REPEATED = {"general": 3, "medicine": 2, "finance": 2, "law": 1}
"""How often the passages of each set are read in one run, beside the sentences."""
CUT, CHANGED, CHANGED_SENTENCE = 0.5, 0.5, 0.1
"""Shares of the questions that are asked as near misses."""
SEED = 0


def main() -> None:
    """Make examples, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("groups", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--near-misses", action="store_true", help="also questions that are nearly answered")
    parser.add_argument("--start", type=Path, help="reader to train further")
    parser.add_argument("--reading", type=int, default=2, help="visits of the sentences, each in another draw")
    parser.add_argument("--sets", default=",".join(f"{name}:{n}" for name, n in REPEATED.items()))
    parser.add_argument("--limit", type=int, help="questions of reading, for a trial")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of SpanTrainingSettings")
    parser.add_argument("--answer", action="append", default=[], metavar="NAME=VALUE", help="of Settings")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    repeated = {name: int(count) for name, _, count in (each.partition(":") for each in options.sets.split(","))}
    groups = [json.loads(line) for line in options.groups.read_text(encoding="utf-8").splitlines()]
    titles = sorted({group["title"] for group in groups if group["set"] == "general"}) or [""]
    examples = [*of_groups(groups, repeated)]
    for visit in range(max(repeated.values(), default=0) if options.near_misses else 0):
        examples += near_misses(groups, repeated, visit)
    for visit in range(options.reading):
        source = random.Random(SEED + visit)
        examples += sentences(options.data / "reading", titles, source, options.limit, options.near_misses)
    random.Random(SEED).shuffle(examples)
    print(f"{len(examples)} examples, {sum(not each.answers for each in examples)} of them without an answer")
    settings = SpanTrainingSettings(**{"epochs": 1.0, **given(options.set)})
    answering = {**as_packaged(), **given(options.answer)}
    found = train_span_model(
        examples, options.out, settings, start=options.start, answering=answering, progress=Shown()
    )
    print(f"{found.steps} steps, loss {found.loss:.3f}, {found.left_out} examples left out; {found.folder}")


def given(texts: Sequence[str]) -> dict[str, Any]:
    """Settings as NAME=VALUE, the value in JSON."""
    return {name: json.loads(value) for name, _, value in (text.partition("=") for text in texts)}


def as_packaged() -> dict[str, Any]:
    """The settings of retrieval that the packaged reader has; and an empty answer means: not stated."""
    folder = packaged_reader()
    found = {} if folder is None else dict(read_bundle(folder).settings)
    return found | ({"empty_answer": True} if "empty_answer" in TRAINED else {})


def sentences(
    folder: Path, titles: Sequence[str], source: random.Random, limit: int | None, near: bool
) -> list[SpanExample]:
    """Every question of reading once, among other sentences, and some that their passage does not answer."""
    lines = (folder / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    names, found = list(texts), []
    pairs = list(read_pairs([folder / "train.jsonl"]).pairs)[:limit]
    numbers, names_of = pools([pair.question for pair in pairs])
    for pair in pairs:
        count = source.randint(0, AROUND)
        around = [*others(names, pair.document, count, source), str(pair.document)]
        found.append(SpanExample(pair.question, joined(texts, around, titles, source), pair.answers))
        if source.random() < UNANSWERABLE:
            apart = others(names, pair.document, count + 1, source)
            found.append(SpanExample(pair.question, joined(texts, apart, titles, source)))
        if near and source.random() < CHANGED_SENTENCE:
            passage = joined(texts, around, titles, source)
            changed = changed_question(pair.question, passage.text, numbers, names_of, source)
            found += [SpanExample(changed, passage)] if changed else []
    return found


def near_misses(
    groups: Sequence[Mapping[str, Any]], repeated: Mapping[str, int], visit: int
) -> Iterator[SpanExample]:
    """Questions about passages that do not answer them, of one visit of the sets that are read so often."""
    source = random.Random(SEED + visit)
    near = [group for group in groups if group["set"] in NEAR and visit < repeated.get(group["set"], 0)]
    pool = pools_by_set(near)
    for group in near:
        for question, answers in group["items"]:
            if not answers:
                continue
            if source.random() < CUT and (rest := without_answer(group["text"], answers)) is not None:
                yield SpanExample(question, in_group(group, rest))
            if source.random() < CHANGED:
                numbers, names = pool[group["set"]]
                changed = changed_question(question, group["text"], numbers, names, source)
                if changed is not None:
                    yield SpanExample(changed, in_group(group, group["text"]))


def in_group(group: Mapping[str, Any], text: str) -> Passage:
    """A text under the title and headings of a group."""
    return Passage("", text, "", group["title"], 0, len(text), context=group["context"])


def others(names: Sequence[str], own: str | None, count: int, source: random.Random) -> list[str]:
    """Names of other sentences."""
    return [name for name in source.sample(names, count + 1) if name != own][:count]


def joined(
    texts: Mapping[str, str], names: Sequence[str | None], titles: Sequence[str], source: random.Random
) -> Passage:
    """Sentences in a random order as a passage, which has a title by chance."""
    chosen = [texts[name] for name in names if name is not None]
    source.shuffle(chosen)
    text = " ".join(chosen)
    title = source.choice(titles) if source.random() < 0.5 else ""
    return Passage("", text, "", title, 0, len(text))


def of_groups(groups: Sequence[Mapping[str, Any]], repeated: Mapping[str, int]) -> Iterator[SpanExample]:
    """The questions of passages, as often as their set says."""
    counts: Counter[tuple[str, str]] = Counter()
    for group in groups:
        passage = in_group(group, group["text"])
        for question, answers in group["items"]:
            counts[group["set"], "stated" if answers else "empty"] += 1
            for _ in range(repeated.get(group["set"], 0)):
                yield SpanExample(question, passage, tuple(answers))
    for (name, kind), count in sorted(counts.items()):
        print(f"{name}: {count} questions, {kind}, {repeated.get(name, 0)} times")


class Shown:
    """Progress as lines, one in half a minute."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        """Show it, if it is time."""
        if time.monotonic() - self.last < 30 and event.done != event.total:
            return
        self.last = time.monotonic()
        values = ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
        print(f"{event.stage} {event.done}/{event.total} {values}", flush=True)


if __name__ == "__main__":
    main()

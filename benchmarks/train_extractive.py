"""Train the extractive reader on sentences, and on passages that the retriever finds.

    python benchmarks/train_extractive.py DATA OUT [--groups groups.jsonl]

DATA is a folder as of ``splits.py``, with reading/docs.jsonl ({"id", "text"}, one sentence each) and
reading/train.jsonl ({"question", "answers", "doc"}) beside. OUT is what ``mixrag ask --model OUT`` opens.

Sentences: each question of reading is asked of its sentence among up to three others; 15 % are asked of other
sentences as well, which do not state the answer. Half of these passages get the title of a document of general, so
that a title is nothing to go by. Another draw is made for each --reading visit.

Passages: for the training pairs of general, medicine, law and finance the first three passages of the retriever.
Those of the pair's own document that hold the answer state it (where none was found, the first is added); those
that do not hold it learn the empty answer; those of other documents that hold it are left out. --groups takes
them from a file of {"set", "title", "context", "text", "items": [[question, [answer, ...]], ...]} a line, which is
written to OUT.groups.jsonl otherwise. Held-out pairs (``splits.py``) and dev.jsonl are never learnt.
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

from mixrag import RAG
from mixrag.config.bundle import read_bundle
from mixrag.config.default_models import packaged_reader
from mixrag.config.settings import TRAINED
from mixrag.config.span_training import SpanTrainingSettings
from mixrag.corpus.passage import Passage
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import Pair, read_pairs, split_pairs
from mixrag.training.span_examples import SpanExample
from mixrag.training.span_training import train_span_model
from mixrag.utils.progress import ProgressEvent
from splits import asked_of_own_site, splits

AROUND = 3
"""Other sentences around one, at most."""
UNANSWERABLE = 0.15
FOUND = 3
"""Passages of the retriever."""
REPEATED = {"general": 3, "medicine": 2, "finance": 2, "law": 1}
"""How often the passages of each set are read in one run, beside the sentences."""
BY_CHANCE = 3
"""Characters of an answer that is in other passages by chance: the first alone states it."""
HELD_OUT, SEED = 0.25, 0


def main() -> None:
    """Make examples, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--groups", type=Path, help="passages with their questions, made before")
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
    groups_file = options.groups or options.out.with_suffix(".groups.jsonl")
    if options.groups is None and not groups_file.exists():
        write_groups(options.data, groups_file, options.out.with_suffix(".stores"))
    groups = [json.loads(line) for line in groups_file.read_text(encoding="utf-8").splitlines()]
    titles = sorted({group["title"] for group in groups if group["set"] == "general"}) or [""]
    examples = [*of_groups(groups, repeated)]
    for visit in range(options.reading):
        examples += sentences(options.data / "reading", titles, random.Random(SEED + visit), options.limit)
    random.Random(SEED).shuffle(examples)
    print(f"{len(examples)} examples, {sum(not each.answers for each in examples)} of them without an answer")
    settings = SpanTrainingSettings(**{"epochs": 1.0, **given(options.set)})
    found = train_span_model(
        examples, options.out, settings, answering={**as_packaged(), **given(options.answer)}, progress=Shown()
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


def sentences(folder: Path, titles: Sequence[str], source: random.Random, limit: int | None) -> list[SpanExample]:
    """Every question of reading once, among other sentences, and some among other sentences alone."""
    lines = (folder / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    names, found = list(texts), []
    for pair in list(read_pairs([folder / "train.jsonl"]).pairs)[:limit]:
        count = source.randint(0, AROUND)
        around = [*others(names, pair.document, count, source), str(pair.document)]
        found.append(SpanExample(pair.question, joined(texts, around, titles, source), pair.answers))
        if source.random() < UNANSWERABLE:
            around = others(names, pair.document, count + 1, source)
            found.append(SpanExample(pair.question, joined(texts, around, titles, source)))
    return found


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
        text = group["text"]
        passage = Passage("", text, "", group["title"], 0, len(text), context=group["context"])
        for question, answers in group["items"]:
            counts[group["set"], "stated" if answers else "empty"] += 1
            for _ in range(repeated.get(group["set"], 0)):
                yield SpanExample(question, passage, tuple(answers))
    for (name, kind), count in sorted(counts.items()):
        print(f"{name}: {count} questions, {kind}, {repeated.get(name, 0)} times")


def write_groups(data: Path, path: Path, stores: Path) -> None:
    """The passages that the retriever finds for the training pairs, with their questions."""
    lines = []
    for name, pairs in training_pairs(data).items():
        folder = data / name / "docs"
        with RAG.open(stores / name, create=True) as rag:
            rag.index([folder])
            lines += [json.dumps({"set": name, **group}, ensure_ascii=False) for group in groups_of(rag, pairs)]
    partial = path.with_suffix(".part")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)


def training_pairs(data: Path) -> dict[str, list[Pair]]:
    """The pairs by set that are not held out; of finance those whose answer is a span of a document."""
    found = {name: train for name, (train, _) in splits(data).items() if name != "pubmed"}
    path = data / "finance" / "pairs.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    spans = {(row["question"], row["doc"]) for row in rows if "span" in row["kind"]}
    finance = [pair for pair in read_pairs([path]).pairs if (pair.question, pair.document) in spans]
    found["finance"] = list(split_pairs(finance, HELD_OUT, SEED)[0])
    return {name: [asked_of_own_site(pair) for pair in pairs] for name, pairs in found.items()}


def groups_of(rag: RAG, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Passages with the questions that they answer, and those that they do not."""
    rows, _ = rag.store.vectors()
    by_document: dict[str, list[Passage]] = {}
    for passage in rag.store.passages(rows):
        by_document.setdefault(Path(passage.document).name, []).append(passage)
    groups: dict[str, tuple[Passage, list[Any]]] = {}
    for pair in pairs:
        own = by_document.get(pair.document or "", [])
        found = rag.passages(pair.question, k=FOUND, where=dict(pair.where)).passages
        stating = [each for each in found if each in own and passage_holds(each.text, pair.answers)]
        stating = stating or [each for each in own if passage_holds(each.text, pair.answers)][:1]
        if all(len(answer) <= BY_CHANCE for answer in pair.answers):
            stating = stating[:1]
        silent = [each for each in found if not passage_holds(each.body, pair.answers)] if stating else []
        for each in (*stating, *silent):
            answers = list(pair.answers) if each in stating else []
            groups.setdefault(each.id, (each, []))[1].append([pair.question, answers])
    return [
        {"title": passage.title, "context": passage.context, "text": passage.text, "items": items}
        for passage, items in groups.values()
    ]


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

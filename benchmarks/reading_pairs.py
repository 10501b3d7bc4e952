"""Pairs with passages of their own from questions on single sentences: other sentences are put around each.

    python benchmarks/reading_pairs.py DATA OUT.jsonl [--seed 0]

DATA holds reading/docs.jsonl, {"id", "text"} a line with one sentence each, and reading/train.jsonl,
{"question", "answers", "doc"} a line. OUT gets {"question", "answers", "passage", "title"} a line, as
``mixrag train --objective composite`` reads them. The questions of a sentence are divided between two passages. A
passage has one to six sentences that are asked about and up to two that are not, in a random order. For six
questions that a passage answers there is one about a sentence that is not there: its list of answers is empty.
Half of the passages get a title, of a document of DATA/general, so that a title is nothing to go by. Another seed
draws other passages.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mixrag.pairs.pairs import Pair, as_lines, read_pairs

ASKED_ABOUT, NOT_ASKED_ABOUT = 6, 2
"""Sentences of a passage, at most."""
UNANSWERABLE = 6
"""Of so many questions that a passage answers, one that it does not is added."""


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options = parser.parse_args()
    lines = (options.data / "reading" / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    sentences = {row["id"]: row["text"] for row in map(json.loads, lines)}
    asked = defaultdict(list)
    for pair in read_pairs([options.data / "reading" / "train.jsonl"]).pairs:
        asked[str(pair.document)].append(pair)
    documents = sorted((options.data / "general" / "docs").iterdir())
    titles = [path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in documents]
    found = list(drawn(sentences, asked, titles, random.Random(options.seed)))
    options.out.write_text(as_lines(found), encoding="utf-8")
    passages = len({(pair.title, pair.passage) for pair in found})
    without = sum(not pair.answers for pair in found)
    print(f"{options.out}: {len(found)} pairs, {without} of them without an answer, on {passages} passages")


def drawn(
    sentences: Mapping[str, str], asked: Mapping[str, Sequence[Pair]], titles: Sequence[str], source: random.Random
) -> Iterator[Pair]:
    """All questions once, and those without an answer."""
    names = list(asked)
    parts = [(name, part) for name in names for part in halves(asked[name], source)]
    source.shuffle(parts)
    while parts:
        count = source.randint(1, ASKED_ABOUT)
        some, parts = parts[:count], parts[count:]
        there = dict.fromkeys(name for name, _ in some)
        others = source.sample(names, source.randint(0, NOT_ASKED_ABOUT))
        there |= dict.fromkeys(others)
        texts = [sentences[name] for name in there]
        source.shuffle(texts)
        title = source.choice(titles) if titles and source.random() < 0.5 else ""
        passage = " ".join(texts)
        questions = [pair for _, part in some for pair in part]
        for pair in questions:
            yield Pair(pair.question, pair.answers, passage=passage, title=title)
        known = {pair.question for pair in questions}
        for name in source.choices(names, k=max(1, len(questions) // UNANSWERABLE)):
            question = source.choice(asked[name]).question
            if name not in there and question not in known:
                known.add(question)
                yield Pair(question, (), passage=passage, title=title)


def halves(pairs: Sequence[Pair], source: random.Random) -> list[list[Pair]]:
    """The pairs in two parts, of which none is empty."""
    mixed = source.sample(pairs, len(pairs))
    middle = (len(mixed) + 1) // 2
    return [part for part in (mixed[:middle], mixed[middle:]) if part]


if __name__ == "__main__":
    main()

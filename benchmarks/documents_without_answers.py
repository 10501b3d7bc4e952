"""A corpus that no longer states the answers to some held-out questions: near misses whose documents are real.

    python benchmarks/documents_without_answers.py PAIRS.jsonl DOCS OUT

PAIRS are questions with the name of their document (``doc``), DOCS the folder with these documents (text or
Markdown). Of every fourth question, in order of a hash, the sentences that hold an answer are taken out of its
document. OUT gets ``docs``, the documents so cut and all others of DOCS as they are; ``stated.jsonl``, the
questions whose documents still state an answer; and ``near.jsonl``, those whose documents do not, with no answer,
and of the others that have a number or a name a second one with another that its document lacks
(``near_misses.py``). A question is in neither where its answer stands in more than ``MOST_SENTENCES`` sentences.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mixrag.corpus.splitters.sentences import sentences
from mixrag.pairs.matching import passage_holds
from mixrag.pairs.pairs import Pair, as_lines, question_digest, read_pairs
from near_misses import changed_question, pools

MOST_SENTENCES = 3
"""More sentences with the answer would be cut for one question: a short answer such as "two" is everywhere."""
EVERY = 4
"""Of so many questions the answers to one are cut; with them go those of others that share its sentences."""
SEED = 0


def main() -> None:
    """Read, cut, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(options.docs.iterdir())}
    cut, stated, near = without_answers(read_pairs([options.pairs]).pairs, texts)
    folder = options.out / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in cut.items():
        (folder / name).write_text(text, encoding="utf-8")
    (options.out / "stated.jsonl").write_text(as_lines(stated), encoding="utf-8")
    (options.out / "near.jsonl").write_text(as_lines(near), encoding="utf-8")
    print(f"{options.out}: {len(stated)} questions with an answer, {len(near)} without, in {len(cut)} documents")


def without_answers(
    pairs: Iterable[Pair], texts: Mapping[str, str]
) -> tuple[dict[str, str], list[Pair], list[Pair]]:
    """The documents so cut, the questions that they answer, and those that they do not."""
    asked = sorted(
        (pair for pair in pairs if pair.document in texts), key=lambda pair: question_digest(pair.question)
    )
    rare = [pair for pair in asked if 0 < len(places(texts, pair)) <= MOST_SENTENCES]
    left = dict(texts)
    for pair in rare[::EVERY]:
        left[name_of(pair)] = without(left[name_of(pair)], places(left, pair))
    stated = {pair: passage_holds(left[name_of(pair)], pair.answers) for pair in rare}
    kept = [pair for pair, held in stated.items() if held]
    near = [replace(pair, answers=()) for pair, held in stated.items() if not held]
    return left, kept, [*near, *changed(kept, left)]


def changed(pairs: Sequence[Pair], texts: Mapping[str, str]) -> Iterator[Pair]:
    """The questions with a number or name that their documents lack in the place of one that they have."""
    source, (numbers, names) = random.Random(SEED), pools([pair.question for pair in pairs])
    for pair in pairs:
        question = changed_question(pair.question, texts[name_of(pair)], numbers, names, source)
        if question is not None:
            yield replace(pair, question=question, answers=())


def name_of(pair: Pair) -> str:
    """The document of a pair that has one."""
    return str(pair.document)


def places(texts: Mapping[str, str], pair: Pair) -> list[tuple[int, int]]:
    """Offsets of the sentences of its document that hold an answer."""
    text = texts[name_of(pair)]
    found = sentences(text, 0, len(text))
    return [(start, end) for start, end in found if passage_holds(text[start:end], pair.answers)]


def without(text: str, cut: Sequence[tuple[int, int]]) -> str:
    """The text less some stretches of it, which do not overlap; what is between them stays."""
    for start, end in sorted(cut, reverse=True):
        text = text[:start] + text[end:]
    return text


if __name__ == "__main__":
    main()

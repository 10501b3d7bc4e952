"""Questions that a passage does not answer although it is about them, made from those that it answers.

    python benchmarks/near_misses.py GROUPS.jsonl OUT.jsonl

GROUPS is what ``passage_groups.py`` wrote. ``without_answer`` takes the sentences that state an answer out of a
passage; ``changed_question`` puts another number or name into a question than the one that the passage has ("Class
C" becomes "Class D"). Both go by rule, so that a few of these questions are answered after all. OUT gets
{"question", "answers", "passage", "title"} a line, as ``mixrag train --objective composite`` reads them: a passage
of NEAR without the answer to one of its questions, that question with an empty list, its other questions, and of
those that it still answers a share with another number or name and an empty list.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixrag.corpus.splitters.sentences import sentences
from mixrag.pairs.matching import passage_holds, words
from mixrag.pairs.pairs import Pair, as_lines

NUMBER = re.compile(r"(?<![\w.,])\d[\d.,]*\d|(?<![\w.,])\d(?![\w])")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'’-]*(?: [A-Z][\w'’-]*)*|(?<= )[A-Z](?=[ ?.,]|$)")
LEAST_WORDS = 6
"""Of what is left of a passage."""
NEAR = ("general", "medicine", "finance")
"""Sets whose questions have one place that answers them, so that they do not once it is left out."""
CHANGED = 0.5
"""Share of the questions that are asked with another number or name, too."""
SEED = 0


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    groups = [json.loads(line) for line in options.groups.read_text(encoding="utf-8").splitlines()]
    found = list(drawn([group for group in groups if group["set"] in NEAR], random.Random(SEED)))
    options.out.write_text(as_lines(found), encoding="utf-8")
    passages = len({(pair.title, pair.passage) for pair in found})
    without = sum(not pair.answers for pair in found)
    print(f"{options.out}: {len(found)} pairs, {without} of them without an answer, on {passages} passages")


def drawn(groups: Sequence[Mapping[str, Any]], source: random.Random) -> Iterator[Pair]:
    """The pairs of every passage that can do without the answer to one of its questions."""
    pool = pools_by_set(groups)
    for group in groups:
        stated = [(question, answers) for question, answers in group["items"] if answers]
        cuts = {question: without_answer(group["text"], answers) for question, answers in stated}
        chosen = [question for question, rest in cuts.items() if rest is not None]
        if not chosen:
            continue
        asked = source.choice(chosen)
        text = str(cuts[asked])
        passage = f"{group['context']}\n{text}" if group["context"] else text
        found = {asked: Pair(asked, (), passage=passage, title=group["title"])}
        for question, answers in stated:
            held = passage_holds(text, answers)
            kept = tuple(answers) if held else ()
            found.setdefault(question, Pair(question, kept, passage=passage, title=group["title"]))
            if held and source.random() < CHANGED:
                changed = changed_question(question, text, *pool[group["set"]], source)
                if changed is not None:
                    found.setdefault(changed, Pair(changed, (), passage=passage, title=group["title"]))
        yield from found.values()


def pools_by_set(groups: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[str], list[str]]]:
    """Numbers and names of the questions of each set."""
    asked: dict[str, list[str]] = {}
    for group in groups:
        asked.setdefault(group["set"], []).extend(question for question, _ in group["items"])
    return {name: pools(questions) for name, questions in asked.items()}


def without_answer(text: str, answers: Sequence[str]) -> str | None:
    """The text without the sentences that hold an answer; None where nothing is left or it is still held."""
    found = [text[start:end] for start, end in sentences(text, 0, len(text))]
    left = [sentence for sentence in found if not passage_holds(sentence, answers)]
    rest = " ".join(left)
    if len(left) == len(found) or len(words(rest)) < LEAST_WORDS or passage_holds(rest, answers):
        return None
    return rest


def changed_question(
    question: str, text: str, numbers: Sequence[str], names: Sequence[str], source: random.Random
) -> str | None:
    """The question with one of its numbers or names, which the text has, replaced by one that it lacks.

    None where it has none. A number is replaced by one of as many digits, a name by one of as many words.
    """
    places = [(match, numbers) for match in NUMBER.finditer(question) if match.group() in text]
    places += [(match, names) for match in NAME.finditer(question) if match.group() in text]
    if not places:
        return None
    match, pool = source.choice(places)
    taken = match.group()
    others = [each for each in pool if _alike(each, taken) and each not in text and each not in question]
    if not others:
        return None
    return question[: match.start()] + source.choice(others) + question[match.end() :]


def pools(questions: Sequence[str]) -> tuple[list[str], list[str]]:
    """The distinct numbers and names of questions, sorted."""
    found = (pattern.findall("\n".join(questions)) for pattern in (NUMBER, NAME))
    numbers, names = (sorted(set(each)) for each in found)
    return numbers, names


def _alike(one: str, other: str) -> bool:
    if one[0].isdigit():
        return len(one) == len(other)
    return one.count(" ") == other.count(" ") and (len(one) == 1) == (len(other) == 1)


if __name__ == "__main__":
    main()

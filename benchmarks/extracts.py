"""Sentences with the answer: how probable they are, and how many of them are in the extract.

    mixrag index DOCUMENTS --store STORE
    python benchmarks/extracts.py STORE PAIRS [--questions 40] [--all] [--sharpness 0.5 1] [--neighbours 0 0.25]

Asked are the questions of PAIRS that ask for an explanation and have an answer of at least six words (``--all``:
all of them). A sentence has the answer where it is in the document of the pair and holds the answer, or is a part
of it of four words or more. For the scores (``answers/sentence_scores.py``) times each sharpness, and each weight
of neighbours: the mean over questions of log Σ p(s | x) of these sentences, of the share of them that the extract
has, and of the share of the extract that they are. Left out are questions without such a sentence in the passages
retrieved.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from torch import Tensor

from mixrag import RAG
from mixrag.answers.extract import chosen
from mixrag.answers.kinds import kind_of
from mixrag.answers.read_sentences import NEIGHBOURS, ReadSentences, Scores, Sentence, read_sentences
from mixrag.answers.sentence_scores import sentence_scores
from mixrag.corpus import Passage
from mixrag.corpus.splitters.protocol import Offsets
from mixrag.corpus.splitters.sentences import sentences
from mixrag.pairs.matching import normalise
from mixrag.pairs.pairs import Pair, read_pairs


def main() -> None:
    """Retrieve, read, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--questions", type=int, default=40, help="at most so many, drawn with seed 0")
    parser.add_argument("--all", action="store_true", help="also questions that do not ask for an explanation")
    parser.add_argument("--sharpness", type=float, nargs="+", default=[1.0])
    parser.add_argument("--neighbours", type=float, nargs="+", default=[0.0, NEIGHBOURS])
    options = parser.parse_args()
    pairs = [pair for pair in read_pairs([options.pairs]).pairs if options.all or asks(pair)]
    pairs = random.Random(0).sample(pairs, min(options.questions, len(pairs)))
    ways = [*product(options.sharpness, options.neighbours)]
    rows: dict[tuple[float, float], list[tuple[float, float, float]]] = {way: [] for way in ways}
    with RAG.open(options.store) as rag:
        for pair in pairs:
            retrieval, scores = rag.passages(pair.question, where=dict(pair.where)), scores_of(rag, pair)
            for sharpness, neighbours in ways:
                read = read_sentences(retrieval, scaled(scores, sharpness), neighbours)
                rows[sharpness, neighbours] += scored(pair, read)
    print("| sharpness | neighbours | questions | log p | of the gold sentences | of the extract |")
    print("|" + " --- |" * 6)
    for way, row in rows.items():
        means = [f"{fmean(column):.3f}" for column in zip(*row, strict=True)]
        print("| " + " | ".join([*(f"{each:g}" for each in way), str(len(row)), *means]) + " |")


def asks(pair: Pair) -> bool:
    """Whether a pair asks for an explanation and has a long answer."""
    return kind_of(pair.question) == "extract" and max(len(answer.split()) for answer in pair.answers) >= 6


def scores_of(rag: RAG, pair: Pair) -> Scores:
    """The scores that ``ask`` uses, computed once."""
    settings = rag.settings
    given = sentence_scores(pair.question, rag.encoder, settings.temperature or rag.encoder.temperature, settings)
    known: list[Sequence[Tensor]] = []

    def scores(passages: Sequence[Passage], spans: Sequence[Sequence[Offsets]]) -> Sequence[Tensor]:
        if not known:  # they are the same at every call
            known.append(given(passages, spans))
        return known[0]

    return scores


def scaled(scores: Scores, factor: float) -> Scores:
    """Scores times a factor."""
    return lambda passages, spans: [factor * each for each in scores(passages, spans)]


def scored(pair: Pair, read: ReadSentences) -> list[tuple[float, float, float]]:
    """log p, recall and precision; nothing where no sentence has the answer."""
    gold = {each.key for each in read.sentences if has_answer(each, pair)}
    if not gold:
        return []
    found = {each.key for each in chosen(read)}
    mass = math.fsum(read.mass[key] for key in gold)
    return [(math.log(max(mass, 1e-9)), len(found & gold) / len(gold), len(found & gold) / len(found))]


def has_answer(sentence: Sentence, pair: Pair) -> bool:
    """See above."""
    if pair.document is None or not sentence.passage.document.endswith(pair.document):
        return False
    parts = [normalise(answer[a:b]) for answer in pair.answers for a, b in sentences(answer, 0, len(answer))]
    text = normalise(sentence.text)
    return any(part and (part in text or (len(text.split()) >= 4 and text in part)) for part in parts)


if __name__ == "__main__":
    main()

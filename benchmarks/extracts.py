"""Sentences with the answer: how probable they are, and how many of them are in the extract.

    mixrag index DOCUMENTS --store STORE
    python benchmarks/extracts.py STORE PAIRS [--questions 40] [--all] [--sharpness 0.25 0.5 0.75 1]

Asked are the questions of PAIRS that ask for an explanation and have an answer of at least six words (``--all``:
all of them). A sentence has the answer where it is in the document of the pair and holds the answer, or is a part
of it of four words or more. For each sharpness c of the scores (``answers/sentence_scores.py``): the mean over
questions of log Σ p(s | x) of these sentences, of the share of them that the extract has, and of the share of the
extract that they are. Questions without such a sentence in the passages retrieved are left out.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from torch import Tensor

from mixrag import RAG
from mixrag.answers.extract import chosen
from mixrag.answers.kinds import kind_of
from mixrag.answers.read_sentences import ReadSentences, Scores, Sentence, read_sentences
from mixrag.answers.sentence_scores import SHARPNESS, sentence_scores
from mixrag.corpus import Passage
from mixrag.corpus.splitters.protocol import Offsets
from mixrag.corpus.splitters.sentences import sentences
from mixrag.pairs.matching import normalise
from mixrag.pairs.pairs import Pair, read_pairs
from mixrag.retrieval.retriever import Retrieval


def main() -> None:
    """Retrieve, read, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--questions", type=int, default=40, help="at most so many, drawn with seed 0")
    parser.add_argument("--all", action="store_true", help="also questions that do not ask for an explanation")
    parser.add_argument("--sharpness", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0])
    options = parser.parse_args()
    pairs = [pair for pair in read_pairs([options.pairs]).pairs if options.all or asks(pair)]
    pairs = random.Random(0).sample(pairs, min(options.questions, len(pairs)))
    rows: dict[float, list[tuple[float, float, float]]] = {sharpness: [] for sharpness in options.sharpness}
    with RAG.open(options.store) as rag:
        for pair in pairs:
            retrieval, scores = rag.passages(pair.question, where=dict(pair.where)), scores_of(rag, pair)
            for sharpness, row in rows.items():
                row += scored(pair, retrieval, scaled(scores, sharpness / SHARPNESS))
    print("| c | questions | log p | share of the gold sentences | share of the extract |\n|" + " --- |" * 5)
    for sharpness, row in rows.items():
        print(
            f"| {sharpness:g} | {len(row)} | "
            + " | ".join(f"{fmean(c):.3f}" for c in zip(*row, strict=True))
            + " |"
        )


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


def scored(pair: Pair, retrieval: Retrieval, scores: Scores) -> list[tuple[float, float, float]]:
    """log p, recall and precision; nothing where no sentence has the answer."""
    read: ReadSentences = read_sentences(retrieval, scores)
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

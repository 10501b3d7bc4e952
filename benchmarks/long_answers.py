"""Long answers side by side: the switch at sentences, between tokens, none, and one prompt of all passages.

    mixrag index demo/corpus --store STORE
    python benchmarks/long_answers.py STORE [--generator MODEL] [--questions FILE] [--max-tokens all]

FILE has one question a line; without it twelve of the demo are asked. A row is one way to answer:

    tokens     of the answer; "cut" where it was cut off
    log p      log p(answer | question) of its own mixture, a token
    passages   how many are the most probable one of at least one sentence
    sure       mean over sentences of the posterior of that passage
    words      of the words of at least four letters, the share that stand in the passage that their sentence
               cites (of one prompt with all passages: in any of them); to have the words is not yet to say it
    seconds    to answer, passages read before

The answers are printed below the rows. At the end come the means of each way over all questions, with a standard
error of ``words``, and of its difference to the first way on the same questions.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mixrag import RAG, ModelConfig
from mixrag.answers.answer import Answer
from mixrag.answers.fields import WrittenSentence
from mixrag.config.prompt_template import PromptTemplate

WAYS: Mapping[str, Mapping[str, Any]] = {
    "switch 0": {"switch": 0.0},
    "switch 0.3 at tokens": {"switch": 0.3},
    "switch 0.3 at sentences": {"switch": 0.3, "switch_at": "sentence"},
    "switch 1 at sentences": {"switch": 1.0, "switch_at": "sentence"},
    "group all": {"group": "all"},
}
QUESTIONS = (
    "Explain what is known about the Hesterlin cough epidemic.",
    "Summarise the story of Rosamund Quill's boat.",
    "Explain how the Dunmarret Credit Union came about.",
    "Explain how lanter fever is treated.",
    "Describe how a patient is transferred from the island.",
    "Summarise what the ossel root monograph says about doses and dangers.",
    "Explain how a tenancy is ended.",
    "Describe what the peat cutting code asks of those who cut peat.",
    "Explain how a croft is inherited.",
    "Summarise what the boat policy of Tiskerry Mutual covers.",
    "Explain how the wool levy is paid and to whom it goes.",
    "Describe how a small claim is made.",
)
PROMPT = PromptTemplate.from_file(Path(__file__).parent / "sentences.toml")
_WORD = re.compile(r"[^\W\d_]{4,}")


@dataclass(frozen=True)
class Row:
    """One answer."""

    way: str
    answer: Answer
    seconds: float

    @property
    def cells(self) -> list[str]:
        """See the module."""
        size = len(self.answer.tokens)
        cut = "" if self.answer.finished else ", cut"
        passages = f"all {len(self.answer.passages)}" if self.grouped else str(self.passages)
        tokens, sure, words = f"{size}{cut}", f"{self.sure:.3f}", f"{self.words:.2f}"
        return [self.way, tokens, f"{self.log_prob:.3f}", passages, sure, words, f"{self.seconds:.1f}"]

    @property
    def log_prob(self) -> float:
        """Of a token."""
        return self.answer.log_prob / len(self.answer.tokens)

    @property
    def best(self) -> list[int]:
        """The most probable passage of each sentence."""
        return [max(range(len(each.posterior)), key=each.posterior.__getitem__) for each in self.sentences]

    @property
    def passages(self) -> int:
        """Passages of which there is a sentence."""
        return len(set(self.best))

    @property
    def sure(self) -> float:
        """Mean posterior of the most probable passage of a sentence."""
        return fmean([each.posterior[j] for each, j in zip(self.sentences, self.best, strict=True)] or [0.0])

    @property
    def grouped(self) -> bool:
        """Whether all passages are in one prompt."""
        return len(self.answer.scored.mixture.components) == 1

    @property
    def sentences(self) -> Sequence[WrittenSentence]:
        """Those of the answer."""
        return self.answer.written_sentences

    @property
    def words(self) -> float:
        """The share of the answer's words that stand in the passages that are cited for them."""
        texts = [words_of(each.text) for each in self.answer.passages]
        found = total = 0
        for sentence, j in zip(self.sentences, self.best, strict=True):
            written = words_of(sentence.text)
            found += len(written & (set().union(*texts) if self.grouped else texts[j]))
            total += len(written)
        return found / max(1, total)


def words_of(text: str) -> set[str]:
    """Its words of at least four letters, in lower case."""
    return set(_WORD.findall(text.casefold()))


def main() -> None:
    """Ask, print rows and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--generator", default=None)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--max-tokens", default="160")
    parser.add_argument("-k", type=int, default=5)
    options = parser.parse_args()
    questions = options.questions.read_text("utf-8").splitlines() if options.questions else QUESTIONS
    longest = options.max_tokens if options.max_tokens == "all" else int(options.max_tokens)
    models = ModelConfig(generator=options.generator, adapter="none", prompt=PROMPT)
    found = list[list[Row]]()
    with RAG.open(options.store, models=models) as rag:
        for question in filter(None, map(str.strip, questions)):
            shown = {"kind": "span", "k": options.k, "max_tokens": longest, "question": question}
            for way in ({}, WAYS["group all"]):  # the passages are read
                rag.ask(**{**shown, **way, "max_tokens": 1})
            print(
                f"\n{question}\n\n| answer | tokens | log p | passages | sure | words | seconds |\n|{' --- |' * 7}"
            )
            rows = [asked(rag, way, {**shown, **WAYS[way]}) for way in WAYS]
            for row in rows:
                print("| " + " | ".join(row.cells) + " |", flush=True)
            for row in rows:
                print(f"\n{row.way}: {row.answer.best_guess.strip()}", flush=True)
            found.append(rows)
    show_means(found)


def show_means(found: Sequence[Sequence[Row]]) -> None:
    """Of each way over all questions."""
    print(f"\nmeans of {len(found)} questions\n\n| answer | log p | passages | sure | words | words, gained |")
    print(f"|{' --- |' * 6}")
    for way, rows in zip(WAYS, zip(*found, strict=True), strict=True):
        words = [row.words for row in rows]
        gained = [row.words - first.words for row, (first, *_) in zip(rows, found, strict=True)]
        passages = f"{fmean(row.passages for row in rows):.1f}"
        log_prob, sure = (f"{fmean(each):.3f}" for each in ([r.log_prob for r in rows], [r.sure for r in rows]))
        print(f"| {way} | {log_prob} | {passages} | {sure} | {with_error(words)} | {with_error(gained)} |")


def with_error(values: Sequence[float]) -> str:
    """The mean and its standard error."""
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{fmean(values):.2f} ± {error:.2f}"


def asked(rag: RAG, way: str, given: Mapping[str, Any]) -> Row:
    """The answer that one way gives."""
    start = time.perf_counter()
    answer = rag.ask(**given)
    return Row(way, answer, time.perf_counter() - start)


if __name__ == "__main__":
    main()

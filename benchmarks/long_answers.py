"""Long answers side by side: the switch at sentences, between tokens, none, and one prompt of all passages.

    mixrag index demo/corpus --store STORE
    python benchmarks/long_answers.py STORE [--generator MODEL] [--questions FILE] [--max-tokens all]

FILE has one question a line; without it three of the demo are asked. A row is one way to answer:

    tokens     of the answer; "cut" where it was cut off
    log p      log p(answer | question) of its own mixture, a token
    passages   how many are the most probable one of at least one sentence
    sure       mean over sentences of the posterior of that passage
    words      of the words of at least four letters, the share that stand in the passage that their sentence
               cites (of one prompt with all passages: in any of them); to have the words is not yet to say it
    seconds    to answer, passages read before

The answers are printed below the rows.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
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
        answer, size = self.answer, len(self.answer.tokens)
        best = [max(range(len(each.posterior)), key=each.posterior.__getitem__) for each in self.sentences]
        sure = [each.posterior[j] for each, j in zip(self.sentences, best, strict=True)]
        cut = "" if answer.finished else ", cut"
        passages = f"all {len(answer.passages)}" if self.grouped else str(len(set(best)))
        return [
            self.way,
            f"{size}{cut}",
            f"{answer.log_prob / size:.3f}",
            passages,
            f"{fmean(sure or [0.0]):.3f}",
            f"{self.words(best):.2f}",
            f"{self.seconds:.1f}",
        ]

    @property
    def grouped(self) -> bool:
        """Whether all passages are in one prompt."""
        return len(self.answer.scored.mixture.components) == 1

    @property
    def sentences(self) -> Sequence[WrittenSentence]:
        """Those of the answer."""
        return self.answer.written_sentences

    def words(self, best: Sequence[int]) -> float:
        """The share of the answer's words that stand in the passages that are cited for them."""
        texts = [words_of(each.text) for each in self.answer.passages]
        found = total = 0
        for sentence, j in zip(self.sentences, best, strict=True):
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


def asked(rag: RAG, way: str, given: Mapping[str, Any]) -> Row:
    """The answer that one way gives."""
    start = time.perf_counter()
    answer = rag.ask(**given)
    return Row(way, answer, time.perf_counter() - start)


if __name__ == "__main__":
    main()

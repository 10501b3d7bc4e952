"""Questions on the demo documents as a new user asks them: how many are answered, how many near misses withheld.

    mixrag index demo/corpus --store STORE
    python benchmarks/demo_questions.py STORE [--model FOLDER] [--generator MODEL] [--set KEY=VALUE ...] [--json]

Asked are three files of demo/: questions.jsonl, which the documents answer, unanswerable.jsonl, which they do
not, and extracts.jsonl, which asks for sentences. An answer counts as right, as a person would judge it, where it
has at most 12 words and a gold answer among them (``right``). A signal withholds the answers below a threshold,
the largest that keeps 90 % of the right answers; it is chosen on these questions, so its figures describe the
ranking and are no promise. AUROC is the probability that the signal of a right answer is above that of another
answer, plus half of the probability that they are equal: compared with the answers to unanswerable questions, with
the wrong answers, and with both.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mixrag import RAG, ModelConfig
from mixrag.answers.signals import features
from mixrag.evaluation import trust_measures
from mixrag.evaluation.proportions import share
from mixrag.pairs.matching import exact_match, f1, normalise

DEMO = Path(__file__).parent.parent / "demo"
SETS = ("questions", "unanswerable", "extracts")
WORDS = 12
"""An answer of more words has not been picked out of its passage."""
KEPT = 0.9
"""Share of the right answers that a threshold keeps."""

Row = Mapping[str, Any]
"""A line of one of the files."""


def confidence_of(answer: Any) -> float | None:
    """The calibrated confidence, where there is one."""
    return None if answer.confidence is None else float(answer.confidence.value)


def stated(answer: Any) -> float | None:
    """1 - p(∅ | question), where the generator has an empty answer."""
    p_empty = getattr(answer, "p_empty", None)
    return None if p_empty is None else 1.0 - float(p_empty)


def probability_of(answer: Any) -> float | None:
    """p(answer | question)."""
    return float(answer.probability)


SIGNALS: Mapping[str, Callable[[Any], float | None]] = {
    "confidence": confidence_of,
    "1 - p_empty": stated,
    "probability": probability_of,
}


def main() -> None:
    """Ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--model", type=Path, help="a folder that mixrag train or RAG.save wrote")
    parser.add_argument("--generator")
    parser.add_argument("--adapter")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. k=10")
    parser.add_argument("--json", action="store_true", help="the report as JSON, with every answer")
    options = parser.parse_args()
    models = ModelConfig(generator=options.generator, adapter=options.adapter, dtype=options.dtype)
    rows = {name: read(DEMO / f"{name}.jsonl") for name in SETS}
    settings = dict(map(setting, options.set))
    with RAG.open(options.store, model=options.model, models=models, settings=settings) as rag:
        asked = {name: rag.ask_many([row["question"] for row in some]) for name, some in rows.items()}
    found = report({name: scored(rows[name], asked[name]) for name in SETS})
    print(json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) if options.json else shown(found))


def read(path: Path) -> list[Row]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def setting(text: str) -> tuple[str, Any]:
    """Name and value of KEY=VALUE; the value as JSON where it is, else as text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def scored(rows: Sequence[Row], answers: Sequence[Any]) -> list[dict[str, Any]]:
    """For each question what was answered, its scores and its signals."""
    return [
        {
            "question": row["question"],
            "kind": row.get("kind", "extract" if "sentences" in row else "span"),
            "answer": answer.best_guess,
            "withheld": answer.text is None or not answer.best_guess.strip(),
            **scores(row, answer.best_guess),
            **{name: signal(answer) for name, signal in SIGNALS.items()},
            "features": features(answer.signals),
        }
        for row, answer in zip(rows, answers, strict=True)
    ]


def scores(row: Row, answer: str) -> dict[str, float]:
    """What an answer scores against the gold of its line."""
    if "sentences" in row:
        return {"recall": recall(row["sentences"], answer), "f1": f1(answer, [" ".join(row["sentences"])])}
    return {
        "exact": exact_match(answer, row["answers"]) if row["answers"] else 0.0,
        "right": float(right(row, answer)),
    }


def right(row: Row, answer: str) -> bool:
    """Whether a person would call an answer right; never where the documents state none.

    A gold answer occurs in it, normalised, and it has at most ``WORDS`` words, or as many as the longest gold.
    A gold answer that is a number alone must be the whole answer: "15 kg" does not say "15" of talms. A list is
    right with all of its parts in any order and at most ``WORDS`` further words. Where yes or no is asked, a
    first word of yes or no decides, and only without it a further gold answer ("Rent is not deductible").
    """
    golds, text = row["answers"], normalise(answer)
    if not golds:
        return False
    if exact_match(answer, golds):
        return True
    if row.get("kind") == "yes-no":
        first = text.split(" ", 1)[0]
        return first == golds[0] if first in ("yes", "no") else picked_out(text, golds[1:])
    if row.get("kind") == "list":
        further = count(text) - sum(count(normalise(part)) for part in row["parts"])
        return further <= WORDS and all(in_a_row(text, normalise(part)) for part in row["parts"])
    return picked_out(text, golds)


def picked_out(text: str, golds: Sequence[str]) -> bool:
    """Whether a gold answer is among the few words of a normalised answer."""
    normal = [normalise(gold) for gold in golds]
    short = count(text) <= max([WORDS, *map(count, normal)])
    return short and any(in_a_row(text, gold) for gold in normal if not is_number(gold))


def in_a_row(text: str, words: str) -> bool:
    """Whether the words occur in the text one after another; both normalised."""
    return f" {words} " in f" {text} "


def count(text: str) -> int:
    """Words of a normalised text."""
    return len(text.split())


def is_number(text: str) -> bool:
    """Whether a normalised text is one number in digits."""
    return text.replace(".", "").isdecimal()


def recall(sentences: Sequence[str], answer: str) -> float:
    """Share of the gold sentences that are in the answer, normalised, from their first word to their last."""
    text = normalise(answer)
    return fmean(in_a_row(text, normalise(sentence)) for sentence in sentences)


def threshold_keeping(values: Sequence[float], share: float = KEPT) -> float:
    """The largest threshold that at least this share of the values (N,) reaches, N >= 1."""
    return sorted(values, reverse=True)[math.ceil(share * len(values)) - 1]


def auroc(above: Sequence[float], below: Sequence[float]) -> float | None:
    """P(a > b) + P(a = b) / 2 for a of the first values and b of the second; None where there are none of one."""
    right = np.repeat([1.0, 0.0], [len(above), len(below)])
    return trust_measures.auroc(np.array([*above, *below], np.float64), right)


def share_of(flags: Sequence[Any]) -> dict[str, Any]:
    """A proportion with its 95 % interval (Wilson, 1927)."""
    found = share([bool(flag) for flag in flags])
    hits = sum(map(bool, flags))
    return {"share": found.mean, "n": found.n, "hits": hits, "interval": [found.low, found.high]}


def signal_report(name: str, answerable: Sequence[Row], unanswerable: Sequence[Row]) -> dict[str, Any] | None:
    """What a signal withholds and how it ranks; None where no answer has it, or none is right.

    An answer without the signal (one that was cut off has no confidence) counts as below all others.
    """
    if all(row[name] is None for row in (*answerable, *unanswerable)) or not any(r["right"] for r in answerable):
        return None
    rights = [level(row, name) for row in answerable if row["right"]]
    wrongs = [level(row, name) for row in answerable if not row["right"]]
    others = [level(row, name) for row in unanswerable]
    threshold = threshold_keeping(rights)
    return {
        "threshold": threshold if math.isfinite(threshold) else None,
        "right_answered": share_of([value >= threshold for value in rights]),
        "wrong_withheld": share_of([value < threshold for value in wrongs]) if wrongs else None,
        "unanswerable_withheld": share_of([value < threshold for value in others]),
        "auroc_unanswerable": auroc(rights, others),
        "auroc_wrong": auroc(rights, wrongs),
        "auroc_pooled": auroc(rights, [*wrongs, *others]),
    }


def level(row: Row, name: str) -> float:
    """The signal of an answer; -inf where it has none."""
    return -math.inf if row[name] is None else float(row[name])


def report(answers: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Everything that is printed, and the answers themselves."""
    answerable, unanswerable, extracts = (answers[name] for name in SETS)
    kinds = dict.fromkeys(row["kind"] for row in answerable)
    return {
        "exact": share_of([row["exact"] for row in answerable]),
        "right": share_of([row["right"] for row in answerable]),
        "right_by_kind": {
            kind: share_of([row["right"] for row in answerable if row["kind"] == kind]) for kind in kinds
        },
        "withheld_as_set": {
            "right": share_of([row["withheld"] for row in answerable if row["right"]])
            if any(row["right"] for row in answerable)
            else None,
            "unanswerable": share_of([row["withheld"] for row in unanswerable]),
        },
        "signals": {name: signal_report(name, answerable, unanswerable) for name in SIGNALS},
        "extracts": {
            "recall": fmean(row["recall"] for row in extracts),
            "f1": fmean(row["f1"] for row in extracts),
        },
        "answers": {name: list(some) for name, some in answers.items()},
    }


def shown(found: Mapping[str, Any]) -> str:
    """The report as text: two Markdown tables and the lines of the rest."""
    lines = ["| answerable questions | share [95 % interval] |", "| --- | --- |"]
    lines += [f"| exact match | {proportion(found['exact'])} |", f"| right | {proportion(found['right'])} |"]
    lines += [f"| right, {kind} | {proportion(some)} |" for kind, some in found["right_by_kind"].items()]
    as_set = found["withheld_as_set"]
    lines += [
        "",
        f"Withheld by the settings in force: {proportion(as_set['unanswerable'])} of the unanswerable questions,",
        f"{proportion(as_set['right'])} of the right answers.",
        f"At the threshold that keeps {KEPT:.0%} of the right answers:",
        "",
        "| signal | threshold | unanswerable withheld | wrong withheld "
        "| AUROC, unanswerable | AUROC, wrong | AUROC, both |",
        f"|{' --- |' * 7}",
    ]
    lines += [signal_line(name, some) for name, some in found["signals"].items()]
    extracts = found["extracts"]
    lines += [
        "",
        f"Extracts: {extracts['recall']:.3f} of the gold sentences, F1 of words {extracts['f1']:.3f}",
    ]
    return "\n".join(lines)


def signal_line(name: str, found: Mapping[str, Any] | None) -> str:
    """A row of the second table."""
    if found is None:
        return f"| {name} |{' – |' * 6}"
    cells = [
        number(found["threshold"]),
        proportion(found["unanswerable_withheld"]),
        proportion(found["wrong_withheld"]),
        *(number(found[f"auroc_{which}"]) for which in ("unanswerable", "wrong", "pooled")),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def proportion(found: Mapping[str, Any] | None) -> str:
    """A share as text."""
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{found['hits']} of {found['n']}: {found['share']:.3f} [{low:.3f}, {high:.3f}]"


def number(value: float | None) -> str:
    """A number as text."""
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()

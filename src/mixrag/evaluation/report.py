"""The report of an evaluation: one JSON document, one Markdown page, one self-contained HTML page, pictures."""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mixrag.errors import MixragError
from mixrag.evaluation.analysis import Difference, Evaluation
from mixrag.evaluation.bootstrap import Interval
from mixrag.evaluation.plots import PICTURES, Picture, pictures
from mixrag.evaluation.proportions import share, wilson
from mixrag.evaluation.summary import RECALL_AT
from mixrag.evaluation.trust import COVERAGES, InUse, Trust
from mixrag.utils.atomic import write_atomically
from mixrag.utils.html import page
from mixrag.utils.text import markdown_cell, strict_json

Table = tuple[str, list[str], list[list[str]], str]
"""Title, head, rows, and what the figures are."""


def write_report(found: Evaluation, out: Path) -> None:
    """Write report.json, report.md, report.html and the pictures; each appears complete or not at all.

    Raises:
        MixragError: the folder cannot be written to.
    """
    drawn = pictures(found)
    files = {
        "report.json": strict_json(as_dict(found), indent=1).encode(),
        "report.md": markdown(found, drawn).encode(),
        "report.html": html(found, drawn).encode(),
        **{name: content for name, _, content in drawn},
    }
    try:
        for name in PICTURES:
            (out / name).unlink(missing_ok=True)  # of an earlier run, which is not part of this report
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        found_instead = f"{out}: {error.strerror or error}"
        raise MixragError(
            "room to write the report", found_instead, "free it and run the same command again"
        ) from error


def as_dict(found: Evaluation) -> dict[str, Any]:
    """The JSON contract of ``mixrag eval --json`` (docs/reference/json.md)."""
    retrieval = found.retrieval
    return {
        "pairs": list(found.sources),
        "settings": dict(found.settings),
        "systems": {name: _system(found, name) for name in found.summaries},
        "retrieval": {}
        if retrieval is None
        else {
            **{f"recall@{k}": value and value.mean for k, value in retrieval.recall_at.items()},
            "mrr": retrieval.mrr and retrieval.mrr.mean,
        },
        "gains": [
            {"from": gain.worse, "to": gain.better, "adds": gain.factor, **_difference(step)}
            for gain, step in found.gains
        ],
        "differences": {
            "to": next(iter(found.summaries)),
            "systems": {name: _difference(each) for name, each in found.differences.items()},
        },
        "confidence": {
            "system": found.trusted,
            "method": found.method,
            "threshold": found.calibration and found.calibration.threshold,
            "precision": found.calibration and found.calibration.precision,
            "levels": {} if found.calibration is None else _levels(found.calibration.levels),
            "in_use": found.in_use and _in_use(found.in_use),
            "methods": {method: _trust(trust) for method, trust in found.methods.items()},
        },
        "off_corpus": {"n": len(found.off_corpus)},
        "distractors": {
            kind: {
                name: {str(count): _interval(share([r.exact for r in some])) for count, some in by_count.items()}
                for name, by_count in systems.items()
            }
            for kind, systems in found.distractors.items()
        },
        "adaptive_k": {f"{mass:g}": _distribution(ks) for mass, ks in found.adaptive_k.items() if ks},
        "notices": list(found.notices),
    }


def markdown(found: Evaluation, drawn: Sequence[Picture]) -> str:
    """The report as one Markdown page; pictures are files next to it."""
    lines = [f"# Evaluation on {markdown_cell(', '.join(found.sources))}", ""]
    for title, head, rows, note in tables(found):
        cells = [head, ["---"] * len(head), *rows]
        table = [f"| {' | '.join(markdown_cell(cell) for cell in row)} |" for row in cells]
        lines += [f"## {title}", "", *table, "", note, ""]
    for name, caption, _ in drawn:
        lines += [f"![{caption}]({name})", "", caption, ""]
    return "\n".join([*lines, *(f"- {markdown_cell(notice)}" for notice in found.notices)]).rstrip() + "\n"


def html(found: Evaluation, drawn: Sequence[Picture]) -> str:
    """The report as one page without anything outside it."""
    shown = [(caption, base64.b64encode(content).decode()) for _, caption, content in drawn]
    return page(
        "evaluation",
        images=True,
        sources=", ".join(found.sources),
        tables=tables(found),
        pictures=shown,
        notices=found.notices,
    )


def tables(found: Evaluation) -> list[Table]:
    """Every table of the report that has something to show."""
    made = [_scores(found), _retrieval_table(found), _gain_table(found), _difference_table(found)]
    made += [
        _confidence_table(found),
        _in_use_table(found),
        _level_table(found),
        _coverage_table(found),
        _distractor_table(found),
        _k_table(found),
    ]
    made.append(_setting_table(found))
    return [table for table in made if table[2]]


def _scores(found: Evaluation) -> Table:
    head = ["system", "EM", "F1", "contained", "NLL/answer", "NLL/token", "ECE", "AUROC", "s/question", "tokens/s"]
    rows = [
        [
            name,
            *(f"{each:.3f}" for each in (summary.exact_match, summary.f1, summary.contained)),
            f"{summary.nll:.2f}",
            f"{summary.nll_per_token:.2f}",
            *_discrimination_cells(found, name),
            f"{summary.seconds:.2f}",
            f"{summary.tokens_per_second:.1f}",
        ]
        for name, summary in found.summaries.items()
    ]
    count = next(iter(found.summaries.values())).n
    note = (
        f"{count} questions; means with 95 % intervals (shares: Wilson; others: bootstrap). EM, F1: as SQuAD "
        "defines them; contained: the answer contains a gold answer. NLL: -log p(gold answer), in nats; per "
        "token: of the likeliest gold answer. ECE: expected calibration error of the confidence, cross-fitted. "
        "AUROC: chance that a right answer has more confidence than a wrong one (in brackets: p(answer) "
        "itself). Seconds: median per answer, where sixteen "
        "questions are asked together and share their time. Tokens/s: all tokens written over all that time."
    )
    return "Scores", head, rows, note


def _retrieval_table(found: Evaluation) -> Table:
    summary = found.retrieval
    head = [*(f"recall@{k}" for k in RECALL_AT), "MRR"]
    row = (
        []
        if summary is None
        else [_number(summary.recall_at[k], ".3f") for k in RECALL_AT] + [_number(summary.mrr, ".3f")]
    )
    note = "Recall@k: share of questions with a relevant passage among the first k. MRR: mean of 1 / its rank."
    return "Retrieval", head, [row] if row else [], note


def _gain_table(found: Evaluation) -> Table:
    rows = [[f"{g.worse} → {g.better}", g.factor, *_difference_cells(step)] for g, step in found.gains]
    note = "Paired differences with 95 % intervals: what each factor of the mixture adds to the one before."
    return "What each factor adds", ["step", "adds", "EM", "F1", "NLL/answer"], rows, note


def _difference_table(found: Evaluation) -> Table:
    first = next(iter(found.summaries))
    rows = [[name, *_difference_cells(each)] for name, each in found.differences.items()]
    note = "Paired differences with 95 % intervals."
    return f"Compared with {first}", ["system", "EM", "F1", "NLL/answer"], rows, note


def _confidence_table(found: Evaluation) -> Table:
    head = ["calibration", "ECE", "of which chance", "AUROC", "Brier", "answered", "right of them"]
    head += ["off-corpus withheld"]
    rows = [
        [
            f"{method} (chosen)" if method == found.method else method,
            *_trust_cells(trust),
        ]
        for method, trust in found.methods.items()
    ]
    note = (
        f"Of {found.trusted}; each answer by a fit that has not seen its question; AUROC within folds. Of which "
        "chance: the "
        "ECE that "
        "perfect confidences of this number would show. Brier: mean squared difference from the outcome. "
        "Answered: share of the pairs at or above the threshold that the other folds set; right of them: of all "
        "questions answered, those without an answer counted as wrong. Brackets: Wilson 95 % intervals. "
        f"Off-corpus: {len(found.off_corpus)} questions that the documents do not answer."
    )
    if found.calibration is not None:
        note += f" confidence.json is fitted on all questions; its threshold is {found.calibration.threshold:.3f}."
    return "Confidence", head, rows, note


def _trust_cells(trust: Trust) -> list[str]:
    numbers = (trust.ece, trust.chance, trust.auroc, trust.brier, trust.coverage)
    shares = (trust.precision, trust.off_corpus_withheld)
    return [_number(each, ".3f") for each in (*numbers, *shares)]


def _in_use_table(found: Evaluation) -> Table:
    """The confidence that answers had before this evaluation."""
    judged = found.in_use
    head = [
        "confidence",
        "n",
        "ECE",
        "of which chance",
        "AUROC",
        "answered",
        "right of them",
        "off-corpus withheld",
    ]
    if judged is None:
        return "The confidence in use", head, [], ""
    trust = judged.trust
    rows = [
        [
            "in use",
            str(len(trust.outcomes)),
            _with_interval(trust.ece, judged.ece_interval),
            f"{trust.chance:.3f}",
            _with_interval(trust.auroc, judged.auroc_interval),
            *(_number(each, ".3f") for each in (trust.coverage, trust.precision, trust.off_corpus_withheld)),
        ],
        ["p(answer)", str(len(trust.outcomes)), f"{judged.ece_plain:.3f}", "–", _number(judged.auroc_plain, ".3f")]
        + ["–"] * 3,
    ]
    note = (
        f"Of {found.trusted}, on these pairs, nothing fitted; the confidence was fitted on {judged.fitted_on}. "
        f"Threshold {judged.threshold:.3f}. 95 % intervals: bootstrap of ECE and AUROC, Wilson of shares."
    )
    return "The confidence in use", head, rows, note


def _level_table(found: Evaluation) -> Table:
    levels = {} if found.calibration is None else found.calibration.levels
    rows = [[words, str(n), f"{wilson(right, n):.3f}"] for words, (n, right) in levels.items() if n]
    note = "Confidence in words, of cross-fitted confidences: answers at each level, and the share of them right."
    return "Levels", ["level", "n", "right"], rows, note


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    shown = _number(value, ".3f")
    return shown if interval is None or value is None else f"{shown} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _discrimination_cells(found: Evaluation, name: str) -> list[str]:
    own, raw = found.calibrated.get(name), found.raw[name]
    ece = "–" if own is None else f"{own.ece:.3f}"
    ordered = "–" if own is None else _number(own.auroc, ".3f")
    return [ece, f"{ordered} ({_number(raw.auroc, '.3f')})"]


def _coverage_table(found: Evaluation) -> Table:
    rows = [
        [method, *(f"{trust.accuracy_at[coverage]:.3f}" for coverage in COVERAGES)]
        for method, trust in found.methods.items()
    ]
    note = "Share of right answers when only the surest part of the questions is answered."
    return "Accuracy by coverage", ["calibration", *(f"{c:.0%}" for c in COVERAGES)], rows, note


def _distractor_table(found: Evaluation) -> Table:
    rows = [
        [kind, name, str(count), f"{share([record.exact for record in some]):.3f}"]
        for kind, systems in found.distractors.items()
        for name, by_count in systems.items()
        for count, some in by_count.items()
    ]
    note = "Irrelevant passages added to the k retrieved. Adversarial: those that the retriever ranks highest."
    return "With distractors", ["distractors", "system", "number", "EM"], rows, note


def _k_table(found: Evaluation) -> Table:
    rows = [
        [f"{mass:g}", *(f"{value:g}" for value in _distribution(ks).values())]
        for mass, ks in found.adaptive_k.items()
        if ks
    ]
    note = "The smallest k that leaves at most this prior mass to all other passages (setting max_outside)."
    return "Adaptive k", ["mass outside", "median", "90 %", "largest", "mean"], rows, note


def _setting_table(found: Evaluation) -> Table:
    rows = [[name, str(value)] for name, value in found.settings.items()]
    rows += [["command", found.command]] if found.command else []
    return "Settings", ["setting", "value"], rows, f"Of {found.trusted}; the other systems differ by their name."


def _distribution(ks: Sequence[int]) -> dict[str, float]:
    ordered = sorted(ks)
    ninth = ordered[math.ceil(0.9 * len(ordered)) - 1]
    mean = round(statistics.fmean(ordered), 2)
    return {"median": statistics.median(ordered), "90 %": ninth, "largest": ordered[-1], "mean": mean}


def _system(found: Evaluation, name: str) -> dict[str, Any]:
    summary = found.summaries[name]
    means = ("exact_match", "f1", "contained", "nll", "nll_per_token")
    raw = found.raw[name]
    own = found.calibrated.get(name, raw)
    return {
        **{each: getattr(summary, each).mean for each in means},
        "ece": own.ece,
        "ece_raw": raw.ece,
        "auroc": own.auroc,
        "auroc_raw": raw.auroc,
        "n": summary.n,
        "seconds": summary.seconds,
        "tokens_per_second": summary.tokens_per_second,
        "intervals": {each: [getattr(summary, each).low, getattr(summary, each).high] for each in means},
    }


def _difference(each: Difference) -> dict[str, Any]:
    return {name: _interval(getattr(each, name)) for name in ("exact_match", "f1", "nll")}


def _difference_cells(each: Difference) -> list[str]:
    return [f"{each.exact_match:+.3f}", f"{each.f1:+.3f}", f"{each.nll:+.2f}"]


def _interval(found: Interval) -> dict[str, Any]:
    return asdict(found)


def _trust(trust: Trust) -> dict[str, Any]:
    names = ("ece", "chance", "auroc", "brier", "coverage")
    accuracies = {f"{coverage:g}": value for coverage, value in trust.accuracy_at.items()}
    withheld = trust.off_corpus_withheld
    return {
        **{name: getattr(trust, name) for name in names},
        "precision": trust.precision and _interval(trust.precision),
        "off_corpus_withheld": withheld and withheld.mean,
        "accuracy_at": accuracies,
    }


def _in_use(judged: InUse) -> dict[str, Any]:
    return {
        "n": len(judged.trust.outcomes),
        **_trust(judged.trust),
        "intervals": {
            "ece": judged.ece_interval and list(judged.ece_interval),
            "auroc": judged.auroc_interval and list(judged.auroc_interval),
        },
        "ece_raw": judged.ece_plain,
        "auroc_raw": judged.auroc_plain,
        "threshold": judged.threshold,
        "fitted_on": judged.fitted_on,
    }


def _levels(levels: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, float | None]]:
    return {words: {"n": n, "right": right / n if n else None} for words, (n, right) in levels.items()}


def _number(value: Interval | float | None, spec: str) -> str:
    return "–" if value is None else f"{value:{spec}}"

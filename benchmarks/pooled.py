"""One calibration of the answers of several evaluations, and the report over all of them together.

    python benchmarks/pooled.py REPORT... --out FOLDER [--calibration METHOD] [--unseen REPORT] [--described TEXT]

Every REPORT is a folder that mixrag eval wrote, of the same systems and models on documents of its own. FOLDER
gets what mixrag eval writes: the report, its pictures, and confidence.json, fitted on the answers of all.

Printed is how a calibration carries over: for each REPORT one that was fitted on all others, and for each --unseen
one that was fitted on every REPORT.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from mixrag.answers.confidence import FILE, ConfidenceMap, conditions, read_calibration, write_calibration
from mixrag.config.settings import Settings
from mixrag.evaluation.analysis import measured, outcomes
from mixrag.evaluation.calibration import (
    COVERAGE,
    METHODS,
    Outcome,
    accuracy_at,
    chance_error,
    confidences_of,
    expected_calibration_error,
    fit,
    rights,
)
from mixrag.evaluation.records import resume
from mixrag.evaluation.report import write_report
from mixrag.evaluation.run import RECORDS
from mixrag.evaluation.scoring import Record, record_of

OFF_CORPUS = "off-corpus"
HEAD = (
    *("answers of", "fitted on", "ECE", "of which chance", "accuracy"),
    *("accuracy of those answered", "answered", "off-corpus withheld"),
)


@dataclass(frozen=True)
class Report:
    """What mixrag eval left in a folder."""

    folder: Path

    @cached_property
    def document(self) -> dict[str, Any]:
        """report.json."""
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def records(self) -> dict[str, list[Record]]:
        """The answers by system, those to off-corpus questions under a name of their own."""
        lines = resume(self.folder / RECORDS, record_of)
        if len({system.rsplit(" ", 1)[1] for system, _ in lines}) > 1:
            raise SystemExit(
                f"{self.folder} holds answers of several models or stores: evaluate into a new folder"
            )
        named = [(system.rsplit(" ", 1)[0], record) for (system, _), record in lines.items()]
        names = (*self.document["systems"], OFF_CORPUS)
        return {name: [record for own, record in named if own == name] for name in names}

    @property
    def trusted(self) -> str:
        """The system whose confidence is looked at."""
        return str(self.document["confidence"]["system"])

    def inside(self) -> list[Outcome]:
        """Of the questions that the documents can answer."""
        return outcomes(self.records[self.trusted])

    def outside(self) -> list[Outcome]:
        """Of those that they cannot."""
        return outcomes(self.records[OFF_CORPUS], right=0.0)


def main() -> None:
    """Pool, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calibration", choices=METHODS)
    parser.add_argument("--unseen", type=Path, action="append", default=[])
    parser.add_argument(
        "--described", help="what the questions are, in words, for those who are shown a confidence"
    )
    options = parser.parse_args()
    if len(options.reports) < 2:
        raise SystemExit("expected two reports or more; found one: its own confidence.json is all there is")
    reports, unseen = [*map(Report, options.reports)], [*map(Report, options.unseen)]
    refuse_unlike([*reports, *unseen])
    first = reports[0]
    records = {name: [*chain.from_iterable(report.records[name] for report in reports)] for name in first.records}
    off_corpus = records.pop(OFF_CORPUS)
    found = measured(records, off_corpus, first.trusted, COVERAGE, method=options.calibration)
    if found.method is None:
        raise SystemExit("; ".join(found.notices))
    sources = tuple(name for report in reports for name in report.document["pairs"])
    fitted = fitted_on(reports, found.method)
    right = sum(record.exact for record in records[first.trusted])
    fitted = replace(
        fitted,
        fitted_on=f"{options.described or ', '.join(sources)} ({len(records[first.trusted])}, {right:.0f} right)",
        models=models_of([*reports, *unseen]),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write_calibration(fitted, options.out / FILE)
    settings = first.document["settings"]
    write_report(replace(found, sources=sources, settings=settings, calibration=fitted), options.out)
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for report in reports:
        others = [other for other in reports if other is not report]
        print(carried_over(report, "the others", fitted_on(others, found.method)))
    for report in unseen:
        print(carried_over(report, "all above", fitted))


def fitted_on(reports: Sequence[Report], method: Any) -> ConfidenceMap:
    """One calibration of the answers of several reports."""
    inside = [*chain.from_iterable(report.inside() for report in reports)]
    outside = [*chain.from_iterable(report.outside() for report in reports)]
    return fit(method, inside, outside, settings=Settings(**reports[0].document["settings"]))


def carried_over(report: Report, fitted: str, calibration: ConfidenceMap) -> str:
    """A row of the table: a calibration on answers that it was not fitted on, with its own threshold."""
    inside, right = confidences_of(calibration, report.inside()), rights(report.inside())
    outside = confidences_of(calibration, report.outside())
    answered = inside >= calibration.threshold
    cells = [
        ", ".join(report.document["pairs"]),
        fitted,
        f"{expected_calibration_error(inside, right):.3f}",
        f"{chance_error(inside):.3f}",
        f"{accuracy_at(inside, right, 1.0):.3f}",
        f"{right[answered].mean():.3f}" if answered.any() else "-",
        f"{answered.mean():.3f}",
        f"{(outside < calibration.threshold).mean():.3f}" if len(outside) else "-",
    ]
    return f"| {' | '.join(cells)} |"


def refuse_unlike(reports: Sequence[Report]) -> None:
    """A calibration holds for one system with one set of settings."""
    found = {json.dumps([each.trusted, conditions(Settings(**each.document["settings"]))]) for each in reports}
    if len(found) > 1:
        raise SystemExit(f"expected reports of one system with the same settings; found {len(found)} kinds")


def models_of(reports: Sequence[Report]) -> str:
    """The digest of the models that all reports are of."""
    files = [report.folder / FILE for report in reports]
    digests = {read_calibration(file).models for file in files if file.exists()}
    if len(digests) != 1:
        raise SystemExit(f"expected reports of the same models, one of them with a {FILE}; found {len(digests)}")
    return digests.pop()


if __name__ == "__main__":
    main()

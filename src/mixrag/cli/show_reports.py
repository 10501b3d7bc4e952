"""What the commands print of stores and of training runs: one JSON document, or text for people.

Names of files and texts of documents are data, as in ``show``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from mixrag.cli.show import print_json, terminal
from mixrag.utils.text import printable, printable_name

if TYPE_CHECKING:  # these load torch, for which `mixrag --help` should not wait
    from mixrag.corpus import IndexReport, Removed
    from mixrag.evaluation import Summary
    from mixrag.rag import Info
    from mixrag.training.api import TrainingReport


def index_report(report: IndexReport, *, as_json: bool) -> None:
    """What an indexing run did, what it left out, skipped files last."""
    if as_json:
        return print_json(report.to_dict())
    from mixrag.corpus.report import kinds_in_words

    console, skipped = terminal(), report.to_dict()["skipped"]
    console.print(
        f"{report.documents} documents, {report.passages} passages in the store "
        f"(+{report.added} -{report.removed} passages, {report.embedded} embedded, "
        f"{report.unchanged} files unchanged)",
        soft_wrap=True,
    )
    if report.left_out:
        console.print(_one_line(f"left out, of other kinds: {kinds_in_words(report.left_out)}"), soft_wrap=True)
    if report.notices:
        console.print("read only in part, or by a guess:", style="yellow")
    for notice in report.notices:
        console.print(_one_line(f"  {notice.count} {notice.kind} in {_files(notice.files)}"), soft_wrap=True)
        for path, detail in notice.examples:
            line = f"    {path}: {detail}" if detail else f"    {path}"
            console.print(_one_line(line, style="dim"), soft_wrap=True)
        if more := notice.files - len(notice.examples):
            console.print(Text(f"    and {_files(more)} more", style="dim"))
    if report.too_long:
        console.print(
            f"{report.too_long} passages are longer than the {report.token_limit} tokens that the encoder reads; "
            "the rest of them is not in their vectors",
            style="yellow",
            soft_wrap=True,
        )
    if skipped:
        console.print(f"{len(skipped)} skipped:", style="yellow")
    for skip in skipped:
        console.print(_one_line(f"  {skip['path']}: {skip['reason']}"), soft_wrap=True)


def _one_line(text: str, style: str = "") -> Text:
    """Text with names of files and records, which may hold line ends: they are shown as escapes."""
    return Text(printable_name(text), style=style)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def info(found: Info, *, as_json: bool) -> None:
    """What a store holds."""
    encoder = found.encoder
    summary: dict[str, Any] = {
        "store": found.store,
        "documents": found.counts.documents,
        "sources": found.counts.sources,
        "passages": found.counts.passages,
        "splitter": found.splitter,
        "encoder": encoder
        and {"name": encoder.name, "fingerprint": encoder.fingerprint, "dimension": encoder.dimension},
        "index": found.index,
        "model": None if found.model is None else str(found.model),
        "engine": found.engine,
        "precomputed": {"passages": found.precomputed[0], "bytes": found.precomputed[1]},
    }
    listed = [{"document": d.path, "title": d.title, "passages": d.passages} for d in found.documents]
    if as_json:
        return print_json({**summary, "contents": listed})
    console = terminal()
    summary["encoder"] = (
        f"{encoder.name} ({encoder.fingerprint[:12]}, {encoder.dimension} dimensions)" if encoder else "-"
    )
    files, size = found.precomputed
    summary["precomputed"] = f"{files} passages read ahead, {size / 2**20:.0f} MiB" if files else "-"
    for name, value in summary.items():
        console.print(_one_line(f"{name:<12} {value if value is not None else '-'}"), soft_wrap=True)
    for document in listed:
        console.print(_one_line(f"{document['passages']:>6}  {document['document']}", style="dim"), soft_wrap=True)


def removed(gone: Removed, *, as_json: bool) -> None:
    """What was removed."""
    if as_json:
        return print_json({"documents": gone.documents, "passages": gone.passages, "sources": gone.sources})
    terminal().print(f"removed {gone.documents} documents, {gone.passages} passages", highlight=False)


def training_report(found: TrainingReport, *, as_json: bool) -> None:
    """What training changed, and how to use it."""
    result = found.result
    settings = dict(result.bundle.settings)
    if as_json:
        scores = {name: asdict(summary) for name, summary in found.scores.items()}
        fitted = result.calibration and asdict(result.calibration)
        steps = result.state and result.state.step
        return print_json(
            {
                "folder": str(found.folder),
                "steps": steps,
                "calibration": fitted,
                "settings": settings,
                "systems": scores,
                "notices": list(result.notices),
            }
        )
    console = terminal()
    if result.calibration:
        fit = result.calibration
        console.print(
            f"-log p(gold answer): {fit.nll_before:.4f} before, {fit.nll_after:.4f} after, nats per answer"
        )
    for name, value in settings.items():
        console.print(Text(printable(f"{name:<20} {value}")), soft_wrap=True)
    if found.scores:
        console.print(_scores(found.scores))
    console.print(
        Text(printable(f"use it: mixrag ask QUESTION --store STORE --model {found.folder}")), soft_wrap=True
    )


def _scores(scores: Mapping[str, Summary]) -> Table:
    table = Table("system", "EM", "F1", "recall@5", "-log p(gold)", box=None, pad_edge=False)
    for name, summary in scores.items():
        recall = summary.recall_at.get(5)
        cells = (summary.exact_match, summary.f1, recall, summary.nll)
        shown = ("-" if c is None else f"{c.mean:.3f} [{c.low:.3f}, {c.high:.3f}]" for c in cells)
        table.add_row(Text(printable(name)), *shown)
    return table

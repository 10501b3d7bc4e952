"""What the commands print: one JSON document, or text for people.

Text from documents and models is data: control characters are replaced before anything reaches a terminal, and
nothing is read as markup.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixrag.utils.text import citation_of, printable, printable_name, strict_json

if TYPE_CHECKING:  # these load torch, for which `mixrag --help` should not wait
    from mixrag.answers.answer import Answer
    from mixrag.answers.explanation import ComponentExplanation, Explanation
    from mixrag.answers.stream import Stream
    from mixrag.config.settings import Settings
    from mixrag.corpus import IndexReport, Removed
    from mixrag.evaluation import Summary
    from mixrag.rag import Info
    from mixrag.retrieval.retriever import Retrieval
    from mixrag.training.api import TrainingReport

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red", "bright_cyan", "bright_green", "bright_yellow")
"""One for each of the first passages; later ones and the null component have no colour."""


def error_line(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write("mixrag: " + printable(" ".join(message.split())) + "\n")


def streaming(stream: Stream) -> None:
    """Write the answer as it comes, in the colour of the passage that is most probably writing."""
    console = _console()
    for token in stream:
        colour = _colour(token.posterior, 1.0 - sum(token.posterior))
        console.print(Text(printable(token.text), style=colour), end="", soft_wrap=True)
    console.print()


def decided(found: Answer) -> None:
    """The text of a whole answer, or what is shown instead where it is withheld."""
    console, confidence = _console(), found.confidence
    if not found.abstains:
        return _in_kind(console, found)
    line = "No answer: the documents do not seem to state it."
    if found.guaranteed_only and (confidence is None or not confidence.abstains):
        reason = f": {found.not_covered}" if found.not_covered else ""
        line = printable(f"No answer: no guarantee covers it{reason}.")
    elif confidence is not None:
        line = f"No answer: {confidence.sentence}; the confidence is {confidence.value:.3f}, "
        line += f"and {confidence.threshold:.3f} is asked for."
    console.print(Text(line, style="bold"), soft_wrap=True)
    console.print(Text(printable(f"The best guess would be: {found.best_guess}"), style="dim"), soft_wrap=True)


def _in_kind(console: Console, found: Answer) -> None:
    """The text of an answer by its kind: one line, the items of a list, or the sentences of an extract."""
    if found.kind == "extract":
        console.print(Text("Extract: these sentences are the documents' own, chosen by similarity.", style="bold"))
        ranks = {passage.id: rank for rank, passage in enumerate(found.passages)}
        for sentence in found.sentences:
            line = Text(printable(sentence.text), style=_style(ranks[sentence.passage]))
            name = Path(sentence.document).name
            where = citation_of(name, sentence.place, sentence.start, sentence.end)
            note = printable_name(f"  [{where}; p = {sentence.probability:.3f}]")
            console.print(line.append(note, style="dim"), soft_wrap=True)
    elif found.kind == "list":
        for item in found.items:
            known = "" if item.probability is None else f"  [p = {item.probability:.3f}]"
            console.print(Text(printable(f"- {item.text}")).append(known, style="dim"), soft_wrap=True)
    else:
        console.print(_coloured(found), soft_wrap=True)


def uncalibrated(setting: str) -> None:
    """Explain why there is no confidence."""
    line = f"no confidence: it was calibrated with other {setting}"
    if setting in ("k", "switch"):
        line += f"; p(answer) is that of this {setting}, and says nothing of how often such answers are right"
    line += " (--confidence FILE names another; mixrag calibrate fits one)"
    _console().print(Text(line, style="dim"), soft_wrap=True)


def answer(found: Answer, explanation: Explanation | None, *, as_json: bool) -> None:
    """All fields of an answer, below the text that ``streaming`` wrote."""
    if as_json:
        extra = {"why": explanation.to_dict()} if explanation else {}
        return print_json({**found.to_dict(), **extra})
    console = _console()
    if found.confidence:
        sure = found.confidence
        console.print(Text(sure.sentence, style="bold"), soft_wrap=True)
        line = f"confidence = {sure.value:.3f}   (that it is right; calibrated on {sure.fitted_on})"
        console.print(Text(printable(line), style="bold"), soft_wrap=True)
    if found.guarantee:
        console.print(Text(printable(found.guarantee.words), style="bold"), soft_wrap=True)
    if found.not_covered and not found.uncalibrated:
        line = f"not covered by the guarantee: {found.not_covered}"
        console.print(Text(printable(line), style="dim"), soft_wrap=True)
    over = f"over {len(found.passages)} passages" if found.passages else "closed book"
    if found.passages and found.normaliser == "full":
        over += ", of the whole corpus' prior"
    if found.p_empty is not None and found.scored.mixture.empty_answer:
        over += ", if one is stated"
    line = f"{_what(found)} = {found.probability:.4g}   (log {found.log_prob:.3f} nats; {over})"
    console.print(Text(line, style="bold"))
    if found.kind == "yes-no":
        shares = ", ".join(f"p({item.text}) = {item.probability:.3f}" for item in found.items)
        console.print(Text(printable(f"of yes and no alone: {shares}"), style="bold"))
    if found.p_empty is not None:
        subject = "the documents state" if found.passages else "without documents the model states"
        console.print(Text(f"{subject} no answer with probability {found.p_empty:.4g}"), soft_wrap=True)
    for line in _remarks(found):
        console.print(Text(line, style="dim"))
    if found.passages:
        console.print(_passage_table(found))
        if found.kind != "extract":
            console.print(Text("Written by: ").append_text(_coloured(found)), soft_wrap=True)
    if explanation:
        _why(console, explanation)


def passages(question: str, found: Retrieval, settings: Settings, *, as_json: bool) -> None:
    """Passages and prior, before any language model."""
    from mixrag.answers.answer import passage_to_dict

    prior = found.log_prior.exp().tolist()
    if as_json:
        return print_json(
            {
                "question": question,
                "normaliser": settings.normaliser,
                "temperature": found.temperature,
                "outside": found.outside,
                "outside_bounds": found.outside_bounds and list(found.outside_bounds),
                "null": None if found.log_null is None else {"prior": math.exp(found.log_null)},
                "passages": [
                    {**passage_to_dict(passage), "prior": p, "inner_product": s}
                    for passage, p, s in zip(found.passages, prior, found.inner_products.tolist(), strict=True)
                ],
            }
        )
    console = _console()
    for rank, (passage, p) in enumerate(zip(found.passages, prior, strict=True)):
        head = Text(f"{rank + 1}. p = {p:.4f}  ", style=_style(rank))
        console.print(
            head.append(printable_name(citation_of(passage.document, passage.place, passage.start, passage.end))),
            soft_wrap=True,
        )
        if passage.context:
            console.print(Text(printable(passage.context), style="dim italic"))
        console.print(Text(printable(passage.text), style="dim"))
    if found.outside is not None:
        console.print(f"mass of all other passages, over the whole corpus: {found.outside:.4f}")
    if found.outside_bounds is not None:
        low, high = found.outside_bounds
        console.print(
            f"mass of all other passages, over the whole corpus: between {low:.4f} and {high:.4f}"
            " (bounds; the search is approximate)",
            soft_wrap=True,
        )


def index_report(report: IndexReport, *, as_json: bool) -> None:
    """What an indexing run did, what it left out, skipped files last."""
    skipped = [{"path": s.path, "reason": s.reason} for s in report.skipped]
    names = ("documents", "passages", "added", "embedded", "removed", "unchanged", "too_long")
    if as_json:
        notices = [
            {**asdict(each), "examples": [{"path": path, "detail": detail} for path, detail in each.examples]}
            for each in report.notices
        ]
        left_out = {"left_out": dict(report.left_out), "notices": notices, "skipped": skipped}
        return print_json({**{name: getattr(report, name) for name in names}, **left_out})
    from mixrag.corpus.report import kinds_in_words

    console = _console()
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
        "store": str(found.directory),
        "documents": found.counts.documents,
        "sources": found.counts.sources,
        "passages": found.counts.passages,
        "splitter": found.splitter,
        "encoder": encoder
        and {"name": encoder.name, "fingerprint": encoder.fingerprint, "dimension": encoder.dimension},
        "index": found.index,
        "model": None if found.model is None else str(found.model),
        "precomputed": {"passages": found.precomputed[0], "bytes": found.precomputed[1]},
    }
    listed = [{"document": d.path, "title": d.title, "passages": d.passages} for d in found.documents]
    if as_json:
        return print_json({**summary, "contents": listed})
    console = _console()
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
    _console().print(f"removed {gone.documents} documents, {gone.passages} passages", highlight=False)


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
    console = _console()
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


def _what(found: Answer) -> str:
    """What the probability shown is of."""
    if found.kind == "list":
        return f"p({printable(found.best_guess)!r})"
    return "p(these sentences)" if found.kind == "extract" else "p(answer)"


def _remarks(found: Answer) -> list[str]:
    remarks = []
    if found.passages and found.outside == 0.0:
        remarks.append("exact: no passage was left out")
    elif found.log_bounds:
        low, high = (math.exp(bound) for bound in found.log_bounds)
        remarks.append(f"over all passages, retrieved or not, p(answer) is between {low:.4g} and {high:.4g}")
    if found.certified is not None:
        remarks.append(_certificate(found))
    if not found.finished:
        remarks.append("cut off at --max-tokens: the probability is that of the text so far")
    remarks += [f"passage {s.passage} shortened to {s.kept} of {s.total} tokens" for s in found.shortened]
    return remarks


def _certificate(found: Answer) -> str:
    if found.certified:
        return f"certified: no answer is more probable{', rounding included' if found.rounding else ''}"
    return f"not certified as the best{'; --dtype float32 has no rounding to allow for' if found.rounding else ''}"


def _passage_table(found: Answer) -> Table:
    """Passages with their weights; columns that have no number in this answer are left out."""
    columns: dict[str, tuple[list[float | None], float | None]] = {
        "prior": ([each.prior for each in found.passages], found.null_prior),
        "reweighted": ([each.reweighted_prior for each in found.passages], found.null_reweighted_prior),
        "not stated": ([each.p_empty for each in found.passages], None),
        "posterior": ([each.posterior for each in found.passages], found.null_posterior),
    }
    shown = {name: each for name, each in columns.items() if each[0][0] is not None}
    table = Table("", *shown, "source", "text", box=None, pad_edge=False)
    for rank, passage in enumerate(found.passages):
        source = Text(
            printable_name(citation_of(Path(passage.document).name, passage.place, passage.start, passage.end))
        )
        text = Text(
            printable(" ".join(f"{passage.context} {passage.text}".split())),
            no_wrap=True,
            overflow="ellipsis",
            style="dim",
        )
        number = Text(str(rank + 1), style=_style(rank))
        table.add_row(number, *(f"{values[rank]:.4f}" for values, _ in shown.values()), source, text)
    if found.null_prior is not None:
        table.add_row(
            "∅", *("" if null is None else f"{null:.4f}" for _, null in shown.values()), "no passage", ""
        )
    return table


def _coloured(found: Answer) -> Text:
    text = Text()
    for token in found.tokens:
        text.append(printable(token.text), style=_colour(token.responsibility, token.null))
    return text


def _colour(weights: Sequence[float], null: float) -> str:
    best = max(range(len(weights)), key=lambda i: weights[i], default=None)
    return "" if best is None or null > weights[best] else _style(best)


def _style(rank: int) -> str:
    return COLOURS[rank] if rank < len(COLOURS) else ""


def _why(console: Console, explanation: Explanation) -> None:
    console.print()
    console.print(f"temperature {explanation.answer.temperature:g}")
    console.print(f"without any passage: log p(answer) = {explanation.log_null_likelihood:.3f}")
    if spent := explanation.answer.pruned:
        console.print(f"passages were dropped while it was written, at {spent:.1g} of total variation")
    if explanation.prefix_cache:
        hits, misses = explanation.prefix_cache
        console.print(f"passages that the model had read before: {hits} of {hits + misses} times")
    shown = explanation.answer.passages
    places = {each.id: citation_of(each.document, each.place, each.start, each.end) for each in shown}
    for rank, component in enumerate(explanation.components):
        console.rule(Text(printable_name(", ".join(component.passages) or "no passage"), style=_style(rank)))
        for passage in component.passages:
            console.print(Text(printable_name(places[passage])), soft_wrap=True)
        for line in _component_lines(component):
            console.print(Text(printable(line)), soft_wrap=True)
        console.print(Text(printable(component.prompt), style="dim"), soft_wrap=True)


def _component_lines(component: ComponentExplanation) -> list[str]:
    products = ", ".join(f"{product:.4f}" for product in component.inner_products)
    without = "nothing would be left" if component.log_without is None else f"{component.log_without:.3f}"
    lines = [
        f"inner product                  {products}" if products else "",
        f"prior {component.prior:.4f}, posterior {component.posterior:.4f}",
        ""
        if component.log_question_likelihood is None
        else f"log p(question | this alone)   {component.log_question_likelihood:.3f}, "
        f"by which the prior becomes {component.reweighted_prior:.4f}",
        "" if component.p_empty is None else f"probability that it states no answer {component.p_empty:.4f}",
        f"log p(answer | this alone)     {component.log_likelihood:.3f}",
        f"log p(answer) without it       {without}",
        f"log evidence ratio             {component.log_evidence_ratio:+.3f}",
        f"alone it answers               {component.alone!r} (log p {component.alone_log_prob:.3f})",
    ]
    if component.poisoning is not None:
        lines.append(f"rewriting its text moves the distribution of answers by at most {component.poisoning:.4f}")
    return [*filter(None, lines), f"prompt of {component.prompt_tokens} tokens:"]


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(strict_json(document) + "\n")


def _console() -> Console:
    return Console(highlight=False)

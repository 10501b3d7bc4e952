"""What the commands print of answers and passages: one JSON document, or text for people.

Text from documents and models is data: control characters are replaced before anything reaches a terminal, and
nothing is read as markup.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixrag.utils.text import citation_of, named_place, printable, printable_name, strict_json

if TYPE_CHECKING:  # these load torch, for which `mixrag --help` should not wait
    from mixrag.answers.answer import Answer
    from mixrag.answers.bounded import IntervalAnswer
    from mixrag.answers.explanation import ComponentExplanation, Explanation
    from mixrag.answers.fields import AnswerFields, AnswerPassage
    from mixrag.answers.stream import Stream
    from mixrag.answers.written import WrittenAnswer
    from mixrag.config.settings import Settings
    from mixrag.retrieval.retriever import Retrieval

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red", "bright_cyan", "bright_green", "bright_yellow")
"""One for each of the first passages; later ones and the null component have no colour."""
LEAST_SHARE = 0.01
"""Passages with less of a sentence are not named with it."""


def error_line(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write("mixrag: " + printable(" ".join(message.split())) + "\n")


def streaming(stream: Stream) -> None:
    """Write the answer as it comes, in the colour of the passage that is most probably writing."""
    console = terminal()
    for token in stream:
        colour = _colour(token.posterior, 1.0 - sum(token.posterior))
        console.print(Text(printable(token.text), style=colour), end="", soft_wrap=True)
    console.print()


def decided(found: Answer, *, numbers: bool = False) -> None:
    """The text of a whole answer, or why it is withheld; ``numbers``: with the probability of each part of it."""
    from mixrag.answers.how_sure import why_withheld

    console = terminal()
    if not found.abstains:
        return _in_kind(console, found, numbers=numbers)
    line = f"No answer: {why_withheld(found)}."
    console.print(Text(printable(line), style="bold"), soft_wrap=True)
    if numbers:
        line = f"The best guess would be: {found.best_guess}"
        console.print(Text(printable(line), style="dim"), soft_wrap=True)


def _in_kind(console: Console, found: Answer, *, numbers: bool) -> None:
    """The text of an answer by its kind: one line, the items of a list, or the sentences of an extract."""
    if found.kind == "extract":
        said = "Extract: the documents' own sentences nearest to the question, which need not answer it."
        console.print(Text(said, style="bold"), soft_wrap=True)
        ranks = {passage.id: rank for rank, passage in enumerate(found.passages)}
        for sentence in found.sentences:
            line = Text(printable(sentence.text), style=_style(ranks[sentence.passage]))
            where = named_place(sentence.document, sentence.place)
            if numbers:
                where = citation_of(Path(sentence.document).name, sentence.place, sentence.start, sentence.end)
                where += f"; p = {sentence.probability:.3f}"
            console.print(line.append(printable_name(f"  [{where}]"), style="dim"), soft_wrap=True)
    elif found.kind == "list":
        for item in found.items:
            known = f"  [p = {item.probability:.3f}]" if numbers and item.probability is not None else ""
            console.print(Text(printable(f"- {item.text}")).append(known, style="dim"), soft_wrap=True)
    else:
        console.print(_coloured(found), soft_wrap=True)


def answer(found: Answer, explanation: Explanation | None, *, as_json: bool) -> None:
    """The numbers of an answer, below its text; as JSON all of its fields."""
    if as_json:
        extra = {"why": explanation.to_dict()} if explanation else {}
        return print_json({**found.to_dict(), **extra})
    console = terminal()
    if found.confidence:
        sure = found.confidence
        least = f"; {sure.threshold:.3f} is asked for" if sure.threshold else ""
        line = f"confidence = {sure.value:.3f}   (that it is right; calibrated on {sure.fitted_on}{least})"
        console.print(Text(printable(line), style="bold"), soft_wrap=True)
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
        console.print(Text(_unstated(found)), soft_wrap=True)
    for line in _remarks(found):
        console.print(Text(line, style="dim"))
    if found.passages:
        null = found.null_prior, found.null_reweighted_prior, found.null_posterior
        console.print(passage_table(found.passages, null))
        if found.kind != "extract":
            console.print(Text("Written by: ").append_text(_coloured(found)), soft_wrap=True)
    if explanation:
        _why(console, explanation)


def written(found: WrittenAnswer | IntervalAnswer, *, as_json: bool) -> None:
    """What a model that gives no exact probabilities writes."""
    if as_json:
        return print_json(found.to_dict())
    from mixrag.answers.written import WrittenAnswer

    return _texts(found) if isinstance(found, WrittenAnswer) else _in_interval(found)


def _in_interval(found: IntervalAnswer) -> None:
    console = terminal()
    console.print(Text(printable(found.text)), soft_wrap=True)
    lower, upper = found.interval
    shown = (
        f"p(answer | question) = {lower:.4g}"
        if lower == upper
        else f"{lower:.4g} <= p(answer | question) <= {upper:.4g}"
    )
    console.print(Text(shown, style="bold"), soft_wrap=True)
    certain = "by the numbers that the server returned, certainly no other answer is more probable"
    said = certain if found.certified else _greedy_words(found)
    console.print(Text(said if found.finished else f"{said}; cut off"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("prior", justify="right")
    table.add_column("posterior", justify="right")
    table.add_column("passage")
    for each in found.components:
        posterior = "" if each.posterior is None else f"{each.posterior[0]:.3f} to {each.posterior[1]:.3f}"
        titles = ", ".join(each.titles) or "(no passage)"
        table.add_row(f"{each.prior:.3f}", posterior, Text(printable_name(titles)))
    console.print(table)


def _greedy_words(found: IntervalAnswer) -> str:
    if found.greedy:
        return "each token is certainly the most probable next one; another answer may be more probable"
    return "the lists do not say whether another token was more probable in some place"


def _texts(found: WrittenAnswer) -> None:
    console = terminal()
    console.print(Text(printable(found.text)), soft_wrap=True)
    console.print(Text(printable(found.reason), style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("prior", justify="right")
    table.add_column("passage")
    table.add_column("what it makes the model write")
    for each in found.components:
        titles = ", ".join(each.titles) or "(no passage)"
        text = each.text if each.finished else f"{each.text} … (cut off)"
        table.add_row(f"{each.prior:.3f}", Text(printable_name(titles)), Text(printable(text)))
    console.print(table)


def passages(question: str, found: Retrieval, settings: Settings, *, as_json: bool) -> None:
    """Passages and prior, before any language model."""
    from mixrag.answers.answer import retrieval_to_dict

    if as_json:
        return print_json(retrieval_to_dict(question, found, settings))
    prior = found.log_prior.exp().tolist()
    console = terminal()
    for rank, (passage, p) in enumerate(zip(found.passages, prior, strict=True)):
        head = Text(f"{rank + 1}. p = {p:.4f}  ", style=_style(rank))
        console.print(
            head.append(printable_name(citation_of(passage.document, passage.place, passage.start, passage.end))),
            soft_wrap=True,
        )
        if passage.context:
            console.print(Text(printable(passage.context), style="dim italic"))
        console.print(Text(printable(passage.text), style="dim"))
    for notice in found.notices:
        console.print(Text(printable(notice), style="bold"), soft_wrap=True)
    if found.outside is not None:
        console.print(f"mass of all other passages, over the whole corpus: {found.outside:.4f}")
    if found.outside_bounds is not None:
        low, high = found.outside_bounds
        console.print(
            f"mass of all other passages, over the whole corpus: between {low:.4f} and {high:.4f}"
            f" (bounds; {'parts of it are missing' if found.notices else 'the search is approximate'})",
            soft_wrap=True,
        )


def _what(found: Answer) -> str:
    """What the probability shown is of."""
    if found.kind == "list":
        return f"p({printable(found.best_guess)!r})"
    return "p(these sentences)" if found.kind == "extract" else "p(answer)"


def _unstated(found: Answer) -> str:
    """p(∅ | x); under the full normaliser its bounds, and what the passages read give it."""
    subject = "the documents state" if found.passages else "without documents the model states"
    if found.normaliser != "full" or not found.outside or found.p_empty_within is None:
        return f"{subject} no answer with probability {found.p_empty:.4g}"
    low, high = found.empty_bounds or (found.p_empty or 0.0, 1.0)
    within = f"if one of the passages below is right, with probability {found.p_empty_within:.4g}"
    return f"{subject} no answer with probability between {low:.4g} and {high:.4g}; {within}"


def _remarks(found: Answer) -> list[str]:
    remarks = []
    if found.uncalibrated in ("k", "switch"):
        other = f"p(answer) is that of this {found.uncalibrated}"
        remarks.append(f"{other}, and says nothing of how often such answers are right")
    if found.passages and found.outside == 0.0:
        remarks.append("exact: no passage was left out")
    elif found.log_bounds:
        low, high = (math.exp(bound) for bound in found.log_bounds)
        remarks.append(f"over all passages, retrieved or not, p(answer) is between {low:.4g} and {high:.4g}")
    if found.certified is not None:
        remarks.append(_certificate(found))
    if not found.finished:
        remarks.append("cut off at --max-tokens or a full context: the probability is that of the text so far")
    if found.log_drawn is not None:
        remarks.append(f"drawn by chance, with probability {math.exp(found.log_drawn):.4g}")
    remarks += [f"passage {s.passage} shortened to {s.kept} of {s.total} tokens" for s in found.shortened]
    return remarks


def _certificate(found: Answer) -> str:
    if found.certified:
        more = ", by the numbers that the server returned" if found.rounding is None else ""
        return f"certified: no answer is more probable{', rounding included' if found.rounding else more}"
    return f"not certified as the best{'; --dtype float32 has no rounding to allow for' if found.rounding else ''}"


Weights = tuple[float | None, float | None, float | None]
"""Prior, reweighted prior and posterior of the null component; the first is None where there is none."""


def passage_table(passages: Sequence[AnswerPassage], null: Weights) -> Table:
    """Passages with their weights; columns that have no number in this answer are left out."""
    columns: dict[str, tuple[list[float | None], float | None]] = {
        "prior": ([each.prior for each in passages], null[0]),
        "reweighted": ([each.reweighted_prior for each in passages], null[1]),
        "not stated": ([each.p_empty for each in passages], None),
        "posterior": ([each.posterior for each in passages], null[2]),
    }
    shown = {name: each for name, each in columns.items() if each[0][0] is not None}
    table = Table("", *shown, "source", "text", box=None, pad_edge=False)
    for rank, passage in enumerate(passages):
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
    if null[0] is not None:
        table.add_row(
            "∅", *("" if each is None else f"{each:.4f}" for _, each in shown.values()), "no passage", ""
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
    if explanation.engine:
        console.print(f"language model run by {explanation.engine}")
    console.print(f"without any passage: log p(answer) = {explanation.log_null_likelihood:.3f}")
    if spent := explanation.answer.pruned:
        console.print(f"passages were dropped while it was written, at {spent:.1g} of total variation")
    if explanation.prefix_cache:
        hits, misses = explanation.prefix_cache
        console.print(f"passages that the model had read before: {hits} of {hits + misses} times")
    shown = explanation.answer.passages
    _sentences(console, explanation.answer)
    places = {each.id: citation_of(each.document, each.place, each.start, each.end) for each in shown}
    for rank, component in enumerate(explanation.components):
        console.rule(Text(printable_name(", ".join(component.passages) or "no passage"), style=_style(rank)))
        for passage in component.passages:
            console.print(Text(printable_name(places[passage])), soft_wrap=True)
        for line in _component_lines(component):
            console.print(Text(printable(line)), soft_wrap=True)
        console.print(Text(printable(component.prompt), style="dim"), soft_wrap=True)


def _sentences(console: Console, found: AnswerFields) -> None:
    """Each of several sentences with the passages that wrote at least one in a hundred of it, most first."""
    if len(found.written_sentences) < 2:
        return
    console.print("sentence by sentence, the probability of each passage, given the whole answer:")
    for sentence in found.written_sentences:
        ranks = sorted(range(len(sentence.posterior)), key=lambda rank: -sentence.posterior[rank])
        shares = [(f"passage {rank + 1}", sentence.posterior[rank]) for rank in ranks]
        shares = [each for each in (*shares, ("no passage", sentence.null)) if each[1] >= LEAST_SHARE]
        line = Text(printable(f"- {sentence.text}"), style=_colour(sentence.posterior, sentence.null))
        note = ", ".join(f"{name}: {share:.3f}" for name, share in shares)
        console.print(line.append(f"  [{note}]", style="dim"), soft_wrap=True)


def _component_lines(component: ComponentExplanation) -> list[str]:
    products = ", ".join(f"{product:.4f}" for product in component.inner_products)
    without = "nothing would be left" if component.log_without is None else f"{component.log_without:.3f}"
    ratio = "not defined" if component.log_evidence_ratio is None else f"{component.log_evidence_ratio:+.3f}"
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
        f"log evidence ratio             {ratio}",
        f"alone it answers               {component.alone!r} (log p {component.alone_log_prob:.3f})",
    ]
    if component.poisoning is not None:
        lines.append(f"rewriting its text moves the distribution of answers by at most {component.poisoning:.4f}")
    return [*filter(None, lines), f"prompt of {component.prompt_tokens} tokens:"]


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(strict_json(document) + "\n")


def terminal() -> Console:
    """Standard output; nothing is coloured because it looks like a number or a path."""
    return Console(highlight=False)

"""What people see of an answer: how sure it is, in words, and its sources with the sentence that states it.

Numbers are for those who ask why (``show.answer``).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from mixrag.cli.show import COLOURS, terminal
from mixrag.utils.text import named_place, printable, printable_name

if TYPE_CHECKING:  # these load torch
    from mixrag.answers.answer import Answer
    from mixrag.answers.bounded import IntervalAnswer
    from mixrag.answers.sources import Source
    from mixrag.answers.written import WrittenAnswer


def text_alone(found: Answer | WrittenAnswer | IntervalAnswer) -> None:
    """The text of an answer and nothing else, for scripts; of one that is withheld nothing at all."""
    if found.text is not None:
        sys.stdout.write(printable(found.text) + "\n")


def page(found: Answer) -> None:
    """How sure an answer is, and its sources, below its text."""
    from mixrag.answers.how_sure import how_sure

    console = terminal()
    if not found.abstains and found.kind != "extract":
        console.print(Text(printable(how_sure(found)), style="bold"), soft_wrap=True)
    if found.uncalibrated:
        line = "(--confidence FILE names another confidence; mixrag calibrate fits one)"
        console.print(Text(line, style="dim"), soft_wrap=True)
    if found.guarantee:
        console.print(Text(printable(found.guarantee.words), style="bold"), soft_wrap=True)
    if found.not_covered and not found.uncalibrated and not found.guaranteed_only:
        line = f"not covered by the guarantee: {found.not_covered}"
        console.print(Text(printable(line), style="dim"), soft_wrap=True)
    for notice in found.notices:
        console.print(Text(printable(notice), style="bold"), soft_wrap=True)
    for each in found.shortened:
        line = f"passage {each.passage} was read to {each.kept} of its {each.total} tokens"
        console.print(Text(printable(line), style="dim"), soft_wrap=True)
    if found.abstains or found.kind != "extract":
        sources(found)


def sources(found: Answer) -> None:
    """A line for each source: file, page, and the sentence to read, the answer in it in bold."""
    from mixrag.answers.sources import sources_of

    listed = sources_of(found)
    if not listed:
        return
    console = terminal()
    console.print("Nearest passages:" if found.abstains else "Sources:", style="dim")
    for each in listed:
        console.print(_line(found, each), soft_wrap=True)


def _line(found: Answer, source: Source) -> Text:
    from mixrag.answers.citation import cited_span

    style = COLOURS[source.rank - 1] if source.rank <= len(COLOURS) else ""
    where = Text(printable_name(f"  {named_place(source.document, source.place)}: "), style=style)
    sentence = Text(printable(source.sentence))
    span = cited_span(source.sentence, found.best_guess) if source.holds else None
    if span is not None:
        sentence.stylize("bold", *span)
    return where.append_text(sentence)

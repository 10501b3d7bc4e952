"""The explanation of an answer as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

from mixrag.answers.citation import Citation, citation
from mixrag.answers.explanation import ComponentExplanation, Explanation
from mixrag.answers.fields import AnswerFields, AnswerPassage
from mixrag.utils import html
from mixrag.utils.text import citation_of

PALETTE = 7
"""Colours in the style sheet, ``c1`` and on: Okabe and Ito's without black. ``c0`` is for passages beyond them."""
COLUMNS = 8
"""Components with a column of their own in the table of tokens; the others are summed."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a passage."""

    text: str
    cited: bool


@dataclass(frozen=True, slots=True)
class _Passage:
    """A passage as it is shown."""

    number: int
    title: str
    source: str
    document: str
    start: int
    end: int
    pieces: tuple[_Piece, ...]
    citation: str
    """A note about the cited span."""
    place: str = ""
    context: str = ""
    link: str = ""
    """URL of the page of a PDF; empty elsewhere."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A component as it is shown: one passage, a group of them, or none."""

    index: int
    label: str
    name: str
    colour: str
    """Class of the style sheet."""
    component: ComponentExplanation
    passages: tuple[_Passage, ...]

    @property
    def anchor(self) -> str:
        return f"part-{self.index + 1}"

    @property
    def sources(self) -> str:
        return (
            ", ".join(
                citation_of(passage.source, passage.place, passage.start, passage.end) for passage in self.passages
            )
            or "–"
        )

    @property
    def heading(self) -> str:
        return ", ".join(dict.fromkeys(passage.source for passage in self.passages)) or "No passage"


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of the answer as it is shown."""

    text: str
    log_prob: float
    shares: tuple[float, ...]
    """(K,) p(component j wrote it | question, answer)."""
    leader: int | None
    """The component with the largest share; None where the answer is impossible, and nothing has one."""
    tooltip: str
    """Who wrote it, and its probability, in words."""

    def outside(self, columns: Sequence[_Part]) -> float:
        """The share of all components but these."""
        return sum(self.shares) - sum(self.shares[part.index] for part in columns)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence of the answer as it is shown."""

    text: str
    shares: tuple[float, ...]
    """(K,) mean over its tokens of p(component j wrote it | question, answer)."""

    def outside(self, columns: Sequence[_Part]) -> float:
        """The share of all components but these."""
        return sum(self.shares) - sum(self.shares[part.index] for part in columns)


@dataclass(frozen=True, slots=True)
class _Run:
    """Tokens in a row with the same leader."""

    part: _Part | None
    space: str
    """White space before it."""
    tokens: tuple[_Token, ...]


def explanation_page(explanation: Explanation) -> str:
    """The explanation of an answer as one self-contained HTML5 document.

    The answer's words have the colour and number of the passage that most probably wrote them; below are the
    probability with its normaliser, the certificates, and for each component what ``Explanation`` has of it and
    the span that it is cited for (``citation``). Every number is a ``<data>`` element that holds all its digits.
    """
    answer = explanation.answer
    names = _names(explanation)
    tokens = _tokens(answer, [name for _, name in names])
    parts = _parts(explanation, names, tokens)
    heaviest = sorted(parts, key=lambda part: -part.component.posterior)[:COLUMNS]
    return html.page(
        "explanation",
        explanation=explanation,
        answer=answer,
        over=_over(answer),
        second=any(component.reweighted_prior is not None for component in explanation.components),
        most_probable=_has_half(answer),
        parts=parts,
        grey=any(part.colour == "c0" for part in parts),
        columns=sorted(heaviest, key=lambda part: part.index),
        tokens=tokens,
        sentences=_sentences(answer, tokens),
        runs=_runs(tokens, parts),
        numbers={passage.id: i for i, passage in enumerate(answer.passages, 1)},
    )


def _over(answer: AnswerFields) -> str:
    """Which mixture p(answer) is under."""
    count = len(answer.passages)
    if not count:
        return "closed book: the language model alone"
    shown = f"the {count} passages below" if count > 1 else "the passage below"
    if answer.normaliser == "full":
        return f"the part that {shown} have in the mixture over all passages (normaliser full)"
    null = "" if answer.null_prior is None else " and no passage"
    return f"over {shown}{null}, whose prior sums to one (normaliser top-k)"


def _has_half(answer: AnswerFields) -> bool:
    """True where no other answer can be as probable, under the mixture over all passages.

    Whole answers exclude one another, so that the others share what this one leaves.
    """
    alone = answer.log_interval[0] if answer.log_interval else answer.log_prob
    lower = answer.log_bounds[0] if answer.log_bounds else (-math.inf if answer.passages else alone)
    return answer.finished and lower > math.log(0.5)


def _names(explanation: Explanation) -> list[tuple[str, str]]:
    """For each component what marks its words, and what it is called; passages are numbered by rank."""
    names, count = [], 0
    for component in explanation.components:
        first, count = count + 1, count + len(component.passages)
        if not component.passages:
            names.append(("∅", "no passage"))
        elif first == count:
            names.append((f"{first}", f"passage {first}"))
        else:
            names.append((f"{first}–{count}", f"passages {first} to {count}"))
    return names


def _tokens(answer: AnswerFields, names: Sequence[str]) -> list[_Token]:
    table = answer.scored.responsibilities.T.tolist()  # (T, K)
    return [
        _Token(token.text, token.log_prob, tuple(shares), _leader(shares), _tooltip(token.log_prob, shares, names))
        for token, shares in zip(answer.tokens, table, strict=True)
    ]


def _sentences(answer: AnswerFields, tokens: Sequence[_Token]) -> list[_Sentence]:
    found = []
    for sentence in answer.written_sentences:
        shares = zip(*(token.shares for token in tokens[sentence.start : sentence.end]), strict=True)
        means = tuple(sum(each) / (sentence.end - sentence.start) for each in shares)
        found.append(_Sentence(sentence.text, means))
    return found


def _leader(shares: Sequence[float]) -> int | None:
    best = max(range(len(shares)), key=shares.__getitem__)
    return best if shares[best] > 0 else None


def _tooltip(log_prob: float, shares: Sequence[float], names: Sequence[str], most: int = 4) -> str:
    ranked = sorted(range(len(shares)), key=lambda j: -shares[j])
    writers = [f"{names[j]}: {html.probability(shares[j])}" for j in ranked[:most]]
    if rest := ranked[most:]:
        writers.append(f"others: {html.probability(sum(shares[j] for j in rest))}")
    return f"written by {'; '.join(writers)}. p(token) = {html.probability(math.exp(log_prob))}"


def _parts(explanation: Explanation, names: Sequence[tuple[str, str]], tokens: Sequence[_Token]) -> list[_Part]:
    visible = [token for token in tokens if token.text]
    colours = _colours(explanation, {token.leader for token in visible})
    runs = groupby(visible, key=lambda token: token.leader)
    stretches = [(leader, "".join(token.text for token in run)) for leader, run in runs]
    parts, before = [], 0
    for j, (component, (label, name)) in enumerate(zip(explanation.components, names, strict=True)):
        inside = explanation.answer.passages[before : before + len(component.passages)]
        own = [stretch for leader, stretch in stretches if leader == j]  # that component j most probably wrote
        shown = tuple(
            _passage(each, i, explanation.answer.best_guess, own) for i, each in enumerate(inside, before + 1)
        )
        parts.append(_Part(j, label, name, colours[j], component, shown))
        before += len(inside)
    return parts


def _colours(explanation: Explanation, writing: set[int | None]) -> list[str]:
    """A class for each component: colours by rank; where they are too few, first for the components that write."""
    with_text = [j for j, component in enumerate(explanation.components) if component.passages]
    chosen = sorted(sorted(with_text, key=lambda j: j not in writing)[:PALETTE])
    named = {j: f"c{number}" for number, j in enumerate(chosen, 1)}
    return [
        named.get(j, "c0" if component.passages else "null") for j, component in enumerate(explanation.components)
    ]


def _passage(passage: AnswerPassage, number: int, answer: str, own: Sequence[str]) -> _Passage:
    whole = citation(passage.text, answer)
    found = [whole] if whole else [c for c in (citation(passage.text, stretch) for stretch in own) if c]
    source = Path(passage.document).name
    title = "" if passage.title == source else passage.title
    note = _citation_note(found, of_whole=whole is not None)
    # The text is cut at the borders of its citations, which may overlap.
    borders = sorted({0, len(passage.text), *(c.start for c in found), *(c.end for c in found)})
    pieces = tuple(
        _Piece(passage.text[a:b], any(c.start <= a and b <= c.end for c in found)) for a, b in pairwise(borders)
    )
    return _Passage(
        number,
        title,
        source,
        passage.document,
        passage.start,
        passage.end,
        pieces,
        note,
        passage.place,
        passage.context,
        _link(passage),
    )


def _link(passage: AnswerPassage) -> str:
    """The URL that opens a PDF where the passage begins; empty for other files."""
    path = Path(passage.document)
    if passage.page is None or path.suffix.lower() != ".pdf" or not path.is_absolute():
        return ""
    return f"{path.as_uri()}#page={passage.page}"


def _citation_note(found: Sequence[Citation], *, of_whole: bool) -> str:
    if not found:
        return "No span cited: too few of the answer's words are close together here."
    what = "the answer's words" if of_whole else "the words of the answer that it most probably wrote"
    if all(each.f1 == 1.0 for each in found):
        return f"Cited: {what} occur here in a row."
    f1 = ", ".join(f"{each.f1:.2f}" for each in found)
    return f"Cited: what is closest to {what} (F1 {f1})."


def _runs(tokens: Sequence[_Token], parts: Sequence[_Part]) -> list[_Run]:
    visible, runs = [token for token in tokens if token.text], []
    for leader, (first, *others) in groupby(visible, key=lambda token: token.leader):
        bare = first.text.lstrip()
        space = first.text[: len(first.text) - len(bare)]  # it precedes the coloured text
        part = None if leader is None else parts[leader]
        runs.append(_Run(part, space, (replace(first, text=bare), *others)))
    return runs

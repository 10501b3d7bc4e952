"""From an ``Answer`` to a ``Reply``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mixrag.answers.answer import Answer, confidence_to_dict
from mixrag.answers.fields import AnswerFields
from mixrag.answers.how_sure import how_sure, why_withheld
from mixrag.answers.sources import sources_of
from mixrag.generator.protocol import prompt_length
from mixrag.server.document_links import document_title
from mixrag.server.openai.replies import Cited, Reply, Weighed, best_writers
from mixrag.utils.text import printable

SNIPPET = 200
"""Characters of each passage shown where an answer is withheld."""
_MARKUP = re.compile(r"([\\`*_\[\]<>!#|~$])")


def reply_of(answer: Answer, *, best_guess: bool = False) -> Reply:
    """What is shown of an answer; ``best_guess`` also where it is withheld."""
    sources = tuple(Weighed(each, each.prior, each.posterior) for each in answer.passages)
    if answer.text is None:
        text, cited = _withheld(answer, sources, best_guess)
    else:
        text, cited = answer.text, [*_cited(answer, sources, answer.text)]
    mixture = answer.scored.mixture
    tokens = tuple((token.text, token.log_prob) for token in answer.tokens)
    return Reply(
        text=text,
        cited=tuple(cited),
        passages=sources,
        tokens=tokens if text == answer.best_guess else None,
        read=sum(prompt_length(mixture.generator, component.prompt) for component in mixture.components),
        written=len(tokens),
        finished=answer.finished or answer.abstains,
        numbers=_numbers(answer, best_guess or not answer.abstains),
    )


def _numbers(answer: AnswerFields, best_guess: bool) -> dict[str, Any]:
    confidence, guarantee = answer.confidence, answer.guarantee
    return {
        "kind": answer.kind,
        "withheld": answer.abstains,
        **({"best_guess": answer.best_guess} if best_guess else {}),
        "probability": answer.probability,
        "confidence": confidence and confidence_to_dict(confidence),
        "how_sure": how_sure(answer),
        "guarantee": guarantee and {**asdict(guarantee), "sentence": guarantee.words},
        "p_empty": answer.p_empty,
        **({"notices": list(answer.notices)} if answer.notices else {}),
    }


def _withheld(answer: AnswerFields, sources: tuple[Weighed, ...], best_guess: bool) -> tuple[str, list[Cited]]:
    text, cited = f"No answer: {_escaped(why_withheld(answer))}.", list[Cited]()
    if best_guess:
        text += f"\n\nThe best guess would be: {_escaped(answer.best_guess)}"
    by_id, closest = {each.passage.id: each for each in sources}, sources_of(answer)
    if closest:
        text += "\n\nThe passages closest to the question:\n"
    for number, source in enumerate(closest, 1):
        start = len(text) + 1
        title = _escaped(document_title(source.title, source.document, source.place))
        text += f"\n{number}. {title}: {_escaped(_snippet(source.sentence))}"
        cited.append(Cited(start, len(text), by_id[source.passage]))
    return text, cited


def _snippet(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SNIPPET else text[:SNIPPET].rsplit(" ", 1)[0] + " …"


def _escaped(text: str) -> str:
    """Text of a document where a chat page reads Markdown: no link, picture or heading comes of it."""
    return _MARKUP.sub(r"\\\1", printable(text))


def _cited(answer: AnswerFields, sources: tuple[Weighed, ...], text: str) -> Iterator[Cited]:
    """Items of a list and sentences of an extract cite their passage; sentences written, those that wrote them."""
    by_id = {each.passage.id: each for each in sources}
    parts = [(each.text, each.passage) for each in (answer.items if answer.kind == "list" else answer.sentences)]
    if parts:
        spans = _located(text, [part for part, _ in parts])
        for (_, passage), (start, end) in zip(parts, spans, strict=True):
            if passage in by_id:
                yield Cited(start, end, by_id[passage])
        return
    written = answer.written_sentences
    for sentence, (start, end) in zip(written, _located(text, [each.text for each in written]), strict=True):
        for source in best_writers(sources, sentence.posterior, sentence.null):
            yield Cited(start, end, source)
    if not written:
        shares = tuple(each.posterior for each in answer.passages)
        for source in best_writers(sources, shares, answer.null_posterior or 0.0):
            yield Cited(0, len(text), source)


def _located(text: str, parts: list[str]) -> Iterator[tuple[int, int]]:
    """Where each part stands, one after the other; the whole text where a part is not found."""
    at = 0
    for part in parts:
        start = text.find(part, at)
        yield (0, len(text)) if start < 0 else (start, start + len(part))
        at = at if start < 0 else start + len(part)

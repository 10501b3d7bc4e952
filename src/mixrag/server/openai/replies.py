"""From an ``Answer`` to what a chat shows: text, the passages that it cites, tokens, and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from mixrag.answers.answer import Answer, confidence_to_dict
from mixrag.answers.fields import AnswerFields, AnswerPassage
from mixrag.answers.how_sure import how_sure, why_withheld
from mixrag.answers.sources import sources_of
from mixrag.generator.protocol import prompt_length
from mixrag.server.conversation import Question
from mixrag.server.document_links import document_link, document_title
from mixrag.utils.text import finite, printable

LEAST_SHARE, MOST_CITED = 0.1, 3
"""A part of an answer cites the passages that wrote at least this share of it, and at most so many."""
SNIPPET = 200
"""Characters of each passage shown where an answer is withheld."""
_MARKUP = re.compile(r"([\\`*_\[\]<>!#|~$])")


@dataclass(frozen=True)
class Cited:
    """A stretch of the text shown, and a passage that it comes from."""

    start: int
    """Offset of its first character in the text."""
    end: int
    """Offset after its last character."""
    passage: AnswerPassage


@dataclass(frozen=True)
class Reply:
    """An answer as a chat shows it."""

    answer: Answer
    text: str
    cited: tuple[Cited, ...]
    """In the order of the text; of one stretch, the passage that probably wrote most of it first."""

    @property
    def is_its_tokens(self) -> bool:
        """Whether the tokens of the answer join to the text: not where it is withheld, nor of a list."""
        return self.text == self.answer.best_guess

    @property
    def pieces(self) -> list[str]:
        """The text in the pieces in which it is streamed."""
        return [token.text for token in self.answer.tokens] if self.is_its_tokens else [self.text]

    @property
    def passages(self) -> list[AnswerPassage]:
        """The passages cited, each once."""
        return list({each.passage.id: each.passage for each in self.cited}.values())


def reply_of(answer: Answer, *, best_guess: bool = False) -> Reply:
    """What is shown of an answer; ``best_guess`` also where it is withheld."""
    if answer.text is not None:
        return Reply(answer, answer.text, tuple(_cited(answer, answer.text)))
    return _withheld(answer, best_guess)


def _withheld(answer: Answer, best_guess: bool) -> Reply:
    text, cited = f"No answer: {_escaped(why_withheld(answer))}.", list[Cited]()
    if best_guess:
        text += f"\n\nThe best guess would be: {_escaped(answer.best_guess)}"
    by_id, closest = {passage.id: passage for passage in answer.passages}, sources_of(answer)
    if closest:
        text += "\n\nThe passages closest to the question:\n"
    for number, source in enumerate(closest, 1):
        start = len(text) + 1
        title = _escaped(document_title(source.title, source.document, source.place))
        text += f"\n{number}. {title}: {_escaped(_snippet(source.sentence))}"
        cited.append(Cited(start, len(text), by_id[source.passage]))
    return Reply(answer, text, tuple(cited))


def _snippet(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SNIPPET else text[:SNIPPET].rsplit(" ", 1)[0] + " …"


def _escaped(text: str) -> str:
    """Text of a document where a chat page reads Markdown: no link, picture or heading comes of it."""
    return _MARKUP.sub(r"\\\1", printable(text))


def _cited(answer: Answer, text: str) -> Iterator[Cited]:
    """Items of a list and sentences of an extract cite their passage; sentences written, those that wrote them."""
    by_id = {passage.id: passage for passage in answer.passages}
    parts = [(each.text, each.passage) for each in (answer.items if answer.kind == "list" else answer.sentences)]
    if parts:
        spans = _located(text, [part for part, _ in parts])
        for (_, passage_id), (start, end) in zip(parts, spans, strict=True):
            if passage_id in by_id:
                yield Cited(start, end, by_id[passage_id])
        return
    written = answer.written_sentences
    for sentence, (start, end) in zip(written, _located(text, [each.text for each in written]), strict=True):
        for passage in _writers(answer, sentence.posterior, sentence.null):
            yield Cited(start, end, passage)
    if not written:
        shares = tuple(passage.posterior for passage in answer.passages)
        for passage in _writers(answer, shares, answer.null_posterior or 0.0):
            yield Cited(0, len(text), passage)


def _located(text: str, parts: list[str]) -> Iterator[tuple[int, int]]:
    """Where each part stands, one after the other; the whole text where a part is not found."""
    at = 0
    for part in parts:
        start = text.find(part, at)
        yield (0, len(text)) if start < 0 else (start, start + len(part))
        at = at if start < 0 else start + len(part)


def _writers(answer: AnswerFields, shares: tuple[float, ...], null: float) -> list[AnswerPassage]:
    """The passages that wrote most of a stretch; none where no passage at all is the most probable writer."""
    if not shares or null > max(shares):
        return []
    ranked = sorted(zip(shares, answer.passages, strict=True), key=lambda each: -each[0])
    chosen = [passage for share, passage in ranked[:MOST_CITED] if share >= LEAST_SHARE]
    return chosen or [ranked[0][1]]


def json_response(document: dict[str, Any]) -> JSONResponse:
    """A response; the logarithm of zero is null, since JSON has no infinity."""
    return JSONResponse(finite(document))


def url_citations(request: Request, store: str, reply: Reply) -> list[dict[str, Any]]:
    """The ``url_citation`` annotations of a chat message."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": each.start,
                "end_index": each.end,
                "url": passage_link(request, store, each.passage),
                "title": passage_title(each.passage),
            },
        }
        for each in reply.cited
    ]


def passage_link(request: Request, store: str, passage: AnswerPassage) -> str:
    """The address that opens the document of a passage at its page, or where it begins."""
    return document_link(request, store, passage.document, passage.page, passage.start)


def passage_title(passage: AnswerPassage) -> str:
    """What a citation calls a passage."""
    return document_title(passage.title, passage.document, passage.place)


def token_log_probs(answer: AnswerFields) -> list[dict[str, Any]]:
    """``logprobs.content``: log p(token | question, tokens before) under the mixture, no alternatives."""
    return [token_log_prob(token.text, token.log_prob) for token in answer.tokens]


def token_log_prob(text: str, log_prob: float) -> dict[str, Any]:
    """One entry of ``logprobs.content``."""
    return {"token": text, "bytes": list(text.encode()), "logprob": log_prob, "top_logprobs": []}


def usage_of(answer: AnswerFields) -> tuple[int, int]:
    """Tokens that the language model read in all prompts, one for each component, and tokens of the answer."""
    mixture = answer.scored.mixture
    read = sum(prompt_length(mixture.generator, component.prompt) for component in mixture.components)
    return read, len(answer.tokens)


def usage_object(prompt: int, completion: int) -> dict[str, int]:
    """Tokens read and written, as chat and completions have them."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def extension_of(
    request: Request, store: str, question: Question, reply: Reply, *, best_guess: bool
) -> dict[str, Any]:
    """The object ``mixrag`` of a response: what was asked, how sure the answer is, and the passages."""
    answer = reply.answer
    confidence = answer.confidence
    document = {
        "question": question.text,
        "written": question.written,
        "rewritten": question.rewritten,
        "kind": answer.kind,
        "withheld": answer.abstains,
        **({"best_guess": answer.best_guess} if best_guess else {}),
        "probability": answer.probability,
        "confidence": confidence and confidence_to_dict(confidence),
        "how_sure": how_sure(answer),
        "guarantee": answer.guarantee and {**asdict(answer.guarantee), "sentence": answer.guarantee.words},
        "p_empty": answer.p_empty,
        "passages": [
            {
                "id": passage.id,
                "title": passage_title(passage),
                "document": passage.document,
                "page": passage.page,
                "place": passage.place,
                "start": passage.start,
                "end": passage.end,
                "prior": passage.prior,
                "posterior": passage.posterior,
                "url": passage_link(request, store, passage),
            }
            for passage in answer.passages
        ],
    }
    found: dict[str, Any] = finite(document)
    return found

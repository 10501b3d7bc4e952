"""Spans of OpenTelemetry for questions, by its conventions for generative models.

Without an SDK that is set up (extra ``telemetry``) its API makes spans that do nothing. Questions, answers and
documents are never part of a span.
"""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mixrag.answers.answer import Answer
from mixrag.answers.stream import Stream
from mixrag.rag import RAG
from mixrag.server.native.metrics import outcome_of
from mixrag.server.stores import Stores
from mixrag.server.watch import Watched

OPERATION = "chat"


class Telemetry:
    """Makes a span for each question; a ``Watch``."""

    def __init__(self, stores: Stores) -> None:
        self._names = {id(each.rag): each.name for each in stores}
        self._tracer = trace.get_tracer("mixrag.server")

    def asked(self, rag: RAG) -> Watched:
        """See ``Watch``."""
        model = self._names.get(id(rag), "")
        attributes = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": "mixrag",
            "gen_ai.request.model": model,
            "gen_ai.data_source.id": model,
        }
        return _Traced(
            self._tracer.start_span(f"{OPERATION} {model}", kind=SpanKind.INTERNAL, attributes=attributes)
        )


class _Traced(Watched):
    def __init__(self, span: Span) -> None:
        self._span, self._start, self._has_token = span, time.perf_counter(), False

    def began(self, stream: Stream) -> None:
        """What it is answered with."""
        settings, retrieval = stream.settings, stream.retrieval
        self._span.set_attribute("gen_ai.response.model", str(stream.mixture.generator.name))
        if isinstance(settings.max_tokens, int):
            self._span.set_attribute("gen_ai.request.max_tokens", settings.max_tokens)
        self._span.set_attribute("mixrag.passages", len(retrieval.passages))

    def token(self) -> None:
        """The first one ends the wait for it."""
        if not self._has_token:
            self._has_token = True
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", time.perf_counter() - self._start)

    def answered(self, answer: Answer) -> None:
        """How long the answer is, and how sure."""
        self._span.set_attribute("gen_ai.usage.output_tokens", len(answer.tokens))
        self._span.set_attribute("gen_ai.response.finish_reasons", ["stop" if answer.finished else "length"])
        self._span.set_attribute("mixrag.outcome", outcome_of(answer))
        self._span.set_attribute("mixrag.probability", answer.probability)
        if answer.confidence is not None:
            self._span.set_attribute("mixrag.confidence", answer.confidence.value)

    def failed(self, error: BaseException) -> None:
        """By its kind alone: a message may quote the question."""
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR))

    def ended(self) -> None:
        """The span ends."""
        self._span.end()

"""``/metrics``: figures of the process for Prometheus, named as those of vLLM are."""

from __future__ import annotations

import time
from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from mixrag.answers.answer import Answer
from mixrag.rag import RAG
from mixrag.server.native import examples
from mixrag.server.questions import Questions
from mixrag.server.stores import Stores
from mixrag.server.watch import Watched

router = APIRouter(prefix="/metrics", tags=["Operation"])
LATENCIES = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
"""Upper ends of the buckets, in seconds."""


@router.get("", response_class=Response, responses=examples.METRICS)
async def metrics(request: Request) -> Response:
    """Figures in the text format of Prometheus."""
    found: Metrics = request.app.state.metrics
    content, kind = found.text(request.headers.get("accept", ""))
    return Response(content, media_type=kind)


class Metrics:
    """Figures of one process, in a registry of their own; a ``Watch``."""

    def __init__(self, stores: Stores, questions: Questions) -> None:
        self._names = {id(each.rag): each.name for each in stores}
        self._registry = CollectorRegistry()
        running = Gauge("mixrag:num_requests_running", "Questions being answered.", registry=self._registry)
        waiting = Gauge(
            "mixrag:num_requests_waiting", "Questions that wait for their turn.", registry=self._registry
        )
        running.set_function(lambda: questions.running)
        waiting.set_function(lambda: questions.waiting)
        self.latency = self._histogram("e2e_request_latency_seconds", "From a question to its whole answer.")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From a question to the first token that is decided."
        )
        self.tokens = self._counter("generation_tokens", "Tokens of the answers.")
        self.answers = self._counter("answers", "Answers: given, withheld, or cut off.", "outcome")
        self.failures = self._counter("request_failures", "Questions that an error ended.", "error")
        for name in self._names.values():  # all series are there from the beginning, as rates need them
            self.tokens.labels(name)
            for outcome in ("answered", "withheld", "cut_off"):
                self.answers.labels(name, outcome)

    def asked(self, rag: RAG) -> Watched:
        """See ``Watch``."""
        return _Measured(self, self._names.get(id(rag), ""))

    def text(self, accept: str) -> tuple[bytes, str]:
        """All figures, in the format that a client accepts, and its content type."""
        encode, kind = choose_encoder(accept)
        content: bytes = encode(self._registry)
        return content, kind

    def _histogram(self, name: str, help_: str) -> Histogram:
        return Histogram(f"mixrag:{name}", help_, ("model_name",), buckets=LATENCIES, registry=self._registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        names: Iterable[str] = ("model_name", *labels)
        return Counter(f"mixrag:{name}", help_, names, registry=self._registry)


class _Measured(Watched):
    """One question; its model is the store."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self._model, self._start = metrics, model, time.perf_counter()
        self._has_token = False

    def token(self) -> None:
        """The first one ends the wait for it."""
        if not self._has_token:
            self._has_token = True
            self._metrics.first_token.labels(self._model).observe(time.perf_counter() - self._start)

    def answered(self, answer: Answer) -> None:
        """Count it."""
        self.token()
        self._metrics.latency.labels(self._model).observe(time.perf_counter() - self._start)
        self._metrics.tokens.labels(self._model).inc(len(answer.tokens))
        self._metrics.answers.labels(self._model, outcome_of(answer)).inc()

    def failed(self, error: BaseException) -> None:
        """Count it by the kind of error."""
        self._metrics.failures.labels(self._model, type(error).__name__).inc()


def outcome_of(answer: Answer) -> str:
    """What became of a question: answered, withheld, or cut off."""
    if answer.abstains:
        return "withheld"
    return "answered" if answer.finished else "cut_off"

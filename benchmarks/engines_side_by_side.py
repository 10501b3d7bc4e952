"""The same questions with the packaged language model in this process and behind servers: answers and numbers.

    mixrag index demo/corpus --store STORE
    python benchmarks/engines_side_by_side.py STORE demo/pairs.jsonl [--questions N] [--passages K]

The reference is torch in float32, greedy, without pruning. Beside it: a server on loopback that speaks vLLM's
dialect over the same weights and scores given texts; the same server, which lists 20 or 5 next tokens and scores
nothing; OpenVINO in this process, in float32 and in eight bits; the packaged GGUF file as it is, in four bits, by
llama.cpp in this process (`mixrag[gguf]`); and, where the package xllamacpp is installed (`pip install xllamacpp`,
or its folder in PYTHONPATH), by its real server.
`--engines` chooses among them by the beginning of their names.

Each engine answers, and scores the reference's answer where it can: the largest differences of log p and of a
passage's posterior. Where it cannot, the exact log p and posterior of its own answer, by the reference, must lie
in the intervals that it states; one that does not is an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixrag import RAG
from mixrag.answers.bounded import IntervalAnswer
from mixrag.config.default_models import packaged_generator
from mixrag.config.model_config import ModelConfig
from mixrag.generator.llamacpp import runtime
from mixrag.inference.token_mixing import TokenMixing
from mixrag.pairs.pairs import read_pairs, sample

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from fake_server import FakeServer, listening  # type: ignore[import-not-found]

Server = Any
ROUNDING = 1e-4
"""Of float32, in nats: the order of additions differs between batches."""


@dataclass
class Compared:
    """What one engine said, beside the reference."""

    name: str
    same: int = 0
    """Answers equal to the reference's."""
    certified: int = 0
    log_prob: list[float] = field(default_factory=list)
    """Differences of log p of the reference's answer."""
    posterior: list[float] = field(default_factory=list)
    """Largest differences of a passage's posterior given that answer."""
    widths: list[float] = field(default_factory=list)
    """Of intervals of p."""
    outside: list[str] = field(default_factory=list)
    """Exact numbers that an interval does not contain."""
    requests: int = 0


def main() -> None:
    """Ask every engine, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--passages", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--engines", nargs="+", default=[""], metavar="NAME")
    options = parser.parse_args()
    questions = [pair.question for pair in sample(read_pairs([options.pairs]).pairs, options.questions, 0)]
    settings = {"k": options.passages, "max_tokens": options.max_tokens, "kind": "span", "prune": 0.0}
    models = ModelConfig(adapter="none", dtype="float32", device="cpu", prefix_cache=0)
    with ExitStack() as stack:
        reference = stack.enter_context(RAG.open(options.store, models=models))
        engines = [
            each
            for each in _engines(stack, options.store, reference, options.passages)
            if each[0].startswith(tuple(options.engines))
        ]
        found = compare(reference, engines, questions, settings)
    print(f"{len(questions)} questions, {options.passages} passages, answers of up to {options.max_tokens} tokens")
    print("| engine | same answer | certified | log p off | posterior off | width | requests |\n|" + " --- |" * 7)
    for each in found:
        print(row(each, len(questions)))
    for each in found:
        for text in each.outside:
            print(f"{each.name}: {text}", file=sys.stderr)
    if any(each.outside for each in found):
        sys.exit("an interval does not contain the exact number")


class Rows:
    """What a model of transformers says of the next token after rows of ids."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.next_token = lru_cache(512)(self._next_token)

    def _next_token(self, row: tuple[int, ...]) -> Tensor:
        return self.places(row, len(row) - 1)[0]

    def places(self, row: tuple[int, ...], first: int) -> Tensor:
        """(T, V) after token ``first`` of a row and each one behind it."""
        with torch.no_grad():
            logits = self.generator.model(torch.tensor([row])).logits[0, first:]
        found: Tensor = logits.double().log_softmax(-1)
        return found


class ModelServer(FakeServer):  # type: ignore[misc]
    """The fake server of the tests over a model of transformers, which reads a row once for all its places."""

    def __init__(self, rows: Rows, **options: Any) -> None:
        self.rows, tokenizer = rows, rows.generator.tokens.tokenizer
        super().__init__(
            rows.next_token,
            rows.generator.stop_tokens,
            tokenize=lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids,
            detokenize=tokenizer.decode,
            context=rows.generator.context_size + 1,
            **options,
        )

    def _given(self, row: tuple[int, ...], first: int) -> list[Tensor]:
        return [*self.rows.places(row, first - 1)[:-1]]


def _engines(stack: ExitStack, store: Path, reference: RAG, passages: int) -> Iterator[tuple[str, RAG, Server]]:
    """Each with its name, and the fake server, which counts requests."""
    tokenizer = reference.generator.tokens.tokenizer  # type: ignore[attr-defined]
    lists = {"echo": False, "prompt_logprobs": False}
    fakes: dict[str, dict[str, Any]] = {
        "vLLM's dialect, scores": {},
        "lists of 20": lists,
        "lists of 5": {**lists, "largest": 5},
    }
    rows = Rows(reference.generator)
    for name, options in fakes.items():
        server = ModelServer(rows, **options)
        url = stack.enter_context(listening(server))
        yield name, stack.enter_context(_behind(store, url, tokenizer)), server
    if importlib.util.find_spec("openvino"):
        for dtype in ("float32", "int8"):
            models = ModelConfig(engine="openvino", adapter="none", dtype=dtype, device="cpu")
            yield f"OpenVINO, {dtype}", stack.enter_context(RAG.open(store, models=models)), None
    if runtime.available():
        for dtype in ("float32", "auto"):
            models = ModelConfig(generator=packaged_generator(), engine="llamacpp", dtype=dtype, device="cpu")
            yield f"GGUF in process, {dtype}", stack.enter_context(RAG.open(store, models=models)), None
    url = stack.enter_context(llama_cpp(passages))
    if url:
        yield "llama.cpp (xllamacpp)", stack.enter_context(_behind(store, f"llamacpp:{url}", tokenizer)), None


def _behind(store: Path, name: str, tokenizer: Any) -> RAG:
    models = ModelConfig(generator=name, tokenizer=tokenizer, device="cpu", server_timeout=600.0)
    return RAG.open(store, models=models)


@contextmanager
def llama_cpp(passages: int) -> Iterator[str]:
    """The address of a llama.cpp server in this process; empty where its package is not installed."""
    try:
        import xllamacpp  # type: ignore[import-not-found]
    except ImportError:
        yield ""
        return
    params = xllamacpp.CommonParams()
    params.model.path = str(packaged_generator())
    params.n_parallel, params.n_ctx = passages, 2048 * passages
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    params.port, params.warmup = 0, False
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"


def compare(
    reference: RAG, engines: Sequence[tuple[str, RAG, Server]], questions: Sequence[str], settings: dict[str, Any]
) -> list[Compared]:
    """Every question with every engine."""
    found = [Compared(name) for name, *_ in engines]
    for question in questions:
        asked = reference.ask(question, decoder="greedy", **settings)
        print(f"{question}\n  torch: {asked.text!r} {asked.log_prob:.4f}", file=sys.stderr)
        for each, (_, rag, server) in zip(found, engines, strict=True):
            before = len(server.requests) if server else 0
            if rag.server is None or rag.server.returns_probabilities:
                _exact(each, rag, question, asked, settings)
            else:
                _in_intervals(each, rag, reference, question, asked, settings)
            each.requests += len(server.requests) - before if server else 0
    return found


def _exact(found: Compared, rag: RAG, question: str, asked: Any, settings: dict[str, Any]) -> None:
    answer = rag.ask(question, decoder=TokenMixing() if rag.server else "greedy", **settings)
    certified = (
        rag.ask(question, decoder="thorough", **settings) if rag.server and rag.server.given_text else answer
    )
    score = asked.scored.mixture  # the components, whose prompts are the same
    table = rag.generator.log_likelihood([each.prompt for each in score.components], asked.scored.tokens)
    there = type(asked.scored)(score, asked.scored.tokens, table.double())
    found.same += answer.scored.tokens == asked.scored.tokens
    found.certified += bool(certified.certified)
    found.log_prob.append(abs(there.log_prob - asked.log_prob))
    found.posterior.append(float((there.posterior - asked.scored.posterior).abs().max()))
    shown = f"{answer.text!r} {answer.log_prob:.4f}, log p of torch's answer {there.log_prob:.4f}"
    print(f"  {found.name}: {shown}", file=sys.stderr)


def _in_intervals(
    found: Compared, rag: RAG, reference: RAG, question: str, asked: Any, settings: dict[str, Any]
) -> None:
    answer = rag.write(question, **settings)
    assert isinstance(answer, IntervalAnswer)
    lower, upper = answer.log_interval
    exact = reference.condition(question, **settings).score_tokens(answer.tokens)
    if not lower - ROUNDING <= exact.log_prob <= upper + ROUNDING:
        found.outside.append(f"{question} log p {exact.log_prob} outside of {answer.log_interval}")
    for component, posterior in zip(answer.components, exact.posterior.tolist(), strict=True):
        least, most = component.posterior or (0.0, 1.0)
        if not least - ROUNDING <= posterior <= most + ROUNDING:
            found.outside.append(f"{question} posterior {posterior} outside of {component.posterior}")
    found.same += exact.tokens == asked.scored.tokens
    found.certified += answer.certified
    found.widths.append(answer.interval[1] - answer.interval[0])
    print(
        f"  {found.name}: {answer.text!r} {lower:.4f} to {upper:.4f}, exact {exact.log_prob:.4f}", file=sys.stderr
    )


def row(found: Compared, questions: int) -> str:
    """A row of the table."""
    cells = [
        found.name,
        f"{found.same} of {questions}",
        f"{found.certified} of {questions}",
        f"{max(found.log_prob):.2g}" if found.log_prob else "",
        f"{max(found.posterior):.2g}" if found.posterior else "",
        f"{max(found.widths):.2g}" if found.widths else "",
        f"{found.requests / questions:.1f}" if found.requests else "",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

"""A server of language models that speaks the dialects of real ones, over a distribution given by a function."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import torch
from torch import Tensor

NextToken = Callable[[tuple[int, ...]], Tensor]
"""All token ids so far -> (V,) log p of the next one."""
OWNED_BY = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "ollama": "library", "openai": "system"}


class Refusal(Exception):
    def __init__(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self.status, self.document, self.headers = status, document, headers or {}


@dataclass
class FakeServer:
    """Answers requests (path, document) with documents."""

    next_token: NextToken
    stops: frozenset[int]
    dialect: str = "vllm"
    model: str = "model"
    largest: int = 20
    """More tokens than this are refused (vLLM), or cut (llama.cpp)."""
    tokenize: Callable[[str], Sequence[int]] | None = None
    detokenize: Callable[[Sequence[int]], str] = lambda ids: " ".join(map(str, ids))
    context: int = 4096
    echo: bool = True
    prompt_logprobs: bool = True
    ids: bool = True
    """Tokens by id; else as texts."""
    end_listed: bool = True
    """Whether the stop token is among the tokens that were written."""
    pieces: Sequence[str] = ()
    """The text of each token, where they are named by it (Ollama); none: no log-probabilities."""
    includes_bias: bool = False
    """Whether the probabilities are those after ``logit_bias`` (llama.cpp)."""
    key: str | None = None
    requests: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str, document: Any, headers: dict[str, str]) -> Any:
        self.requests.append((path, document, headers))
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            given = headers.get("authorization", "").removeprefix("Bearer ")
            raise Refusal(401, {"error": {"message": f"Incorrect API key provided: {given}"}})
        steps = {
            "/v1/models": self._models,
            "/tokenize": self._tokenize,
            "/v1/completions": self._completions,
            "/generate": self._generate,
            "/completion": self._completion,
            "/props": lambda _: {"default_generation_settings": {"n_ctx": self.context}},
            "/v1/chat/completions": self._chat,
            "/api/chat": self._ollama,
            "/api/show": lambda _: {"model_info": {"tokenizer.ggml.tokens": self._show()}},
        }
        if path not in steps:
            raise Refusal(404, {"detail": "Not Found"})
        return steps[path](document)

    def transport(self) -> httpx2.MockTransport:
        def handle(request: httpx2.Request) -> httpx2.Response:
            document = json.loads(request.content) if request.content else None
            try:
                found = self.answer(request.url.path, document, dict(request.headers))
            except Refusal as refusal:
                return httpx2.Response(refusal.status, json=refusal.document, headers=refusal.headers)
            return httpx2.Response(200, content=json.dumps(found).encode())  # which may have NaN

        return httpx2.MockTransport(handle)

    def _models(self, _: Any) -> Any:
        card = {"id": self.model, "owned_by": OWNED_BY.get(self.dialect, "someone")}
        return {"data": [card | ({"max_model_len": self.context} if self.dialect in ("vllm", "sglang") else {})]}

    def _tokenize(self, document: Any) -> Any:
        if self.tokenize is None:
            raise Refusal(404, {"detail": "Not Found"})
        text = document["content"] if self.dialect == "llamacpp" else document["prompt"]
        return {"tokens": list(self.tokenize(text))}

    def _top(self, row: Tensor, count: int) -> dict[int, float]:
        values, tokens = row.topk(min(count, len(row)))
        return dict(zip(tokens.tolist(), values.tolist(), strict=True))

    def _continued(self, row: tuple[int, ...], most: int) -> tuple[list[int], list[Tensor], str]:
        tokens: list[int] = []
        tables = []
        while len(tokens) < most and not (tokens and tokens[-1] in self.stops):
            tables.append(self.next_token((*row, *tokens)))
            tokens.append(int(tables[-1].argmax()))
        ended = bool(tokens) and tokens[-1] in self.stops
        if ended and not self.end_listed:
            tokens, tables = tokens[:-1], tables[:-1]
        return tokens, tables, "stop" if ended else "length"

    def _given(self, row: tuple[int, ...], first: int) -> list[Tensor]:
        return [self.next_token(row[:place]) for place in range(first, len(row))]

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.ids else self.detokenize([token])

    def _logprobs(self, tokens: Sequence[int], tables: Sequence[Tensor | None], count: int) -> Any:
        own = [
            None if row is None else _json(float(row[token])) for token, row in zip(tokens, tables, strict=True)
        ]
        top = [
            None
            if row is None
            else {self._name(v): _json(p) for v, p in {**self._top(row, count), token: float(row[token])}.items()}
            for token, row in zip(tokens, tables, strict=True)
        ]
        return {"tokens": [self._name(token) for token in tokens], "token_logprobs": own, "top_logprobs": top}

    def _completions(self, document: Any) -> Any:
        count = document.get("logprobs", document.get("prompt_logprobs"))
        if count is not None and count > self.largest:
            raise Refusal(400, {"error": {"message": f"more than the maximum of {self.largest}"}})
        if document["model"] != self.model:
            raise Refusal(404, {"error": {"message": f"no model {document['model']}"}})
        assert document["temperature"] == 0
        choices = []
        prompts, usage = document["prompt"], 0
        if isinstance(prompts, str):
            if self.tokenize is None:
                raise Refusal(400, {"error": {"message": "token ids, please"}})
            prompts = [list(self.tokenize(prompts))]
        for index, ids in enumerate(prompts):
            row = tuple(ids)
            assert len(row) + document["max_tokens"] <= self.context
            tokens, tables, reason = self._continued(row, document["max_tokens"])
            usage += len(tokens)
            choice: dict[str, Any] = {"index": index, "text": self.detokenize(tokens), "finish_reason": reason}
            if document.get("echo") and self.echo:
                before = [None, *self._given(row, 1)]
                choice["logprobs"] = self._logprobs([*row, *tokens], [*before, *tables], count)
            elif "logprobs" in document:
                choice["logprobs"] = self._logprobs(tokens, tables, count)
            if "prompt_logprobs" in document and self.prompt_logprobs:
                choice["prompt_logprobs"] = [None] + [
                    {
                        str(v): {"logprob": _json(p), "rank": 1, "decoded_token": ""}
                        for v, p in {**self._top(table, count), token: float(table[token])}.items()
                    }
                    for token, table in zip(row[1:], self._given(row, 1), strict=True)
                ]
            choices.append(choice)
        # In another order than that of the prompts.
        return {"choices": choices[::-1], "usage": {"completion_tokens": usage}}

    def _generate(self, document: Any) -> Any:
        found, count = [], document["top_logprobs_num"]
        for ids, start in zip(document["input_ids"], document["logprob_start_len"], strict=True):
            row = tuple(ids)
            tokens, tables, reason = self._continued(row, document["sampling_params"]["max_new_tokens"])
            meta: dict[str, Any] = {
                "finish_reason": {"type": reason},
                "output_token_logprobs": [
                    [_json(float(p[v])), v, None] for v, p in zip(tokens, tables, strict=True)
                ],
                "output_top_logprobs": [self._entries(table, count) for table in tables],
            }
            if start >= 0:
                given = self._given(row, start + 1)
                own = [_json(float(p[v])) for v, p in zip(row[start + 1 :], given, strict=True)]
                meta["input_token_logprobs"] = [
                    [p, v, None] for p, v in zip([None, *own], row[start:], strict=True)
                ]
                meta["input_top_logprobs"] = [None, *(self._entries(table, count) for table in given)]
            found.append({"text": "", "meta_info": meta})
        return found

    def _entries(self, table: Tensor, count: int) -> list[Any]:
        return [[_json(p), v, None] for v, p in self._top(table, min(count, self.largest)).items()]

    def _completion(self, document: Any) -> Any:
        table = self.next_token(tuple(document["prompt"]))
        biased = table.clone()
        for token, bias in document["logit_bias"]:
            biased[token] += bias
        shown = biased.log_softmax(0) if self.includes_bias else table
        drawn = int(biased.argmax())
        most = min(document["n_probs"], self.largest)
        entry = {"token": "", "bytes": []}
        entries = [{**entry, "id": v, "logprob": _json(p)} for v, p in self._top(shown, most).items()]
        own = {**entry, "id": drawn, "logprob": _json(float(shown[drawn]))}
        return {"content": "", "completion_probabilities": [{**own, "top_logprobs": entries}]}

    def _said(self, document: Any) -> str:
        content = document["messages"][-1]["content"]
        return "nine crowns" if "nine" in content else "four crowns"

    def _chat(self, document: Any) -> Any:
        return {"choices": [{"finish_reason": "stop", "message": {"content": self._said(document)}}]}

    def _ollama(self, document: Any) -> Any:
        assert document["stream"] is False
        if not (self.pieces and document.get("logprobs")):
            return {"message": {"content": self._said(document)}, "done_reason": "stop", "done": True}
        assert self.tokenize is not None
        asked, *begun = (message["content"] for message in document["messages"])
        row = (*self.tokenize(asked), *self._ids("".join(begun)))
        options, text, entries, reason = document["options"], "", list[Any](), "length"
        for place in range(options["num_predict"]):
            table = self.next_token(row)
            drawn = int(table.argmax())
            if options["temperature"] > 0:  # one of the most probable, whatever its probability
                drawn = int(table.topk(options["top_k"]).indices[(7 * options["seed"] + place) % options["top_k"]])
            if drawn in self.stops:
                reason = "stop"
                break
            top = [self._piece(v, p) for v, p in self._top(table, document["top_logprobs"]).items()]
            entries.append({**self._piece(drawn, float(table[drawn])), "top_logprobs": top})
            row, text = (*row, drawn), text + self.pieces[drawn]
        found = {"message": {"content": text}, "done_reason": reason, "done": True}
        return {**found, "logprobs": entries} if entries else found

    def _show(self) -> list[str]:
        return list(self.pieces)

    def _piece(self, token: int, value: float) -> Any:
        piece = self.pieces[token]
        return {"token": piece, "logprob": _json(value), "bytes": [*piece.encode()]}

    def _ids(self, text: str) -> list[int]:
        found, left = list[int](), text
        while left:
            found.append(next(v for v, piece in enumerate(self.pieces) if piece and left.startswith(piece)))
            left = left.removeprefix(self.pieces[found[-1]])
        return found


def _json(value: float) -> float:
    return value if math.isfinite(value) else -9999.0


def random_model(vocabulary: int, seed: int = 0, scale: float = 3.0) -> NextToken:
    """A next-token distribution that depends on the whole row."""

    def next_token(row: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((seed, row)) % 2**31)
        return (scale * torch.randn(vocabulary, generator=generator, dtype=torch.float64)).log_softmax(0)

    return next_token


@contextmanager
def listening(server: FakeServer, before: Callable[[Any], bool] | None = None) -> Iterator[str]:
    """The server on loopback, with its address; ``before`` may answer a request itself, and then says True."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            if before is not None and before(self):
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                found, status = server.answer(self.path, json.loads(body) if body else None, headers), 200
            except Refusal as refusal:
                found, status = refusal.document, refusal.status
            self.reply(status, json.dumps(found).encode())

        def reply(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _handle

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/v1"
        finally:
            http.shutdown()
            thread.join()

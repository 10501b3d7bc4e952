"""Servers that list next tokens and score no given text: certified tokens, intervals with the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from fake_server import FakeServer, Refusal, random_model
from mixrag.errors import ModelError, ServerError
from mixrag.generator.remote.client import Client, Limits
from mixrag.generator.remote.connection import connect
from mixrag.generator.remote.generator import ListingGenerator, LlamaCppGenerator, RemoteGenerator
from mixrag.generator.remote.ollama import SAMPLE, NotContinued
from mixrag.generator.remote.pieces import Pieces
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.inference.candidates import decoder_on
from mixrag.inference.decoders import Greedy
from mixrag.inference.mixture import Mixture, ScoredAnswer, condition
from mixrag.inference.protocol import DecodedToken
from mixrag.inference.token_mixing import TokenMixing, bounded_answer
from mixrag.probability import log_marginal, log_posterior
from tables import passage
from tiny_models import chat_tokenizer

QUESTION = "What does it cost?"
PASSAGES = [passage(f"p{j}", text) for j, text in enumerate(("nine crowns", "four crowns", "nothing at all"))]
LOG_PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
ROOT = "http://server.test/v1"
SIZE = 30
STOP = SIZE - 1
PIECES = [*(f"w{v} " for v in range(STOP)), "<|end|>"]


@cache
def tokenizer() -> Any:
    return chat_tokenizer()


def tokens_server(dialect: str = "vllm", scale: float = 3.0, **options: Any) -> FakeServer:
    """A server of a random model over the tiny tokenizer's tokens."""
    own = tokenizer()
    tokenize = lambda text: own(text, add_special_tokens=False).input_ids  # noqa: E731
    stops = frozenset({own.eos_token_id})
    model = random_model(len(own), scale=scale)
    return FakeServer(model, stops, dialect, tokenize=tokenize, detokenize=own.decode, **options)


def ollama(**options: Any) -> FakeServer:
    """A server whose tokens are "w0 " to "w28 " and an end; after every prompt another distribution."""
    random = random_model(SIZE, scale=2.5)
    known: dict[str, int] = {}

    def next_token(row: tuple[int, ...]) -> Tensor:
        if known.get(SAMPLE) == row[0] - 1000:  # a short answer: three tokens and the end
            logits = torch.zeros(SIZE, dtype=torch.float64)
            logits[STOP if len(row) > 3 else len(row)] = 4.0
            return (logits + 0.1 * random(row)).log_softmax(0)
        return random(row)

    def tokenize(text: str) -> Sequence[int]:
        return [1000 + known.setdefault(text, len(known))]

    given: dict[str, Any] = {"pieces": PIECES, "tokenize": tokenize, **options}
    return FakeServer(next_token, frozenset({STOP}), "ollama", **given)


def pieces_of(server: FakeServer, **options: Any) -> Any:
    return connect(f"ollama:model@{ROOT}", transport=server.transport(), **options)


def mixture(generator: Any, switch: float = 0.0) -> Mixture:
    return condition(generator, QUESTION, PASSAGES, LOG_PRIOR, switch=switch)


def exact_table(
    server: FakeServer, found: ListingGenerator, conditioned: Mixture, tokens: Sequence[int]
) -> Tensor:
    """(K, T) the numbers of the server's own model, along an answer of pieces."""
    assert server.tokenize is not None
    text = found.texts.text  # type: ignore[attr-defined]
    ids = [STOP if token in found.stop_tokens else PIECES.index(text([token])) for token in tokens]
    rows = [tuple(server.tokenize(found.prompt_text(component.prompt))) for component in conditioned.components]
    table = [[float(server.next_token((*row, *ids[:t]))[ids[t]]) for t in range(len(ids))] for row in rows]
    return torch.tensor(table, dtype=torch.float64)


def test_ollama_lists_next_tokens() -> None:
    found = pieces_of(ollama())
    assert isinstance(found, ListingGenerator)
    capabilities = found.capabilities
    assert capabilities.listed and capabilities.top == 20
    assert not capabilities.returns_probabilities
    assert "the 20 most probable next tokens; probabilities are intervals" in capabilities.describe()
    assert found.text([*found.stop_tokens]) == ""
    assert [found.texts.pieces.joined([end]) for end in found.stop_tokens] == [b"<|end|>"]


@pytest.mark.parametrize("switch", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("cut", [20, 6])
def test_intervals_of_ollama_contain_the_numbers_of_the_model(switch: float, cut: int) -> None:
    server = ollama(largest=cut)
    whole = server._top
    server._top = lambda row, count: whole(row, min(count, cut))  # type: ignore[method-assign]
    generator = pieces_of(server)
    there = mixture(generator, switch)
    found = bounded_answer(there, 5)
    table = exact_table(server, generator, there, found.tokens)
    lower, upper = found.log_interval
    exact = float(log_marginal(LOG_PRIOR, table, switch))
    assert lower - 1e-9 <= exact <= upper + 1e-9
    assert found.text.startswith("w")
    for t, step in enumerate(found.steps):
        for j, each in enumerate(step.lists):
            assert each.upper(step.token) >= float(table[j, t]) - 1e-9
    if switch == 0.0:
        assert found.posterior_interval is not None
        posterior = log_posterior(LOG_PRIOR, table, 0.0).exp()
        assert (found.posterior_interval[0] <= posterior + 1e-9).all()
        assert (found.posterior_interval[1] >= posterior - 1e-9).all()
    else:
        assert found.posterior_interval is None


def test_what_ends_an_answer_of_ollama_has_its_probability() -> None:
    """The server says nothing of the token that ends an answer where that one is drawn."""
    server = ollama()
    generator = pieces_of(server)
    rows = [
        (generator.texts.pieces.number(SAMPLE.encode()), *map(generator.texts.pieces.number, begun))
        for begun in ([b"w1 ", b"w2 ", b"w3 "],)
    ]
    found = generator.engine.write(rows, 1, 20)[0].known[0]
    (end,) = generator.stop_tokens
    assert server.tokenize is not None
    exact = server.next_token((*server.tokenize(SAMPLE), 1, 2, 3))
    assert found.log_probs[end] == pytest.approx(float(exact[STOP]))
    assert max(found.log_probs, key=found.log_probs.__getitem__) == end


def test_pieces_of_equal_text_are_one() -> None:
    generator = pieces_of(ollama())
    entry = {"token": "a", "logprob": math.log(0.25)}
    other = {"token": "b", "logprob": math.log(0.2)}
    found = generator.engine.listed({**entry, "top_logprobs": [entry, entry, other]})
    number = generator.texts.pieces.number(b"a")
    assert math.exp(found.log_probs[number]) == pytest.approx(0.5)
    assert math.exp(found.log_rest) == pytest.approx(0.2)


def test_an_older_ollama_returns_text_alone() -> None:
    found = pieces_of(ollama(pieces=()))
    assert isinstance(found, TextWriter)
    assert "no log-probabilities" in found.capabilities.reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda document: document["messages"][1:] and document["messages"].pop(), "is not continued as"),
        (lambda document: document["options"].update(num_predict=2), "did not end a short answer"),
    ],
    ids=["an answer begun is ignored", "no end"],
)
def test_an_ollama_that_does_not_continue(spoil: Any, reason: str) -> None:
    server = ollama()
    whole = server._ollama
    server._ollama = lambda document: (spoil(document), whole(document))[1]  # type: ignore[method-assign]
    found = pieces_of(server)
    assert isinstance(found, TextWriter)
    assert reason in found.capabilities.reason
    assert not found.capabilities.listed


def test_an_ollama_that_lets_nobody_in() -> None:
    server = ollama()

    def refuse(document: Any) -> Any:
        raise Refusal(403, {"error": "no"})

    server._ollama = refuse  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="403 no"):
        pieces_of(server)


def test_a_part_of_a_character_is_not_sent() -> None:
    generator = pieces_of(ollama())
    number = generator.texts.pieces.number
    with pytest.raises(NotContinued):
        generator.engine.write([(number(b"question"), number("é".encode()[:1]))], 1, 20)
    assert generator.text([number("é".encode()[:1]), number("é".encode()[1:])]) == "é"


def test_pieces_have_one_number() -> None:
    pieces = Pieces()
    assert [pieces.number(each) for each in (b"a", b"b", b"a")] == [0, 1, 0]
    assert pieces.joined([1, 0]) == b"ba"
    assert len(pieces) == 2


def test_without_scoring_there_are_lists() -> None:
    server = tokens_server(prompt_logprobs=False, echo=False)
    found = connect(ROOT, tokenizer=tokenizer(), transport=server.transport())
    assert isinstance(found, ListingGenerator)
    assert found.capabilities.listed and not found.capabilities.given_text
    there = mixture(found)
    bounded = bounded_answer(there, 4)
    rows = [
        [
            float(server.next_token((*component.prompt.tokens, *bounded.tokens[:t]))[token])
            for t, token in enumerate(bounded.tokens)
        ]
        for component in there.components
    ]
    exact = float(log_marginal(LOG_PRIOR, torch.tensor(rows, dtype=torch.float64), 0.0))
    assert bounded.log_interval[0] - 1e-9 <= exact <= bounded.log_interval[1] + 1e-9
    assert bounded.log_interval[0] > -math.inf


def test_what_needs_exact_numbers_is_refused_with_lists() -> None:
    server = tokens_server(prompt_logprobs=False, echo=False)
    there = mixture(connect(ROOT, tokenizer=tokenizer(), transport=server.transport()))
    for wrong in (lambda: there.score("x"), there.start, lambda: [*TokenMixing().decode(there, 4)]):
        with pytest.raises(ModelError, match=r"rag\.write"):
            wrong()
    assert isinstance(decoder_on(there, Greedy(), "greedy"), Greedy)  # which asks for what is refused above


def test_numbers_that_change_are_not_used() -> None:
    server = tokens_server(prompt_logprobs=False, echo=False)
    true, calls = server.next_token, [0]

    def changing(row: tuple[int, ...]) -> Tensor:
        calls[0] += 1
        return (true(row) * (1.0 if calls[0] <= 3 else 0.1)).log_softmax(0)

    server.next_token = changing
    found = connect(ROOT, tokenizer=tokenizer(), transport=server.transport())
    assert isinstance(found, TextWriter)
    assert "two that differ" in found.capabilities.reason


@pytest.mark.parametrize("dialect", ["llamacpp", "vllm", "sglang"])
@pytest.mark.parametrize("switch", [0.0, 0.5])
def test_token_mixing_is_greedy_decoding(dialect: str, switch: float) -> None:
    """Of the same model in this process: the same tokens, tables and live posteriors."""
    server = tokens_server(dialect, largest=10**6 if dialect == "llamacpp" else 20)
    found = connect(ROOT, tokenizer=tokenizer(), transport=server.transport())
    assert isinstance(found, LlamaCppGenerator | RemoteGenerator)
    there = mixture(found, switch)
    *steps, result = TokenMixing().decode(there, 4)
    table = torch.stack(
        [
            torch.stack(
                [
                    server.next_token((*component.prompt.tokens, *result.answers[0].tokens[:t]))
                    for component in there.components
                ]
            )
            for t in range(len(steps))
        ],
        1,
    )  # (K, T, V)
    answer: ScoredAnswer = result.answers[0]
    weights = LOG_PRIOR
    for t, step in enumerate(steps):
        assert isinstance(step, DecodedToken)
        mixed = (weights[:, None] + table[:, t]).logsumexp(0)
        assert step.token == int(mixed.argmax()) == answer.tokens[t]
        assert step.log_prob == pytest.approx(float(mixed.max()), abs=1e-9)
        weights = (weights + table[:, t, step.token]).log_softmax(0)
        assert torch.allclose(step.posterior, weights.exp())
        weights = ((1 - switch) * weights.exp() + switch * LOG_PRIOR.exp()).log()
    assert answer.log_prob == pytest.approx(sum(step.log_prob for step in steps), abs=1e-9)
    assert torch.allclose(
        answer.log_likelihood, torch.stack([table[:, t, v] for t, v in enumerate(answer.tokens)], -1)
    )


def test_llama_cpp_is_asked_for_short_lists_first() -> None:
    server = tokens_server("llamacpp", largest=10**6)
    found = connect(ROOT, tokenizer=tokenizer(), transport=server.transport())
    there = mixture(found)
    assert isinstance(decoder_on(there, Greedy(), "greedy"), TokenMixing)
    assert isinstance(decoder_on(there, Greedy(samples=2), "greedy"), Greedy)
    server.requests.clear()
    [*TokenMixing().decode(there, 3)]
    counts = [document["n_probs"] for _, document, _ in server.requests]
    assert min(counts) == 100
    assert all(document["logit_bias"] for _, document, _ in server.requests)


def test_llama_cpp_scores_a_given_answer_in_one_batch_of_lists() -> None:
    """All places at once; whole distributions of those alone whose list lacks the token."""
    server = tokens_server("llamacpp", largest=10**6, scale=6.0)
    found = connect(ROOT, tokenizer=tokenizer(), transport=server.transport())
    prompts = [component.prompt for component in mixture(found).components]
    tokens = found.answer_tokens("nine crowns")
    server.requests.clear()
    table = found.log_likelihood(prompts, tokens)
    exact = [
        [float(server.next_token((*prompt.tokens, *tokens[:t]))[token]) for t, token in enumerate(tokens)]
        for prompt in prompts
    ]
    assert torch.allclose(table, torch.tensor(exact, dtype=torch.float64), atol=1e-9)
    lists = [document["n_probs"] for _, document, _ in server.requests]
    assert lists.count(100) == len(prompts) * len(tokens)
    assert 0 < len(lists) - lists.count(100) < lists.count(100)


def test_stop_tokens_are_those_of_the_models_files(tmp_path: Any) -> None:
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    found = connect(ROOT, tokenizer=tmp_path, transport=tokens_server().transport())
    assert {5, 7, tokenizer().eos_token_id} <= found.stop_tokens


def test_an_echo_tells_how_a_server_splits_a_text() -> None:
    own = tokenizer()
    server = tokens_server()

    def no_tokenize(document: Any) -> Any:
        raise Refusal(404, {"detail": "Not Found"})

    server._tokenize = no_tokenize  # type: ignore[method-assign]
    assert connect(ROOT, tokenizer=own, transport=server.transport()).capabilities.tokenizer_checked
    server.tokenize = lambda text: own(text.lower(), add_special_tokens=False).input_ids
    with pytest.raises(ModelError, match="the server's tokenizer, which makes"):
        connect(ROOT, tokenizer=own, transport=server.transport())
    server.tokenize = lambda text: [own.eos_token_id, *own(text, add_special_tokens=False).input_ids]
    assert connect(ROOT, tokenizer=own, transport=server.transport()).capabilities.tokenizer_checked


def test_a_server_that_goes_away_in_the_probe_is_not_one_of_text_alone() -> None:
    server = tokens_server()

    def busy(document: Any) -> Any:
        raise Refusal(503, {"error": "loading"})

    server._completions = busy  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="503 loading"):
        connect(ROOT, tokenizer=tokenizer(), transport=server.transport(), limits=Limits(patience=0.01))


def test_limits_reach_the_client() -> None:
    assert Client(ROOT, limits=Limits(3.0)).limits.answer == 3.0

"""Servers of a model that may open a thought: numbers of the same model in this process, which may not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from fake_server import FakeServer, random_model
from mixrag.errors import ServerError
from mixrag.generator.base import BaseGenerator
from mixrag.generator.remote.connection import connect
from mixrag.generator.remote.generator import ListingGenerator, LlamaCppGenerator, RemoteGenerator
from mixrag.generator.remote.masked import without_listed
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.inference.candidates import best_candidate
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.token_mixing import TokenMixing, bounded_answer
from mixrag.probability import Listed, listed, log_marginal
from tables import passage
from tiny_models import chat_tokenizer

ROOT = "http://server.test/v1"
PASSAGES = [passage(f"p{j}", text) for j, text in enumerate(("nine crowns", "four crowns"))]
LOG_PRIOR = torch.tensor([0.6, 0.4], dtype=torch.float64).log()


@cache
def tokenizer() -> Any:
    own = chat_tokenizer()
    own.add_tokens(["<think>", "</think>"])
    return own


def never() -> list[int]:
    return [int(each) for each in tokenizer().convert_tokens_to_ids(["<think>", "</think>"])]


def thinking(likely: float = 8.0) -> Any:
    """A model whose most probable next token opens a thought, and another one closes it."""
    random = random_model(len(tokenizer()), scale=2.0)

    def next_token(row: tuple[int, ...]) -> Tensor:
        logits = random(row).clone()
        logits[never()[0]] = logits.max() + likely * (len(row) % 2)
        logits[never()[1]] = logits.topk(30).values[-1]  # not among the 20 that are listed
        return logits.log_softmax(0)

    return next_token


class Local(BaseGenerator):
    """The model of the server in this process, where no thought is opened."""

    def __init__(self, next_token: Any) -> None:
        super().__init__(tokenizer(), context_size=4095)
        self.own = next_token

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        tables = torch.stack([self.own(row) for row in rows])
        tables[:, never()] = -math.inf
        return tables.log_softmax(-1)


def server(dialect: str, likely: float = 1.0, **options: Any) -> FakeServer:
    own = tokenizer()
    given: dict[str, Any] = {
        "tokenize": lambda text: own(text, add_special_tokens=False).input_ids,
        "detokenize": own.decode,
        "largest": 10**6 if dialect == "llamacpp" else 20,
    }
    return FakeServer(thinking(likely), Local(None).stop_tokens, dialect, **{**given, **options})


def mixture(generator: Any) -> Mixture:
    return condition(generator, "What does it cost?", PASSAGES, LOG_PRIOR)


def remote(there: FakeServer) -> Any:
    return connect(ROOT, tokenizer=tokenizer(), transport=there.transport())


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llamacpp"])
def test_a_given_answer_has_the_probability_that_it_has_in_process(dialect: str) -> None:
    there, here = mixture(remote(server(dialect))), mixture(Local(thinking(1.0)))
    for answer in ("nine crowns", "x"):
        found, exact = there.score(answer), here.score(answer)
        assert torch.allclose(found.log_likelihood, exact.log_likelihood, atol=2e-5, rtol=0)
        assert torch.allclose(found.posterior, exact.posterior, atol=1e-4)
    end = Local(None).answer_tokens("")[-1]
    assert there.score_tokens((never()[0], end)).log_prob == -math.inf


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llamacpp"])
def test_greedy_decoding_opens_no_thought(dialect: str) -> None:
    found = remote(server(dialect))
    assert isinstance(found, RemoteGenerator | LlamaCppGenerator)
    *_, result = TokenMixing().decode(mixture(found), 3)
    local, weights, begun = Local(thinking(1.0)), LOG_PRIOR, tuple[int, ...]()
    total = 0.0
    for token in result.answers[0].tokens:
        rows = local.next_log_probs([(*each.prompt.tokens, *begun) for each in mixture(local).components])
        mixed = (weights[:, None] + rows).logsumexp(0)
        assert token == int(mixed.argmax())
        total, weights, begun = float(mixed.max()), weights + rows[:, token], (*begun, token)
    assert result.answers[0].log_prob == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_what_is_written_for_a_passage_is_what_it_writes_without_thoughts(dialect: str) -> None:
    local, found = Local(thinking(1.0)), remote(server(dialect))
    expected = []
    for component in mixture(local).components:
        tokens: tuple[int, ...] = ()
        while len(tokens) < 4 and not (tokens and tokens[-1] in local.stop_tokens):
            tokens = (*tokens, int(local.next_log_probs([(*component.prompt.tokens, *tokens)])[0].argmax()))
        expected.append(tokens)
    prompts = [component.prompt for component in mixture(found).components]
    assert [each.tokens for each in found.write(prompts, 4)] == expected
    for answer in best_candidate(mixture(found), 4).answers:
        exact = mixture(local).score_tokens(answer.tokens).log_prob
        assert answer.log_prob == pytest.approx(exact, abs=1e-4)
        assert not {*never()} & {*answer.tokens}


def test_lists_without_scores_give_intervals_that_hold_the_value() -> None:
    """The token that closes a thought is not listed: how much mass it has is not known."""
    there = server("vllm", prompt_logprobs=False, echo=False)
    found = remote(there)
    assert isinstance(found, ListingGenerator)
    bounded = bounded_answer(mixture(found), 3)
    exact = mixture(Local(thinking(1.0))).score_tokens(bounded.tokens).log_prob
    lower, upper = bounded.log_interval
    assert lower - 1e-9 <= exact <= upper + 1e-9
    assert lower < upper
    assert not {*never()} & {*bounded.tokens}


def test_a_whole_list_leaves_no_interval() -> None:
    log_probs = dict(enumerate(torch.tensor([0.5, 0.3, 0.2]).double().log().tolist()))
    found = without_listed(listed(log_probs), [0])
    assert math.exp(found.log_probs[1]) == pytest.approx(0.6)
    assert found.log_probs[0] == -math.inf
    assert found.log_slack == 0.0


def test_tokens_that_are_not_listed_widen_what_is_known() -> None:
    """0.5 and 0.3 are listed; the marker has at most the 0.2 that are left."""
    found = without_listed(listed({1: math.log(0.5), 2: math.log(0.3)}), [9])
    assert math.exp(found.log_probs[1]) == pytest.approx(0.5)
    assert math.exp(found.upper(1)) == pytest.approx(0.625, abs=1e-4)
    merged = found.with_others(Listed({}, 0.0))
    assert merged.upper(1) == found.upper(1)


def test_a_thought_that_is_certain_leaves_nothing_to_know() -> None:
    with pytest.raises(ServerError, match="--template-arg"):
        without_listed(listed({9: 0.0, 1: -30.0}), [9])


@pytest.mark.parametrize("says", [True, False])
def test_ollama_lists_without_thoughts(says: bool) -> None:
    """A vocabulary that is known, in which there is one marker; and one that is not."""
    size = 30
    pieces = [*(f"w{v} " for v in range(size - 2)), "<think>", "<|end|>"]
    random = random_model(size, scale=2.0)
    known: dict[str, int] = {}

    def next_token(row: tuple[int, ...]) -> Tensor:
        logits = random(row).clone()
        if row[0] == 1000:  # the probe's question: three pieces and the end
            logits[size - 1 if len(row) > 3 else len(row)] = 9.0
        else:
            logits[size - 2] = logits.max() + 1.0
        return logits.log_softmax(0)

    fake = FakeServer(
        next_token,
        frozenset({size - 1}),
        "ollama",
        pieces=pieces,
        tokenize=lambda text: [1000 + known.setdefault(text, len(known))],
    )
    if not says:
        fake._show = lambda: []  # type: ignore[method-assign]
    generator = connect(f"ollama:model@{ROOT}", transport=fake.transport())
    assert isinstance(generator, ListingGenerator)
    there = mixture(generator)
    found = bounded_answer(there, 3)
    text = generator.texts.text
    assert "<think>" not in found.text
    ids = [size - 1 if t in generator.stop_tokens else pieces.index(text([t])) for t in found.tokens]
    rows = [tuple(fake.tokenize(generator.prompt_text(each.prompt))) for each in there.components]  # type: ignore[misc]
    table = torch.empty(len(rows), len(ids), dtype=torch.float64)
    for j, row in enumerate(rows):
        for t, token in enumerate(ids):
            given = next_token((*row, *ids[:t]))
            given[size - 2] = -math.inf
            table[j, t] = given.log_softmax(0)[token]
    exact = float(log_marginal(LOG_PRIOR, table, 0.0))
    assert found.log_interval[0] - 1e-9 <= exact <= found.log_interval[1] + 1e-9


def test_a_llama_cpp_whose_probabilities_have_the_bias_in_them_is_not_believed() -> None:
    found = remote(server("llamacpp", includes_bias=True))
    assert isinstance(found, TextWriter)
    assert not found.capabilities.returns_probabilities
    assert "after a token was forced" in found.capabilities.describe()

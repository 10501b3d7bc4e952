"""Remote models over a fake server: numbers are those of the same model here, and nothing else is used."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from enumeration import Toy
from fake_server import FakeServer, Refusal, listening, random_model
from mixrag.errors import MixragError, ModelError, ServerError, SettingError
from mixrag.generator import load_generator
from mixrag.generator.base import BaseGenerator
from mixrag.generator.copying import CopyingGenerator
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.generator.remote.client import Client, Limits
from mixrag.generator.remote.completions import Completions
from mixrag.generator.remote.connection import connect
from mixrag.generator.remote.generator import LlamaCppGenerator, RemoteGenerator
from mixrag.generator.remote.text_writer import TextWriter
from mixrag.inference.candidates import Candidates, best_candidate, decoder_on
from mixrag.inference.decoders import Beam, Greedy
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.protocol import DecoderResult
from tables import passage, table_generator, toy_passages
from tiny_models import chat_tokenizer

QUESTION = "What does it cost?"
PASSAGES = [passage(f"p{j}", text) for j, text in enumerate(("nine crowns", "four crowns", "nothing at all"))]
LOG_PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
MODEL = "http://server.test/v1"


@cache
def tokenizer() -> Any:
    return chat_tokenizer()


class Local(BaseGenerator):
    """The model of the fake server, in this process."""

    def __init__(self, next_token: Any) -> None:
        super().__init__(tokenizer(), context_size=4095)
        self.next_token = next_token

    def next_log_probs(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        return torch.stack([self.next_token(row) for row in rows])


def model(scale: float = 3.0) -> Any:
    return random_model(len(tokenizer()), scale=scale)


def fake(dialect: str = "vllm", **options: Any) -> FakeServer:
    own = tokenizer()
    given: dict[str, Any] = {
        "tokenize": lambda text: own(text, add_special_tokens=False).input_ids,
        "detokenize": own.decode,
        **options,
    }
    return FakeServer(model(), Local(model()).stop_tokens, dialect, **given)


def remote(server: FakeServer, name: str = MODEL, **options: Any) -> Any:
    return connect(name, tokenizer=tokenizer(), transport=server.transport(), **options)


def mixture(generator: Any, switch: float = 0.0) -> Mixture:
    return condition(generator, QUESTION, PASSAGES, LOG_PRIOR, switch=switch)


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
@pytest.mark.parametrize("switch", [0.0, 0.4, 1.0])
def test_given_answers_have_the_probabilities_of_the_model_itself(dialect: str, switch: float) -> None:
    found, local = mixture(remote(fake(dialect)), switch), mixture(Local(model()), switch)
    for answer in ("nine crowns", "x", ""):
        here, there = local.score(answer), found.score(answer)
        assert there.tokens == here.tokens
        assert torch.allclose(there.log_likelihood, here.log_likelihood, atol=1e-12, rtol=0)
        assert there.log_prob == pytest.approx(here.log_prob, abs=1e-12)
        assert torch.allclose(there.posterior, here.posterior)
        assert torch.allclose(there.log_leave_one_out, here.log_leave_one_out)


def test_llama_cpp_gives_whole_distributions_and_every_decoder() -> None:
    found = remote(fake("llamacpp", largest=10**6))
    assert isinstance(found, LlamaCppGenerator)
    assert found.capabilities.whole
    assert found.context_size == 4096
    assert "everything is exact" in found.capabilities.describe()
    there, here = mixture(found), mixture(Local(model()))
    for decoder in (Greedy(), Beam(3)):
        one, other = (list(decoder.decode(each, 4))[-1] for each in (there, here))
        assert isinstance(one, DecoderResult)
        assert isinstance(other, DecoderResult)
        assert one.answers[0].tokens == other.answers[0].tokens
        assert one.answers[0].log_prob == pytest.approx(other.answers[0].log_prob, abs=1e-9)
        assert one.certified == other.certified


def test_a_part_of_the_vocabulary_is_not_taken_for_all_of_it() -> None:
    with pytest.raises(ServerError, match="whole vocabulary"):
        remote(fake("llamacpp", largest=100))


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_what_a_server_rounds_is_not_known(dialect: str) -> None:
    found = remote(fake(dialect, largest=10**6 if dialect == "llamacpp" else 20))
    there = mixture(found)
    assert there.stated_rounding is None
    assert mixture(CopyingGenerator(found)).stated_rounding is None
    assert there.rounding == 0.0
    assert "which it may have rounded" in found.capabilities.describe()
    assert pickle.loads(pickle.dumps(there)).stated_rounding is None  # noqa: S301
    assert mixture(Local(model())).stated_rounding == 0.0


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
@pytest.mark.parametrize("end_listed", [True, False])
def test_thorough_decoding_takes_two_calls(dialect: str, end_listed: bool) -> None:
    server = fake(dialect, end_listed=end_listed)
    there, here = mixture(remote(server)), Local(model())
    server.requests.clear()
    result = best_candidate(there, 5)
    assert len(server.requests) == 2
    expected = {
        tuple(list(Greedy(0.0).decode(mixture(here).alone(j), 5))[-1].answers[0].tokens)  # type: ignore[union-attr]
        for j in range(3)
    }
    assert {answer.tokens for answer in result.answers} == expected
    probabilities = [answer.log_prob for answer in result.answers]
    assert probabilities == sorted(probabilities, reverse=True)
    for answer in result.answers:
        assert answer.log_prob == pytest.approx(mixture(here).score_tokens(answer.tokens).log_prob, abs=1e-12)


@pytest.mark.parametrize("count", [5, 20])
def test_a_certified_answer_is_the_most_probable_one(count: int) -> None:
    """Random tables behind the server, enumerated; lists cut at ``count``."""
    certified = 0
    for seed in range(100):
        toy = Toy([0.5, 0.3, 0.2], seed, 8, 3)
        local = table_generator(toy)
        scale = 1.0 + seed % 4

        def next_token(row: tuple[int, ...], local: Any = local, scale: float = scale) -> Tensor:
            before = sum(token < 0 for token in row) - 1  # the passage's words; the question is one more
            return (scale * local.next_token((-1,) * before, row[before + 1 :]).log()).log_softmax(0)

        server = FakeServer(next_token, local.stop_tokens, largest=count)
        client = Client(MODEL, transport=server.transport())
        engine = Completions(client, MODEL, "http://server.test", "model")
        capabilities = Capabilities("vllm", "model", True, count, token_ids=True)
        generator = RemoteGenerator(engine, local, capabilities, "fake")
        switch = (0.0, 0.5)[seed % 2]
        there = condition(generator, "question", toy_passages(toy), toy.log_prior, switch=switch)
        result = best_candidate(there, toy.length)
        every = _enumerated(next_token, toy, switch)
        for answer in result.answers:
            assert answer.log_prob == pytest.approx(math.log(every[answer.tokens]), abs=1e-9)
        if result.certified:
            certified += 1
            assert max(every.values()) == pytest.approx(every[result.answers[0].tokens], rel=1e-9)
    assert certified > 10


def _enumerated(next_token: Any, toy: Toy, switch: float) -> dict[tuple[int, ...], float]:
    """p of every answer, by the recursion of the mixture in probability space."""
    found, prior = dict[tuple[int, ...], float](), torch.tensor(toy.prior, dtype=torch.float64)
    under_way = [((), prior)]
    while under_way:
        answer, weights = under_way.pop()
        rows = [next_token((*(-1,) * (j + 2), *answer)).exp() for j in range(len(prior))]
        for token, joint in enumerate((weights[:, None] * torch.stack(rows)).T):
            longer = (*answer, token)
            if token == toy.vocabulary - 1 or len(longer) == toy.length:
                found[longer] = float(joint.sum())
            else:
                under_way.append((longer, (1 - switch) * joint + switch * prior * joint.sum()))
    return found


def test_the_probe_says_what_it_found() -> None:
    found = remote(fake())
    assert found.capabilities == Capabilities(
        "vllm",
        "model",
        given_text=True,
        top=20,
        listed=True,
        token_ids=True,
        tokenizer_checked=True,
        context_size=4095,
    )
    assert "the 20 most probable next tokens, the same tokenizer" in found.capabilities.describe()
    assert found.context_size == 4095


@pytest.mark.parametrize(("largest", "top"), [(20, 20), (7, 5), (1, 1), (0, 0)])
def test_fewer_listed_tokens_are_found_out(largest: int, top: int) -> None:
    found = remote(fake(largest=largest))
    assert found.capabilities.top in (top, max(1, top))
    assert mixture(found).score("x").log_prob == pytest.approx(mixture(Local(model())).score("x").log_prob)
    assert not best_candidate(mixture(found), 3).answers[0].log_prob > 0


def test_a_server_that_caps_the_list_silently() -> None:
    assert remote(fake("sglang", largest=4)).capabilities.top == 4


def test_echo_where_prompt_logprobs_is_not_known() -> None:
    found = remote(fake(prompt_logprobs=False))
    assert found.engine.scoring == "echo"
    assert mixture(found).score("x y").log_prob == pytest.approx(mixture(Local(model())).score("x y").log_prob)


def test_without_token_ids_there_is_text_alone() -> None:
    found = remote(fake(ids=False))
    assert isinstance(found, TextWriter)
    assert not found.capabilities.returns_probabilities
    assert "answers have no probability" in found.capabilities.describe()
    assert found.capabilities.reason
    with pytest.raises(ModelError, match="a server that returns log-probabilities"):
        mixture(found)
    texts = found.texts(QUESTION, [[each] for each in PASSAGES], 8)
    assert [each.text for each in texts] == ["nine crowns", "four crowns", "four crowns"]


def test_probabilities_that_are_not_those_of_the_model_are_refused_or_not_used() -> None:
    server = fake()
    true = server.next_token
    server.next_token = lambda row: (true(row) * (0.2 if len(row) % 2 else 2.0)).log_softmax(0)
    assert remote(server).capabilities.given_text  # consistent: another model
    calls = 0

    def changing(row: tuple[int, ...]) -> Tensor:
        nonlocal calls
        calls += 1
        return (true(row) * (1.0 if calls <= 3 else 0.1)).log_softmax(0)

    server.next_token = changing
    found = remote(server)
    assert not found.capabilities.returns_probabilities
    assert "two that differ" in found.capabilities.reason


def test_another_tokenizer_is_refused() -> None:
    own = tokenizer()
    other = fake(tokenize=lambda text: own(text.lower(), add_special_tokens=False).input_ids)
    with pytest.raises(ModelError, match="the server's tokenizer, which makes"):
        remote(other)
    assert not remote(fake(tokenize=None)).capabilities.tokenizer_checked


def test_models_of_the_server() -> None:
    with pytest.raises(ServerError, match=r"the model 'other' on .*; found 1 models: model; name one of these"):
        remote(fake(), "other@http://server.test/v1")
    assert remote(fake(), "vllm:model@http://server.test/v1").capabilities.model == "model"


def test_a_name_that_only_the_server_says_is_not_loaded() -> None:
    with pytest.raises(ModelError, match=r"the tokenizer of a remote model; .*--tokenizer"):
        connect(MODEL, transport=fake().transport())


def test_a_wrong_key_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    with pytest.raises(ServerError, match=r"401 Incorrect API key provided: \*\*\*; check the key"):
        remote(fake(key="sk-right"), api_key_env="MY_KEY")
    with pytest.raises(ServerError, match="--api-key-env NAME"):
        remote(fake(key="sk-right"))
    monkeypatch.setenv("MY_KEY", "sk-right")
    assert remote(fake(key="sk-right"), api_key_env="MY_KEY").capabilities.given_text


def test_decoders_that_need_distributions_are_refused() -> None:
    found = remote(fake())
    for name in ("beam", "sample", "fast"):
        with pytest.raises(SettingError, match="decoder greedy or thorough"):
            decoder_on(mixture(found), Beam(), name)
    assert isinstance(decoder_on(mixture(found), Greedy(), "greedy"), Candidates)
    with pytest.raises(ModelError, match="whole next-token distributions"):
        mixture(found).start()


def test_a_question_has_its_probability_too() -> None:
    weighed = [
        condition(each, QUESTION, PASSAGES, LOG_PRIOR, question_likelihood=0.5).reweighted_log_prior
        for each in (remote(fake()), Local(model()))
    ]
    assert torch.allclose(*weighed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: {},
        lambda document: {"choices": []},
        lambda document: {"choices": document["choices"][:1] * 2},
        lambda document: {"choices": [{**each, "logprobs": None} for each in document["choices"]]},
        lambda document: [1],
        lambda document: None,
    ],
)
def test_answers_with_something_missing_are_refused(spoil: Any) -> None:
    server = fake()
    generator = remote(server)
    whole = server._completions
    server._completions = lambda document: spoil(whole(document))  # type: ignore[method-assign]
    with pytest.raises(ServerError):
        generator.write([each.prompt for each in mixture(Local(model())).components], 3)


def test_numbers_that_are_none_are_refused() -> None:
    server = fake()
    generator = remote(server)
    for wrong in ("x", True, 5.0, None, [1], math.nan, 10**400):
        whole = FakeServer._completions

        def spoiled(document: Any, wrong: Any = wrong) -> Any:
            found = whole(server, document)
            for choice in found["choices"]:
                for position in choice["prompt_logprobs"][1:]:
                    for entry in position.values():
                        entry["logprob"] = wrong
            return found

        server._completions = spoiled  # type: ignore[method-assign]
        with pytest.raises(ServerError):
            mixture(generator).score("x")


def test_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [2]

    def sometimes(handler: Any) -> bool:
        if busy[0] and handler.path == "/v1/completions":
            busy[0] -= 1
            handler.reply(429, b"{}", **{"retry-after": "0"})
            return True
        return False

    with listening(fake(), sometimes) as url:
        found = load_generator(url, tokenizer=tokenizer())
        assert isinstance(found, RemoteGenerator)
        assert mixture(found).score("x").log_prob == pytest.approx(mixture(Local(model())).score("x").log_prob)
    assert busy == [0]


def test_a_server_that_refuses_in_the_probe_for_reasons_of_its_own() -> None:
    server = fake()

    def failing(document: Any) -> Any:
        raise Refusal(402, {"error": "pay first"})

    server._completions = failing  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="402 pay first"):
        remote(server)


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_chats_return_text(kind: str) -> None:
    server = fake(kind)
    found = connect(f"{kind}:model@http://server.test/v1", transport=server.transport())
    assert isinstance(found, TextWriter)
    assert [each.text for each in found.texts(QUESTION, [[PASSAGES[0]], []], 8)] == ["nine crowns", "four crowns"]
    assert "nine crowns" in str(server.requests[-2][1]["messages"])
    with pytest.raises(MixragError):
        found.log_likelihood([], [])


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_thoughts_are_left_out_and_length_may_be_left_to_the_server(kind: str) -> None:
    server = fake(kind)
    server._said = lambda document: "<think>four, or nine?</think>\n\nnine crowns"  # type: ignore[method-assign]
    found = connect(f"{kind}:model@http://server.test/v1", transport=server.transport())
    assert isinstance(found, TextWriter)
    for limit in (8, "all"):
        assert [each.text for each in found.texts(QUESTION, [[PASSAGES[0]]], limit)] == ["nine crowns"]  # type: ignore[arg-type]
    limited, unlimited = (request[1] for request in server.requests[-2:])
    if kind == "ollama":
        assert (limited["options"]["num_predict"], unlimited["options"]["num_predict"]) == (8, -1)
    else:
        assert limited["max_tokens"] == 8
        assert "max_tokens" not in unlimited


def test_a_service_without_a_list_of_models() -> None:
    server = fake("openai")

    def none(_: Any) -> Any:
        raise Refusal(404, {"error": "no such path"})

    server._models = none  # type: ignore[method-assign]
    assert connect("openai:model@http://server.test/v1", transport=server.transport()).model == "model"
    with pytest.raises(ServerError, match="404 no such path"):
        connect(MODEL, tokenizer=tokenizer(), transport=server.transport())


def test_a_model_with_a_temperature_of_its_own() -> None:
    server = fake("openai")
    whole = server._chat

    def refusing(document: Any) -> Any:
        if "temperature" in document:
            raise Refusal(400, {"error": {"message": "Unsupported value: 'temperature' does not support 0"}})
        return whole(document)

    server._chat = refusing  # type: ignore[method-assign]
    found = connect("openai:model@http://server.test/v1", transport=server.transport())
    assert [each.text for each in found.texts(QUESTION, [[PASSAGES[0]]], 8)] == ["nine crowns"]


def test_large_prompts_go_out_one_by_one() -> None:
    server = fake(context=20_000)
    engine = remote(server).engine
    server.requests.clear()
    rows = [(7,) * 6000 + (place,) for place in range(2)]
    found = engine.write(rows, 1, 5)
    assert len(server.requests) == 2
    assert [each.tokens for each in found] == [(int(server.next_token(row).argmax()),) for row in rows]


def test_limits_are_seconds() -> None:
    assert Limits().connect < Limits().answer

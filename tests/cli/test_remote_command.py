"""mixrag ask and score with a model behind a server: the numbers of the same model in this process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cli.test_commands import QUESTION, Shell
from fake_server import FakeServer, listening
from mixrag.generator import load_generator
from tiny_encoder import save_encoder
from tiny_models import build


@pytest.fixture
def shell(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Shell:
    shell = Shell(tmp_path, save_encoder(tmp_path / "encoder"), tiny_folder("llama-chat"))
    shell("index", shell.files)
    shell.models["ask"] += ["--dtype", "float32"]
    shell.models["score"] += ["--dtype", "float32"]
    return shell


@pytest.fixture
def server(tiny_folder: Callable[[str], Path]) -> FakeServer:
    model, tokenizer = build("llama-chat")

    @cache
    def next_token(row: tuple[int, ...]) -> Tensor:
        with torch.no_grad():
            return model(torch.tensor([row])).logits[0, -1].double().log_softmax(0)

    stops = load_generator(tiny_folder("llama-chat"), device="cpu").stop_tokens
    tokenize = lambda text: tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    return FakeServer(next_token, stops, tokenize=tokenize, detokenize=tokenizer.decode, context=257)


@pytest.fixture
def there(shell: Shell, server: FakeServer, tiny_folder: Callable[[str], Path]) -> Iterator[list[str]]:
    with listening(server) as url:
        yield ["--generator", url, "--tokenizer", str(tiny_folder("llama-chat"))]


def test_score_is_that_of_the_model_in_this_process(shell: Shell, there: list[str]) -> None:
    here = shell.json("score", QUESTION, "nine crowns", "-k", "2")
    found = shell.json("score", QUESTION, "nine crowns", "-k", "2", *there)
    assert found["log_prob"] == pytest.approx(here["log_prob"], abs=1e-4)
    for one, other in zip(found["passages"], here["passages"], strict=True):
        assert one["posterior"] == pytest.approx(other["posterior"], abs=1e-4)


def test_the_contract_of_ask_is_that_of_other_models(shell: Shell, there: list[str]) -> None:
    found = shell.json("ask", QUESTION, "-k", "3", *there)
    assert found["certified"] in (True, False)
    assert found["rounding"] is None and found["log_interval"] is None
    assert sum(token["log_prob"] for token in found["tokens"]) == pytest.approx(found["log_prob"])
    assert sum(passage["posterior"] for passage in found["passages"]) == pytest.approx(1.0)
    assert "".join(token["text"] for token in found["tokens"]) == found["answer"]


def test_ask_says_what_the_server_can(shell: Shell, there: list[str]) -> None:
    shown = shell("ask", QUESTION, "-k", "2", "--why", *there)
    assert "the 20 most probable next tokens, the same tokenizer" in shell.errors
    assert "log " in shown


def test_without_log_probabilities_the_answer_says_so(shell: Shell, server: FakeServer) -> None:
    server.dialect = "ollama"
    with listening(server) as url:
        there = ["--generator", f"ollama:model@{url}"]
        shown = shell("ask", QUESTION, "-k", "2", *there)
        assert "no log-probabilities" in shown
        assert "probability =" not in shown and "posterior" not in shown
        found = shell.json("ask", QUESTION, "-k", "2", *there)
        assert found["log_prob"] is found["probability"] is found["confidence"] is None
        assert found["answer"] in ("nine crowns", "four crowns")
        assert [len(each["passages"]) for each in found["components"]] == [1, 1]
        assert sum(each["prior"] for each in found["components"]) == pytest.approx(1.0)
        assert "text alone" in shell.refused("score", QUESTION, "nine", "-k", "2", *there)


def test_lists_of_next_tokens_give_an_interval(shell: Shell, server: FakeServer, there: list[str]) -> None:
    server.echo = server.prompt_logprobs = False
    shown = shell("ask", QUESTION, "-k", "2", "--max-tokens", "4", *there)
    assert "probabilities are intervals" in shell.errors
    assert "p(answer | question)" in shown and " to " in shown
    found = shell.json("ask", QUESTION, "-k", "2", "--max-tokens", "4", *there)
    lower, upper = found["log_interval"]
    assert (lower is None or lower <= upper) and upper <= 0.0
    assert found["probability"] is None or lower == upper
    assert found["rounding"] is None
    assert found["greedy"] in (True, False) and found["certified"] in (True, False)
    for each in found["components"]:
        assert 0.0 <= each["posterior"][0] <= each["posterior"][1] <= 1.0
    assert "rag.write" in shell.refused("score", QUESTION, "nine", "-k", "2", *there)
    assert "for --why and --html" in shell.refused("ask", QUESTION, "--why", *there)
    refused = shell.refused("ask", QUESTION, *there, "--empty-answer", "--json")
    assert "no whole distributions" in refused


def test_a_slow_server_is_given_up_in_time(shell: Shell) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        line = shell.refused("ask", QUESTION, "--generator", url, "--server-timeout", "0.3")
    assert "within 0.3 s; found none" in line and "--server-timeout" in line


def test_a_server_that_is_down_is_one_line(shell: Shell) -> None:
    line = shell.refused("ask", QUESTION, "--generator", "http://127.0.0.1:9/v1")
    assert "a server at http://127.0.0.1:9/v1" in line


def test_the_key_is_in_the_environment_alone(
    shell: Shell, server: FakeServer, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "sk-right-key"
    assert "--api-key-env NAME" in shell.refused("ask", QUESTION, *there)
    monkeypatch.setenv("MY_KEY", "sk-wrong-key")
    line = shell.refused("ask", QUESTION, *there, "--api-key-env", "MY_KEY")
    assert "401" in line and "sk-wrong-key" not in line
    monkeypatch.setenv("MY_KEY", "sk-right-key")
    assert shell.json("ask", QUESTION, *there, "--api-key-env", "MY_KEY")["log_prob"] < 0


def test_what_needs_whole_distributions_is_refused(shell: Shell, there: list[str]) -> None:
    assert "decoder greedy or thorough" in shell.refused("ask", QUESTION, *there, "--decoder", "beam", "--json")
    assert "whole next-token distributions" in shell.refused("ask", QUESTION, *there, "--empty-answer", "--json")

"""Causal models whose states cannot be copied by rows: they read whole rows, and give the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from mixrag import RAG, Document
from mixrag.errors import ModelError
from mixrag.generator import load_generator
from mixrag.generator.protocol import Prompt
from mixrag.generator.uncached import UncachedGenerator
from tiny_models import build
from words_encoder import WordsEncoder

SHAPE: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
GPT: dict[str, Any] = {"vocab_size": 300, "n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 4}
MODELS: dict[str, Callable[[], Any]] = {
    "Mamba": lambda: transformers.MambaConfig(**SHAPE, state_size=8),
    "Mamba2": lambda: transformers.Mamba2Config(
        **SHAPE, state_size=8, num_heads=4, head_dim=16, n_groups=1, chunk_size=8
    ),
    "FalconMamba": lambda: transformers.FalconMambaConfig(**SHAPE, state_size=8),
    "RecurrentGemma": lambda: transformers.RecurrentGemmaConfig(
        **{**SHAPE, **HEADS, "num_hidden_layers": 3}, lru_width=32, attention_window_size=64
    ),
    "Rwkv": lambda: transformers.RwkvConfig(**SHAPE, attention_hidden_size=32, intermediate_size=64),
    "Lfm2": lambda: transformers.Lfm2Config(**SHAPE, **HEADS, full_attn_idxs=[1]),
    "OpenAIGPT": lambda: transformers.OpenAIGPTConfig(**GPT),
}
PROMPTS = [Prompt((2, 3), (7, 8, 9, 10), (11, 12)), Prompt((2, 3), (7, 8), (11, 12)), Prompt((2,), (9,), (4,))]
ANSWERS = [(5, 6), (7, 8, 9), (10,)]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    _, tokenizer = build("gpt2")
    config = MODELS[request.param]()
    config.eos_token_id = config.bos_token_id = config.pad_token_id = tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = transformers.AutoModelForCausalLM.from_config(config).eval()
        for weight in made.parameters():  # wide, so that what is read matters
            weight.data.mul_(4.0 if weight.ndim > 1 else 1.0)
    return made


def loaded(model: Any) -> Any:
    return load_generator(model, tokenizer=build("gpt2")[1])


@torch.inference_mode()
def alone(model: Any, tokens: tuple[int, ...], answer: tuple[int, ...]) -> Tensor:
    """log p of each token of an answer by the model itself, one row at a time."""
    logits = model(input_ids=torch.tensor([[*tokens, *answer[:-1]]])).logits[0, -len(answer) :]
    return logits.float().log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])[:, 0]


def test_the_numbers_are_those_of_each_row_alone(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mixrag"):
        generator = loaded(model)
    assert isinstance(generator, UncachedGenerator) and "read again for each token" in caplog.text
    found = generator.log_likelihoods(PROMPTS, ANSWERS)
    for row, prompt, answer in zip(found, PROMPTS, ANSWERS, strict=True):
        torch.testing.assert_close(row[: len(answer)], alone(model, prompt.tokens, answer), atol=1e-4, rtol=1e-4)
        assert not row[len(answer) :].any()
    trained = generator.token_log_probs(PROMPTS, ANSWERS)
    assert trained.requires_grad
    torch.testing.assert_close(trained.detach(), found, atol=1e-4, rtol=1e-4)
    longer = generator.start(PROMPTS).advance(torch.tensor([2, 0, 2]), torch.tensor([5, 6, 7]))
    scores = longer.select(torch.tensor([1, 2])).score((8, 9))
    for row, prompt, token in zip(scores, (PROMPTS[0], PROMPTS[2]), (6, 7), strict=True):
        torch.testing.assert_close(row, alone(model, (*prompt.tokens, token), (8, 9)), atol=1e-4, rtol=1e-4)


def test_a_question_is_answered(model: Any, tmp_path: Path) -> None:
    with RAG.open(tmp_path / "store", create=True, encoder=WordsEncoder(), generator=loaded(model)) as rag:
        rag.add([Document("The ferry leaves at nine."), Document("The licence costs ten crowns.")])
        answer = rag.ask("When does the ferry leave?", max_tokens=4, k=2)
        again = rag.score("When does the ferry leave?", answer.best_guess, k=2)
    assert len(answer.passages) == 2 and again.log_prob < 0


def test_a_model_in_which_tokens_see_what_comes_after_them_is_refused() -> None:
    config = transformers.XLNetConfig(vocab_size=300, d_model=32, n_layer=2, n_head=4, d_inner=64)
    with pytest.raises(ModelError, match="in which a token sees those after it"):
        loaded(transformers.XLNetLMHeadModel(config).eval())

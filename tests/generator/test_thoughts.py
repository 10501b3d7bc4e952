"""Models that think before they answer: prompts without a thought, and answers in which none is opened."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken

from mixrag import RAG, Document
from mixrag.config.prompt_template import PromptTemplate
from mixrag.generator import load_generator
from mixrag.generator.protocol import Prompt
from mixrag.generator.thoughts import FINAL, closed, thought_tokens, without_thoughts, without_tokens
from mixrag.generator.uncached import UncachedGenerator
from mixrag.training.packing import Branch, Tree
from mixrag.training.row_reader import reads_packed_rows
from tiny_models import CHATML, build, chat_tokenizer, llama
from words_encoder import WordsEncoder

ASKED = [Prompt((5, 6), (7, 8, 9), (10, 11)), Prompt((5, 6), (7,), (10, 11))]
HYBRID = CHATML + (
    "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}"
)
NAMED_OTHERWISE = CHATML + (
    "{% if add_generation_prompt %}{{ '<think>' if thinking | default(true) else '</think>' }}{% endif %}"
)
ALWAYS = CHATML + "{% if add_generation_prompt %}<think>\n{% endif %}"
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|> #}"
)


def thinking(chat: str = CHATML, eager: float = 0.0) -> tuple[Any, Any]:
    """A model with tokens for thoughts, which it opens the more readily the larger ``eager`` is."""
    tokenizer = chat_tokenizer()
    tokenizer.add_tokens([AddedToken(marker, special=False) for marker in ("<think>", "</think>")])
    tokenizer.chat_template = chat
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = llama(tokenizer).eval()
    if eager:
        wide = model.lm_head
        model.lm_head = torch.nn.Linear(wide.in_features, wide.out_features)
        model.lm_head.weight.data.copy_(wide.weight.data)
        model.lm_head.bias.data.zero_()
        model.lm_head.bias.data[tokenizer.convert_tokens_to_ids("<think>")] = eager
    return model, tokenizer


def generator(chat: str = CHATML, eager: float = 0.0, **options: Any) -> Any:
    model, tokenizer = thinking(chat, eager)
    return load_generator(model, tokenizer=tokenizer, **options)


def test_messages_lose_their_thoughts() -> None:
    for written in (
        "<think>Nine?\n<b></think>\n\nNine crowns.",
        "Nine?</think>Nine crowns.",
        "<think>a</think>Nine <think>b</think>crowns.<think>And",
        "[THINK]Nine?[/THINK]Nine crowns.",
        "◁think▷Nine?◁/think▷ Nine crowns.",
        "<|channel>thought\nNine?<channel|>Nine crowns.",
        "Here are my reasoning steps:\nNine?\n[BEGIN FINAL RESPONSE]\nNine crowns.",
        f"<|channel|>analysis<|message|>Nine?<|end|><|start|>assistant{FINAL}Nine crowns.<|return|>",
    ):
        assert without_thoughts(written) == "Nine crowns.", written
    for unfinished in ("<think>Nine, or", "<|channel|>analysis<|message|>Nine, or"):
        assert without_thoughts(unfinished) == ""
    for plain in ("Nine crowns.", " a < think > b ", "", "<thinker> x"):
        assert without_thoughts(plain) == plain
    assert without_thoughts("<think>" * 20_000) == "" and without_thoughts("<think></think>" * 5_000) == ""


def test_a_thought_that_the_prompt_opens_is_closed() -> None:
    assert closed("assistant\n<think>\n") == closed("assistant\n<think>") == "assistant\n<think>\n\n</think>\n\n"
    assert closed("assistant\n<think>\n\n</think>\n\n") == "assistant\n<think>\n\n</think>\n\n"
    assert (
        closed("assistant\n") == "assistant\n" and closed("<｜Assistant｜></think>") == "<｜Assistant｜></think>"
    )
    assert closed("<|channel>thought\n<channel|>") == "<|channel>thought\n<channel|>"
    assert closed("\nHere are my reasoning steps:\n").endswith("steps:\n\n[BEGIN FINAL RESPONSE]\n\n")
    assert closed("<|start|>assistant", CHANNELS) == f"<|start|>assistant{FINAL}"
    assert closed("<|start|>assistant", CHATML) == "<|start|>assistant"


@pytest.mark.parametrize(
    ("chat", "ending"),
    [
        (HYBRID, "assistant\n<think>\n\n</think>\n\n"),
        (ALWAYS, "assistant\n<think>\n\n</think>\n\n"),
        (NAMED_OTHERWISE, "assistant\n</think>"),
        (CHATML, "assistant\n"),
        (CHANNELS, f"<|start|>assistant{FINAL}"),
    ],
)
def test_prompts_end_where_the_answer_begins(chat: str, ending: str) -> None:
    found = generator(chat)
    assert found.prompt_text(found.prompt("Who?", (), 4)).endswith(ending)
    assert found.tokens.text(found.answer_tokens("Nine"), found.stop_tokens) == "Nine"
    plain = generator(chat, template=PromptTemplate(chat=False))
    assert "think" not in plain.prompt_text(plain.prompt("Who?", (), 4))


def test_an_argument_of_the_users_own_is_passed_on() -> None:
    found = generator(HYBRID, template_args={"enable_thinking": True})
    assert found.prompt_text(found.prompt("Who?", (), 4)).endswith("assistant\n")
    both = generator(HYBRID + "{{ thinking is defined }}", template_args={"enable_thinking": True})
    assert both.prompt_text(both.prompt("Who?", (), 4)).endswith("assistant\nFalse"), "one name, or the other"


@pytest.mark.parametrize("prefix_cache", [0, 8])
def test_the_model_is_that_given_that_no_thought_is_opened_or_closed(prefix_cache: int) -> None:
    found, (model, tokenizer) = generator(prefix_cache=prefix_cache), thinking()
    markers = [tokenizer.convert_tokens_to_ids(marker) for marker in ("<think>", "</think>")]
    assert list(found.never) == sorted(markers)
    answer = (20, 21, 22)
    uncached = UncachedGenerator(found.name, model, found.tokens, found.stop_tokens, found.stop_token)
    with torch.inference_mode():
        for row, prompt in enumerate(ASKED):
            logits = model(input_ids=torch.tensor([[*prompt.tokens, *answer]])).logits[0, len(prompt.tokens) - 1 :]
            laws = logits.double().softmax(-1)
            laws[:, markers] = 0.0
            laws = laws / laws.sum(-1, keepdim=True)
            expected = laws[range(3), answer].log().float()
            for each in (found, uncached):
                first = each.start(ASKED)
                later = first.advance(torch.tensor([row]), torch.tensor([20]))
                for branches, law in ((first.log_probs[row], laws[0]), (later.log_probs[0], laws[1])):
                    torch.testing.assert_close(branches.exp().double(), law, atol=1e-5, rtol=1e-4)
                close = {"atol": 1e-4, "rtol": 1e-4}
                torch.testing.assert_close(
                    later.select(torch.tensor([0])).score((21, 22))[0], expected[1:], **close
                )
                torch.testing.assert_close(each.log_likelihood(ASKED, answer)[row], expected, **close)
                trained = each.token_log_probs(ASKED, [answer, answer])
                torch.testing.assert_close(trained[row], expected, **close)


def test_the_gradient_goes_through_what_is_left() -> None:
    found = generator()
    found.token_log_probs(ASKED, [(20, 21), (22,)]).sum().backward()
    weights = found.model.lm_head.weight.grad
    assert weights.isfinite().all() and not weights[list(found.never)].any() and weights[20].any()


def test_packed_rows_of_training_are_of_the_same_model() -> None:
    row = (Tree((5, 6, 7), (Branch((8, 9), (20, 21), 1.0), Branch((10,), (22,), 1.0))),)
    assert reads_packed_rows(generator(eager=6.0), row, 32)


def test_models_without_such_tokens_are_left_as_they_are() -> None:
    for kind in ("llama", "llama-chat", "gpt2", "t5"):
        assert thought_tokens(build(kind)[1]) == ()
    logits = torch.zeros(2, 3)
    assert without_tokens(logits, ()) is logits
    assert without_tokens(logits, (1,)).softmax(-1).tolist() == [[0.5, 0.0, 0.5]] * 2


def test_a_model_that_would_think_answers(tmp_path: Path) -> None:
    model, tokenizer = thinking(HYBRID, eager=50.0)
    models = {"encoder": WordsEncoder(), "generator": load_generator(model, tokenizer=tokenizer)}
    with RAG.open(tmp_path / "store", create=True, models=models) as rag:
        rag.add([Document("ferry.txt", "The ferry costs nine crowns.")])
        for decoder in ("greedy", "sample", "beam"):
            answer = rag.ask("What does the ferry cost?", decoder=decoder, max_tokens=6)
            assert not set(answer.scored.tokens) & set(rag.generator.never) and "think" not in answer.best_guess
            assert answer.log_prob > -60.0, "no token is as improbable as the thought was probable"
        given = rag.score("What does the ferry cost?", "<think>Nine?</think>\n\nNine crowns")
        plain = rag.score("What does the ferry cost?", "Nine crowns")
        assert given.best_guess == "Nine crowns" and given.log_prob == plain.log_prob > -math.inf

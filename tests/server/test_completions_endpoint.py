"""``/v1/completions``: answers, and scores of given answers with ``echo``."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from served import QUESTION

from mixrag import RAG
from mixrag.server.errors import RequestError
from mixrag.server.openai.completions import split_prompt

ECHO: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": 0}


@pytest.mark.parametrize("answer", ["nine crowns", "four crowns"])
def test_echo_scores_the_answer_that_the_prompt_ends_with(official: openai.OpenAI, rag: RAG, answer: str) -> None:
    prompt = f"{QUESTION}\n{answer}"
    choice = official.completions.create(model="demo", prompt=prompt, **ECHO).choices[0]
    expected = rag.score(QUESTION, answer)
    assert choice.text == prompt and choice.logprobs is not None
    tokens, log_probs, offsets = (
        choice.logprobs.tokens or [],
        choice.logprobs.token_logprobs or [],
        choice.logprobs.text_offset or [],
    )
    assert "".join(tokens) == prompt
    assert log_probs[0] is None and sum(log_probs[1:]) == pytest.approx(expected.log_prob)
    ends = [*offsets[1:], len(prompt)]
    assert [prompt[start:end] for start, end in zip(offsets, ends, strict=True)] == tokens
    assert offsets[1] == len(QUESTION) + 1
    assert choice.model_extra["mixrag"]["probability"] == expected.probability  # type: ignore[index]


def test_probabilities_of_all_answers_add_up(official: openai.OpenAI) -> None:
    prompts = [f"{QUESTION}\n{answer}" for answer in ("nine crowns", "four crowns", "nine", "four", "crowns", "")]
    found = official.completions.create(model="demo", prompt=prompts, **ECHO)
    assert [each.index for each in found.choices] == [*range(len(prompts))]
    total = sum(each.model_extra["mixrag"]["probability"] for each in found.choices)  # type: ignore[index]
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("prompt", "question", "answer", "before"),
    [
        ("Who?\nthe county", "Who?", "the county", "Who?\n"),
        ("Question: Who?\nAnswer: the county\n", "Who?", "the county", "Question: Who?\nAnswer: "),
        ("Two lines.\nWho?\n  the county", "Two lines.\nWho?", "the county", "Two lines.\nWho?\n  "),
        ("Who?\nAnswer:one\ntwo", "Who?", "one\ntwo", "Who?\nAnswer:"),
        ("Who?\nAnswer:", "Who?", "", "Who?\nAnswer:"),
    ],
)
def test_a_prompt_is_a_question_and_an_answer(prompt: str, question: str, answer: str, before: str) -> None:
    found = split_prompt(prompt)
    assert (found.question, found.answer, found.before) == (question, answer, before)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Who?",
        "\nnobody",
        "Answer: x",
        "Question: a?\nAnswer: b\n\nQuestion: c?\nAnswer: d",
        f"Who?\n{'a' * 10_001}",
    ],
)
def test_a_prompt_that_is_not_both_is_refused(prompt: str) -> None:
    with pytest.raises(RequestError):
        split_prompt(prompt)


def test_without_echo_the_prompt_is_a_question(official: openai.OpenAI, rag: RAG) -> None:
    choice = official.completions.create(model="demo", prompt=QUESTION, logprobs=0).choices[0]
    assert (choice.text, choice.finish_reason) == ("nine crowns", "stop")
    assert choice.logprobs is not None
    assert sum(choice.logprobs.token_logprobs or []) == pytest.approx(rag.ask(QUESTION).log_prob)
    chunks = list(official.completions.create(model="demo", prompt=QUESTION, stream=True))
    assert "".join(each.choices[0].text for each in chunks) == "nine crowns"
    assert chunks[-1].choices[0].finish_reason == "stop"
    cut = official.completions.create(model="demo", prompt=QUESTION, max_tokens=1).choices[0]
    assert (cut.text, cut.finish_reason, cut.logprobs) == ("nine", "length", None)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"echo": True, "max_tokens": 1}, "max_tokens"),  # as lm-eval sends it: it counts tokens of the prompt
        ({"max_tokens": 0}, "max_tokens"),
        ({"echo": True, "stream": True}, "stream"),
        ({"echo": True, "prompt": QUESTION}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [QUESTION, QUESTION], "stream": True}, "prompt"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_is_not_exact_is_refused(client: TestClient, changes: dict[str, Any], param: str) -> None:
    found = client.post("/v1/completions", json={"prompt": f"{QUESTION}\nnine", **changes})
    assert (found.status_code, found.json()["error"]["param"]) == (400, param), found.text

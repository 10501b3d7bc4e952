"""What a model that thinks before it answers writes between two markers: never part of an answer.

A thought is a hidden variable with as many values as there are texts, so that p(answer | question, passage) is no
longer a number that can be computed. Here no thought is written: one that a chat template opens is closed in the
prompt, and the tokens that open or close one are impossible in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MARKERS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>", "<channel|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    ("Here is my thought process:", "Here is my response:"),
)
"""What opens and closes a thought: Qwen, DeepSeek, SmolLM3, GLM and MiniMax; others; Seed; Magistral; Kimi;
Command A; others; Gemma 4; Apriel; Granite."""
CHANNEL = "<|channel|>"
FINAL = f"{CHANNEL}final<|message|>"
"""What precedes an answer where thoughts have a channel of their own (gpt-oss)."""
_TURN = "<|start|>assistant"
_MESSAGE_END = re.compile(r"<\|(?:end|return|start)\|>.*", re.DOTALL)


def closed(beginning: str, template: str = "") -> str:
    r"""What a chat template writes at the beginning of the model's message, without a thought that stays open.

    ``template`` is its source.

    >>> closed("<|im_start|>assistant\n<think>\n")
    '<|im_start|>assistant\n<think>\n\n</think>\n\n'
    """
    if beginning.endswith(_TURN) and CHANNEL in template:
        return beginning + FINAL
    for opening, closing in MARKERS:
        if beginning.rfind(opening) > beginning.rfind(closing):
            return f"{beginning.rstrip()}\n\n{closing}\n\n"
    return beginning


def without_thoughts(text: str) -> str:
    r"""A message without its thoughts, also one that was opened before it, or that is not closed.

    >>> without_thoughts("<think>Nine, or ten?</think>\n\nNine crowns."), without_thoughts("<think>Nine, or")
    ('Nine crowns.', '')
    """
    rest = text
    if FINAL in rest:
        rest = _MESSAGE_END.sub("", rest.rpartition(FINAL)[2])
    elif rest.startswith(CHANNEL):
        rest = ""
    for opening, closing in MARKERS:
        while (start := rest.find(opening)) >= 0 and (end := rest.find(closing, start)) >= 0:
            rest = rest[:start] + rest[end + len(closing) :]
        rest = rest.rpartition(closing)[2].partition(opening)[0]
    return text if rest == text else rest.strip()


def marks_thoughts(template: str) -> bool:
    """Whether a chat template knows thoughts."""
    return CHANNEL in template or any(marker in template for pair in MARKERS for marker in pair)


def thought_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The tokens of a vocabulary that open or close a thought."""
    markers = [marker for pair in MARKERS for marker in pair]
    ids = [tokenizer.convert_tokens_to_ids(marker) for marker in markers]
    unknown = getattr(tokenizer, "unk_token_id", None)
    return tuple(sorted({each for each in ids if each is not None and each != unknown}))


def without_tokens(logits: Tensor, never: Sequence[int]) -> Tensor:
    """Logits (..., V) of the model given that it writes none of the tokens ``never``."""
    if not never:
        return logits
    return logits.index_fill(-1, torch.tensor(never, device=logits.device), -torch.inf)

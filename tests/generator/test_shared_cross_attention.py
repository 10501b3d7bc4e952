"""One copy of a prompt for all answers, against plain forward passes of single rows."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_likelihood import TOLERANCE, in_float64, plain_log_probs, ragged
from torch import Tensor
from transformers import (
    AttentionInterface,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
)

import tiny_models
from mixrag.generator import Generator, Prompt, PromptTemplate, Seq2SeqGenerator
from mixrag.generator.kernels import shared_cross_attention as sharing
from mixrag.generator.kernels.shared_cross_attention import (
    distinct_prompts,
    shared_cross_attention,
    uses_shared_cross_attention,
)
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.self_check import with_shared_cross_attention
from tiny_models import SEQ2SEQ

MOVES = {
    "beams": [
        ([0, 1, 2, 3, 4] * 3, 5),
        ([5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 20),
        ([*range(15)], 40),
    ],
    "fewer beams": [([0, 1, 2, 3, 4] * 4, 5), ([*range(10, 15), *range(0, 5)], 40), ([*range(5, 10)], 60)],
    "a prompt dropped": [([0, 2, 4] * 2, 5), ([3, 4, 5, 0, 1, 2], 20), ([0, 2, 3, 5], 30), ([2, 3, 0, 1] * 2, 50)],
    "prompts changed places": [([4, 1, 0, 2, 3] * 2, 5), ([5, 6, 7, 8, 9] * 2, 20)],
    "unequal numbers": [
        ([0, 1, 2, 3, 4] * 2, 5),
        ([0, 1, 5, 9, 9, 4], 30),
        ([5, 4, 3, 2, 1, 0], 40),
        ([0, 0], 50),
    ],
    "two answers of one prompt": [([0, 0, 1, 1], 5), ([1, 0, 3, 2], 20), ([0, 2, 1, 3], 30)],
}


def moved(generator: Any, moves: list[tuple[list[int], int]]) -> tuple[Any, list[tuple[Prompt, tuple[int, ...]]]]:
    """Branches after these moves (rows, first of as many tokens), and what each row has read."""
    branches = generator.start(ragged(generator))
    texts: list[tuple[Prompt, tuple[int, ...]]] = [(prompt, ()) for prompt in ragged(generator)]
    for rows, first in moves:
        tokens = [*range(first, first + len(rows))]
        branches = branches.advance(torch.tensor(rows), torch.tensor(tokens))
        texts = [(texts[r][0], (*texts[r][1], t)) for r, t in zip(rows, tokens, strict=True)]
    return branches, texts


def plain(generator: Any, texts: list[tuple[Prompt, tuple[int, ...]]]) -> Tensor:
    """(R, V), one forward pass each."""
    return torch.stack([plain_log_probs(generator, prompt, said)[-1] for prompt, said in texts])


@pytest.fixture(params=SEQ2SEQ)
def generator(request: pytest.FixtureRequest, tiny_generator: Callable[[str], Generator]) -> Any:
    found: Any = in_float64(tiny_generator(request.param))
    assert uses_shared_cross_attention(found.model)
    return found


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_answers_of_shared_prompts_equal_plain_passes(generator: Any, moves: list[tuple[list[int], int]]) -> None:
    branches, texts = moved(generator, moves)
    torch.testing.assert_close(branches.log_probs, plain(generator, texts), **TOLERANCE)


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_parts_and_passages_read_ahead_of_shared_prompts(
    generator: Any, moves: list[tuple[list[int], int]]
) -> None:
    branches, texts = moved(generator, moves)
    more = (60, 61, 62)
    for rows in ([*range(len(texts))], [0, len(texts) - 1]):
        expected = torch.stack([plain_log_probs(generator, texts[r][0], (*texts[r][1], *more)) for r in rows])
        found = branches.select(torch.tensor(rows)).score(more)
        torch.testing.assert_close(found, expected[:, [-4, -3, -2], list(more)], **TOLERANCE)
    torch.testing.assert_close(branches.score(more)[0], found[0], **TOLERANCE)


def test_a_prompt_is_kept_once_and_not_copied(generator: Any) -> None:
    branches, _ = moved(generator, MOVES["beams"][:1])
    before = branches.cache.cross_attention_cache.layers[0].keys
    assert len(before) == len(branches.encoded.states) == 5
    branches = branches.advance(torch.tensor([5, 6, 7, 8, 9] * 4), torch.arange(20))
    after = branches.cache.cross_attention_cache.layers[0].keys
    assert after.data_ptr() == before.data_ptr() and len(branches.log_probs) == 20
    only = branches.select(torch.tensor([1, 3, 6, 8]))
    assert len(only.cache.cross_attention_cache.layers[0].keys) == 2
    assert len(branches.cache.cross_attention_cache.layers[0].keys) == 5


def test_a_part_of_all_rows_and_the_whole_grow_apart(generator: Any) -> None:
    branches, texts = moved(generator, MOVES["beams"][:1])
    everyone = torch.arange(len(texts))
    selected = branches.select(everyone)
    for step in range(3):
        selected = selected.advance(everyone, torch.full((len(texts),), 70 + step))
        branches = branches.advance(everyone, torch.full((len(texts),), 80 + step))
    for found, first in ((selected, 70), (branches, 80)):
        said = [(prompt, (*before, first, first + 1, first + 2)) for prompt, before in texts]
        torch.testing.assert_close(found.log_probs, plain(generator, said), **TOLERANCE)


def test_an_encoder_that_reads_few_at_a_time(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generator.start(ragged(generator)).log_probs
    passes: list[int] = []
    handle = generator.model.get_encoder().register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr("mixrag.generator.seq2seq.ENCODED_AT_ONCE", 1)
    found = generator.start(ragged(generator)).log_probs
    handle.remove()
    assert len(passes) == len(ragged(generator))
    torch.testing.assert_close(found, expected, **TOLERANCE)


SHAPE = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": tiny_models.CONTEXT,
    "init_std": 0.35,
}
OTHERS = {
    "mbart": (MBartConfig, MBartForConditionalGeneration),
    "pegasus": (PegasusConfig, PegasusForConditionalGeneration),
    "marian": (MarianConfig, MarianMTModel),
}


def other(kind: str, **options: Any) -> Any:
    """A tiny generator of a kind that shares BART's attention, or not."""
    _, tokenizer = tiny_models.build("bart")
    config_class, model_class = OTHERS[kind]
    torch.manual_seed(5)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = config_class(vocab_size=len(tokenizer), **SHAPE, **ids, **options)
    tokens = PromptTokenizer(tokenizer, PromptTemplate(), tiny_models.CONTEXT, keep_suffix=True)
    return Seq2SeqGenerator(kind, model_class(config).eval().double(), tokens, frozenset({2}), 2, (2,))


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_share_prompts(kind: str) -> None:
    generator = with_shared_cross_attention(other(kind))
    assert uses_shared_cross_attention(generator.model)
    for moves in MOVES.values():
        branches, texts = moved(generator, moves)
        torch.testing.assert_close(branches.log_probs, plain(generator, texts), **TOLERANCE)


def test_a_model_with_its_own_attention_keeps_every_row() -> None:
    generator = with_shared_cross_attention(other("mbart", attn_implementation="eager"))
    assert not uses_shared_cross_attention(generator.model)
    for moves in MOVES.values():
        branches, texts = moved(generator, moves)
        assert len(branches.encoded.states) == len(texts)
        torch.testing.assert_close(branches.log_probs, plain(generator, texts), **TOLERANCE)


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_a_model_whose_laws_would_change_keeps_every_row(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(module: Any, query: Tensor, key: Tensor, *rest: Any, **options: Any) -> Any:
        if len(query) == len(key):
            return shared_cross_attention(module, query, key, *rest, **options)
        if fault == "raises":
            raise RuntimeError("not so many rows")
        return shared_cross_attention(module, query.flip(0), key, *rest, **options)

    monkeypatch.setattr(sharing, "shared_cross_attention", faulty)
    try:
        generator = with_shared_cross_attention(other("mbart"))
    finally:
        AttentionInterface.register(sharing.NAME, shared_cross_attention)
    assert not uses_shared_cross_attention(generator.model)
    branches, texts = moved(generator, MOVES["beams"])
    torch.testing.assert_close(branches.log_probs, plain(generator, texts), **TOLERANCE)


@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("added", ["none", "mask", "mask for each token", "bias", "bias and mask"])
def test_shared_attention_is_that_of_repeated_keys(new: int, added: str) -> None:
    answers, prompts, heads, length, size = 3, 2, 4, 7, 8
    source = torch.Generator().manual_seed(0)
    query = torch.randn(answers * prompts, heads, new, size, generator=source)
    key, value = torch.randn(2, prompts, heads, length, size, generator=source)
    mask = torch.rand(prompts, 1, new if "each" in added else 1, length, generator=source) < 0.7
    mask[..., 0] = True
    bias = torch.randn(1, heads, new, length, generator=source) if "bias" in added else None
    module = torch.nn.Module()
    found, weights = shared_cross_attention(
        module, query, key, value, mask if "mask" in added else None, position_bias=bias, scaling=0.3
    )
    scores = 0.3 * query @ key.repeat(answers, 1, 1, 1).transpose(-1, -2)
    scores = scores if bias is None else scores + bias
    if "mask" in added:
        scores = scores.masked_fill(~mask.repeat(answers, 1, 1, 1), -torch.inf)
    expected = (scores.softmax(-1) @ value.repeat(answers, 1, 1, 1)).transpose(1, 2)
    assert weights is None
    torch.testing.assert_close(found, expected)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_a_layout_makes_up_the_rows(prompts: list[int]) -> None:
    distinct = distinct_prompts(torch.tensor(prompts)).tolist()
    assert distinct * (len(prompts) // len(distinct)) == prompts


@given(st.integers(1, 4), st.permutations(range(4)))
def test_the_layout_of_several_answers_of_distinct_prompts_is_these_prompts(
    answers: int, order: list[int]
) -> None:
    assert distinct_prompts(torch.tensor(order * answers)).tolist() == order


def test_a_copied_generator_shares_prompts_of_its_own(generator: Any) -> None:
    again = deepcopy(generator)
    branches, texts = moved(again, MOVES["beams"])
    torch.testing.assert_close(branches.log_probs, plain(generator, texts), **TOLERANCE)

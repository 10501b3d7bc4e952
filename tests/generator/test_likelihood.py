"""What a generator says about an answer, against the plain forward pass of its model, one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tiny_models
from mixrag.corpus.passage import Passage
from mixrag.generator import CausalGenerator, Generator, Prompt, PromptTemplate, Seq2SeqGenerator, batching
from mixrag.generator.assembly import decoder_start
from mixrag.generator.batching import batches_by_length
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from tiny_models import CAUSAL, KINDS

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
TEXTS = ("The river city is old, and its name is long.", "Short.", "", "Nobody wrote the letter twice. " * 3)


def passage(text: str, name: str = "p") -> Passage:
    return Passage(name, text, "/notes.txt", "Notes", 0, len(text))


def ragged(generator: Generator) -> list[Prompt]:
    """Prompts of very different lengths, the null component's among them."""
    prompts = [generator.prompt("Who wrote it?", [passage(text)], 20) for text in TEXTS]
    prompts.append(generator.prompt("Who wrote it?", [], 20))
    assert len({len(prompt.tokens) for prompt in prompts}) == len(prompts)
    return prompts


def plain_log_probs(generator: Any, prompt: Prompt, answer: tuple[int, ...]) -> Tensor:
    """(T+1, V): one forward pass of one row, without padding, mask, cache or positions."""
    ids = torch.tensor([prompt.tokens])
    with torch.no_grad():
        if isinstance(generator, Seq2SeqGenerator):
            read = torch.tensor([[*generator.decoder_start, *answer]])
            logits = generator.model(input_ids=ids, decoder_input_ids=read).logits
        else:
            logits = generator.model(input_ids=torch.cat([ids, torch.tensor([answer]).long()], 1)).logits
    return logits[0, -len(answer) - 1 :].float().log_softmax(-1)


def plain_log_likelihood(generator: Any, prompt: Prompt, answer: tuple[int, ...]) -> Tensor:  # (T,)
    return plain_log_probs(generator, prompt, answer[:-1])[range(len(answer)), list(answer)]


def in_float64(generator: Any) -> Any:
    """The same model with weights in float64, so that a difference is a fault and no rounding."""
    return replace(generator, model=deepcopy(generator.model).double())


@pytest.fixture(params=[*KINDS, *(f"{kind}, uncached" for kind in CAUSAL)])
def generator(request: pytest.FixtureRequest, tiny_generator: Callable[[str], Generator]) -> Generator:
    kind, _, uncached = request.param.partition(", ")
    found = in_float64(tiny_generator(kind))
    return replace(found, prefix_cache_bytes=None) if uncached else found


@pytest.mark.parametrize("text", ["Paris", "the author, of course", "é"])
def test_a_padded_batch_equals_plain_forward_passes(generator: Generator, text: str) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens(text)
    batch = generator.log_likelihood(prompts, answer)
    expected = torch.stack([plain_log_likelihood(generator, prompt, answer) for prompt in prompts])
    torch.testing.assert_close(batch, expected, **TOLERANCE)
    assert expected.sum(-1).std() > 0.1, "the passages of this test must matter"


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_output_layer_reads_one_block_of_memory(kind: str, tiny_generator: Callable[[str], Generator]) -> None:
    """From a view with gaps torch makes a product for every row, each with a copy of the layer."""
    generator: Any = replace(tiny_generator(kind), prefix_cache_bytes=None)  # type: ignore[type-var]
    read: list[Tensor] = []
    hook = generator.model.get_output_embeddings().register_forward_pre_hook(
        lambda _, given: read.append(given[0])
    )
    answer = generator.answer_tokens("the author")
    generator.log_likelihood(ragged(generator), answer)
    branches = generator.start(ragged(generator))
    branches.advance(torch.arange(len(branches.log_probs)), branches.log_probs.argmax(-1))
    hook.remove()
    assert [hidden.shape[1] for hidden in read] == [len(answer), 1, 1]
    assert all(hidden.is_contiguous() for hidden in read)


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_in_float32(kind: str, tiny_generator: Callable[[str], Generator]) -> None:
    generator = tiny_generator(kind)
    prompts, answer = ragged(generator), generator.answer_tokens("the author, of course")
    expected = torch.stack([plain_log_likelihood(generator, prompt, answer) for prompt in prompts])
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, rtol=1e-5, atol=1e-5)


def test_a_padded_batch_equals_each_prompt_alone(generator: Generator) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens("the river")
    alone = torch.cat([generator.log_likelihood([prompt], answer) for prompt in prompts])
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), alone, **TOLERANCE)


def test_an_answer_of_the_stop_token_alone(generator: Generator) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens("")[-1:]
    assert answer[0] in generator.stop_tokens
    expected = torch.stack([plain_log_likelihood(generator, prompt, answer) for prompt in prompts])
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)


def test_results_are_float32_on_the_cpu(generator: Generator) -> None:
    table = generator.log_likelihood(ragged(generator), generator.answer_tokens("Paris"))
    assert table.dtype == torch.float32 and table.device.type == "cpu"
    assert table.shape == (len(TEXTS) + 1, len(generator.answer_tokens("Paris")))


@pytest.mark.parametrize("tokens_at_once", [1, 100, 200])
def test_small_batches_change_nothing(
    generator: Any, tokens_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens("the river")
    expected = generator.log_likelihood(prompts, answer)
    monkeypatch.setattr(batching, "SCORED_TOKENS_AT_ONCE", tokens_at_once)
    passes: list[int] = []
    handle = generator.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        found = generator.log_likelihood(prompts, answer)
    finally:
        handle.remove()
    assert 1 < len(passes) <= len(prompts)
    torch.testing.assert_close(found, expected, **TOLERANCE)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200), st.integers(1, 9))
def test_batches_hold_every_row_once_and_no_more_than_allowed(lengths: list[int], tokens: int, rows: int) -> None:
    batches = batches_by_length(lengths, tokens, rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= tokens


def test_long_answers_take_fewer_rows_at_once(generator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens("the river")
    expected = generator.log_likelihood(prompts, answer)
    monkeypatch.setattr(batching, "DISTRIBUTIONS_AT_ONCE", 2 * len(answer))
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)


def test_steps_equal_teacher_forcing(generator: Generator) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens("the author")
    branches = generator.start(prompts)
    columns = [branches.log_probs[:, answer[0]]]
    for before, token in pairwise(answer):
        branches = branches.advance(torch.arange(len(prompts)), torch.full((len(prompts),), before))
        columns.append(branches.log_probs[:, token])
    torch.testing.assert_close(torch.stack(columns, -1), generator.log_likelihood(prompts, answer), **TOLERANCE)


def test_log_probs_are_normalised_and_as_wide_as_the_vocabulary(generator: Generator) -> None:
    prompts = ragged(generator)
    start = generator.start(prompts).log_probs
    later = generator.start(prompts).advance(torch.tensor([0, 3]), torch.tensor([5, 6])).log_probs
    for log_probs, rows in ((start, len(prompts)), (later, 2)):
        assert log_probs.shape == (rows, generator.vocabulary_size)
        torch.testing.assert_close(log_probs.logsumexp(-1), torch.zeros(rows), **TOLERANCE)


@pytest.mark.parametrize(
    "moves",
    [
        [([4, 2, 0, 3, 1], [7, 8, 9, 10, 11]), ([1, 0, 3, 4, 2], [12, 13, 14, 15, 16])],
        [([2, 0, 0, 1, 2, 4, 3], [7, 8, 9, 10, 11, 12, 13]), ([6, 1, 1], [20, 21, 22]), ([2, 0, 1, 2], [5] * 4)],
        [([3], [30]), ([0, 0, 0], [31, 32, 33]), ([2, 1], [34, 35])],
    ],
    ids=["permuted", "grown and shrunk", "one to three"],
)
def test_moved_rows_equal_recomputation(generator: Any, moves: list[tuple[list[int], list[int]]]) -> None:
    prompts = ragged(generator)
    branches, texts = generator.start(prompts), [(prompt, ()) for prompt in prompts]
    for rows, tokens in moves:
        branches = branches.advance(torch.tensor(rows), torch.tensor(tokens))
        texts = [(texts[r][0], (*texts[r][1], t)) for r, t in zip(rows, tokens, strict=True)]
        expected = torch.stack([plain_log_probs(generator, prompt, said)[-1] for prompt, said in texts])
        torch.testing.assert_close(branches.log_probs, expected, **TOLERANCE)


def test_parts_read_ahead_and_leave_the_whole_as_it_was(generator: Any) -> None:
    prompts, answer = ragged(generator), generator.answer_tokens("the author, of course")
    expected = generator.log_likelihood(prompts, answer)
    branches = generator.start(prompts)
    everyone = torch.arange(len(prompts))
    branches = branches.advance(everyone, torch.full((len(prompts),), answer[0]))
    chosen = [3, 0, 3]
    for _ in range(2):
        found = branches.select(torch.tensor(chosen)).score(answer[1:])
        torch.testing.assert_close(found, expected[chosen, 1:], **TOLERANCE)
    selected = branches.select(torch.tensor([4]))
    torch.testing.assert_close(selected.score(answer[1:2]), expected[[4], 1:2], **TOLERANCE)
    later = branches.advance(everyone, torch.full((len(prompts),), answer[1]))
    torch.testing.assert_close(later.log_probs[:, answer[2]], expected[:, 2], **TOLERANCE)
    torch.testing.assert_close(later.score(answer[2:]), expected[:, 2:], **TOLERANCE)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_causal_answer_is_the_chain_rule_over_the_running_text(
    kind: str, tiny_generator: Callable[[str], Generator]
) -> None:
    """log p(y | x) + log p(stop | x, y) = log p(y and stop | x): nothing is counted twice or left out."""
    generator = in_float64(tiny_generator(kind))
    prompt, answer = ragged(generator)[0], generator.answer_tokens("the river")
    longer = Prompt(prompt.header, prompt.passages, prompt.question + answer[:-1])
    whole = generator.log_likelihood([prompt], answer)
    torch.testing.assert_close(whole[:, -1:], generator.log_likelihood([longer], answer[-1:]), **TOLERANCE)
    torch.testing.assert_close(whole[:, :-1], generator.log_likelihood([prompt], answer[:-1]), **TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bart", {"encoder_layers": 1, "decoder_layers": 3}),
        ("bart", {"encoder_layers": 3, "decoder_layers": 1}),
        ("t5", {"num_layers": 1, "num_decoder_layers": 3}),
        ("t5", {"num_layers": 3, "num_decoder_layers": 1}),
        ("t5", {"feed_forward_proj": "gated-gelu"}),
    ],
    ids=str,
)
def test_encoder_and_decoder_of_unequal_depth(kind: str, changes: dict[str, Any]) -> None:
    _, tokenizer = tiny_models.build(kind)
    torch.manual_seed(3)
    model = {"bart": tiny_models.bart, "t5": tiny_models.t5}[kind](tokenizer, **changes).eval().double()
    tokens = PromptTokenizer(tokenizer, PromptTemplate(), tiny_models.CONTEXT, keep_suffix=True)
    eos = tokenizer.eos_token_id
    generator = Seq2SeqGenerator("deep", model, tokens, frozenset({eos}), eos, decoder_start(model))
    test_steps_equal_teacher_forcing(generator)
    test_a_padded_batch_equals_plain_forward_passes(generator, "Paris")


def test_padding_is_not_read_even_where_it_spells_a_real_token(tiny_generator: Callable[[str], Generator]) -> None:
    """Padded ids are zero, which is an ordinary word to some tokenizers."""
    generator = in_float64(tiny_generator("gpt2"))
    assert isinstance(generator, CausalGenerator)
    long, short = Prompt((), (), tuple(range(40, 140))), Prompt((), (), (41, 42, 43))
    together = generator.log_likelihood([long, short], [50, 51])[1]
    torch.testing.assert_close(together, plain_log_likelihood(generator, short, (50, 51)), **TOLERANCE)

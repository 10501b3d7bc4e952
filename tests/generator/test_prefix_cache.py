"""Cached states of passages: the same results as without a cache, for every kind of attention."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    DeepseekV3Config,
    Gemma2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
)

from mixrag.corpus.passage import Passage
from mixrag.errors import SettingError
from mixrag.generator import CausalGenerator, Generator, Prompt, PromptTemplate, batching, causal, load_generator
from mixrag.generator.kernels.grouped_attention import NAME, grouped_attention, use_grouped_attention
from mixrag.generator.kv_cache import SPARE, rows_of, uncacheable
from mixrag.generator.prefix_cache import PrefixCache
from mixrag.generator.prompt_tokenizer import PromptTokenizer
from mixrag.generator.self_check import with_prefix_cache
from tiny_models import CONTEXT, chat_tokenizer

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
WINDOW = 40
"""Tokens that a layer with a sliding window sees: fewer than the longest prompt has."""
TEXTS = ("The river city is old, and its name is long.", "Short.", "Nobody wrote the letter twice. " * 3)
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.35,
}
_WINDOW: dict[str, Any] = {**_SIZES, "head_dim": 8, "sliding_window": WINDOW}
CONFIGS: dict[str, Callable[[int], PretrainedConfig]] = {
    "grouped": lambda size: LlamaConfig(vocab_size=size, **_SIZES),
    "biased": lambda size: Qwen2Config(vocab_size=size, **_SIZES),
    "sliding": lambda size: MistralConfig(vocab_size=size, **_WINDOW),
    "sliding and capped": lambda size: Gemma2Config(vocab_size=size, attn_logit_softcapping=2.0, **_WINDOW),
    "by distance": lambda size: BloomConfig(
        vocab_size=size, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.35
    ),
}


def built(config: Callable[[int], PretrainedConfig], budget: int | None = 2**20) -> CausalGenerator:
    tokenizer = chat_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config(len(tokenizer)))
    tokens = PromptTokenizer(tokenizer, PromptTemplate(), CONTEXT, keep_suffix=False)
    eos = tokenizer.eos_token_id
    return CausalGenerator("tiny", model.eval().double(), tokens, frozenset({eos}), eos, prefix_cache_bytes=budget)


@pytest.fixture(params=CONFIGS)
def generator(request: pytest.FixtureRequest) -> CausalGenerator:
    return built(CONFIGS[request.param])


def prompts_of(
    generator: Generator, question: str = "Who wrote it?", texts: tuple[str, ...] = TEXTS
) -> list[Prompt]:
    passages = [Passage(text, text, "/notes.txt", "Notes", 0, len(text)) for text in texts]
    return [generator.prompt(question, [passage], 40) for passage in passages]


def plain(generator: CausalGenerator) -> CausalGenerator:
    return replace(generator, prefix_cache_bytes=None)


def written(generator: Generator, prompts: list[Prompt], steps: int) -> Tensor:
    """(R, steps, V): log p(next token) while the most probable ones are written.

    Rows change places at every step, and one of them is there twice: at the end all are where they belong.
    """
    branches, distributions = generator.start(prompts), []
    places = torch.arange(len(prompts))
    for _ in range(steps):
        back = torch.stack([(places == row).nonzero()[0, 0] for row in range(len(prompts))])
        distributions.append(branches.log_probs[back])
        moved = torch.cat([torch.arange(len(places)).roll(1), torch.tensor([0])])[: len(prompts) + 1]
        branches = branches.advance(moved, branches.log_probs.argmax(-1)[moved])
        places = places[moved]
    return torch.stack(distributions, 1)


def test_scores_equal_those_of_whole_prompts_each_alone(generator: CausalGenerator) -> None:
    answer = generator.answer_tokens("the author, of course")
    for question in ("Who wrote it?", "And where does the river go from there?"):
        prompts = prompts_of(generator, question)
        expected = torch.cat([plain(generator).log_likelihood([prompt], answer) for prompt in prompts])
        torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)
        assert expected.sum(-1).std() > 0.1, "the passages of this test must matter"
    cache = generator.prefix_cache
    assert cache is not None and (cache.misses, cache.hits) == (len(TEXTS), len(TEXTS))


def test_writing_equals_that_behind_whole_prompts_each_alone(generator: CausalGenerator) -> None:
    """Beyond the spare space of the buffers, and beyond the sliding windows."""
    prompts, steps = prompts_of(generator), SPARE + 8
    expected = torch.cat([written(plain(generator), [prompt], steps) for prompt in prompts])
    torch.testing.assert_close(written(generator, prompts, steps), expected, **TOLERANCE)


def test_long_answers_are_scored_in_parts_beyond_the_windows(
    generator: CausalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, answer = prompts_of(generator), tuple(range(20, 20 + WINDOW + 20))
    generator.model.float()  # some models' own attention makes NaN of padding in float64
    expected = torch.cat([plain(generator).log_likelihood([prompt], answer) for prompt in prompts])
    for module in (batching, causal):
        monkeypatch.setattr(module, "DISTRIBUTIONS_AT_ONCE", 3 * 7)
    for each in (generator, plain(generator)):
        torch.testing.assert_close(each.start(prompts).score(answer), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(each.log_likelihood(prompts, answer), expected, rtol=1e-4, atol=1e-4)


def test_answers_and_questions_of_unlike_length_are_scored_together(generator: CausalGenerator) -> None:
    prompts = [*prompts_of(generator), *prompts_of(generator, "And where does the river go from there?")]
    answers = [generator.answer_tokens("river " * (1 + i)) for i in range(len(prompts))]
    generator.model.float()  # some models' own attention makes NaN of padding in float64
    found = generator.log_likelihoods(prompts, answers)
    for prompt, answer, row in zip(prompts, answers, found, strict=True):
        expected = plain(generator).log_likelihood([prompt], answer)[0]
        torch.testing.assert_close(row[: len(answer)], expected, rtol=1e-4, atol=1e-4)
        assert not row[len(answer) :].any()


def test_questions_of_unlike_length_are_written_behind_together(generator: CausalGenerator) -> None:
    """Read in one pass, with padding: in float32, since some models' own attention makes NaN of it in float64."""
    generator.model.float()
    prompts = [*prompts_of(generator), *prompts_of(generator, "And where does the river go from there?")]
    expected = torch.cat([written(plain(generator), [prompt], 5) for prompt in prompts])
    torch.testing.assert_close(written(generator, prompts, 5), expected, rtol=1e-4, atol=1e-4)


def test_the_null_component_alone_and_beside_others(generator: CausalGenerator) -> None:
    null = generator.prompt("Who wrote it?", [], 20)
    answer = generator.answer_tokens("the river")
    bare = replace(null, header=())
    for prompts in ([null], [bare], [bare, *prompts_of(generator)], [*prompts_of(generator), null]):
        expected = torch.cat([plain(generator).log_likelihood([prompt], answer) for prompt in prompts])
        torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)
        distributions = torch.cat([written(plain(generator), [prompt], 3) for prompt in prompts])
        torch.testing.assert_close(written(generator, prompts, 3), distributions, **TOLERANCE)


def test_a_second_question_reads_no_passage_again(tiny_generator: Callable[[str], Generator]) -> None:
    generator: Any = replace(tiny_generator("llama"), prefix_cache_bytes=2**20)  # type: ignore[type-var]
    read: list[int] = []
    hook = generator.model.register_forward_pre_hook(
        lambda module, args, options: read.append(options["input_ids"].numel()), with_kwargs=True
    )
    first, second = prompts_of(generator), prompts_of(generator, "And where?")
    generator.start(first)
    assert len(read) == 2 and read[1] == sum(len(prompt.question) for prompt in first)
    read.clear()
    generator.start(second)
    generator.log_likelihood(first, answer := generator.answer_tokens("the author"))
    hook.remove()
    assert read == [
        sum(len(prompt.question) for prompt in second),
        sum(len(prompt.question) + len(answer) - 1 for prompt in first),
    ]


def test_changed_weights_make_what_was_read_worthless() -> None:
    generator = built(CONFIGS["grouped"])
    prompts, answer = prompts_of(generator), generator.answer_tokens("the river")
    before = generator.log_likelihood(prompts, answer)
    with torch.no_grad():
        for weight in generator.model.parameters():
            weight.mul_(1.1)
    expected = plain(generator).log_likelihood(prompts, answer)
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)
    assert (before - expected).abs().max() > 0.1


def test_a_cleared_cache_and_the_copy_of_one_are_empty() -> None:
    generator = built(CONFIGS["grouped"])
    generator.start(prompts_of(generator))
    cache = generator.prefix_cache
    assert cache is not None and len(cache) == len(TEXTS)
    assert deepcopy(cache).budget == cache.budget and not len(deepcopy(cache))
    cache.clear()
    assert (len(cache), cache.size, cache.misses) == (0, 0, len(TEXTS))


def test_a_copy_with_another_model_has_a_cache_of_its_own() -> None:
    generator, other = built(CONFIGS["grouped"]), built(CONFIGS["biased"])
    prompts, answer = prompts_of(generator), generator.answer_tokens("the river")
    generator.log_likelihood(prompts, answer)
    copy = replace(generator, model=other.model)
    expected = plain(other).log_likelihood(prompts, answer)
    torch.testing.assert_close(copy.log_likelihood(prompts, answer), expected, **TOLERANCE)


def test_no_room_for_any_passage_changes_no_number() -> None:
    generator = built(CONFIGS["grouped"], budget=0)
    prompts, answer = prompts_of(generator), generator.answer_tokens("the river")
    expected = plain(generator).log_likelihood(prompts, answer)
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)
    cache = generator.prefix_cache
    assert cache is not None and (len(cache), cache.size, cache.hits) == (0, 0, 0)


def test_the_least_recently_used_goes_first_and_the_budget_holds() -> None:
    entry = torch.zeros(10, dtype=torch.float64)
    cache = PrefixCache(3 * entry.nbytes)
    for name in "abc":
        cache.put((name, (1,)), entry)
    assert cache.get(("a", (1,))) is entry
    cache.put(("d", (1,)), entry)
    assert (len(cache), cache.size) == (3, 3 * entry.nbytes)
    assert [cache.get((name, (1,))) is not None for name in "abcd"] == [True, False, True, True]
    assert (cache.hits, cache.misses) == (4, 1)
    cache.put(("big", (1,)), torch.zeros(31, dtype=torch.float64))
    assert len(cache) == 3, "what never fits drives nothing out"
    cache.put(("big", (2,)), torch.zeros(25, dtype=torch.float64))
    assert (len(cache), cache.size) == (1, 200)


def test_a_thousand_passages_stay_within_the_budget() -> None:
    generator = built(CONFIGS["grouped"], budget=2**18)
    cache = generator.prefix_cache
    assert cache is not None
    for number in range(200):
        texts = tuple(f"{number} {part}: the river city is old" for part in range(5))
        generator.start(prompts_of(generator, "Who?", texts))
        assert cache.size <= 2**18
    assert cache.misses == 1000 and 1 < len(cache) < 100


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_length_read_are_refused(kind: str) -> None:
    """Read alone, a prefix has other frequencies than inside a longer prompt."""
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 64}
    config = LlamaConfig(vocab_size=300, rope_parameters=rope, **_SIZES)
    assert uncacheable(config) == f"its rotary positions ({kind}) depend on how much is read at once"


def test_states_of_another_kind_are_refused() -> None:
    config = MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert uncacheable(config) == "a layer has other states than keys and values (LinearAttentionLayer)"
    assert uncacheable(CONFIGS["grouped"](300)) is None and uncacheable(CONFIGS["sliding"](300)) is None


def narrow_values(size: int) -> PretrainedConfig:
    """Multi-head latent attention: values are narrower than keys."""
    latent = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    sizes = {**_SIZES, "num_key_value_heads": 4}
    experts = {"n_routed_experts": 2, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1}
    return DeepseekV3Config(
        vocab_size=size, moe_intermediate_size=16, first_k_dense_replace=2, **sizes, **latent, **experts
    )


def test_states_that_cannot_be_joined_are_found_by_trial() -> None:
    generator = built(narrow_values, budget=None)
    assert with_prefix_cache(generator, 1).prefix_cache is None
    cache = with_prefix_cache(built(CONFIGS["grouped"], budget=None), 1).prefix_cache
    assert cache is not None and (cache.budget, cache.misses) == (2**20, 0)


def test_a_model_that_reads_on_wrongly_is_found_by_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose layers took the states of others."""
    generator = built(CONFIGS["grouped"], budget=None)
    monkeypatch.setattr(
        "mixrag.generator.kv_cache.rows_of",
        lambda cache, lengths: [each.roll(1, 0) for each in rows_of(cache, lengths)],
    )
    assert with_prefix_cache(generator, 1).prefix_cache is None


def test_short_answers_beside_long_ones_stay_within_the_positions(
    tiny_generator: Callable[[str], Generator],
) -> None:
    """Learned positions end where their table ends; padding has none."""
    generator: Any = tiny_generator("gpt2")
    prompts = [Prompt((), tuple(range(40, 40 + length)), (7, 8, 9)) for length in (240, 200)]
    answers = [(50, 51, 52), tuple(range(60, 100))]
    found = generator.log_likelihoods(prompts, answers)
    for prompt, answer, row in zip(prompts, answers, found, strict=True):
        expected = plain(generator).log_likelihood([prompt], answer)[0]
        torch.testing.assert_close(row[: len(answer)], expected, rtol=1e-3, atol=1e-3)


def test_the_budget_of_a_loaded_model(tiny_folder: Callable[[str], Any]) -> None:
    generator: Any = load_generator(tiny_folder("llama"), device="cpu", prefix_cache=3)
    assert generator.prefix_cache.budget == 3 * 2**20
    none: Any = load_generator(tiny_folder("llama"), device="cpu", prefix_cache=0)
    assert none.prefix_cache is None
    with pytest.raises(SettingError, match="0 MiB or more"):
        load_generator(tiny_folder("llama"), device="cpu", prefix_cache=-1)


@pytest.mark.parametrize("kind", ["grouped", "biased", "sliding", "sliding and capped", "narrow"])
def test_grouped_attention_equals_the_models_own(kind: str) -> None:
    generator = built({**CONFIGS, "narrow": narrow_values}[kind], budget=None)
    prompts, answer = prompts_of(generator), generator.answer_tokens("the author, of course")
    expected = torch.cat([generator.log_likelihood([prompt], answer) for prompt in prompts])
    distributions = torch.cat([written(generator, [prompt], 5) for prompt in prompts])
    assert use_grouped_attention(generator.model)
    assert generator.model.config._attn_implementation == NAME
    torch.testing.assert_close(generator.log_likelihood(prompts, answer), expected, **TOLERANCE)
    torch.testing.assert_close(written(generator, prompts, 5), distributions, **TOLERANCE)


def test_too_many_scores_go_to_the_fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask, layer = torch.zeros(2, 1, 5, 7).index_fill(-1, torch.tensor([0, 3]), -1e9), torch.nn.Module().eval()
    layer.num_key_value_groups = 2  # type: ignore[assignment]
    found = [grouped_attention(layer, query, key, value, mask, scaling=0.3)[0]]
    monkeypatch.setattr("mixrag.generator.kernels.grouped_attention.SCORES_AT_ONCE", 1)
    found.append(grouped_attention(layer, query, key, value, mask, scaling=0.3)[0])
    assert found[0].shape == (2, 5, 4, 8)
    torch.testing.assert_close(*found, **TOLERANCE)
    assert not torch.equal(*found), "another kernel adds in another order"


@pytest.mark.parametrize("kind", ["grouped", "sliding and capped"])
def test_grouped_attention_behind_passages_read_before(kind: str) -> None:
    generator = built(CONFIGS[kind])
    prompts = prompts_of(generator)
    distributions = torch.cat([written(plain(generator), [prompt], 5) for prompt in prompts])
    assert use_grouped_attention(generator.model)
    torch.testing.assert_close(written(generator, prompts, 5), distributions, **TOLERANCE)
    half = replace(generator, model=deepcopy(generator.model).bfloat16())
    found = written(half, prompts, 1)[:, 0].exp()
    assert ((found - distributions[:, 0].exp()).abs().sum(-1) / 2 < 0.05).all(), "equal up to rounding"


def test_only_bfloat16_attends_in_groups(tiny_folder: Callable[[str], Any]) -> None:
    for dtype, grouped in (("float32", False), ("float16", False), ("bfloat16", True)):
        generator: Any = load_generator(tiny_folder("llama"), dtype=dtype, device="cpu")
        assert (generator.model.config._attn_implementation == NAME) is grouped

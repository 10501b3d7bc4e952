"""A language model inside (a stand-in for) vLLM: the numbers and answers of the torch engine."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_adapter
import tiny_models
from fake_vllm import FakeEngine, params
from mixrag import RAG
from mixrag.config.model_config import ModelConfig, models_digest
from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.settings import Settings
from mixrag.corpus import Store
from mixrag.errors import MissingPackageError, MixragError, ModelError, SettingError
from mixrag.generator import load_generator
from mixrag.generator.assembly import assembled
from mixrag.generator.branch_mixing import Draw, MixedAnswer, mixes_branches
from mixrag.generator.causal import CausalGenerator
from mixrag.generator.engines import VLLM
from mixrag.generator.protocol import Generator, lists_tokens
from mixrag.generator.vllm.engine import Engine, Limits
from mixrag.generator.vllm.generator import VLLMGenerator
from mixrag.generator.vllm.opening import PROCESSOR, Opened
from mixrag.generator.vllm.processor import MixtureProcessor
from mixrag.inference.candidates import decoder_on
from mixrag.inference.decoders import Greedy, Sample, decoder_for
from mixrag.inference.engine_mixing import EngineMixing, _Found, _log_drawn
from mixrag.inference.mixture import Mixture, condition
from mixrag.inference.protocol import DecoderResult
from tables import passage
from words_encoder import WordsEncoder

PASSAGES = [passage(f"p{j}", text) for j, text in enumerate(("the river", "a letter of the author", "the city"))]
LOG_PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
TEMPLATE = PromptTemplate(header="Text: ", passage="{text}. ", question="{question} ", chat=False)
IMPOSSIBLE = (40, 97, 120)


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=1e-4, check_dtype=False
    )


def logits_of(model: Any) -> Any:
    known: dict[tuple[int, ...], Tensor] = {}

    def logits(tokens: tuple[int, ...]) -> Tensor:
        if tokens not in known:
            with torch.inference_mode():
                known[tokens] = model(torch.tensor([tokens])).logits[0, -1]
        return known[tokens].clone()

    return logits


MODEL, TOKENIZER = tiny_models.build("llama")
LOGITS = logits_of(MODEL)


def inside(fake: FakeEngine, **changes: Any) -> Opened:
    limits = Limits(fake.max_rows, fake.budget, fake.block, None)
    engine = Engine(fake, params, limits)
    size = int(MODEL.config.vocab_size)
    found = Opened(engine, size, 255, torch.float32, quantised=False, in_process=True)
    return replace(found, **changes)


def made(runner: str = "v1", processor: Any = None, **changes: Any) -> VLLMGenerator:
    fake = FakeEngine(LOGITS, processor or MixtureProcessor(None), runner=runner)
    parts = MODEL.config, MODEL.generation_config, TOKENIZER
    return VLLMGenerator(inside(fake, **changes), *parts, name="tiny", template=TEMPLATE)


@pytest.fixture(scope="module")
def reference() -> CausalGenerator:
    found = assembled("tiny", MODEL, TOKENIZER, TEMPLATE)
    assert isinstance(found, CausalGenerator)
    return found


def mixture(generator: Generator, question: str = "Who wrote it?", **options: Any) -> Mixture:
    return condition(generator, question, PASSAGES, LOG_PRIOR, reserve=16, **{"switch": 0.3, **options})


def decoded(found: Mixture, settings: Settings, max_tokens: int = 8) -> DecoderResult:
    chosen = decoder_on(found, decoder_for(settings), settings.decoder)
    *_, result = chosen.decode(found, max_tokens)
    assert isinstance(result, DecoderResult)
    return result


def same(found: DecoderResult, expected: DecoderResult) -> None:
    assert [each.tokens for each in found.answers] == [each.tokens for each in expected.answers]
    for one, other in zip(found.answers, expected.answers, strict=True):
        close(one.log_likelihood, other.log_likelihood)
        close(one.log_prob, other.log_prob)
    assert (found.log_drawn is None) == (expected.log_drawn is None)
    close(found.log_drawn or 0.0, expected.log_drawn or 0.0)


def test_prompts_and_ends_are_those_of_torch(reference: CausalGenerator) -> None:
    found = made()
    prompts = [each.prompt("Who?", PASSAGES[:1], 8) for each in (found, reference)]
    assert prompts[0] == prompts[1]
    assert found.stop_tokens == reference.stop_tokens and found.answer_tokens("x") == reference.answer_tokens("x")
    assert found.vocabulary_size == reference.vocabulary_size and found.marker not in found.stop_tokens
    assert found.context_size == 255 and found.rounding == 0.0
    assert made(dtype=torch.bfloat16).rounding == 0.75 and made(quantised=True).rounding == 3.0
    assert mixes_branches(found) and lists_tokens(found) and not mixes_branches(reference)


def test_numbers_are_those_of_torch(reference: CausalGenerator) -> None:
    found = made()
    prompts = [reference.prompt("Who wrote it?", [each], 16) for each in PASSAGES]
    answer = reference.answer_tokens("the author")
    close(found.log_likelihood(prompts, answer), reference.log_likelihood(prompts, answer))
    branches, expected = found.start(prompts), reference.start(prompts)
    close(branches.log_probs, expected.log_probs)
    rows, tokens = torch.tensor([2, 0]), torch.tensor([7, 8])
    close(branches.advance(rows, tokens).log_probs, expected.advance(rows, tokens).log_probs)
    close(found.question_log_likelihood(prompts), reference.question_log_likelihood(prompts))
    lists = found.next_listed(prompts, [()] * 3)
    whole = reference.start(prompts).log_probs
    for each, row in zip(lists, whole, strict=True):
        assert len(each.log_probs) == 100
        close([*each.log_probs.values()], row[[*each.log_probs]])
        rest = torch.ones_like(row, dtype=torch.bool)
        rest[[*each.log_probs]] = False
        assert float(row[rest].max()) <= each.log_rest + 1e-5
    named = found.next_longer(prompts[:2], [(), ()], [(3, 4), ()])
    close([named[0].log_probs[3], named[0].log_probs[4]], whole[0, [3, 4]])
    assert len(named[0].log_probs) == 2 and len(named[1].log_probs) == found.vocabulary_size


@pytest.mark.parametrize("runner", ["v1", "v2"])
@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_greedy_answers_are_those_of_torch(reference: CausalGenerator, runner: str, switch: float) -> None:
    for question in ("Who wrote it?", "Which city?"):
        found = decoded(mixture(made(runner), question, switch=switch), Settings(prune=0.0))
        same(found, decoded(mixture(reference, question, switch=switch), Settings(prune=0.0)))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_k": 20}])
@pytest.mark.parametrize("decoder", ["greedy", "sample"])
def test_drawn_answers_are_those_of_torch(
    reference: CausalGenerator, decoder: str, sampling: Mapping[str, float]
) -> None:
    settings = Settings(decoder=decoder, prune=0.0, samples=2, seed=3, sampling=sampling)
    same(decoded(mixture(made()), settings), decoded(mixture(reference), settings))


def test_how_probably_an_answer_was_drawn_is_known_without_the_processor(reference: CausalGenerator) -> None:
    """Where the processor is in another process: from the table, or by drawing here where settings change p."""
    elsewhere = made(in_process=False)
    truncated = replace(mixture(elsewhere), unconditioned_log_prior=LOG_PRIOR - 0.5)
    expected = replace(mixture(reference), unconditioned_log_prior=LOG_PRIOR - 0.5)
    settings = Settings(decoder="sample", prune=0.0, seed=5)
    for sampling in ({}, {"temperature": 0.5}):
        chosen = replace(settings, sampling=sampling)
        same(decoded(truncated, chosen), decoded(expected, chosen))
    assert not elsewhere.knows_drawn({"temperature": 0.5}) and elsewhere.knows_drawn({})


def test_a_draw_whose_probability_was_forgotten_is_drawn_again() -> None:
    draw = Draw(1, {"temperature": 0.5})
    one = _Found(mixture(made()), draw)
    answer, log_drawn = one.complete(None, 4)
    forgotten = MixedAnswer(answer.tokens, answer.log_likelihood, None)
    again, log_again = one.complete(forgotten, 4)
    assert (again.tokens, log_again) == (answer.tokens, log_drawn)
    assert log_drawn != _log_drawn(answer), "what a draw without settings would have"


def test_answers_given_that_one_is_stated(reference: CausalGenerator) -> None:
    for question in ("Who wrote it?", "Which city?", "What?"):
        settings = Settings(empty_answer=True, prune=0.0)
        own, expected = (mixture(each, question, empty_answer=True) for each in (made(), reference))
        same(decoded(own, settings), decoded(expected, settings))
        close(own.log_p_empty, expected.log_p_empty)


def test_several_questions_at_once(reference: CausalGenerator) -> None:
    asked = [f"Who wrote {name}?" for name in ("it", "the letter", "this", "that")]
    generator = made()
    own = [mixture(generator, question) for question in asked]
    decoder = decoder_on(own[0], Greedy(prune=0.0), "greedy")
    assert isinstance(decoder, EngineMixing) and decoder.batches
    found = [*decoder.decode_batch(own, 6)]
    expected = [*Greedy(prune=0.0).decode_batch([mixture(reference, question) for question in asked], 6)]
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    assert [*decoder.decode_batch([], 6)] == []


class Broken(VLLMGenerator):
    """An engine that never computes the branches of a question side by side."""

    def mix(self, groups: Any, max_tokens: int) -> list[Any]:
        return [None] * len(groups)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(prune=0.0),
        Settings(decoder="sample", prune=0.0, seed=2, samples=1),
        Settings(empty_answer=True, prune=0.0),
    ],
)
def test_broken_groups_are_answered_by_scoring(reference: CausalGenerator, settings: Settings) -> None:
    own = made()
    own.__class__ = Broken
    options = {"empty_answer": settings.empty_answer}
    same(decoded(mixture(own, **options), settings), decoded(mixture(reference, **options), settings))


def test_the_switch_at_sentences_needs_texts(reference: CausalGenerator) -> None:
    own, expected = (mixture(each, switch_at="sentence", switch=0.4) for each in (made(), reference))
    same(decoded(own, Settings(prune=0.0)), decoded(expected, Settings(prune=0.0)))


def test_other_decoders_have_whole_distributions(reference: CausalGenerator) -> None:
    own, settings = made(), Settings(decoder="beam", beams=2)
    assert decoder_on(mixture(own), decoder_for(settings), "beam") == decoder_for(settings)
    found, expected = (decoded(mixture(each), settings, 3) for each in (own, reference))
    assert [each.tokens for each in found.answers] == [each.tokens for each in expected.answers]


def test_prompts_longer_than_a_step_are_read_before(reference: CausalGenerator) -> None:
    fake = FakeEngine(LOGITS, MixtureProcessor(None), step=80)
    parts = MODEL.config, MODEL.generation_config, TOKENIZER
    own = VLLMGenerator(inside(fake), *parts, name="tiny", template=TEMPLATE)
    long = [passage(f"l{j}", f"{each.text} lies on the river") for j, each in enumerate(PASSAGES)]
    mixtures = [condition(each, "Who?", long, LOG_PRIOR, reserve=16) for each in (own, reference)]
    prompts = [component.prompt for component in mixtures[0].components]
    assert sum(len(prompt.tokens) for prompt in prompts) > 80
    same(*(decoded(each, Settings(prune=0.0)) for each in mixtures))
    assert fake.most_tokens <= 80
    fake.budget = 12
    tight = replace(own.inside, engine=Engine(fake, params, Limits(64, 12, 4, None)))
    own.inside = tight
    assert own.mix([_group(mixtures[0])], 4) == [None]
    same(*(decoded(each, Settings(prune=0.0)) for each in mixtures))


def _group(found: Mixture) -> Any:
    from mixrag.inference.engine_mixing import _Found

    return _Found(found, None).group


def test_an_engine_without_the_processor_is_refused() -> None:
    class Idle(MixtureProcessor):
        def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
            return logits

    for runner in ("v1", "v2"):
        made(runner).check()
        with pytest.raises(ModelError, match="does not run it; install mixrag"):
            made(runner, Idle(None)).check()


def test_tokens_of_thoughts_are_impossible(reference: CausalGenerator) -> None:
    class Silent(VLLMGenerator):
        never = IMPOSSIBLE

    class SilentReference(CausalGenerator):
        never = IMPOSSIBLE

    own = made()
    own.__class__ = Silent
    expected = SilentReference(
        reference.name, MODEL, reference.tokens, reference.stop_tokens, reference.stop_token
    )
    prompts = [reference.prompt("Who wrote it?", [each], 16) for each in PASSAGES]
    answer = reference.answer_tokens("a")
    close(own.log_likelihood(prompts, answer), expected.log_likelihood(prompts, answer))
    settings = Settings(prune=0.0)
    same(decoded(mixture(own), settings), decoded(mixture(expected), settings))
    assert all(len(each.log_probs) == own.vocabulary_size for each in own.next_listed(prompts, [()] * 3))


# From a name to the engine, with a package vllm of our own.


@dataclass
class EngineArgs:
    """Those that mixrag gives, and one that a user does."""

    model: str
    dtype: str
    enable_prefix_caching: bool
    logprobs_mode: str
    max_logprobs: int
    async_scheduling: bool
    trust_remote_code: bool
    generation_config: str
    disable_log_stats: bool
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    distributed_executor_backend: str | None = None
    tokenizer: str | None = None
    revision: str | None = None
    hf_token: str | None = None
    logits_processors: list[str] = field(default_factory=list)


class Loaded(FakeEngine):
    """The engine that these arguments make."""

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> Loaded:
        if args.tensor_parallel_size > 4:
            raise RuntimeError("not that many\nGPUs")
        # An installed mixrag brings its processor by an entry point.
        module, _, name = (args.logits_processors or [PROCESSOR])[0].partition(":")
        found = cls(LOGITS, getattr(importlib.import_module(module), name)(None))
        found.args = args  # type: ignore[attr-defined]
        model = SimpleNamespace(
            max_model_len=200, dtype=torch.float32, get_vocab_size=lambda: MODEL.config.vocab_size
        )
        found.vllm_config = SimpleNamespace(  # type: ignore[attr-defined]
            scheduler_config=SimpleNamespace(max_num_seqs=32, max_num_batched_tokens=300),
            cache_config=SimpleNamespace(block_size=4, num_gpu_blocks=100),
            parallel_config=SimpleNamespace(world_size=args.tensor_parallel_size * args.pipeline_parallel_size),
            model_config=model,
        )
        return found


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ModuleType("vllm")
    found.EngineArgs, found.LLMEngine, found.SamplingParams = EngineArgs, Loaded, params  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", found)
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "left")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save("llama", tmp_path_factory.mktemp("tiny") / "llama")


@pytest.mark.usefixtures("package")
def test_a_model_by_name(folder: Path, reference: CausalGenerator) -> None:
    found = load_generator(folder, engine=VLLM, template=TEMPLATE, engine_args={"tensor_parallel_size": 2})
    assert isinstance(found, VLLMGenerator)
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and os.environ["VLLM_NO_USAGE_STATS"] == "1"
    args = found.inside.engine._engine.args  # type: ignore[attr-defined]
    assert (args.tensor_parallel_size, args.dtype, args.async_scheduling) == (2, "float32", False)
    assert (args.logprobs_mode, args.max_logprobs, args.enable_prefix_caching) == ("raw_logprobs", -1, True)
    assert found.inside.engine.limits == Limits(32, 300, 4, 396)
    assert found.context_size == 199 and not found.inside.in_process
    same(decoded(mixture(found), Settings(prune=0.0)), decoded(mixture(reference), Settings(prune=0.0)))


@pytest.mark.usefixtures("package")
def test_one_model_over_machines_of_a_ray_cluster(folder: Path) -> None:
    many = {"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "distributed_executor_backend": "ray"}
    found = load_generator(folder, engine=VLLM, template=TEMPLATE, engine_args=many)
    args = found.inside.engine._engine.args  # type: ignore[attr-defined]
    assert {name: getattr(args, name) for name in many} == many and not found.inside.in_process


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine_args": {"max_logprobs": 5}}, "max_logprobs, which mixrag sets"),
        ({"engine_args": {"speculative_config": "x"}}, "cannot use"),
        ({"engine_args": {"no_such": 1}}, "no_such"),
        ({"engine_args": {"tensor_parallel_size": 8}}, "not that many GPUs"),
        ({"dtype": "int8"}, "quantised"),
        ({"device_map": "auto"}, "no device_map with engine vllm"),
        ({"device": "cpu"}, "no device with engine vllm"),
        ({"adapter": "ADAPTER"}, "merge it"),
        ({"engine": "torch", "engine_args": {"a": 1}}, "engine_args with engine vllm"),
    ],
)
def test_what_is_refused(folder: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    if "adapter" in options:
        options = {"adapter": tiny_adapter.save_adapter("llama", tmp_path / "adapter")}
    with pytest.raises(MixragError, match=message):
        load_generator(folder, **{"engine": VLLM, **options})


def test_models_that_it_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="a causal model by name, for engine vllm"):
        load_generator(MODEL, tokenizer=TOKENIZER, engine=VLLM)
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_generator(tiny_models.save("t5", tmp_path / "t5"), engine=VLLM)
    with pytest.raises(ModelError):
        load_generator(tmp_path / "nothing", engine=VLLM)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingPackageError, match=r'pip install "mixrag\[vllm\]"'):
        load_generator(tiny_models.save("llama", tmp_path / "llama"), engine=VLLM)


def test_the_entry_point_names_the_class() -> None:
    import tomllib

    from mixrag.generator.vllm.opening import ENTRY_POINTS

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert declared["project"]["entry-points"][ENTRY_POINTS] == {"mixrag": PROCESSOR}
    module, _, name = PROCESSOR.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), MixtureProcessor)


def test_settings() -> None:
    models = ModelConfig(engine="vllm", engine_args={"tensor_parallel_size": 2})
    assert models_digest(models) == models_digest(ModelConfig())
    rounded = ModelConfig(engine="vllm", engine_args={"quantization": "fp8"})
    assert models_digest(rounded) != models_digest(ModelConfig())
    assert models_digest(ModelConfig(engine="openvino")) != models_digest(ModelConfig())
    with pytest.raises(SettingError, match="engine_args"):
        ModelConfig(engine_args={"no name": 1})


@pytest.mark.parametrize("runner", ["v1", "v2"])
def test_a_store_is_asked(runner: str, tmp_path: Path, reference: CausalGenerator) -> None:
    asked = ("What does the letter say?", "Which city lies on the river?", "Who?")
    found = []
    for generator in (made(runner), reference):
        settings = Settings(kind="span", k=2, max_tokens=5, prune=0.0, switch=0.2)
        store = Store.open(tmp_path / generator.engine, create=True)
        with RAG(store, encoder=WordsEncoder(), generator=generator, settings=settings) as rag:
            rag.add([{"id": each.id, "text": each.text} for each in PASSAGES])
            answers = [*rag.ask_many(asked), *map(rag.ask, asked), rag.ask(asked[0], decoder="sample", seed=4)]
            answers += [rag.ask(asked[0], copy=True), rag.score(asked[0], "the city")]
        found.append(answers)
    for one, other in zip(*found, strict=True):
        assert one.text == other.text
        close(one.log_prob, other.log_prob)
        close([each.posterior for each in one.passages], [each.posterior for each in other.passages])
        assert (one.log_drawn is None) == (other.log_drawn is None)


def test_options_of_decoders_are_taken_over() -> None:
    own = mixture(made())
    assert decoder_on(own, Sample(4, samples=2), "sample") == EngineMixing(drawn=True, seed=4, samples=2)
    assert decoder_on(own, Sample(4), Sample(4)) == Sample(4)

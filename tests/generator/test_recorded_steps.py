"""Recorded decoding steps give torch's numbers, from fixed memory, whatever is done with their rows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import MistralConfig, MistralForCausalLM

import tiny_models
from mixrag.corpus import Passage
from mixrag.errors import ModelError, SettingError
from mixrag.generator import CausalGenerator, Prompt, load_generator
from mixrag.generator import recorded_steps as module
from mixrag.generator.recorded_steps import RecordedBranches, Steps
from mixrag.generator.self_check import with_recorded_steps
from mixrag.inference.decoders import Beam, Greedy
from mixrag.inference.mixture import condition

TOLERANCE = {"rtol": 0.0, "atol": 2e-5}
PROMPTS = [Prompt((), (1, 2, 3, 4, 5, 6, 7), (8, 9)), Prompt((), (1, 2), (8, 9)), Prompt((), (5, 4, 3), (9,))]


class Recording(TorchDispatchMode):
    """torch's operations with the very tensors that they read and wrote, as a CUDA graph has them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value that decides what is computed"
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, former in self.calls:
            read = {memory(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
            found = func(*args, **kwargs)
            for old, new in zip(tree_leaves(former), tree_leaves(found), strict=True):
                if isinstance(old, Tensor) and memory(old) not in read:  # neither a view nor changed in place
                    old.copy_(new)


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def on_processor(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A ``Recorder`` that runs the step once before, and once while it is recorded, as CUDA graphs do."""
    step()
    with Recording() as recording:
        output = step()

    def replay() -> Tensor:
        recording.replay()
        return output

    return replay


def loaded(kind: str = "llama", **options: Any) -> CausalGenerator:
    model, tokenizer = tiny_models.build(kind)
    found = load_generator(model, tokenizer=tokenizer, **options)
    assert isinstance(found, CausalGenerator)
    return found


@pytest.fixture(params=["llama", "gpt2", "llama, uncached"])
def both(request: pytest.FixtureRequest) -> tuple[CausalGenerator, CausalGenerator]:
    kind, _, uncached = request.param.partition(", ")
    plain = loaded(kind, **({"prefix_cache": 0} if uncached else {}))
    return with_recorded_steps(plain, on_processor), plain


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found.log_probs, expected.log_probs, **TOLERANCE)


def moved(both: Sequence[CausalGenerator], steps: Sequence[tuple[list[int], list[int]]]) -> list[Any]:
    """The branches of both after steps (rows, tokens), compared after each."""
    branches: list[Any] = [each.start(PROMPTS) for each in both]
    same(*branches)
    for rows, tokens in steps:
        branches = [each.advance(torch.tensor(rows), torch.tensor(tokens)) for each in branches]
        same(*branches)
    return branches


def test_rows_go_on_are_chosen_repeated_and_dropped(both: tuple[CausalGenerator, CausalGenerator]) -> None:
    steps = [([0, 1, 2], [3, 4, 5]), ([2, 0, 1], [6, 7, 8]), ([1, 1, 0, 2, 2], [9, 3, 4, 5, 6])]
    moved(both, [*steps, ([4, 0], [1, 2]), ([1], [3]), ([0], [4])])


def test_copies_and_scores_leave_the_rows_as_they_are(both: tuple[CausalGenerator, CausalGenerator]) -> None:
    branches = moved(both, [([0, 1, 2], [3, 4, 5])])
    copies = [each.select(torch.tensor([2, 0])) for each in branches]
    same(*copies)
    further = [each.advance(torch.tensor([1, 0]), torch.tensor([6, 7])) for each in copies]
    same(*further)
    branches = [each.advance(torch.tensor([0, 1, 2]), torch.tensor([7, 8, 9])) for each in branches]
    same(*branches)
    scores = [each.score((3, 4, 5)) for each in branches]
    torch.testing.assert_close(*scores, **TOLERANCE)


def test_rows_join_others_and_go_on(both: tuple[CausalGenerator, CausalGenerator]) -> None:
    branches = moved(both, [([0, 1, 2], [3, 4, 5]), ([0, 1], [6, 7])])
    others = [each.start(PROMPTS[1:]) for each in both]
    chosen = torch.tensor([1, 0])
    joined = [one.join(chosen, [(other, chosen)]) for one, other in zip(branches, others, strict=True)]
    same(*joined)
    joined = [each.advance(torch.tensor([0, 1, 2, 3]), torch.tensor([8, 9, 3, 4])) for each in joined]
    same(*joined)


def test_rows_beyond_the_places_of_a_step(
    both: tuple[CausalGenerator, CausalGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLACES", 4)
    monkeypatch.setattr(module, "ROOM", 2)
    moved(both, [([0, 1, 2], [3 + place, 4, 5]) for place in range(9)])
    steps = both[0].steps
    assert steps is not None and steps.made > 2


def test_a_step_is_recorded_once_and_used_again() -> None:
    plain = loaded()
    generator = with_recorded_steps(plain, on_processor)
    steps = generator.steps
    assert isinstance(steps, Steps)
    moved((generator, plain), [([0, 1, 2], [3, 4, 5]), ([0, 1, 2], [5, 6, 7])])
    gc.collect()
    made = steps.made
    moved(
        (generator, plain), [([2, 1, 0], [4, 4, 4]), ([0, 1, 2], [3, 3, 3])]
    )  # nothing of the former texts is left
    assert steps.made == made
    held = [generator.start(PROMPTS).advance(torch.arange(3), torch.tensor([1, 2, 3])) for _ in range(2)]
    assert steps.made == made + 1, "two batches at once have a step each"
    same(*held)
    del held
    gc.collect()
    assert 0 < len(steps._idle) <= module.IDLE


def test_two_batches_under_way_do_not_disturb_one_another() -> None:
    plain = loaded()
    generator = with_recorded_steps(plain, on_processor)
    ours, theirs = ([each.start(PROMPTS), each.start(PROMPTS[::-1])] for each in (generator, plain))
    for tokens in ([3, 4, 5], [6, 7, 8], [9, 3, 4]):
        for place in (0, 1):
            ours[place], theirs[place] = (
                each[place].advance(torch.arange(3), torch.tensor(tokens)) for each in (ours, theirs)
            )
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)


@pytest.mark.parametrize("switch", [0.0, 0.3])
def test_mixtures_are_torchs(switch: float) -> None:
    plain = loaded("llama-chat")
    generator = with_recorded_steps(plain, on_processor)
    passages = [Passage(text, text, "/n", "n", 0, len(text)) for text in ("Cod is nine.", "Hens lay.", "Ice")]
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    for decoder in (Greedy(), Beam(3)):
        ours, theirs = (
            [*decoder.decode(condition(each, "What is cod?", passages, prior, switch=switch), 6)][-1].answers[0]
            for each in (generator, plain)
        )
        assert ours.tokens == theirs.tokens
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-4)
        torch.testing.assert_close(ours.posterior, theirs.posterior, rtol=0.0, atol=1e-4)
    assert isinstance(generator.start(PROMPTS), RecordedBranches)


def test_impossible_tokens_stay_impossible() -> None:
    plain = loaded()
    object.__setattr__(plain.tokens, "never", (3, 4))  # a cached property of a frozen class
    generator = with_recorded_steps(plain, on_processor)
    (found, expected) = moved((generator, plain), [([0, 1, 2], [5, 6, 7])])
    assert bool((found.log_probs[:, [3, 4]] == -torch.inf).all()) and found.never == expected.never == (3, 4)


def test_what_a_step_depends_on_is_found_out_by_a_trial() -> None:
    plain = loaded()

    def forgetful(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        output = step().clone()
        return lambda: output  # as a graph that was recorded of other memory

    with pytest.raises(
        ModelError, match=r"decoding steps can be recorded.*they give other distributions; leave cuda_g"
    ):
        with_recorded_steps(plain, forgetful)

    def failing(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nat line 3")

    with pytest.raises(ModelError, match="operation not permitted when stream is capturing at line 3; leave"):
        with_recorded_steps(plain, failing)


def test_models_whose_steps_are_not_recorded() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=300, sliding_window=40, num_key_value_heads=1, **sizes)
    generator = replace(loaded(), model=MistralForCausalLM(config).eval())
    with pytest.raises(ModelError, match="a layer attends to a window of tokens only"):
        with_recorded_steps(generator, on_processor)


def test_where_there_is_no_gpu_it_is_refused_in_one_line() -> None:
    for options, message in (
        ({}, "a causal model with key-value states on one CUDA GPU, for cuda_graphs; found "),
        ({"engine": "openvino"}, "cuda_graphs with engine torch; found engine openvino"),
    ):
        with pytest.raises(SettingError, match=message):
            model, tokenizer = tiny_models.build("llama")
            load_generator(model, tokenizer=tokenizer, cuda_graphs=True, **options)
    with pytest.raises(SettingError, match="found a model behind a server"):
        load_generator("http://127.0.0.1:9/v1", cuda_graphs=True)


def test_a_step_goes_back_while_its_thread_has_the_lock() -> None:
    generator = with_recorded_steps(loaded(), on_processor)
    branches = generator.start(PROMPTS).advance(torch.arange(3), torch.tensor([3, 4, 5]))
    assert isinstance(branches, RecordedBranches)
    steps = branches.steps
    before = len(steps._idle)
    with steps._lock:  # as when the garbage collector runs in the middle of ``begin``
        back = Thread(target=steps.release, args=(branches.lease.step,), daemon=True)
        back.start()
        back.join(5)
        assert not back.is_alive()
    steps.release(branches.lease.step)
    assert len(steps._idle) == min(before + 2, module.IDLE)


def test_a_step_that_cannot_be_recorded_now_is_run_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    plain, fails = loaded(), [False]

    def recorder(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        if fails[0]:
            raise RuntimeError("operation would make the legacy stream depend on a capturing one")
        return on_processor(step)

    generator = with_recorded_steps(plain, recorder)
    gc.collect()
    fails[0] = True
    more = PROMPTS * 3  # rows for which there is no step yet
    ours, theirs = (each.start(more) for each in (generator, plain))
    for token in (3, 4):
        ours, theirs = (each.advance(torch.arange(9), torch.full((9,), token)) for each in (ours, theirs))
        same(ours, theirs)
    assert isinstance(ours, RecordedBranches) and "is not recorded: operation would" in caplog.text
    steps = ours.steps
    del ours
    gc.collect()
    assert all(each.is_recorded for each in steps._idle), "the next one is tried again"


def test_other_threads_may_use_the_gpu_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = list[str]()

    def graph(_: Any, *, capture_error_mode: str = "global") -> Any:
        modes.append(capture_error_mode)
        return nullcontext()

    stream = SimpleNamespace(wait_stream=lambda _: None)
    for name, value in (
        ("device", lambda _: nullcontext()),
        ("stream", lambda _: nullcontext()),
        ("Stream", lambda: stream),
        ("current_stream", lambda: stream),
        ("CUDAGraph", lambda: SimpleNamespace(replay=lambda: None)),
        ("graph", graph),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    output = torch.zeros(1)
    assert module.CudaGraphs(torch.device("cuda"))(lambda: output)() is output
    assert modes == ["thread_local"]
